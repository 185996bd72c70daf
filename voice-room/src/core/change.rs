//! How a room's record changes: one version, one event, one place in the queue to the store.

use super::{
    Core,
    authority::{Authority, Tenure},
    counts::Counts,
    room::{Pending, Room},
};
use crate::{
    Change, Command, Entry, Epoch, EventType, Incarnation, Now, OpId, RoomId, RoomRecord, State,
    StateChangeEvent, TraceId, Version,
    input::ReplyId,
    record::IsolationChange,
    timeline::{Actor, Progress, What},
};
use alloc::{string::String, vec::Vec};

/// Who and why, for the event that goes with a change.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) actor: Actor,
    pub(super) reason: String,
    pub(super) op_id: Option<OpId>,
    pub(super) trace_id: Option<TraceId>,
    pub(super) reply: Option<ReplyId>,
    pub(super) isolation: IsolationChange,
}

impl Cause {
    pub(super) fn by(actor: Actor, reason: impl Into<String>) -> Cause {
        Cause {
            actor,
            reason: reason.into(),
            op_id: None,
            trace_id: None,
            reply: None,
            isolation: IsolationChange::Keep,
        }
    }

    pub(super) fn agent(reason: impl Into<String>) -> Cause {
        Cause::by(Actor::Agent, reason)
    }
}

impl Core {
    /// Changes the state and brings it to the store and the timeline.
    pub(super) fn transition(&mut self, now: Now, id: &RoomId, event: EventType, to: State, cause: &Cause) {
        let shadowed = self.rooms.get(id).is_some_and(|r| r.watch.would_trip);
        if let Some(change) = self.advance(now, id, event, to, cause) {
            if shadowed {
                self.out(Command::Disarm { room: id.clone() });
            }
            self.store(now, change.clone(), cause.reply);
            self.record_transition(&change);
        }
    }

    /// Begins a new life under `id` and brings it into its first state.
    pub(super) fn begin(&mut self, now: Now, id: &RoomId, event: EventType, to: State, cause: &Cause) {
        let moment = (now.mono, Progress::Entry);
        // The clock makes the number unique over lives nobody remembers; the last one keeps it rising over a clock
        // that was set back.
        let clock = Incarnation(now.wall.0);
        match self.rooms.get_mut(id) {
            Some(room) => room.begin(room.record.incarnation.next().max(clock), moment),
            None => {
                let (record, authority) = (self.blank(id, clock), self.authority_at_first());
                self.rooms
                    .insert(id.clone(), Room::new(record, moment, authority));
            }
        }
        self.custody.remove(id);
        if let Some(room) = self
            .rooms
            .get_mut(id)
            .filter(|r| r.authority.ceded_to().is_some())
        {
            room.authority = Authority::Unclaimed;
        }
        self.transition(now, id, event, to, cause);
        if self.claims_rooms() {
            self.claim_room(id);
        }
    }

    /// The name of the next change that is decided here.
    pub(super) fn next_op(&mut self) -> OpId {
        next_op(&self.tenure, &mut self.ops)
    }

    pub(super) fn blank(&self, id: &RoomId, incarnation: Incarnation) -> RoomRecord {
        let epoch = self.tenure.epoch.unwrap_or_default();
        RoomRecord {
            room: id.clone(),
            state: State::Destroyed,
            version: Version(0),
            epoch,
            op_id: OpId::generated(epoch, 0),
            incarnation,
            owner: self.node.clone(),
            since: crate::Wall(0),
            source: None,
            host: None,
            ports: Vec::new(),
        }
    }

    /// Changes the record in memory and returns the change for the store. The table is the last guard: a change it does
    /// not hold is not made.
    pub(super) fn advance(
        &mut self,
        now: Now,
        id: &RoomId,
        event: EventType,
        to: State,
        cause: &Cause,
    ) -> Option<Change> {
        let room = self.rooms.get_mut(id)?;
        let old_state = room.state();
        if !crate::state::allows(old_state, event, to) || !Core::is_ours_to_change(room, event) {
            return None;
        }
        let given = cause.op_id.clone();
        let op_id = given.unwrap_or_else(|| next_op(&self.tenure, &mut self.ops));
        let counted = Counts::of(Some(room));
        let record = &mut room.record;
        record.state = to;
        // What was taken over from a store that had fallen back may lie below a number that was sent.
        record.version = record.version.max(room.highest).next();
        // Until it is held again, the last epoch it was; what is sent has the one it is sent under. Another's epoch is that one's
        // to number changes in: a trip of its room is told from here under none, so that whoever knows better ignores it. The
        // end of an isolation is the same for all.
        if event == EventType::Stuck && room.authority.epoch().is_none() && record.owner != self.node {
            (record.epoch, room.held_under) = (Epoch::default(), Epoch::default());
        }
        record.epoch = room.authority.epoch().unwrap_or(record.epoch);
        record.op_id = op_id.clone();
        record.owner = self.node.clone();
        record.since = now.wall;
        if let Actor::Source(source) = &cause.actor {
            record.source = Some(source.clone());
        }
        let event = StateChangeEvent {
            room: id.clone(),
            incarnation: record.incarnation,
            event_type: event,
            old_state,
            new_state: to,
            version: record.version,
            epoch: record.epoch,
            op_id,
            actor: cause.actor.clone(),
            reason: cause.reason.clone(),
            trace_id: cause.trace_id.clone(),
            timestamp: now.wall,
        };
        let change = Change::new(record.clone(), event, cause.isolation.clone());
        self.counts.change(counted, Counts::of(Some(room)));
        room.progress = (now.mono, Progress::Entry);
        room.watch = super::room::Watch::default();
        if to == State::Liveing {
            // Its host could not signal while it was isolated, and need not have while the room was closing.
            room.host_seen = room.host_seen.map(|_| now.mono);
        }
        Some(change)
    }

    /// Puts a change into the room's queue; the store has at most one of a room at a time, so they arrive in order.
    pub(super) fn store(&mut self, now: Now, change: Change, reply: Option<ReplyId>) {
        let id = change.record.room.clone();
        if self.enqueue(change, reply) {
            self.keep(&id);
            self.send_front(now, &id);
        }
    }

    /// The same, to be kept and sent later. False: it is the owner's to store, and not queued.
    pub(super) fn enqueue(&mut self, change: Change, reply: Option<ReplyId>) -> bool {
        let id = change.record.room.clone();
        let Some(room) = self.rooms.get_mut(&id) else {
            return false;
        };
        if let Some(owner) = room.authority.ceded_to().cloned() {
            if let Some(to) = reply {
                let result = Err(crate::Rejected::NotOwner { owner });
                self.out(Command::Reply { to, result });
            }
            self.leave_to_owner(&id);
            return false;
        }
        let counted = Counts::of(Some(room));
        // Nearly always the only one.
        room.unstored.reserve_exact(1);
        room.unstored.push_back(Pending {
            replies: reply.into_iter().collect(),
            ..Pending::new(change)
        });
        self.counts.change(counted, Counts::of(Some(room)));
        true
    }

    /// Sends what waits first, if the room is held, under the epoch it is held under now.
    pub(super) fn send_front(&mut self, now: Now, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(epoch) = room.authority.epoch() else {
            return;
        };
        let Some(front) = room.unstored.front_mut() else {
            return;
        };
        if front.sent || front.retry_at.is_some_and(|t| t > now.mono) {
            return;
        }
        (front.sent, front.retry_at) = (true, None);
        let change = &mut front.change;
        (change.record.epoch, change.event.epoch) = (epoch, epoch);
        change.record.owner.clone_from(&self.node);
        let change = change.clone();
        let anew = core::mem::replace(&mut room.record.epoch, epoch) != epoch;
        room.used(change.record.version, &change.record.op_id);
        if anew {
            // A start must not tell of it under an epoch below one that was told.
            self.keep(id);
        }
        self.out(Command::Commit(change));
    }

    pub(super) fn record_transition(&mut self, change: &Change) {
        let event = change.event.clone();
        self.out(Command::Record(Entry {
            room: event.room.clone(),
            incarnation: event.incarnation,
            at: event.timestamp,
            what: What::Transition(event),
        }));
    }

    /// Keeps something for `explain`, under the room's present life.
    pub(super) fn record(&mut self, now: Now, id: &RoomId, what: What) {
        let incarnation = self
            .rooms
            .get(id)
            .map_or(Incarnation(0), |r| r.record.incarnation);
        self.out(Command::Record(Entry {
            room: id.clone(),
            incarnation,
            at: now.wall,
            what,
        }));
    }
}

/// The next of the names that this tenure gives out, which has given so many.
fn next_op(tenure: &Tenure, given: &mut u64) -> OpId {
    *given += 1;
    match tenure.shared {
        Some(run) => OpId::of_run(run, *given),
        None => OpId::generated(tenure.epoch.unwrap_or_default(), *given),
    }
}
