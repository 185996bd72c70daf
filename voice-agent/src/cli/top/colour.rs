//! Tones on the screen. Texts of `show` and `explain` come as those commands print them, with the codes of their tones.

use crate::cli::output::{Output, Tone};
use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

/// A tone; without colours, only what is bad or strong is bold.
pub(super) fn style(tone: Tone, out: Output) -> Style {
    let style = Style::new();
    match tone {
        _ if !out.has_color() => match tone {
            Tone::Bad | Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Good | Tone::Look | Tone::Faint => style,
        },
        Tone::Good => style.fg(Color::Green),
        Tone::Look => style.fg(Color::Yellow),
        Tone::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Faint => style.add_modifier(Modifier::DIM),
        Tone::Strong => style.add_modifier(Modifier::BOLD),
    }
}

/// A text in a tone.
pub(super) fn span(tone: Tone, text: impl Into<String>, out: Output) -> Span<'static> {
    Span::styled(text.into(), style(tone, out))
}

/// A printed line, its codes ([`Output::tone`]) turned into styles.
pub(super) fn printed(line: &str) -> Line<'static> {
    let mut style = Style::new();
    let mut spans = Vec::new();
    let mut parts = line.split("\x1b[");
    spans.extend(parts.next().map(|text| Span::raw(text.to_owned())));
    for part in parts {
        let (code, text) = part.split_once('m').unwrap_or(("", part));
        style = match code {
            "1" => style.add_modifier(Modifier::BOLD),
            "2" => style.add_modifier(Modifier::DIM),
            "31" => style.fg(Color::Red),
            "32" => style.fg(Color::Green),
            "33" => style.fg(Color::Yellow),
            _ => Style::new(),
        };
        spans.push(Span::styled(text.to_owned(), style));
    }
    spans.retain(|span| !span.content.is_empty());
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_prints_in_a_tone_has_that_tone_on_the_screen() {
        let out = Output::colored();
        for tone in [Tone::Good, Tone::Look, Tone::Bad, Tone::Faint, Tone::Strong] {
            let line = printed(&format!("before {} after", out.tone(tone, "in it")));
            let spans: Vec<_> = line.spans.iter().map(|s| (s.content.as_ref(), s.style)).collect();
            let plain = Style::new();
            assert_eq!(
                spans,
                [("before ", plain), ("in it", style(tone, out)), (" after", plain)],
                "{tone:?}"
            );
        }
        assert_eq!(printed("plain").spans.len(), 1);
    }
}
