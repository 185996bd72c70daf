//! The terminal: taken at the start, given back on every exit (leaving, an error, a panic, SIGINT, SIGTERM, SIGHUP).

use super::{draw, state::Top};
use crate::cli::output::Output;
use crossterm::event::{Event, EventStream, KeyEvent, KeyEventKind};
use futures::StreamExt;
use ratatui::DefaultTerminal;
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, interval},
};

/// Ages on the screen go on, also when nobody answers.
const REDRAW: Duration = Duration::from_secs(1);

/// What there is to react to.
#[derive(Debug)]
pub(super) enum Happened {
    Key(KeyEvent),
    /// Another size, or a second is over.
    Redraw,
    /// A signal, or the terminal is gone.
    Ended,
    Failed(io::Error),
}

/// The terminal, while it is ours.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    events: EventStream,
    signals: [Signal; 3],
    clock: Interval,
}

impl Screen {
    /// Takes it. A panic gives it back before it is told (`ratatui::try_init` sees to it).
    pub(super) fn enter() -> io::Result<Screen> {
        let [interrupt, terminate, hangup] = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal);
        let signals = [interrupt?, terminate?, hangup?];
        Ok(Screen {
            terminal: ratatui::try_init().inspect_err(|_| ratatui::restore())?,
            events: EventStream::new(),
            signals,
            clock: interval(REDRAW),
        })
    }

    /// Shows what is known, in the size there is.
    pub(super) fn draw(&mut self, top: &mut Top, out: Output) -> io::Result<()> {
        let now = std::time::Instant::now();
        self.terminal.draw(|frame| {
            top.fit(draw::rows(frame.area(), top));
            draw::draw(frame, top, out, now);
        })?;
        Ok(())
    }

    /// The next thing.
    pub(super) async fn happened(&mut self) -> Happened {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            event = self.events.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => Happened::Key(key),
                Some(Ok(_)) => Happened::Redraw,
                Some(Err(e)) => Happened::Failed(e),
                None => Happened::Ended,
            },
            _ = self.clock.tick() => Happened::Redraw,
            _ = interrupt.recv() => Happened::Ended,
            _ = terminate.recv() => Happened::Ended,
            _ = hangup.recv() => Happened::Ended,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        env,
        process::{Command, Stdio},
    };

    /// Set where this test runs itself again, on a terminal of its own.
    const AGAIN: &str = "VOICE_AGENT_PANICS_ON_ITS_TERMINAL";
    const SAID: &str = "what a bug would say";
    /// A terminal goes to its other screen, and back.
    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";

    #[tokio::test]
    async fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if env::var_os(AGAIN).is_some() {
            let _screen = Screen::enter().unwrap();
            panic!("{SAID}");
        }
        let program = env::current_exe().unwrap();
        let test = "cli::top::screen::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        let again = format!(
            "{AGAIN}=1 {} --exact {test} --nocapture; stty -a",
            program.display()
        );
        // A real terminal, and what is written to it.
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &again, "/dev/null"]);
        let out = script.stdin(Stdio::null()).output().unwrap();
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        let at = |what: &str| {
            shown
                .find(what)
                .unwrap_or_else(|| panic!("no {what:?} in {shown:?}"))
        };
        assert!(
            at(ENTER) < at(LEAVE) && at(LEAVE) < at(SAID),
            "told on the screen that is gone: {shown:?}"
        );
        let left: Vec<&str> = shown[at(SAID)..].split_whitespace().collect();
        for set in ["icanon", "echo", "isig"] {
            assert!(left.contains(&set), "{set}: {shown:?}");
        }
    }
}
