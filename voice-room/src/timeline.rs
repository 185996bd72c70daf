//! What is kept so that every decision can be explained afterwards.

use crate::{
    EventType, Incarnation, PeerId, Port, RoomId, SourceId, StateChangeEvent, Version, Wall,
    config::Mode,
    id::ClientId,
    patrol::{Class, Place, Worth},
    sync::Attempt,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, time::Duration};
use serde::{Deserialize, Serialize};

/// Who caused something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The agent's own rules.
    Agent,
    /// A person or program on the admin socket.
    Operator {
        /// Its user id; `None` when it wrote to the pinned maps while the agent was away.
        uid: Option<u32>,
    },
    /// A peer on the session stream.
    Peer(PeerId),
    /// A media server or adapter.
    Source(SourceId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Agent => f.pad("agent"),
            Actor::Operator { uid: Some(uid) } => write!(f, "operator uid={uid}"),
            Actor::Operator { uid: None } => f.pad("operator by pinned map"),
            Actor::Peer(id) => write!(f, "peer {id}"),
            Actor::Source(id) => write!(f, "source {id}"),
        }
    }
}

/// One step of a trip, in the order they are taken (DESIGN 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Intent written to the local journal.
    Journal,
    /// Verdict armed in the kernel.
    Arm,
    /// STATE_EXPIRED pushed.
    Push,
    /// EXPIRED stored.
    Store,
    /// Evidence recorded.
    Audit,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 5] = [Step::Journal, Step::Arm, Step::Push, Step::Store, Step::Audit];

    /// The name, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Step::Journal => "journal",
            Step::Arm => "arm",
            Step::Push => "push",
            Step::Store => "store",
            Step::Audit => "audit",
        }
    }
}

/// Which rule allowed a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The source answers and leaves out this room; the kernel saw no RTP both ways.
    Omitted,
    /// The source is silent and its sockets are gone.
    SocketsGone,
    /// The source is silent, nothing leaves: under the blast cap.
    SourceSilent,
    /// No witness: under the blast cap.
    NoWitness,
    /// A contradiction lasted longer than `trip_on_contradiction_after`: under the blast cap.
    ContradictionTooLong,
    /// An operator said so.
    Operator,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 6] = [
        Rule::Omitted,
        Rule::SocketsGone,
        Rule::SourceSilent,
        Rule::NoWitness,
        Rule::ContradictionTooLong,
        Rule::Operator,
    ];
}

/// Why a stuck room was not tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// RTP moves both ways: the control path is broken, not the room (`trip_vetoed`).
    Contradiction,
    /// The source is silent, but RTP leaves for one of its rooms.
    SourceStillSends,
    /// The blast cap is used up.
    BlastCap,
    /// On the never-cut list.
    NeverCut,
    /// Under maintenance.
    Maintenance,
    /// Mode is off.
    ModeOff,
    /// The kill switch is on.
    KillSwitch,
}

impl Hold {
    /// Every kind.
    pub const ALL: [Hold; 7] = [
        Hold::Contradiction,
        Hold::SourceStillSends,
        Hold::BlastCap,
        Hold::NeverCut,
        Hold::Maintenance,
        Hold::ModeOff,
        Hold::KillSwitch,
    ];
}

/// Which event counted as the latest progress of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It entered LIVEING or GRACE_CLOSING.
    Entry,
    /// Its media heartbeat.
    Heartbeat,
    /// An operator released it.
    Release,
    /// The agent started.
    AgentStart,
    /// Ownership was gained.
    Ownership,
    /// A gap in our own ticks ended.
    TickGap,
    /// A media session was refused by our own limits.
    MediaRefused,
}

/// The kernel's testimony over the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// The span the two figures are over.
    pub window: Duration,
    /// RTP packets in.
    pub rtp_in: u64,
    /// RTP packets out.
    pub rtp_out: u64,
    /// Whether egress of this life was ever seen; without it the counters are no witness.
    pub saw_egress: bool,
}

/// Everything a trip decision was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Heartbeats missed in a row.
    pub misses: u32,
    /// Since the last media heartbeat; `None`: never one in this life.
    pub heartbeat_age: Option<Duration>,
    /// Since the latest progress.
    pub progress_age: Duration,
    /// What that progress was.
    pub progress: Progress,
    /// Who serves the room.
    pub source: Option<SourceId>,
    /// Since that source's last answer.
    pub source_silent_for: Option<Duration>,
    /// Whether the sockets of the source's rooms are gone; `None`: not known.
    pub sockets_gone: Option<bool>,
    /// `None`: no counters.
    pub witness: Option<Testimony>,
    /// Trips counted by the cap, and how many it allows.
    pub cap: (u32, u32),
    /// Enforce, shadow or off.
    pub mode: Mode,
}

/// One thing worth remembering of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// When.
    pub at: Wall,
    /// What.
    pub what: What,
}

/// How a change that others had to agree to came about, or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// What was asked for.
    pub event: EventType,
    /// Which attempt.
    pub attempt: Attempt,
    /// The version it has, or would have had.
    pub version: Version,
    /// `Err`: why it was rolled back, or is not known to be done.
    pub result: Result<(), String>,
    /// Who agreed, and how long after being asked.
    pub agreed: Vec<(PeerId, Duration)>,
    /// Who refused, and why.
    pub refused: Vec<(PeerId, String)>,
    /// Who did not answer in time.
    pub silent: Vec<PeerId>,
    /// Whose stream ended meanwhile.
    pub gone: Vec<PeerId>,
    /// Who took note of the commit.
    pub committed: Vec<PeerId>,
    /// From asking to the store's answer, or to the end.
    pub took: Duration,
}

/// One field, by its JSON pointer, with both its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// `/store/version`
    pub path: String,
    /// Here.
    pub here: Worth,
    /// There.
    pub there: Worth,
}

/// What differs of a room in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Where.
    pub place: Place,
    /// What it asks for.
    pub class: Class,
    /// Why, in words.
    pub why: String,
    /// All of it.
    pub fields: Vec<Apart>,
}

/// A repair of a room in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Where.
    pub place: Place,
    /// What differed.
    pub fields: Vec<Apart>,
    /// Who decided it.
    pub actor: Actor,
    /// A detail, or why it still differs.
    pub result: Result<String, String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The state changed.
    Transition(StateChangeEvent),
    /// Heartbeats are missing.
    Warning(Evidence),
    /// Stuck, yet not tripped.
    Held {
        /// Why.
        hold: Hold,
        /// On which facts.
        evidence: Evidence,
    },
    /// Would have been tripped; shadow mode.
    WouldTrip {
        /// By which rule.
        rule: Rule,
        /// On which facts.
        evidence: Evidence,
    },
    /// Tripped.
    Trip {
        /// By which rule.
        rule: Rule,
        /// On which facts; of an operator's block, what was known then. `None`: that was not recorded.
        evidence: Option<Evidence>,
        /// The cut lifts by itself then.
        until: Wall,
        /// The record's version.
        version: Version,
    },
    /// A heartbeat ended a warning, hold or shadow trip.
    Recovered,
    /// A step of a trip ended.
    Step {
        /// Which.
        step: Step,
        /// A detail, or what went wrong.
        result: Result<String, String>,
    },
    /// Sessions took note of STATE_EXPIRED, since the last tick.
    Acked {
        /// Who.
        peers: Vec<PeerId>,
    },
    /// The kernel dropped the first packet.
    FirstDrop {
        /// Towards the node, or from it.
        ingress: bool,
        /// After arming.
        after: Duration,
    },
    /// The cut is over.
    Lifted {
        /// Packets dropped in all; `None`: not known.
        dropped: Option<u64>,
        /// In words.
        reason: String,
    },
    /// The room's ports changed.
    Ports {
        /// All ports that are its alone now.
        ports: Vec<Port>,
        /// How many flows it has on shared ports.
        #[serde(default)]
        flows: u32,
        /// How many SSRCs it has on shared ports.
        #[serde(default)]
        ssrcs: u32,
    },
    /// Two rooms claim a port; it is bound to neither. Each is known there by its flows and SSRCs.
    PortShared {
        /// The port.
        port: Port,
        /// The other room.
        other: RoomId,
    },
    /// Two rooms claim a flow or SSRC; it is bound to neither, so that none is cut for the other.
    MarkShared {
        /// Which, in words.
        mark: String,
        /// The other room.
        other: RoomId,
    },
    /// Maintenance began or ended.
    Maintenance {
        /// Its end; `None`: it is over.
        until: Option<Wall>,
        /// Of every room, or of this one only.
        every_room: bool,
        /// In words.
        reason: String,
        /// Who.
        actor: Actor,
    },
    /// A change that others had to agree to: what they said.
    Synced(Box<Synced>),
    /// What is held of it elsewhere is not what it is here, and that stood for two rounds of patrol.
    Differs(Box<Differs>),
    /// What was held of it elsewhere was written anew.
    Repaired(Box<Repaired>),
    /// The host changed or came back.
    Host {
        /// Who.
        host: ClientId,
    },
}
