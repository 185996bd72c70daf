//! Everything the core can ask for. Commands carry ids, never channels, so that tests compare lists of them.

use crate::{
    Binding, Change, Entry, Epoch, Incarnation, Mono, NodeName, PeerId, Rejected, RoomId, RoomRecord,
    SourceId, State, TraceId, Version, Wall,
    input::{Intent, ReplyId},
    record::{Maintenance, Member, Refresh},
    sync::{Proposal, Rollback},
};
use alloc::{string::String, vec::Vec};

/// One thing to do. The driver carries them out in order, of those it finds together first the journal's and the kernel's,
/// then what is pushed, then the rest; each that can fail answers with an `Input`.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write the intent of a trip to the local journal. Answers `Step(Journal)`.
    Journal(Intent),
    /// The trip is over; its intent may go.
    Forget {
        /// The room.
        room: RoomId,
    },
    /// Keep this over a restart of the agent, in place of what was kept for its room.
    KeepMaintenance {
        /// What.
        notice: Maintenance,
        /// Who waits to hear that it is kept.
        reply: Option<ReplyId>,
    },
    /// This maintenance is over.
    ForgetMaintenance {
        /// `None`: that of every room.
        room: Option<RoomId>,
        /// Who waits to hear that it is forgotten.
        reply: Option<ReplyId>,
    },
    /// Make this, and only this, what the room is bound by. An empty binding keeps the room's slot.
    Bind {
        /// The room.
        room: RoomId,
        /// Which life.
        incarnation: Incarnation,
        /// All it is bound by.
        binding: Binding,
    },
    /// The room needs no slot any more.
    Unbind {
        /// The room.
        room: RoomId,
    },
    /// Arm the room's verdict until `deadline`. Answers `Step(Arm)`.
    Arm {
        /// The room.
        room: RoomId,
        /// Which life.
        incarnation: Incarnation,
        /// Count only.
        shadow: bool,
        /// CLOCK_MONOTONIC, absolute.
        deadline: Mono,
    },
    /// Lift the room's verdict now.
    Disarm {
        /// The room.
        room: RoomId,
    },
    /// Push STATE_EXPIRED to the sessions that serve the room; kept until each acknowledged or the isolation
    /// ended. Answers `Step(Push)`.
    PushExpired(Expired),
    /// Push STATE_RESTORED to the sessions that serve the room.
    PushRestored(RoomUpdate),
    /// Tell the sessions that serve the room of a change: COMMIT, to those who know the word. Answers `CommitAcked` for each.
    PushUpdate(RoomUpdate),
    /// Tell this one peer what it said it does not know: COMMIT.
    Tell {
        /// Who.
        to: PeerId,
        /// What.
        update: RoomUpdate,
    },
    /// Ask these peers to agree to a change: PREPARE. Answers `Vote` for each.
    Prepare(Proposal),
    /// Tell these peers that a change they were asked about is not made: ROLLBACK.
    Rollback(Rollback),
    /// Compare-and-swap in the store. Answers `Stored`.
    Commit(Change),
    /// Own this room. Answers `Claimed` or `NotClaimed`; a lease that ends answers `LeaseLost` for all. Until then the room's
    /// changes wait. What it is by then is known to whoever has to end it, should this agent die before it tells more.
    Claim(Meta),
    /// The room's life is over and stored: it need not be owned any more.
    Cede {
        /// The room.
        room: RoomId,
    },
    /// Tell the registry what became of an owned room.
    Describe(Meta),
    /// Tell the registry, for a while, that a room that is held is served less well.
    Degraded {
        /// The room.
        room: RoomId,
        /// In words.
        reason: String,
    },
    /// Keep the records of these rooms from running out, and say what is stored instead. Answers `Refreshed`.
    Refresh(Vec<Refresh>),
    /// Say in the store that the media server of this node, which has no lease for these rooms, serves them. Answers
    /// `ServedTold`.
    TellServed {
        /// This node.
        by: NodeName,
        /// The rooms.
        rooms: Vec<RoomId>,
    },
    /// What is stored of a room, how fresh that is, and whether an agent without a lease serves it. Answers `Looked`.
    Look {
        /// The room.
        room: RoomId,
    },
    /// Tell the store who joined and left, in order. Answers `Members`.
    Members(Vec<Member>),
    /// Keep this on this host in place of what was kept of its room: a start begins with it, so that no version is used
    /// twice. Only where the store is shared.
    Keep(RoomRecord),
    /// The room is over for so long that nothing of it need be kept on this host.
    ForgetRoom {
        /// The room.
        room: RoomId,
    },
    /// Keep this for `explain`. Answers `Step(Audit)` for a trip's own entry.
    Record(Entry),
    /// The same once more: a trip's own entry that could not be kept.
    RecordAgain(Entry),
    /// Something was left out or ignored on purpose: count it under `code` and log it.
    Note {
        /// A stable name.
        code: &'static str,
        /// The room.
        room: RoomId,
        /// In words.
        detail: String,
    },
    /// Answer the one who waits.
    Reply {
        /// Who.
        to: ReplyId,
        /// What.
        result: Result<Accepted, Rejected>,
    },
}

/// A request that was applied and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The state the room is in now.
    pub state: State,
    /// Its version.
    pub version: Version,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its life.
    pub incarnation: Incarnation,
}

/// STATE_EXPIRED, as pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// The record's version.
    pub version: Version,
    /// A receiver ignores it below the highest epoch it knows.
    pub epoch: Epoch,
    /// In words.
    pub reason: String,
    /// Rejoins are refused until then.
    pub isolated_until: Wall,
}

/// A change of state, as pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomUpdate {
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// The state now.
    pub state: State,
    /// The record's version.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// In words.
    pub reason: String,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// Every attempt of this epoch up to this number is over: what was agreed to under one is decided by this.
    pub over: u64,
}

/// What a registry says of a room to others: `/voice/rooms/ID` (DESIGN 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// The state, as the owner has it.
    pub state: State,
    /// The record's version.
    pub version: Version,
    /// The epoch it was written under.
    pub epoch: Epoch,
    /// Who serves its media, once known.
    pub source: Option<SourceId>,
}
