//! What can be asked of the history, and what comes back. The same whatever keeps it.

use crate::{NodeHealth, Path, Snapshot, Transition};
use serde::{Deserialize, Serialize};
use voice_room::{RoomId, Wall};

/// Snapshots, changes of state, changes of health or ways in one answer, at most of each.
pub const MAX_PAGE: usize = 4096;
/// The changes of state before a moment that are told with it.
pub const LAST_TRANSITIONS: usize = 10;

/// From when to when, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The beginning.
    pub from: Wall,
    /// The end.
    pub to: Wall,
}

impl Range {
    /// Whether it lies within.
    pub fn holds(&self, at: Wall) -> bool {
        self.from <= at && at <= self.to
    }

    /// An error when it ends before it begins.
    pub(crate) fn checked(self) -> Result<Range, HistoryError> {
        if self.from > self.to {
            return Err(HistoryError::Range(self));
        }
        Ok(self)
    }
}

/// Where the next page begins. Means nothing to another kind of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What was a room like?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The room.
    pub room: RoomId,
    /// When.
    pub range: Range,
    /// At most so many snapshots; [`MAX_PAGE`] is the most.
    pub limit: usize,
    /// About so many snapshots suffice for all of the range: they are thinned out evenly, but none is left out in which
    /// state, life or cut is another than in the one before.
    pub points: Option<usize>,
    /// The next page.
    pub after: Option<Cursor>,
}

/// A room over a time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Snapshots, in the order they were taken.
    pub snapshots: Vec<Taken>,
    /// Changes of state, by time. With the first page only.
    pub transitions: Vec<Transition>,
    /// What the node depended on: when the range begins, and at each change. With the first page only.
    pub health: Vec<HealthAt>,
    /// Where the next page begins; `None`: this was all.
    pub next: Option<Cursor>,
    /// Records that could not be read and are left out.
    pub damaged: u32,
}

/// A snapshot and when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// When.
    pub at: Wall,
    /// What.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

/// What the node depended on, from a moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthAt {
    /// Since when, as far as is known.
    pub at: Wall,
    /// How well each was.
    pub health: NodeHealth,
}

/// A room as it was at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The last snapshot until then; `None`: it has none.
    pub snapshot: Option<Taken>,
    /// What the node depended on, when that was taken.
    pub health: NodeHealth,
    /// The last changes of state until then, oldest first; at most [`LAST_TRANSITIONS`].
    pub transitions: Vec<Transition>,
}

/// Which rooms went this way?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathQuestion {
    /// The way.
    pub path: Path,
    /// When its first change was.
    pub range: Range,
    /// At most so many; [`MAX_PAGE`] is the most.
    pub limit: usize,
    /// The next page.
    pub after: Option<Cursor>,
}

/// A room that went the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The room.
    pub room: RoomId,
    /// Its changes of state, one for each leg.
    pub changes: Vec<Transition>,
}

/// Rooms that went the way, by the time of the first change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathPage {
    /// The rooms.
    pub trips: Vec<Trip>,
    /// Where the next page begins; `None`: this was all. There may be more although this page is not full: the work for one
    /// page is bounded.
    pub next: Option<Cursor>,
    /// Records that could not be read and are left out.
    pub damaged: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Nothing is kept of this room.
    #[error("the history knows no room {room}: it never was on this node, or what was kept of it is gone")]
    NoSuchRoom {
        /// Which.
        room: RoomId,
    },
    /// The range ends before it begins.
    #[error("the time range ends before it begins: from {} ms to {} ms since 1970", .0.from.0, .0.to.0)]
    Range(Range),
    /// Where to go on is not a place this history gave.
    #[error("cursor {0:?} is none that this history gave: ask again without one")]
    Cursor(String),
    /// The database cannot be read now.
    #[error("the history cannot be read now: {0}")]
    Away(String),
}
