//! Everything the core can be told.

use crate::{
    Binding, ClientId, Epoch, EventType, Flow, Incarnation, Mono, NodeName, OpId, PeerId, Port, RoomId,
    Rules, SourceId, Ssrc, State, TraceId, Version, Wall,
    command::Meta,
    patrol::Repair,
    record::{Committed, Looked, Member, Refreshed, RoomRecord},
    sync::{Attempt, Known},
    timeline::{Actor, Differs, Repaired, Step},
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::time::Duration;

/// Names the one who waits for an answer. Given out by the driver, answered once by `Command::Reply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// One fact or wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A transition somebody asks for. Answered by `Command::Reply` when `reply` is set: at once if refused, else
    /// when the store has answered.
    Request(Request),
    /// A client joined, left or is still there.
    Client(ClientFact),
    /// A media server or adapter answered with the rooms it serves.
    Heartbeat(Heartbeat),
    /// A source's stream or listing is lost. Its next heartbeat brings it back.
    SourceLost(SourceId),
    /// The kernel's counters of the bound rooms, cumulative since each room's binding.
    Traffic(Vec<Traffic>),
    /// Ports of the media range with a UDP socket on this host, sorted. Given each heartbeat; not given when unknown.
    Sockets(Vec<Port>),
    /// A command's result.
    Step(StepResult),
    /// The store's answer to `Command::Commit`; `Err` says what went wrong and it is retried.
    Stored {
        /// The room.
        room: RoomId,
        /// Which change.
        op_id: OpId,
        /// The answer.
        result: Result<Committed, String>,
    },
    /// The registry's answer to `Command::Claim`: the room is this node's under `epoch`, until `LeaseLost`.
    Claimed {
        /// The room.
        room: RoomId,
        /// Higher than each one before it.
        epoch: Epoch,
    },
    /// The registry's other answer to `Command::Claim`.
    NotClaimed {
        /// The room.
        room: RoomId,
        /// Whose it is; `None`: not known now, the registry asks again by itself.
        owner: Option<NodeName>,
        /// In words.
        problem: String,
    },
    /// The lease is over: no room is held any more. Each is claimed anew.
    LeaseLost,
    /// A node and its lease are gone; this agent is custodian of one of its rooms and holds it.
    OwnerGone {
        /// What the registry last knew of the room.
        meta: Meta,
        /// What it is held under now.
        epoch: Epoch,
        /// Since that node's lease ended.
        lost_for: Duration,
        /// How long a room is left to whoever may serve it.
        grace: Duration,
    },
    /// The store's answer to `Command::Refresh`.
    Refreshed(Result<Vec<(RoomId, Refreshed)>, String>),
    /// The store's answer to `Command::TellServed`: the rooms of which it is known there now.
    ServedTold(Result<Vec<RoomId>, String>),
    /// The store's answer to `Command::Look`.
    Looked {
        /// The room.
        room: RoomId,
        /// The answer.
        result: Result<Looked, String>,
    },
    /// A change of a room that was stored, by this agent or another; with the isolation that is stored of the room.
    Heard(crate::StateChangeEvent, Option<crate::Isolation>),
    /// Every isolation that is stored, of every agent.
    Isolations(Vec<crate::Isolation>),
    /// The store's answer to `Command::Members`; with `Err`, what was not told.
    Members(Result<(), (Vec<Member>, String)>),
    /// A participant's answer to `Command::Prepare`; `Err` says why it does not agree.
    Vote {
        /// The room.
        room: RoomId,
        /// Who.
        peer: PeerId,
        /// To which attempt.
        attempt: Attempt,
        /// The answer.
        vote: Result<(), String>,
    },
    /// A session took note of a COMMIT.
    CommitAcked {
        /// The room.
        room: RoomId,
        /// Who.
        peer: PeerId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which version.
        version: Version,
    },
    /// A peer's stream ended, also when a new one replaced it: it takes part in nothing that runs. It learns the end when it
    /// says what it knows.
    PeerGone(PeerId),
    /// What a peer holds of rooms it serves. It is told what differs.
    Known {
        /// Who.
        peer: PeerId,
        /// What.
        rooms: Vec<Known>,
    },
    /// A peer's stream ended, whatever the reason, or was replaced by its next one.
    StreamBroke(BrokenStream),
    /// A session took note of a STATE_EXPIRED.
    Acked {
        /// The room.
        room: RoomId,
        /// Who.
        peer: PeerId,
        /// Which STATE_EXPIRED.
        version: Version,
    },
    /// Other numbers from now on. `heartbeat` and `refresh` stay what they were, as those who keep to them are not told.
    Rules(Box<Rules>),
    /// The kernel dropped the first packet of a trip.
    FirstDrop {
        /// The room.
        room: RoomId,
        /// Of its trip with this deadline.
        deadline: Mono,
        /// Towards the node, or from it.
        ingress: bool,
        /// When, by the kernel.
        at: Mono,
    },
    /// A media session was refused by our own limits: no room may be judged for its absence.
    MediaRefused,
    /// This source spoke, and what it said was refused: which of its rooms it serves is not known.
    HeartbeatRefused(SourceId),
    /// Maintenance begins or ends. Refused orders are answered by `Command::Reply`, others by what becomes of their
    /// `Command::KeepMaintenance` or `Command::ForgetMaintenance`.
    Maintenance(Order, Option<ReplyId>),
    /// The kill switch was turned.
    KillSwitch(bool),
    /// What patrol found of a room, or what became of a repair; kept for `explain`.
    Patrolled(Patrolled),
    /// Write what is here once more where it differs. `Command::Reply` answers what concerns the store.
    Repair(Repair),
}

/// What patrol has to say of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patrolled {
    /// It differs somewhere, and that counts.
    Differs(RoomId, Box<Differs>),
    /// A repair ended.
    Repaired(RoomId, Box<Repaired>),
}

impl Input {
    /// The one room it is about; `None`: several, or none.
    pub(crate) fn room(&self) -> Option<&RoomId> {
        match self {
            Input::Request(Request { room, .. })
            | Input::Client(ClientFact { room, .. })
            | Input::Step(StepResult { room, .. })
            | Input::Stored { room, .. }
            | Input::Claimed { room, .. }
            | Input::NotClaimed { room, .. }
            | Input::OwnerGone {
                meta: Meta { room, .. },
                ..
            }
            | Input::Looked { room, .. }
            | Input::Heard(crate::StateChangeEvent { room, .. }, _)
            | Input::Vote { room, .. }
            | Input::CommitAcked { room, .. }
            | Input::Acked { room, .. }
            | Input::Patrolled(Patrolled::Differs(room, _) | Patrolled::Repaired(room, _))
            | Input::Repair(Repair { room, .. })
            | Input::FirstDrop { room, .. } => Some(room),
            _ => None,
        }
    }
}

/// What a stream that ended leaves behind. Long lists come in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenStream {
    /// Whose it was, and why it ended, for people.
    pub why: String,
    /// Members that only this stream told of.
    pub members: Vec<(RoomId, ClientId)>,
    /// Rooms it served; none if the peer's next stream replaced it.
    pub rooms: Vec<RoomId>,
    /// When it ended: members told of since are there.
    pub at: Mono,
}

/// Maintenance for one room, or for every room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// `None`: every room.
    pub room: Option<RoomId>,
    /// `None` ends it.
    pub until: Option<Mono>,
    /// In words.
    pub reason: String,
    /// Who.
    pub actor: Actor,
}

/// A transition somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The room.
    pub room: RoomId,
    /// What is asked.
    pub ask: Ask,
    /// Who asks.
    pub actor: Actor,
    /// Names this change: the same again is answered, not applied.
    pub op_id: Option<OpId>,
    /// The life meant; `None` means the present one.
    pub incarnation: Option<Incarnation>,
    /// Rising per actor and room; a lower one than the last taken is refused.
    pub sequence: Option<u64>,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// Who waits for the answer.
    pub reply: Option<ReplyId>,
    /// Peers that serve the room, know the sync and are not the one who asks: each must agree before anything changes.
    /// Beyond [`crate::sync::MAX_PARTICIPANTS`] they are only told.
    pub participants: Vec<PeerId>,
}

impl Request {
    /// What an operator asked for by writing to the pinned maps: who it was is not known, and nobody waits.
    pub fn by_map(room: RoomId, ask: Ask) -> Request {
        Request {
            room,
            ask,
            actor: Actor::Operator { uid: None },
            op_id: None,
            incarnation: None,
            sequence: None,
            trace_id: None,
            reply: None,
            participants: Vec::new(),
        }
    }
}

/// What a request asks for. STUCK is asked for by an operator only (`block`); the core decides its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A new room.
    Create,
    /// The host goes live.
    StartLive {
        /// The host, if the business names one.
        host: Option<ClientId>,
        /// What the host showed.
        credential: Credential,
    },
    /// The host is gone.
    HostDisconnect {
        /// In words.
        reason: String,
    },
    /// The host is back.
    HostReturn {
        /// Who says to be the host.
        host: Option<ClientId>,
        /// What the host showed.
        credential: Credential,
    },
    /// Nobody is left. Allowed only when our own facts agree.
    NoActiveUser,
    /// Cut now, by an operator.
    Block {
        /// For how long; `None` is the configured isolation.
        lasts: Option<Duration>,
        /// In words.
        reason: String,
    },
    /// Lift now, by an operator.
    Release {
        /// In words.
        reason: String,
    },
    /// The owner of the room is gone (5.3). Needs both witnesses.
    OwnerLost {
        /// The store's record was not refreshed since the lease ended.
        record_stale: bool,
        /// No session of any agent reports the room served.
        unserved: bool,
    },
    /// The business or an operator ends the room.
    Close {
        /// The version the caller saw.
        version: Version,
        /// In words.
        reason: String,
    },
}

impl Ask {
    /// The event it stands for.
    pub fn event(&self) -> EventType {
        match self {
            Ask::Create => EventType::Create,
            Ask::StartLive { .. } => EventType::StartLive,
            Ask::HostDisconnect { .. } => EventType::HostDisconnect,
            Ask::HostReturn { .. } => EventType::HostReturn,
            Ask::NoActiveUser => EventType::NoActiveUser,
            Ask::Block { .. } => EventType::Stuck,
            Ask::Release { .. } => EventType::Release,
            Ask::OwnerLost { .. } => EventType::OwnerLost,
            Ask::Close { .. } => EventType::Close,
        }
    }

    /// The state that others may refuse to bring the room into. `None`: nobody is asked, only told. What an operator does is
    /// an order, OWNER_LOST a fact; and of a room that is to be created nobody holds a state yet.
    pub fn to_be_agreed(&self) -> Option<State> {
        match self {
            Ask::StartLive { .. } | Ask::HostReturn { .. } => Some(State::Liveing),
            Ask::HostDisconnect { .. } => Some(State::GraceClosing),
            Ask::NoActiveUser | Ask::Close { .. } => Some(State::Destroyed),
            Ask::Create | Ask::Block { .. } | Ask::Release { .. } | Ask::OwnerLost { .. } => None,
        }
    }

    /// Why, in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Ask::Create => "created".into(),
            Ask::StartLive { .. } => "host went live".into(),
            Ask::HostDisconnect { reason } => reason.clone(),
            Ask::HostReturn { .. } => "host came back".into(),
            Ask::NoActiveUser => "nobody is left".into(),
            Ask::Block { reason, .. } | Ask::Release { reason } | Ask::Close { reason, .. } => reason.clone(),
            Ask::OwnerLost { .. } => {
                "its owner is lost: lease ended, record stale, no session serves it".into()
            }
        }
    }
}

/// What stands behind a START_LIVE or HOST_RETURN, as the edge found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A trusted adapter or media server says so.
    Trusted,
    /// The edge verified a token for this room and this host.
    Token {
        /// The host the token names.
        host: ClientId,
    },
    /// None, or one that failed, in words.
    Invalid(String),
}

/// A fact about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFact {
    /// The room.
    pub room: RoomId,
    /// The client.
    pub client: ClientId,
    /// What it did.
    pub what: ClientAct,
    /// Whether it is the host.
    pub is_host: bool,
    /// The peer or adapter that says so.
    pub actor: Actor,
    /// The life meant; `None` means the present one.
    pub incarnation: Option<Incarnation>,
    /// Who waits for the answer.
    pub reply: Option<ReplyId>,
}

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum ClientAct {
    Join,
    Leave,
    Keepalive,
}

/// One message in which a source lists rooms as served. Rooms it leaves out get no heartbeat; a source with many
/// rooms may list them over several messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who says so.
    pub source: SourceId,
    /// What is said.
    pub rooms: Vec<Served>,
    /// How many rooms the media server can take in all, if it says.
    pub capacity: Option<u32>,
}

/// One room in a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The room.
    pub room: RoomId,
    /// Its media ports now, inside the media range.
    pub ports: Vec<Port>,
    /// Its media sessions by their remote ends; they tell its packets apart where rooms share a port.
    pub flows: Vec<Flow>,
    /// Its RTP streams; as `flows`, for packets of no known flow.
    pub ssrcs: Vec<Ssrc>,
    /// Participants that are not idle. With zero, the room is listed but not served: no heartbeat, no adoption.
    pub participants: u32,
    /// The host, if the source knows it.
    pub host: Option<ClientId>,
}

impl Served {
    /// Whether it says what the room's packets are known by.
    pub(crate) fn names_marks(&self) -> bool {
        !(self.ports.is_empty() && self.flows.is_empty() && self.ssrcs.is_empty())
    }
}

/// The kernel's counters of one room, cumulative since its binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// RTP packets that reached the node and passed.
    pub rtp_in: u64,
    /// RTP packets that left the node and passed.
    pub rtp_out: u64,
    /// Packets of every class that passed, both directions.
    pub passed: u64,
    /// Packets dropped, both directions.
    pub dropped: u64,
    /// Packets that shadow mode would have dropped.
    pub would_drop: u64,
}

/// The kernel's counters of one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The room.
    pub room: RoomId,
    /// The life its slot was bound for.
    pub incarnation: Incarnation,
    /// The numbers.
    pub counts: Counts,
}

/// What became of one step of a trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The room.
    pub room: RoomId,
    /// Which life's trip.
    pub incarnation: Incarnation,
    /// Which step.
    pub step: Step,
    /// For [`Step::Arm`]: when the kernel's deadline word was written.
    pub at: Option<Mono>,
    /// A detail for `explain`, or what went wrong.
    pub result: Result<String, String>,
}

/// A journalled trip, and what a restart finds of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    /// The record as the trip makes it.
    pub change: crate::Change,
    /// When the cut ends, on this boot's monotonic clock.
    pub deadline: Mono,
    /// When it ends for people and other boots.
    pub until: Wall,
}

/// What a start finds in the store and the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Stored rooms.
    pub rooms: Vec<RoomRecord>,
    /// What a shared store has of rooms that have ended here, where that is not the end.
    pub unstored: Vec<RoomRecord>,
    /// Stored isolations that have not ended.
    pub isolations: Vec<crate::Isolation>,
    /// Journalled maintenance.
    pub maintenance: Vec<crate::record::Maintenance>,
    /// Journalled trips that have not ended.
    pub intents: Vec<Intent>,
    /// Blocks found armed in the pinned maps.
    pub blocks: Vec<FoundBlock>,
    /// Ports bound in the pinned maps, of every room with a slot there.
    pub bindings: Vec<FoundBinding>,
}

/// Ports found bound in the pinned maps. Records hold the ports of a room's last change of state only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBinding {
    /// The room.
    pub room: RoomId,
    /// The life they were bound for.
    pub incarnation: Incarnation,
    /// All it was bound by there.
    pub binding: Binding,
}

/// A block found armed in the pinned maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBlock {
    /// The room.
    pub room: RoomId,
    /// The life it was armed for.
    pub incarnation: Incarnation,
    /// Its deadline, which stays.
    pub deadline: Mono,
    /// What it is bound by now. Records and intents are older: ports may have moved to other rooms since.
    pub binding: Binding,
    /// Whether the CLI released it while the agent was away.
    pub released: bool,
}
