//! A picture of a room over a time, as SVG: its states, its packets, its heartbeats, what the node depended on. Pure text, no
//! fonts and no scripts; colours follow the viewer's light or dark scheme.

mod canvas;
mod panels;

use crate::query::Answer;
use canvas::{Canvas, Scale};
use voice_room::{RoomId, Wall};

/// Draws an answer. `from` and `to` are the ends of the axis; what was asked from the beginning of time begins with the first
/// snapshot.
pub fn svg(room: &RoomId, from: Wall, to: Wall, answer: &Answer) -> String {
    let first = answer.snapshots.first().map_or(from, |taken| taken.at);
    let last = answer.snapshots.last().map_or(to, |taken| taken.at);
    // A range that is mostly empty is cut to what there is.
    let span = last.0.saturating_sub(first.0).max(60_000);
    let from = Wall(from.0.max(first.0.saturating_sub(span / 10)));
    let to = Wall(to.0.min(last.0.saturating_add(span / 10)).max(from.0 + 1000));
    let mut canvas = Canvas::new(Scale::new(from, to));
    canvas.title(&format!("Room {room}"), from, to);
    panels::states(&mut canvas, answer);
    panels::packets(&mut canvas, answer);
    panels::heartbeats(&mut canvas, answer);
    panels::health(&mut canvas, answer);
    panels::trips(&mut canvas, answer);
    canvas.finish()
}

#[cfg(test)]
mod tests;
