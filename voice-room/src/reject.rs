//! Why a request was refused, as a type.

use crate::{ClientId, EventType, Incarnation, NodeName, PeerId, RoomId, State, Version};
use alloc::{format, string::String, vec::Vec};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A request that changed nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejected {
    /// No such room.
    #[error("room {0} is not known here")]
    UnknownRoom(RoomId),
    /// The state table has no such row.
    #[error("{event} is not allowed in state {}", .from.map_or("none", State::name))]
    NotInTable {
        /// The state the room is in.
        from: Option<State>,
        /// What was asked.
        event: EventType,
    },
    /// The room id is isolated.
    #[error("the room is isolated for another {} s: {reason}", .retry_after.as_secs_f32())]
    Isolated {
        /// Why it is.
        reason: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// The message is of another life of the room.
    #[error("incarnation {given} is not the present one ({current})")]
    OldIncarnation {
        /// What the message said.
        given: Incarnation,
        /// The present life.
        current: Incarnation,
    },
    /// A message with a lower sequence than one already taken from this peer.
    #[error("sequence {given} is older than the last one taken ({last})")]
    OldSequence {
        /// What the message said.
        given: u64,
        /// The last one taken.
        last: u64,
    },
    /// CLOSE names another version.
    #[error("version {given} is not the present one ({current})")]
    VersionMismatch {
        /// What the request said.
        given: Version,
        /// The present version.
        current: Version,
    },
    /// The host's device token is needed and missing or wrong.
    #[error("host device token: {0}")]
    Token(String),
    /// Another client is this room's host.
    #[error("{given} is not the host of this room")]
    NotTheHost {
        /// Who asked.
        given: ClientId,
    },
    /// The node serves as many live rooms as it may.
    #[error("media quota: {live} of {quota} rooms are live on this node")]
    NoQuota {
        /// Rooms live now.
        live: u32,
        /// The limit.
        quota: u32,
    },
    /// A guard on time or activity does not hold yet.
    #[error("{0}")]
    NotYet(String),
    /// The configuration forbids it.
    #[error("{0}")]
    Forbidden(String),
    /// Another peer or adapter serves this room.
    #[error("room is served by {owner}")]
    NotYourRoom {
        /// Who serves it.
        owner: String,
    },
    /// Another agent owns this room.
    #[error("room is owned by node {owner}: ask there")]
    NotOwner {
        /// Which node.
        owner: NodeName,
    },
    /// A bound was reached; nothing was taken.
    #[error("{0}")]
    Limit(String),
    /// Participants of the sync did not agree; nothing changed.
    #[error("{}", not_agreed(.refused, .silent))]
    NotAgreed {
        /// Who refused, and why.
        refused: Vec<(PeerId, String)>,
        /// Who did not answer in time.
        silent: Vec<PeerId>,
    },
    /// The store holds something else; what it holds was taken over.
    #[error("store conflict: {0}")]
    Conflict(String),
}

impl Rejected {
    /// A stable name for metrics and programs.
    pub fn code(&self) -> &'static str {
        match self {
            Rejected::UnknownRoom(_) => "unknown_room",
            Rejected::NotInTable { .. } => "not_in_table",
            Rejected::Isolated { .. } => "isolated",
            Rejected::OldIncarnation { .. } => "old_incarnation",
            Rejected::OldSequence { .. } => "old_sequence",
            Rejected::VersionMismatch { .. } => "version_mismatch",
            Rejected::Token(_) => "token",
            Rejected::NotTheHost { .. } => "not_the_host",
            Rejected::NoQuota { .. } => "no_quota",
            Rejected::NotYet(_) => "not_yet",
            Rejected::Forbidden(_) => "forbidden",
            Rejected::NotYourRoom { .. } => "not_your_room",
            Rejected::NotOwner { .. } => "not_owner",
            Rejected::Limit(_) => "limit",
            Rejected::NotAgreed { .. } => "not_agreed",
            Rejected::Conflict(_) => "conflict",
        }
    }
}

fn not_agreed(refused: &[(PeerId, String)], silent: &[PeerId]) -> String {
    let refused = refused.iter().map(|(peer, why)| format!("{peer} refused: {why}"));
    let silent = silent.iter().map(|peer| format!("{peer} did not answer in time"));
    let all: Vec<String> = refused.chain(silent).collect();
    format!("not agreed: {}", all.join("; "))
}
