//! `cargo xtask bench NAME`: what the product costs and how quick it is, each figure beside its goal. What each bench
//! measures is in the file of its name; how a figure is kept in `report`, how it is shown in `table`.

mod agent;
pub mod args;
mod cas;
mod history;
mod kernel;
mod machine;
mod node;
mod progress;
mod recovery;
pub mod report;
mod stats;
mod sync;
pub mod table;

pub use args::{Args, Name};
pub use machine::Machine;
pub use report::{Figure, Goal, Report};

use crate::interrupt;

/// Runs a bench to its end, everything cleaned up. An error says what could not be measured.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    interrupt::watch_for()?;
    let machine = Machine::here()?;
    // What others wrote before, a build above all, goes to the disk now: it is not what is measured.
    nix::unistd::sync();
    let figures = match args.name {
        Name::Kernel => kernel::run()?,
        Name::Node => node::run()?,
        Name::Agent => agent::run()?,
        Name::Recovery => recovery::run()?,
        Name::Cas => cas::run()?,
        Name::Sync => sync::run()?,
        Name::History => history::run()?,
    };
    Ok(Report {
        bench: args.name,
        machine,
        figures,
    })
}
