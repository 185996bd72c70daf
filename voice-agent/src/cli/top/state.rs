//! What the screen shows and what keys do to it. Pure: answers, keys and times come in, wishes go out.

use super::ask::{Found, Opened, Wanted};
use crate::{
    cli::failure::Failure,
    driver::top::Sort,
    proto::admin::{Room, TopRequest, TopResponse},
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::{Duration, Instant};

/// Which rooms `f` turns to, by their names on the admin socket.
const WHICH: [&str; 8] = [
    "",
    "blocked",
    "held",
    "missing",
    "LIVEING",
    "GRACE_CLOSING",
    "EXPIRED",
    "CREATED",
];
/// As long as a room id.
const FIND_MAX: usize = 64;
/// An answer that is older is told to be.
const STALE: Duration = Duration::from_secs(3);

/// What comes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Leave,
}

/// The screen.
#[derive(Debug, Default)]
pub(super) struct Top {
    sort: usize,
    reverse: bool,
    which: usize,
    find: String,
    /// The text to find is being typed.
    typing: bool,
    pub(super) help: bool,
    /// Of all rooms there are to turn to: the first on the screen, the chosen one.
    first: usize,
    cursor: usize,
    /// Rooms, or lines of a room, that fit.
    fits: usize,
    open: Option<Open>,
    found: Option<TopResponse>,
    answered: Option<Instant>,
    away: Option<String>,
}

/// The room that is open.
#[derive(Debug, Default)]
struct Open {
    name: String,
    /// Lines left out above.
    scrolled: usize,
    found: Option<Opened>,
}

impl Top {
    /// What to ask for.
    pub(super) fn wanted(&self) -> Wanted {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let limit = if self.open.is_some() { 0 } else { number(self.fits) };
        Wanted {
            list: TopRequest {
                sort: self.sort().into(),
                reverse: self.reverse,
                only: WHICH[self.which].into(),
                matching: self.find.clone(),
                offset: number(self.first),
                limit,
            },
            room: self.open.as_ref().map(|open| open.name.clone()),
        }
    }

    /// Takes an answer, or why there is none; what was known stays then.
    pub(super) fn answered(&mut self, answer: Result<Found, Failure>, now: Instant) -> Wish {
        match answer {
            Err(failure) => self.away = Some(failure.message),
            Ok(Found { top, opened }) => {
                self.away = None;
                self.answered = Some(now);
                match (&mut self.open, opened) {
                    (Some(open), Some(opened)) if open.name == opened.name => open.found = Some(opened),
                    // Asked before it was opened or closed.
                    (Some(_), _) | (None, Some(_)) => {}
                    (None, None) => {
                        let last = (top.matching as usize).saturating_sub(1);
                        self.cursor = self.cursor.min(last);
                        self.found = Some(top);
                        self.follow();
                        return Wish::Stay;
                    }
                }
                self.keep_rooms(top);
            }
        }
        Wish::Stay
    }

    /// The figures of an answer that has no rooms.
    fn keep_rooms(&mut self, top: TopResponse) {
        let (rooms, matching, offset) = match self.found.take() {
            Some(before) => (before.rooms, before.matching, before.offset),
            None => (Vec::new(), 0, 0),
        };
        self.found = Some(TopResponse {
            rooms,
            matching,
            offset,
            ..top
        });
    }

    /// So many rooms, or lines, fit the screen.
    pub(super) fn fit(&mut self, fits: usize) {
        self.fits = fits;
        self.follow();
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Wish::Leave,
                _ => Wish::Stay,
            };
        }
        if self.typing {
            self.typed(key.code);
            return Wish::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Leave,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            code if self.open.is_some() => self.turn_pages(code),
            code => self.choose(code),
        }
        Wish::Stay
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.find.clear();
            }
            KeyCode::Backspace => drop(self.find.pop()),
            KeyCode::Char(c) if self.find.len() < FIND_MAX && (c.is_ascii_graphic()) => self.find.push(c),
            _ => return,
        }
        self.home();
    }

    /// Keys of the list.
    fn choose(&mut self, code: KeyCode) {
        let last = self.matching().saturating_sub(1);
        let page = self.fits.max(1);
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.cursor = (self.cursor + 1).min(last),
            KeyCode::PageUp => self.cursor = self.cursor.saturating_sub(page),
            KeyCode::PageDown => self.cursor = (self.cursor + page).min(last),
            KeyCode::Home | KeyCode::Char('g') => self.cursor = 0,
            KeyCode::End | KeyCode::Char('G') => self.cursor = last,
            KeyCode::Char('s') => self.turn(|top| top.sort = (top.sort + 1) % Sort::ALL.len()),
            KeyCode::Char('r') => self.turn(|top| top.reverse = !top.reverse),
            KeyCode::Char('f') => self.turn(|top| top.which = (top.which + 1) % WHICH.len()),
            KeyCode::Char('b') => self.turn(|top| top.which = usize::from(top.which != 1)),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.turn(|top| {
                top.find.clear();
                top.which = 0;
            }),
            KeyCode::Enter | KeyCode::Right => self.open(),
            _ => {}
        }
        self.follow();
    }

    /// Another order or choice begins at its first room.
    fn turn(&mut self, change: impl FnOnce(&mut Top)) {
        change(self);
        self.home();
    }

    fn home(&mut self) {
        (self.cursor, self.first) = (0, 0);
    }

    fn open(&mut self) {
        if let Some(room) = self.chosen().and_then(|row| self.rooms().get(row)) {
            self.open = Some(Open {
                name: room.room.clone(),
                ..Open::default()
            });
        }
    }

    /// Keys of a room.
    fn turn_pages(&mut self, code: KeyCode) {
        let page = self.fits.max(1);
        let Some(open) = &mut self.open else { return };
        let scrolled = &mut open.scrolled;
        match code {
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.open = None,
            KeyCode::Up | KeyCode::Char('k') => *scrolled = scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *scrolled = scrolled.saturating_add(1),
            KeyCode::PageUp => *scrolled = scrolled.saturating_sub(page),
            KeyCode::PageDown => *scrolled = scrolled.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => *scrolled = 0,
            KeyCode::End | KeyCode::Char('G') => *scrolled = usize::MAX,
            _ => {}
        }
    }

    /// Keeps the chosen room on the screen.
    fn follow(&mut self) {
        let fits = self.fits.max(1);
        if self.cursor < self.first {
            self.first = self.cursor;
        } else if self.cursor >= self.first + fits {
            self.first = self.cursor + 1 - fits;
        }
        // A longer screen is filled.
        self.first = self.first.min(self.matching().saturating_sub(fits));
    }

    /// The order, by its name.
    pub(super) fn sort(&self) -> &'static str {
        Sort::ALL[self.sort].name()
    }

    /// Whether the order is turned round.
    pub(super) fn is_reversed(&self) -> bool {
        self.reverse
    }

    /// Which rooms, in words.
    pub(super) fn which(&self) -> &'static str {
        match WHICH[self.which] {
            "" => "all rooms",
            "missing" => "missing heartbeats",
            which => which,
        }
    }

    /// What is to be found; and whether it is being typed.
    pub(super) fn find(&self) -> (&str, bool) {
        (&self.find, self.typing)
    }

    /// What was last heard.
    pub(super) fn found(&self) -> Option<&TopResponse> {
        self.found.as_ref()
    }

    /// How many rooms there are to turn to.
    pub(super) fn matching(&self) -> usize {
        self.found.as_ref().map_or(0, |found| found.matching as usize)
    }

    /// The rooms that are known, in order.
    pub(super) fn rooms(&self) -> &[Room] {
        self.found.as_ref().map_or(&[], |found| &found.rooms)
    }

    /// The chosen one among them.
    pub(super) fn chosen(&self) -> Option<usize> {
        let offset = self.found.as_ref()?.offset as usize;
        let row = self.cursor.checked_sub(offset)?;
        (row < self.rooms().len()).then_some(row)
    }

    /// The open room: its name, what is known of it, lines to leave out.
    pub(super) fn opened(&self) -> Option<(&str, Option<&Opened>, usize)> {
        let open = self.open.as_ref()?;
        Some((&open.name, open.found.as_ref(), open.scrolled))
    }

    /// A room has so many lines: nobody scrolls beyond the last.
    pub(super) fn has_lines(&mut self, lines: usize) {
        let fits = self.fits;
        if let Some(open) = &mut self.open {
            open.scrolled = open.scrolled.min(lines.saturating_sub(fits));
        }
    }

    /// Why what is shown is old, if it is: for how long, and what the agent's silence looks like.
    pub(super) fn away(&self, now: Instant) -> Option<(Duration, &str)> {
        let since = self
            .answered
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        match &self.away {
            Some(why) => Some((since, why)),
            None if since > STALE => Some((since, "it does not answer")),
            None => None,
        }
    }
}
