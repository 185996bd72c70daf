//! Where rooms are kept. One trait, so that every store has the same conflict semantics.

pub mod aside;
mod disk;
pub mod embedded;
pub mod journal;
pub mod position;
mod queue;
pub mod redis;
pub mod replay;
#[cfg(test)]
pub(crate) mod testing;
pub mod trial;

pub use embedded::Embedded;
pub use journal::JournalHandle;
pub use position::{Cursor, Position};
pub use redis::Redis;

use async_trait::async_trait;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use voice_room::{
    Change, Isolation, NodeName, RoomId, RoomRecord, StateChangeEvent, Wall, patrol::StoreSight,
    record::Committed,
};

pub use voice_room::record::{Looked, Member, Refresh, Refreshed, Seen};

/// Why a store or the journal could not answer; the text says which. Nothing is known of the change then; it is tried again by op_id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or written.
    #[error("{0}")]
    Unavailable(String),
    /// The database itself is damaged. The next start sets it aside, see [`aside`].
    #[error("{0}")]
    Damaged(String),
    /// What is stored is not ours or is damaged; it was left as it is.
    #[error("{key} holds something that is not ours: {problem}")]
    Foreign {
        /// Where.
        key: String,
        /// What.
        problem: String,
    },
    /// Events behind the position that was asked for are gone: they were too old, or too many. The reader goes on behind
    /// `up_to`, and looks at what is stored now for what it missed.
    #[error(
        "events up to {} were cut off before they were read; look at the rooms and their isolations as they are stored now",
        listed(.up_to)
    )]
    Cut {
        /// The last one that is gone, of each partition that lost some.
        up_to: Vec<Position>,
    },
}

/// A few of them; there may be one of each partition.
fn listed(positions: &[Position]) -> String {
    let first: Vec<String> = positions.iter().take(3).map(ToString::to_string).collect();
    match positions.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// What a store holds at start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Every room record.
    pub rooms: Vec<RoomRecord>,
    /// Every isolation, also ended ones.
    pub isolations: Vec<Isolation>,
    /// What could not be read, by key; left as it is.
    pub damaged: Vec<StoreError>,
}

/// Rooms, their events and isolations.
#[async_trait]
pub trait RoomStore: Send + Sync {
    /// Applies a change atomically, with its event and isolation. Epoch below the fence: `Fenced`. Stored version and
    /// op_id equal to the change's: `Skipped`. Stored version not one below, or stored state not `old_state`:
    /// `Conflict` with what is stored. For CREATE and ADOPT a missing or DESTROYED record counts as no state. RESTORE is
    /// applied when nothing is stored, or a lower version under no higher epoch, whatever its state. A person's RESTORE is
    /// also applied over what cannot be read, unless that says a higher epoch.
    async fn commit(&self, change: Change) -> Result<Committed, StoreError>;

    /// For a start: every record, or of a store that many agents share those of the rooms that are `known`; every
    /// isolation.
    async fn load(&self, known: Vec<RoomId>) -> Result<Stored, StoreError>;

    /// Keeps records from running out, and says of each what is stored instead: a fence above the epoch is `Fenced`, no
    /// record is `Missing`, another version or op_id is `Differs`. Only what is `Kept` was refreshed.
    async fn refresh(&self, rooms: Vec<Refresh>) -> Result<Vec<(RoomId, Refreshed)>, StoreError>;

    /// One record, and since when it was neither written nor refreshed. Changes nothing.
    async fn look(&self, room: RoomId) -> Result<Option<Seen>, StoreError>;

    /// That the media server of `by`, which has no lease, serves these rooms. Changes nothing of what is stored; a record that is
    /// still that node's lives on. Answers those of which it is known now. A store of one node has nobody who asks.
    async fn tell_served(&self, rooms: Vec<RoomId>, _by: &NodeName) -> Result<Vec<RoomId>, StoreError> {
        Ok(rooms)
    }

    /// Since when nobody has told that of the room; `None`: nobody did, or so long ago that it is forgotten.
    async fn served(&self, _room: RoomId) -> Result<Option<Duration>, StoreError> {
        Ok(None)
    }

    /// All that is stored of these rooms, in their order; what of it cannot be read is said field by field. Changes nothing.
    async fn survey(&self, rooms: Vec<RoomId>) -> Result<Vec<(RoomId, StoreSight)>, StoreError>;

    /// The isolation of a room, also one that has ended.
    async fn isolation(&self, room: RoomId) -> Result<Option<Isolation>, StoreError>;

    /// Who joined and who left, in order, for others to read.
    async fn members(&self, changes: Vec<Member>) -> Result<(), StoreError>;

    /// Events behind `after`, at most `limit`, each with its position. Those of one room come in their order. A shared store
    /// says `Cut` when some of them are gone.
    async fn events(
        &self,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<(Position, StateChangeEvent)>, StoreError>;
}

/// The wall clock, for how long things are kept. Before 1970 it is 1970.
fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
