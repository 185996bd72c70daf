//! The timeline on the terminal: a line for each thing that happens, and on a terminal a last line that is kept up to
//! date. Without a terminal the last line comes every two seconds instead; colours follow NO_COLOR.

use anstyle::{AnsiColor, Style};
use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// To the start of the line, and wipe it.
const WIPE: &str = "\r\x1b[K";
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Who a line is about, which is its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The demo itself.
    Demo,
    /// A room that is well.
    Good,
    /// A room in trouble.
    Bad,
    /// The kernel.
    Kernel,
    /// The gateway.
    Gateway,
}

impl Who {
    fn style(self) -> Style {
        let color = match self {
            Who::Demo => return Style::new().bold(),
            Who::Good => AnsiColor::Green,
            Who::Bad => AnsiColor::Red,
            Who::Kernel => AnsiColor::Magenta,
            Who::Gateway => AnsiColor::Cyan,
        };
        color.on_default().bold()
    }
}

/// Where the timeline goes.
#[derive(Debug)]
pub struct Screen {
    begin: Instant,
    live: bool,
    last_plain: Option<Instant>,
    footer: String,
}

impl Screen {
    /// Standard output; time zero is now.
    pub fn new() -> Screen {
        Screen {
            begin: Instant::now(),
            live: std::io::stdout().is_terminal(),
            last_plain: None,
            footer: String::new(),
        }
    }

    /// Something happened.
    pub fn event(&mut self, who: Who, what: &str, text: &str) {
        let (style, at) = (who.style(), self.at());
        self.print(&format!("{at}  {style}{what:<9}{style:#}  {text}"));
    }

    /// Many lines that belong together, indented.
    pub fn quote(&mut self, text: &str) {
        for line in text.lines() {
            self.print(&format!("           | {line}"));
        }
    }

    /// The line that is kept up to date.
    pub fn status(&mut self, text: &str) {
        self.footer = format!("{}  {:<9}  {text}", self.at(), "now");
        if self.live {
            self.draw();
        } else if self.last_plain.is_none_or(|t| t.elapsed() >= PLAIN_EVERY) {
            self.last_plain = Some(Instant::now());
            say(&format!("{}\n", self.footer));
        }
    }

    /// Wipes the last line: what follows is no longer the timeline.
    pub fn end(&mut self) {
        if self.live {
            say(WIPE);
        }
        self.footer.clear();
    }

    fn at(&self) -> String {
        format!("{:7.1}s", self.begin.elapsed().as_secs_f64())
    }

    fn print(&self, line: &str) {
        let wipe = if self.live { WIPE } else { "" };
        say(&format!("{wipe}{line}\n"));
        if self.live && !self.footer.is_empty() {
            self.draw();
        }
    }

    fn draw(&self) {
        // A line longer than the terminal would wrap and could not be wiped.
        let width = terminal_width().saturating_sub(1);
        let shown: String = self.footer.chars().take(width).collect();
        say(&format!("{WIPE}{shown}"));
    }
}

impl Default for Screen {
    fn default() -> Self {
        Screen::new()
    }
}

/// A terminal that went away must not stop the clean-up: what cannot be shown is not.
fn say(text: &str) {
    let mut out = anstream::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// In characters; 80 when the terminal does not say.
fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
}
