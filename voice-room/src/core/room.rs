//! One room in memory: its record and the facts the rules are judged on.

use super::{
    authority::Authority, broken::Degraded, few::Few, ports::Mark, request::accepted, sync::Agreed,
    told::MarksBy, view::StepState, witness::Witness,
};
use crate::{
    Change, Epoch, Incarnation, Mono, OpId, PeerId, RoomRecord, State, Version, Wall,
    command::Accepted,
    id::ClientId,
    input::ReplyId,
    timeline::{Actor, Evidence, Hold, Progress, Rule, Step},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};
use core::time::Duration;

/// Changes of one room that may wait for the store. More are refused; a trip never is.
pub(crate) const MAX_UNSTORED: usize = 64;
/// Clients of one room that are remembered.
pub(crate) const MAX_CLIENTS: usize = 10_000;
/// Repeats are recognised for this many changes back, and sequences kept for this many actors.
const MEMORY: usize = 16;

/// A moment that counts as progress, and what it was.
pub(crate) type Moment = (Mono, Progress);

#[derive(Debug)]
pub(crate) struct Room {
    /// As it will be stored; `unstored` holds what the store has not taken yet.
    pub(crate) record: RoomRecord,
    pub(crate) progress: Moment,
    pub(crate) heartbeat: Option<Mono>,
    /// Whether the kernel side was told of this room, so that it must be told of its end.
    pub(crate) bound: bool,
    /// What its source listed last. `record.ports` also holds ports it once had and nobody took since.
    pub(crate) listed: Few<Mark>,
    /// Who said what its packets are known by.
    pub(crate) marks_by: MarksBy,
    pub(crate) clients: BTreeMap<ClientId, Mono>,
    /// Nearly always none, and a node has many rooms.
    pub(crate) degraded: Option<Box<Degraded>>,
    pub(crate) host_seen: Option<Mono>,
    pub(crate) last_signal: Option<Mono>,
    pub(crate) witness: Witness,
    pub(crate) watch: Watch,
    pub(crate) trip: Option<Box<Trip>>,
    pub(crate) unstored: VecDeque<Pending>,
    pub(crate) authority: Authority,
    /// The highest epoch it was ever held under: others were told of it under this, though nothing was stored since.
    pub(crate) held_under: Epoch,
    /// The highest version that was sent to the store or seen there, and which change that was. No other gets this number.
    pub(crate) highest: Version,
    pub(crate) highest_op: Option<OpId>,
    /// When a shared store was last known to hold this record; of a room that is not held, to know that it is served.
    pub(crate) kept: Option<Mono>,
    /// The version it was asked to refresh.
    pub(crate) asked: Option<Version>,
    /// When another's room was last asked for.
    pub(crate) asked_again: Option<Mono>,
    /// The last changes the store took, and what each led to.
    done: VecDeque<(OpId, Accepted)>,
    sequences: Vec<(Actor, u64)>,
}

/// What was already said about a room that misses heartbeats, so that it is said once an episode.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) warned: bool,
    pub(crate) held: Option<Hold>,
    pub(crate) contradiction_since: Option<Mono>,
    pub(crate) would_trip: bool,
}

/// A trip under way, until it is released or its isolation ends.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(crate) reason: String,
    pub(crate) rule: Option<Rule>,
    pub(crate) evidence: Option<Evidence>,
    pub(crate) until: Wall,
    pub(crate) deadline: Mono,
    pub(crate) armed_at: Mono,
    pub(crate) steps: BTreeMap<Step, StepState>,
    pub(crate) retry_at: Mono,
    pub(crate) acked: BTreeSet<PeerId>,
    /// Those of them that the timeline does not have yet.
    pub(crate) acked_anew: Vec<PeerId>,
    /// What the steps repeat.
    pub(crate) change: Change,
}

/// A change on its way to the store.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) change: Change,
    pub(crate) replies: Vec<ReplyId>,
    /// Set after a failure: when to try again.
    pub(crate) retry_at: Option<Mono>,
    /// The store has it and has not answered yet.
    pub(crate) sent: bool,
    /// It was sent and the answer was lost: whether it is done only the store knows.
    pub(crate) doubtful: bool,
    /// Those who agreed to it.
    pub(crate) sync: Option<Box<Agreed>>,
}

impl Pending {
    pub(crate) fn new(change: Change) -> Pending {
        Pending {
            change,
            replies: Vec::new(),
            retry_at: None,
            sent: false,
            doubtful: false,
            sync: None,
        }
    }
}

impl Room {
    pub(crate) fn new(record: RoomRecord, progress: Moment, authority: Authority) -> Room {
        let mut done = VecDeque::new();
        if record.version > Version(0) {
            // A record that was found stored answers the repeat of its own change.
            done.reserve_exact(1);
            done.push_back((record.op_id.clone(), accepted(&record)));
        }
        Room {
            authority,
            held_under: record.epoch,
            highest: record.version,
            highest_op: Some(record.op_id.clone()),
            kept: None,
            asked: None,
            asked_again: None,
            record,
            progress,
            heartbeat: None,
            bound: false,
            listed: Few::default(),
            marks_by: MarksBy::Nobody,
            clients: BTreeMap::new(),
            degraded: None,
            host_seen: None,
            last_signal: None,
            witness: Witness::default(),
            watch: Watch::default(),
            trip: None,
            unstored: VecDeque::new(),
            done,
            sequences: Vec::new(),
        }
    }

    /// The state for the table: a DESTROYED room is none.
    pub(crate) fn state(&self) -> Option<State> {
        Some(self.record.state).filter(|s| *s != State::Destroyed)
    }

    /// Whether it must be owned: it lives, or its end is still to be stored.
    pub(crate) fn wants_owner(&self) -> bool {
        self.state().is_some() || !self.unstored.is_empty()
    }

    /// This number is that change's now.
    pub(crate) fn used(&mut self, version: Version, op: &OpId) {
        if version >= self.highest {
            self.highest = version;
            self.highest_op = Some(op.clone());
        }
    }

    pub(crate) fn is_judged(&self) -> bool {
        matches!(self.record.state, State::Liveing | State::GraceClosing)
    }

    /// The latest progress, of this room or of the whole node.
    pub(crate) fn progress(&self, node: Moment) -> Moment {
        if node.0 > self.progress.0 {
            node
        } else {
            self.progress
        }
    }

    /// Heartbeats missed in a row. A heartbeat is progress, so only later progress can make this smaller.
    pub(crate) fn misses(&self, now: Mono, node: Moment, heartbeat: Duration) -> u32 {
        let silent = now.since(self.progress(node).0).as_nanos();
        u32::try_from(silent / heartbeat.as_nanos().max(1)).unwrap_or(u32::MAX)
    }

    /// Begins a new life of the same room id: nothing of the old one stays but what is still to be stored.
    pub(crate) fn begin(&mut self, incarnation: Incarnation, progress: Moment) {
        let mut record = self.record.clone();
        record.incarnation = incarnation;
        record.source = None;
        record.host = None;
        record.ports = Vec::new();
        let unstored = core::mem::take(&mut self.unstored);
        let done = core::mem::take(&mut self.done);
        let authority = self.authority.clone();
        let (highest, highest_op) = (self.highest, self.highest_op.take());
        let held_under = self.held_under;
        *self = Room {
            unstored,
            done,
            held_under,
            highest,
            highest_op,
            ..Room::new(record, progress, authority)
        };
    }

    /// What this change led to, if the store took it before.
    pub(crate) fn led_to(&self, op: &OpId) -> Option<&Accepted> {
        self.done.iter().find(|(o, _)| o == op).map(|(_, led_to)| led_to)
    }

    pub(crate) fn remember(&mut self, op: OpId, led_to: Accepted) {
        if self.done.len() == MEMORY {
            self.done.pop_front();
        }
        // Most lives have few changes, and a node has many rooms.
        self.done.reserve_exact(1);
        self.done.push_back((op, led_to));
    }

    /// The store has taken the first of what waits. Rooms have nothing waiting nearly all the time: no memory is kept for it.
    pub(crate) fn next_stored(&mut self) -> Option<Pending> {
        let stored = self.unstored.pop_front();
        if self.unstored.is_empty() {
            self.unstored = VecDeque::new();
        }
        stored
    }

    /// Whether more changes may wait for the store. Trips and their ends wait whatever this says.
    pub(crate) fn is_full(&self) -> bool {
        self.unstored.len() >= MAX_UNSTORED
    }

    /// The last sequence taken from `actor`.
    pub(crate) fn last_sequence(&self, actor: &Actor) -> Option<u64> {
        self.sequences.iter().find(|(a, _)| a == actor).map(|(_, n)| *n)
    }

    pub(crate) fn take_sequence(&mut self, actor: &Actor, sequence: u64) {
        match self.sequences.iter_mut().find(|(a, _)| a == actor) {
            Some(entry) => entry.1 = sequence,
            None => {
                if self.sequences.len() == MEMORY {
                    self.sequences.remove(0);
                }
                self.sequences.push((actor.clone(), sequence));
            }
        }
    }
}

impl Trip {
    pub(crate) fn new(change: Change, until: Wall, deadline: Mono, now: Mono) -> Trip {
        Trip {
            reason: change.event.reason.clone(),
            rule: None,
            evidence: None,
            until,
            deadline,
            armed_at: now,
            steps: Step::ALL.into_iter().map(|s| (s, StepState::Pending)).collect(),
            retry_at: now,
            acked: BTreeSet::new(),
            acked_anew: Vec::new(),
            change,
        }
    }

    /// Of a room that is served on another host: there is nothing to cut here.
    pub(crate) fn leave_to_its_host(&mut self) {
        for step in [Step::Journal, Step::Arm, Step::Audit] {
            let detail = "not needed: the room's ports are on another host";
            self.steps.insert(step, StepState::Done(detail.into()));
        }
    }
}
