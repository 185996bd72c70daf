//! Draws the screen: the node above, a list of rooms or one room in the middle, help below. It reads the state and changes
//! nothing but how far a room can be scrolled.

mod list;
mod node;
mod room;

use super::{
    colour::{span, style},
    state::Top,
};
use crate::cli::output::{Output, Tone};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Modifier,
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};
use std::time::Instant;

/// Below this height the last trips are left out.
const TALL: u16 = 24;
/// Lines of the last trips, with their head.
const TRIPS: u16 = 5;

const HELP: [(&str, &str); 11] = [
    ("q, Ctrl-C", "quit"),
    ("Up, Down, PgUp, PgDn, Home, End; k, j, g, G", "move"),
    (
        "Enter, Right",
        "open the room: what `show` and `explain` tell, as it goes on",
    ),
    ("Esc, Backspace, Left", "back to the list"),
    (
        "s",
        "sort by the next: attention, room, since, heartbeat, drops, left, clients",
    ),
    ("r", "the other way round"),
    (
        "f",
        "only the next kind: blocked, held, missing heartbeats, a state; then all",
    ),
    ("b", "only blocked rooms, or all again"),
    ("/", "find a part of a room's or source's id; Enter keeps it"),
    ("Esc", "in the list: all rooms again"),
    ("?, h", "this"),
];

/// The parts of the screen.
struct Parts {
    node: Rect,
    body: Rect,
    trips: Rect,
    keys: Rect,
}

fn parts(area: Rect, top: &Top) -> Parts {
    let has_trips = area.height >= TALL && top.opened().is_none();
    let trips = if has_trips { TRIPS } else { 0 };
    let [node, body, trips, keys] = Layout::vertical([
        Constraint::Length(node::LINES),
        Constraint::Min(0),
        Constraint::Length(trips),
        Constraint::Length(1),
    ])
    .areas(area);
    Parts {
        node,
        body,
        trips,
        keys,
    }
}

/// How many rooms, or lines of the open one, a screen of this size has room for.
pub(super) fn rows(area: Rect, top: &Top) -> usize {
    let head = if top.opened().is_some() {
        room::HEAD
    } else {
        list::HEAD
    };
    parts(area, top).body.height.saturating_sub(head).into()
}

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top, out: Output, now: Instant) {
    let parts = parts(frame.area(), top);
    frame.render_widget(Paragraph::new(node::lines(top, out, now)), parts.node);
    if top.opened().is_some() {
        room::draw(frame, parts.body, top, out);
    } else {
        list::draw(frame, parts.body, top, out);
        frame.render_widget(Paragraph::new(node::trips(top, out)), parts.trips);
    }
    frame.render_widget(Paragraph::new(keys(top, out)), parts.keys);
    if top.help {
        help(frame, out);
    }
}

/// The line at the bottom.
fn keys(top: &Top, out: Output) -> Line<'static> {
    if let (find, true) = top.find() {
        return Line::from(vec![
            span(Tone::Strong, "find: ", out),
            Span::raw(format!("{find}_")),
            span(Tone::Faint, "   Enter keeps it, Esc forgets it", out),
        ]);
    }
    let all: &[(&str, &str)] = match top.opened().is_some() {
        true => &[("q", "quit"), ("esc", "back"), ("↑↓", "scroll"), ("?", "help")],
        false => &[
            ("q", "quit"),
            ("↑↓", "move"),
            ("enter", "open"),
            ("s", "sort"),
            ("r", "reverse"),
            ("f", "which"),
            ("b", "blocked"),
            ("/", "find"),
            ("?", "help"),
        ],
    };
    let keys = all.iter().flat_map(|(key, what)| {
        let key = Span::styled((*key).to_owned(), style(Tone::Strong, out));
        [key, Span::raw(format!(" {what}  "))]
    });
    Line::from(keys.collect::<Vec<_>>())
}

/// Over all else.
fn help(frame: &mut Frame<'_>, out: Output) {
    let mut lines = vec![Line::styled("Keys", style(Tone::Strong, out)), Line::default()];
    lines.extend(
        HELP.iter()
            .map(|(key, what)| Line::raw(format!("{key:<46}{what}"))),
    );
    lines.push(Line::default());
    lines.push(Line::raw(
        "It shows and changes nothing. Drops a second are those between the agent's last two readings",
    ));
    lines.push(Line::raw(
        "of the kernel's counters, one each heartbeat; trips are counted since the agent's start.",
    ));
    let area = frame.area();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

/// The head of a table or a room.
fn head(text: String, out: Output) -> Line<'static> {
    Line::styled(text, style(Tone::Strong, out).add_modifier(Modifier::UNDERLINED))
}
