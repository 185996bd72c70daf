//! `top`: the node on a full screen, asked anew every second. What is shown is in `top/state.rs`, how in `top/draw.rs`; the
//! agent is asked in `top/ask.rs`, for what fits the screen only. It decides and changes nothing.

mod ask;
mod colour;
mod draw;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use super::{Failure, failure::Code, output::Output};
use crate::config::Paths;
use ask::Asker;
use screen::{Happened, Screen};
use state::{Top, Wish};
use std::{io::IsTerminal, time::Instant};

/// Shows the screen until it is left. Without a terminal it is refused; without an agent at the start, too.
pub(super) async fn top(paths: &Paths, out: Output) -> Result<String, Failure> {
    refuse_unless_seen(out)?;
    let mut state = Top::default();
    let mut asker = Asker::connect(paths, state.wanted()).await?;
    let mut screen = Screen::enter().map_err(|e| broken("taking the terminal", &e))?;
    loop {
        screen.draw(&mut state, out).map_err(|e| broken("drawing", &e))?;
        asker.want(state.wanted());
        let wish = tokio::select! {
            answer = asker.answer() => state.answered(answer, Instant::now()),
            happened = screen.happened() => match happened {
                Happened::Key(key) => state.key(key),
                Happened::Redraw => Wish::Stay,
                Happened::Ended => Wish::Leave,
                Happened::Failed(e) => return Err(broken("reading keys", &e)),
            },
        };
        if wish == Wish::Leave {
            return Ok(String::new());
        }
    }
}

fn refuse_unless_seen(out: Output) -> Result<(), Failure> {
    let refused = |why: &str| {
        let instead =
            "`voice-agent status`, `rooms` and `explain ROOM` tell the same, with --json for programs";
        Err(Failure::new(Code::Usage, format!("top {why}: {instead}")))
    };
    if out.is_json() {
        return refused("is a screen for people and has no JSON");
    }
    if !std::io::stdout().is_terminal() {
        return refused("needs a terminal as its output");
    }
    match std::env::var("TERM") {
        Ok(term) if term == "dumb" => {
            refused("needs a terminal that can move its cursor, and TERM is \"dumb\"")
        }
        _ => Ok(()),
    }
}

fn broken(doing: &str, problem: &std::io::Error) -> Failure {
    Failure::new(Code::Failed, format!("{doing}: {problem}"))
}
