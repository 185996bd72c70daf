//! One room: what `show` says of it now, and what `explain` tells of its life so far.

use super::super::{ask::Opened, colour, state::Top};
use crate::{
    cli::{
        explain,
        output::{Output, Tone},
        rooms, text,
    },
    proto::admin::ExplainResponse,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::Paragraph,
};

/// The line with its name.
pub(super) const HEAD: u16 = 1;

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, top: &mut Top, out: Output) {
    let [title, body] = Layout::vertical([Constraint::Length(HEAD), Constraint::Min(0)]).areas(area);
    let Some((name, opened, _)) = top.opened() else {
        return;
    };
    let mut title_said = format!("ROOM {name}");
    let lines = opened.map_or_else(Vec::new, |opened| lines(opened, out));
    top.has_lines(lines.len());
    let scrolled = top.opened().map_or(0, |(_, _, scrolled)| scrolled);
    let below = lines.len().saturating_sub(scrolled + usize::from(body.height));
    if scrolled > 0 || below > 0 {
        title_said += &format!(
            "  ({} above, {} below)",
            text::many(scrolled as u64, "line"),
            below
        );
    }
    frame.render_widget(Paragraph::new(super::head(title_said, out)), title);
    let shown = lines.into_iter().skip(scrolled).take(body.height.into());
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), body);
}

fn lines(opened: &Opened, out: Output) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    match &opened.room {
        Some(room) => {
            let said = rooms::described(room, out);
            // What to type next comes behind an empty line, and is for who is at a prompt.
            lines.extend(
                said.lines()
                    .take_while(|line| !line.is_empty())
                    .map(colour::printed),
            );
        }
        None => lines.push(Line::from(colour::span(
            Tone::Look,
            "The agent does not know this room any more; below is what was recorded.",
            out,
        ))),
    }
    lines.push(Line::default());
    let story = ExplainResponse {
        room: opened.name.clone(),
        entries: opened.entries.clone(),
    };
    lines.extend(explain::story(&story, out).lines().map(colour::printed));
    lines
}
