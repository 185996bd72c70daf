//! The paper: scales, panels below each other, and the few shapes they are made of.

use std::fmt::Write;
use voice_room::Wall;

pub(super) const WIDTH: f64 = 1200.0;
/// Where panels begin, right of their labels, and end, left of their legends.
pub(super) const LEFT: f64 = 130.0;
pub(super) const RIGHT: f64 = 1010.0;
const GAP: f64 = 34.0;

/// From time to place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    pub(super) fn new(from: Wall, to: Wall) -> Scale {
        Scale {
            from: from.0,
            to: to.0.max(from.0 + 1),
        }
    }

    /// Where a time lies; times outside lie at the ends.
    pub(super) fn x(&self, at: Wall) -> f64 {
        let share = (at.0.clamp(self.from, self.to) - self.from) as f64 / (self.to - self.from) as f64;
        LEFT + share * (RIGHT - LEFT)
    }

    pub(super) fn holds(&self, at: Wall) -> bool {
        (self.from..=self.to).contains(&at.0)
    }

    /// About eight times that are round, and how to write them.
    fn ticks(&self) -> impl Iterator<Item = u64> {
        const STEPS: [u64; 17] = [
            5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800,
            604_800,
        ];
        let wanted = (self.to - self.from) / 1000 / 8;
        let step = STEPS
            .into_iter()
            .find(|step| *step >= wanted)
            .unwrap_or(wanted.max(1))
            * 1000;
        let to = self.to;
        let first = self.from.div_ceil(step) * step;
        (0u64..20)
            .map(move |n| first + n * step)
            .take_while(move |at| *at <= to)
    }
}

/// What is drawn so far.
pub(super) struct Canvas {
    pub(super) scale: Scale,
    body: String,
    /// Where the next panel begins.
    pub(super) y: f64,
}

impl Canvas {
    pub(super) fn new(scale: Scale) -> Canvas {
        Canvas {
            scale,
            body: String::new(),
            y: 20.0,
        }
    }

    pub(super) fn title(&mut self, title: &str, from: Wall, to: Wall) {
        self.text(LEFT, self.y + 8.0, "title", title);
        let span = format!("{} to {} UTC", moment(from.0), moment(to.0));
        self.text_at_end(RIGHT, self.y + 8.0, "faint", &span);
        self.y += 30.0;
    }

    /// Begins a panel of this height: its name at the left, and lines for the times. The y of its top.
    pub(super) fn panel(&mut self, name: &str, height: f64) -> f64 {
        let top = self.y;
        self.text_at_end(LEFT - 34.0, top + height / 2.0 + 4.0, "label", name);
        for at in self.scale.ticks().collect::<Vec<_>>() {
            let x = self.scale.x(Wall(at));
            self.line("grid", (x, top), (x, top + height));
            self.text_at_middle(x, top + height + 13.0, "faint", &clock(at));
        }
        self.y += height + GAP;
        top
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
        ));
    }

    pub(super) fn rect(&mut self, class: &str, (x1, x2): (f64, f64), y: f64, height: f64) {
        let width = (x2 - x1).max(0.8);
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x1:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
        ));
    }

    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (x, y) in points {
            // Writing to a String cannot fail.
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        // One point alone would not be seen.
        if let [(x, y)] = points {
            let _ = write!(path, "{:.1},{y:.1} ", x + 1.0);
        }
        self.put(format_args!(
            "<polyline class=\"line {class}\" points=\"{}\"/>\n",
            path.trim_end()
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.anchored(x, y, class, "start", text);
    }

    pub(super) fn text_at_end(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.anchored(x, y, class, "end", text);
    }

    pub(super) fn text_at_middle(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.anchored(x, y, class, "middle", text);
    }

    fn anchored(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    fn put(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(shape);
    }

    pub(super) fn finish(self) -> String {
        let height = self.y;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\">\n<style>{STYLE}</style>\n<rect class=\"paper\" x=\"0\" y=\"0\" width=\"100%\" \
             height=\"100%\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// Colours that colour-blind people tell apart (Okabe and Ito), darker on light paper and lighter on dark.
const STYLE: &str = "
text{font:12px system-ui,sans-serif;fill:#1b1f24}.title{font-size:16px;font-weight:600}.label{font-weight:600}
.faint{fill:#59636e;font-size:11px}.paper{fill:#fff}.grid{stroke:#d8dee4;stroke-width:1}.frame{stroke:#8c959f;stroke-width:1}
.line{fill:none;stroke-width:1.6}.in{}.out{stroke-dasharray:5 3}
.rtp{stroke:#0072b2}.rtcp{stroke:#b35900}.other{stroke:#7a3e9d}.drop{stroke:#c1121f;stroke-width:2.2}.age{stroke:#00705a}
.CREATED{fill:#9ecae1}.LIVEING{fill:#74c69d}.GRACE_CLOSING{fill:#f2c14e}.EXPIRED{fill:#e5695e}.DESTROYED{fill:#c4c9cf}
.healthy{fill:#74c69d}.degraded{fill:#f2c14e}.broken{fill:#e5695e}.band{fill:#1b1f24;font-size:11px}
.trip{stroke:#c1121f;stroke-width:1.6;stroke-dasharray:3 3}.triptext{fill:#c1121f;font-weight:600;font-size:11px}
.missed{fill:#e5695e}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9aa4af}.paper{fill:#12161c}.grid{stroke:#2c333b}
.frame{stroke:#6e7681}.rtp{stroke:#56b4e9}.rtcp{stroke:#f0a04b}.other{stroke:#cf9be8}.drop{stroke:#ff6b6b}.age{stroke:#3ddbb0}
.CREATED{fill:#2b6a8f}.LIVEING{fill:#2d6a4f}.GRACE_CLOSING{fill:#8a6a12}.EXPIRED{fill:#a4302a}.DESTROYED{fill:#4b525a}
.healthy{fill:#2d6a4f}.degraded{fill:#8a6a12}.broken{fill:#a4302a}.band{fill:#fff}
.trip{stroke:#ff6b6b}.triptext{fill:#ff6b6b}.missed{fill:#a4302a}}
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// `13:11:12`, or at midnight the day.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds % 86_400 {
        0 => day(seconds / 86_400),
        of_day => {
            let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
            if s == 0 {
                format!("{h:02}:{m:02}")
            } else {
                format!("{h:02}:{m:02}:{s:02}")
            }
        }
    }
}

/// `2026-11-22 13:11:12`
pub(super) fn moment(ms: u64) -> String {
    let of_day = ms / 1000 % 86_400;
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{} {h:02}:{m:02}:{s:02}", day(ms / 86_400_000))
}

/// The date of a day since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
fn day(since_1970: u64) -> String {
    let z = since_1970.saturating_add(719_468);
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(moment(1_763_817_072_000), "2025-11-22 13:11:12");
        assert_eq!(clock(1_763_817_072_000), "13:11:12");
        assert_eq!(clock(1_763_769_600_000), "2025-11-22");
    }
}
