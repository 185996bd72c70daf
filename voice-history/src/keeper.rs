//! What keeps the history, and who reads it: one of the two kinds, asked and answered alike.

use crate::{
    Answer, HistoryError, Moment, PathPage, PathQuestion, Question, Tick,
    embedded::{self, Embedded},
    influx::{self, Influx},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use voice_room::{RoomId, Wall};

/// The one writer.
pub enum Keeper {
    /// On this host's disk.
    Embedded(Box<Embedded>),
    /// In an InfluxDB.
    Influx(Box<Influx>),
}

/// A reader. Calls block; any number may read while the keeper writes.
#[derive(Clone)]
pub enum Asker {
    /// On this host's disk.
    Embedded(embedded::Reader),
    /// In an InfluxDB.
    Influx(influx::Reader),
}

/// What was done so far, for metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub enum KeptFigures {
    /// On this host's disk.
    Embedded(Arc<embedded::Figures>),
    /// In an InfluxDB.
    Influx(Arc<influx::Figures>),
}

impl KeptFigures {
    /// Whether a database did not take what it was last sent.
    pub fn fails(&self) -> bool {
        match self {
            KeptFigures::Embedded(_) => false,
            KeptFigures::Influx(figures) => figures.failing.load(Ordering::Relaxed),
        }
    }

    /// Changes of state that were lost so far, because too many waited for a disk.
    pub fn lost_changes(&self) -> u64 {
        match self {
            KeptFigures::Embedded(figures) => figures.lost_changes.load(Ordering::Relaxed),
            KeptFigures::Influx(figures) => figures.lost_changes.load(Ordering::Relaxed),
        }
    }
}

impl Keeper {
    /// What was done so far; they go on counting.
    pub fn figures(&self) -> KeptFigures {
        match self {
            Keeper::Embedded(keeper) => KeptFigures::Embedded(keeper.figures()),
            Keeper::Influx(keeper) => KeptFigures::Influx(keeper.figures()),
        }
    }

    /// Whether something waits for a database that is away.
    pub fn waits(&self) -> bool {
        match self {
            Keeper::Embedded(_) => false,
            Keeper::Influx(keeper) => keeper.figures().waiting.load(Ordering::Relaxed) > 0,
        }
    }

    /// A reader.
    pub fn asker(&self) -> Asker {
        match self {
            Keeper::Embedded(keeper) => Asker::Embedded(keeper.reader()),
            Keeper::Influx(keeper) => Asker::Influx(keeper.reader()),
        }
    }

    /// Keeps a tick.
    ///
    /// # Errors
    /// The disk, in words. The tick is dropped.
    pub fn take(&mut self, tick: Tick) -> Result<(), String> {
        match self {
            Keeper::Embedded(keeper) => keeper.take(tick).map_err(|e| e.to_string()),
            Keeper::Influx(keeper) => keeper
                .take(tick)
                .map_err(|e| format!("cannot write to the spool: {e}")),
        }
    }

    /// Brings everything to the disk; what waits for a database is sent at the next start.
    ///
    /// # Errors
    /// The disk, in words.
    pub fn close(self) -> Result<(), String> {
        match self {
            Keeper::Embedded(keeper) => keeper.close().map_err(|e| e.to_string()),
            Keeper::Influx(_) => Ok(()),
        }
    }
}

impl Asker {
    /// The same, for one question: a database is waited for until then. The disk answers by itself.
    #[must_use]
    pub fn until(&self, until: Instant) -> Asker {
        match self {
            Asker::Embedded(reader) => Asker::Embedded(reader.clone()),
            Asker::Influx(reader) => Asker::Influx(reader.until(until)),
        }
    }

    /// A room over a time.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn room(&self, question: &Question) -> Result<Answer, HistoryError> {
        match self {
            Asker::Embedded(reader) => reader.room(question),
            Asker::Influx(reader) => reader.room(question),
        }
    }

    /// A room as it was at a moment.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn at(&self, room: &RoomId, at: Wall) -> Result<Moment, HistoryError> {
        match self {
            Asker::Embedded(reader) => reader.at(room, at),
            Asker::Influx(reader) => reader.at(room, at),
        }
    }

    /// Rooms that went a way through the states.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub fn path(&self, question: &PathQuestion) -> Result<PathPage, HistoryError> {
        match self {
            Asker::Embedded(reader) => reader.path(question),
            Asker::Influx(reader) => reader.path(question),
        }
    }
}
