//! What is stored and told of a room: its record, its events, its isolation.

use crate::{
    Epoch, EventType, Incarnation, NodeName, OpId, Port, RoomId, SourceId, State, TraceId, Version, Wall,
    id::ClientId, timeline::Actor,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::ops::{Deref, DerefMut};
use serde::{Deserialize, Serialize};

/// The stored state of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// The room.
    pub room: RoomId,
    /// Its state.
    pub state: State,
    /// Raised by one with each change.
    pub version: Version,
    /// The owner's fencing token when this was written.
    pub epoch: Epoch,
    /// The change that made this version.
    pub op_id: OpId,
    /// The life this record is of.
    pub incarnation: Incarnation,
    /// The node that serves it.
    pub owner: NodeName,
    /// Since when it is in `state`.
    pub since: Wall,
    /// Who served it last, once known.
    pub source: Option<SourceId>,
    /// The host, once known.
    pub host: Option<ClientId>,
    /// The media ports bound to it, so that a restart can bind them before its media server answers.
    pub ports: Vec<Port>,
}

/// One change of state, as consumers read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChangeEvent {
    /// The room.
    pub room: RoomId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// What happened.
    pub event_type: EventType,
    /// The state before; `None` for a new life.
    pub old_state: Option<State>,
    /// The state after.
    pub new_state: State,
    /// The record's version after.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// For idempotence.
    pub op_id: OpId,
    /// Who caused it.
    pub actor: Actor,
    /// In words, for a person.
    pub reason: String,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// When.
    pub timestamp: Wall,
}

/// Rejoins to `room` are refused until `until`. Belongs to the room id, not to one of its lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The room.
    pub room: RoomId,
    /// In words, for the one refused.
    pub reason: String,
    /// The end.
    pub until: Wall,
}

/// An operator's word that a room, or every room, may look stuck for a while. Kept on its host only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// `None`: every room.
    pub room: Option<RoomId>,
    /// In words.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// The beginning.
    pub since: Wall,
    /// The end.
    pub until: Wall,
}

/// What a change does to the room's isolation, in the same atomic step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IsolationChange {
    /// Leave it.
    Keep,
    /// Set it; a store with expiry gives it the time that remains.
    Set(Isolation),
    /// Delete it.
    Clear,
}

/// One atomic, versioned, fenced change of a room's record together with its event and isolation.
///
/// A store applies it only if its stored version is `record.version - 1` and its stored state is
/// `event.old_state` (a missing or DESTROYED record counts as `None` for CREATE and ADOPT). RESTORE is the exception: it
/// puts back what a store has lost, so it is applied when nothing is stored, or a lower version under no higher epoch.
///
/// Cheap to clone: a trip has its change in the queue to the store, in its intent, in a command and in itself. Whoever writes to
/// one that is shared gets a copy of its own first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Change(Arc<Parts>);

/// What a [`Change`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The record after.
    pub record: RoomRecord,
    /// The event that goes with it.
    pub event: StateChangeEvent,
    /// The isolation that goes with it.
    pub isolation: IsolationChange,
}

impl Change {
    /// From its parts.
    pub fn new(record: RoomRecord, event: StateChangeEvent, isolation: IsolationChange) -> Change {
        Change(Arc::new(Parts {
            record,
            event,
            isolation,
        }))
    }

    /// A person's RESTORE: it also takes the place of what cannot be read.
    pub fn is_by_hand(&self) -> bool {
        self.event.event_type == EventType::Restore && matches!(self.event.actor, Actor::Operator { .. })
    }

    /// Its parts; copies of them while it is shared.
    pub fn into_parts(self) -> Parts {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Deref for Change {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.0)
    }
}

/// A store's answer to a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Applied.
    Ok,
    /// The repeat of a change that was applied before; nothing was done.
    Skipped,
    /// The stored version or state differs; here is what is stored (`None`: no record).
    Conflict(Option<RoomRecord>),
    /// A higher epoch has written before; this owner may not write.
    Fenced(Epoch),
}

impl Committed {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Committed::Ok => "ok",
            Committed::Skipped => "skipped",
            Committed::Conflict(_) => "conflict",
            Committed::Fenced(_) => "fenced",
        }
    }
}

/// One owned room whose record must not run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The room.
    pub room: RoomId,
    /// The version that should be stored.
    pub version: Version,
    /// The change that made it: after a failover another owner may have used the same number.
    pub op_id: OpId,
    /// The epoch the room is held under.
    pub epoch: Epoch,
}

/// A store's answer to a [`Refresh`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// This version of this change is stored; it is kept for another while.
    Kept,
    /// Nothing is stored.
    Missing,
    /// Something else is stored; it was not refreshed.
    Differs(RoomRecord),
    /// A higher epoch has written; nothing was refreshed.
    Fenced(Epoch),
}

/// A client joined a room or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The room.
    pub room: RoomId,
    /// The client.
    pub client: ClientId,
    /// `false`: it left.
    pub joined: bool,
}

/// What a store says of a room when it is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What is stored; `None`: no record.
    pub stored: Option<Seen>,
    /// Since an agent without a lease last said that its media server serves the room; `None`: none does.
    pub served: Option<core::time::Duration>,
}

/// What is stored of a room, and how fresh it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub record: RoomRecord,
    /// Since it was last written or refreshed.
    pub age: core::time::Duration,
}
