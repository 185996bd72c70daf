//! The list of rooms: as many columns as the screen has room for.

use super::super::{colour, state::Top};
use crate::{
    cli::{
        output::{Output, Tone},
        rooms, text,
    },
    proto::admin::Room,
};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Text},
    widgets::{Paragraph, Row, Table, TableState},
};

/// The line that says what is listed, and the table's head.
pub(super) const HEAD: u16 = 2;
/// Narrower screens have the fewer columns.
const WIDE: u16 = 110;

/// A column: its head, its width, how it is aligned, what it says of a room.
struct Column {
    head: &'static str,
    width: Constraint,
    right: bool,
    wide_only: bool,
    cell: fn(&Room) -> (Option<Tone>, String),
}

const COLUMNS: [Column; 10] = [
    Column {
        head: "ROOM",
        width: Constraint::Fill(2),
        right: false,
        wide_only: false,
        cell: |room| (None, room.room.clone()),
    },
    Column {
        head: "STATE",
        width: Constraint::Length(13),
        right: false,
        wide_only: false,
        cell: |room| (rooms::state_tone(&room.state), room.state.clone()),
    },
    Column {
        head: "FOR",
        width: Constraint::Length(12),
        right: false,
        wide_only: true,
        cell: |room| (None, text::duration(room.state_age_ms)),
    },
    Column {
        head: "HEARTBEAT",
        width: Constraint::Length(18),
        right: false,
        wide_only: false,
        cell: |room| {
            let (said, tone) = rooms::heartbeat(room);
            (tone, said)
        },
    },
    Column {
        head: "CLIENTS",
        width: Constraint::Length(7),
        right: true,
        wide_only: true,
        cell: |room| (None, text::count(room.clients.into())),
    },
    Column {
        head: "RTP IN/S",
        width: Constraint::Length(8),
        right: true,
        wide_only: true,
        cell: |room| rate(room.witness.as_ref().map(|w| (w.rtp_in_packets, w.window_ms))),
    },
    Column {
        head: "OUT/S",
        width: Constraint::Length(8),
        right: true,
        wide_only: true,
        cell: |room| rate(room.witness.as_ref().map(|w| (w.rtp_out_packets, w.window_ms))),
    },
    Column {
        head: "DROPS/S",
        width: Constraint::Length(9),
        right: true,
        wide_only: false,
        cell: drops,
    },
    Column {
        head: "LEFT",
        width: Constraint::Length(10),
        right: true,
        wide_only: false,
        cell: |room| match &room.block {
            Some(block) => (Some(Tone::Bad), text::duration(block.left_ms)),
            None => (None, String::new()),
        },
    },
    Column {
        head: "NOTE",
        width: Constraint::Fill(3),
        right: false,
        wide_only: false,
        cell: note,
    },
];

/// Packets a second over the witness's window.
fn rate(counted: Option<(u64, u64)>) -> (Option<Tone>, String) {
    let rate = counted.and_then(|(packets, ms)| packets.saturating_mul(1000).checked_div(ms));
    match rate {
        Some(rate) => (None, text::count(rate)),
        None => (Some(Tone::Faint), "-".into()),
    }
}

fn drops(room: &Room) -> (Option<Tone>, String) {
    match room.dropped_per_second {
        Some(0) if room.block.is_none() => (None, String::new()),
        Some(n) => ((n > 0).then_some(Tone::Bad), text::count(n.into())),
        None if room.block.is_some() => (Some(Tone::Faint), "-".into()),
        None => (None, String::new()),
    }
}

/// The reason of a cut, as its time stands beside it; else what `rooms` notes.
fn note(room: &Room) -> (Option<Tone>, String) {
    match &room.block {
        Some(block) if room.ports.is_empty() && room.flows.is_empty() && room.ssrcs.is_empty() => {
            (Some(Tone::Look), format!("nothing bound: {}", block.reason))
        }
        Some(block) => (None, block.reason.clone()),
        None => rooms::note(room),
    }
}

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, top: &Top, out: Output) {
    let [title, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(what_is_listed(top, out)), title);
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|c| area.width >= WIDE || !c.wide_only)
        .collect();
    let widths = columns.iter().map(|c| c.width);
    let cell = |column: &Column, (tone, said): (Option<Tone>, String)| {
        let style = tone.map_or(Style::new(), |tone| colour::style(tone, out));
        let alignment = if column.right {
            Alignment::Right
        } else {
            Alignment::Left
        };
        Text::styled(said, style).alignment(alignment)
    };
    let heads = columns
        .iter()
        .map(|c| cell(c, (Some(Tone::Strong), c.head.into())));
    let rows = top
        .rooms()
        .iter()
        .map(|room| Row::new(columns.iter().map(|c| cell(c, (c.cell)(room)))));
    let list = Table::new(rows, widths)
        .header(Row::new(heads).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut chosen = TableState::new().with_selected(top.chosen());
    frame.render_stateful_widget(list, table, &mut chosen);
}

fn what_is_listed(top: &Top, out: Output) -> Line<'static> {
    let offset = top.found().map_or(0, |found| found.offset as usize);
    let shown = match top.rooms().len() {
        0 => "none".to_owned(),
        n => format!("{}-{} of {}", offset + 1, offset + n, top.matching()),
    };
    let find = match top.find() {
        ("", _) => String::new(),
        (find, _) => format!(", with \"{find}\""),
    };
    let reversed = if top.is_reversed() { ", reversed" } else { "" };
    let said = format!("{}{find}: {shown}, by {}{reversed}", top.which(), top.sort());
    Line::styled(said, colour::style(Tone::Faint, out))
}
