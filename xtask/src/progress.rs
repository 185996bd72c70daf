//! One line per step on standard error: a spinner and the elapsed time on a terminal, plain lines elsewhere.
//! Standard output is left to results. `NO_COLOR` is honoured.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How steps are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    terminal: bool,
    color: bool,
}

impl Progress {
    /// To standard error, as it is.
    pub(crate) fn to_stderr() -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Progress {
            terminal,
            color: terminal && !no_color,
        }
    }

    /// Does `work`, which prints nothing itself, with a spinner beside `name`, then a tick or a cross and the time.
    pub(crate) fn step<T>(self, name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let start = Instant::now();
        let result = if self.terminal {
            thread::scope(|scope| {
                // Dropping `stop` ends the spinner, also when `work` panics.
                let (stop, stopped) = mpsc::channel::<()>();
                scope.spawn(move || spin(name, start, &stopped));
                let result = work();
                drop(stop);
                result
            })
        } else {
            eprintln!("..   {name}");
            work()
        };
        self.end(name, result.is_ok(), start.elapsed());
        result
    }

    /// Does `work`, which prints what it does itself (cargo), between two lines.
    pub(crate) fn section<T>(
        self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        eprintln!("..   {name}");
        let result = work();
        self.end(name, result.is_ok(), start.elapsed());
        result
    }

    /// A line for what is there already.
    pub(crate) fn there(self, name: &str) {
        eprintln!("{} {name} (there)", self.mark(true));
    }

    fn end(self, name: &str, ok: bool, took: Duration) {
        let back = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{back}{} {name} ({})", self.mark(ok), seconds(took));
    }

    fn mark(self, ok: bool) -> &'static str {
        match (self.terminal, self.color, ok) {
            (true, true, true) => "\x1b[32m✓\x1b[0m   ",
            (true, true, false) => "\x1b[31m✗\x1b[0m   ",
            (true, false, true) => "✓   ",
            (true, false, false) => "✗   ",
            (false, _, true) => "ok  ",
            (false, _, false) => "FAIL",
        }
    }
}

/// Draws until the sender is dropped.
fn spin(name: &str, start: Instant, stopped: &mpsc::Receiver<()>) {
    for frame in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".chars().cycle() {
        eprint!("\r\x1b[K{frame}    {name} {} s", start.elapsed().as_secs());
        // A terminal that cannot be written to is no reason to stop the work.
        drop(std::io::stderr().flush());
        if stopped.recv_timeout(Duration::from_millis(100)) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// "0.4 s", "83.0 s".
pub(crate) fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
