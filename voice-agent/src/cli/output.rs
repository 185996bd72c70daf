//! How output looks: JSON or text, colours or none, tables that fit 100 characters.

use super::failure::{Code, Failure};
use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::IsTerminal;

/// No line of a table is longer.
pub(super) const WIDTH: u16 = 100;

/// What colours mean: things are well, need a look, are cut or broken, are beside the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Look,
    Bad,
    Faint,
    Strong,
}

/// The form of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
    color: bool,
}

impl Output {
    /// Colours only for people at a terminal who did not refuse them.
    pub(super) fn new(json: bool, no_color: bool) -> Output {
        let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Output {
            json,
            color: !json && !refused && std::io::stdout().is_terminal(),
        }
    }

    /// Whether it is for programs.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Whether there are colours.
    pub(super) fn has_color(self) -> bool {
        self.color
    }

    /// With colours, for people.
    #[cfg(test)]
    pub(super) fn colored() -> Output {
        Output {
            json: false,
            color: true,
        }
    }

    /// Without colours, for people.
    #[cfg(test)]
    pub(super) fn plain() -> Output {
        Output {
            json: false,
            color: false,
        }
    }

    /// The value as JSON, or as the text that `text` makes of it.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T, Output) -> String,
    ) -> Result<String, Failure> {
        if !self.json {
            return Ok(text(value, self));
        }
        let json = serde_json::to_string_pretty(value);
        json.map(|j| j + "\n")
            .map_err(|e| Failure::new(Code::Failed, format!("writing JSON: {e}")))
    }

    /// `text` in a tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.into();
        }
        let style = match tone {
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Look => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    /// A cell in a tone.
    pub(super) fn cell(self, tone: Option<Tone>, text: impl ToString) -> Cell {
        let cell = Cell::new(text);
        match tone.filter(|_| self.color) {
            None => cell,
            Some(Tone::Good) => cell.fg(comfy_table::Color::Green),
            Some(Tone::Look) => cell.fg(comfy_table::Color::Yellow),
            Some(Tone::Bad) => cell.fg(comfy_table::Color::Red),
            Some(Tone::Faint) => cell.add_attribute(comfy_table::Attribute::Dim),
            Some(Tone::Strong) => cell.add_attribute(comfy_table::Attribute::Bold),
        }
    }

    /// A table without lines, for eyes and for grep; long cells wrap inside [`WIDTH`].
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_width(WIDTH);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(header.iter().map(|h| self.cell(Some(Tone::Strong), h)));
        table.add_rows(rows);
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        let lines = table.lines().map(|l| l.trim_end().to_string() + "\n");
        lines.collect()
    }
}
