//! `cargo xtask demo`: the story of one stuck room, told live and measured. What it shows is decided in `story`; where the
//! media comes from in `world`; what must have happened in `report`.

pub mod args;
pub mod report;
pub mod screen;
mod story;
mod watch;
mod world;

pub use args::Args;
pub use report::Report;

use crate::interrupt;

/// Runs the demo to its end, everything cleaned up. An error says what did not happen.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    interrupt::watch_for()?;
    story::tell(args)
}
