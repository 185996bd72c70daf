//! The words of the three-phase sync (DESIGN 6), as its owner's side and its participants' side share them.
//!
//! The owner's side is `core::sync`; a participant's is [`participant`].

pub mod participant;

pub use participant::{NotTaken, Participant, Taken};

use crate::{Epoch, EventType, Incarnation, PeerId, RoomId, State, TraceId, Version};
use alloc::{string::String, vec::Vec};
use core::{fmt, time::Duration};
use serde::{Deserialize, Serialize};

/// Peers that are asked to agree to one change. More that serve the room are only told what became of it.
pub const MAX_PARTICIPANTS: usize = 64;

/// Names one attempt to change a room. Of one room the higher is the later: an owner makes one at a time, and each owner
/// has an epoch above that of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// Rising within the epoch, not by one.
    pub number: u64,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.number)
    }
}

/// PREPARE: a change that `to` are asked to agree to. Nothing has changed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who is asked.
    pub to: Vec<PeerId>,
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// What happens.
    pub event: EventType,
    /// The state it would be in.
    pub state: State,
    /// The version it would have.
    pub version: Version,
    /// Which attempt.
    pub attempt: Attempt,
    /// In words.
    pub reason: String,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// Who has not answered after this long is silent.
    pub within: Duration,
}

/// ROLLBACK: this attempt is over, and nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// Who was asked.
    pub to: Vec<PeerId>,
    /// The room.
    pub room: RoomId,
    /// Which attempt.
    pub attempt: Attempt,
    /// In words.
    pub reason: String,
}

/// What a peer holds of a room, as it says when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The room.
    pub room: RoomId,
    /// The highest epoch it heard.
    pub epoch: Epoch,
    /// The life it knows.
    pub incarnation: Incarnation,
    /// The version it knows.
    pub version: Version,
    /// It agreed to an attempt whose end it has not heard.
    pub prepared: bool,
}

impl Known {
    /// Of a room that a peer serves, and of which it was told nothing yet.
    pub fn nothing(room: RoomId) -> Known {
        Known {
            room,
            epoch: Epoch::default(),
            incarnation: Incarnation::default(),
            version: Version::default(),
            prepared: false,
        }
    }
}
