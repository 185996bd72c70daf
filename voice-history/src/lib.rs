//! What rooms were like: a snapshot of each every few seconds, and every change of state. How they are encoded, kept and
//! asked for.
//!
//! Nothing here knows the driver, the admin service or the command line: snapshots come in as a [`Tick`], questions as a
//! [`Question`], and answers are plain values that are the same whatever keeps them.
#![forbid(unsafe_code)]

mod codec;
pub mod embedded;
pub mod influx;
mod keeper;
mod path;
pub mod plot;
mod query;
mod snapshot;
#[cfg(test)]
mod testing;

pub use embedded::{DiskError, Embedded, Figures, Reader, Settings, set_aside, try_open};
pub use keeper::{Asker, Keeper, KeptFigures};
pub use path::{Path, PathError};
pub use query::{
    Answer, Cursor, HealthAt, HistoryError, LAST_TRANSITIONS, MAX_PAGE, Moment, PathPage, PathQuestion,
    Question, Range, Taken, Trip,
};
pub use snapshot::{Counters, Health, NodeHealth, Rooms, Snapshot, Tick, Transition};
