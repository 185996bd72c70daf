//! The store's answers. A conflict rebases what must not be lost (a new life, a trip and its end) and refuses the rest.

use super::{
    Core, Isolated,
    counts::Counts,
    request::accepted,
    room::{Pending, Room},
    trip::stored_detail,
};
use crate::{
    Command, Epoch, EventType, Incarnation, Now, OpId, Rejected, RoomId, RoomRecord, State, StateChangeEvent,
    input::StepResult,
    record::Committed,
    state::allows,
    timeline::{Progress, Step},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

/// A change the store did not take is offered again after this long.
pub(super) const RETRY: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn stored(&mut self, now: Now, id: &RoomId, op: &OpId, result: Result<Committed, String>) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        // An answer to a change that is not the one waited for is late: the queue has moved on.
        let Some(front) = room.unstored.front_mut().filter(|p| p.change.record.op_id == *op) else {
            return;
        };
        front.sent = false;
        match result {
            Ok(Committed::Ok | Committed::Skipped) => self.taken(now, id),
            Ok(Committed::Conflict(current)) => {
                // Of a room that is not held it is offered again once it is, and judged then.
                if let Some(epoch) = room.authority.epoch() {
                    self.conflict(now, id, current, epoch);
                }
            }
            Ok(Committed::Fenced(fence)) if self.tenure.epoch.is_none() => match room.authority.epoch() {
                // It was sent under an epoch before this one.
                Some(epoch) if fence <= epoch => self.send_front(now, id),
                Some(_) => self.outvoted(now, id, fence),
                None => {}
            },
            Ok(Committed::Fenced(epoch)) => {
                self.give_up(now, id, &format!("fenced: epoch {epoch} has written before"));
            }
            Err(problem) => {
                front.retry_at = Some(now.mono + RETRY);
                front.doubtful = true;
                self.store_step(now, id, Err(problem));
            }
        }
    }

    /// The front of the queue is stored: answer, tell, and go on with the next.
    fn taken(&mut self, now: Now, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let counted = Counts::of(Some(room));
        let Some(done) = room.next_stored() else {
            return;
        };
        self.counts.change(counted, Counts::of(Some(room)));
        let answer = accepted(&done.change.record);
        room.kept = Some(now.mono);
        room.remember(done.change.record.op_id.clone(), answer.clone());
        for to in done.replies {
            self.out(Command::Reply {
                to,
                result: Ok(answer.clone()),
            });
        }
        let event = &done.change.event;
        if ends_trip(event.event_type) {
            self.forget(id);
        }
        if begins_trip(event.event_type) {
            if self.trip_is(id, &event.op_id) {
                self.store_step(now, id, Ok(stored_detail(event.version)));
            }
        } else {
            let update = told(event, self.over(id, event.epoch));
            self.out(Command::PushUpdate(update));
        }
        if let Some(agreed) = done.sync {
            self.synced(now, id, *agreed, &done.change);
        }
        self.send_front(now, id);
        match self.rooms.get(id) {
            Some(room) if !room.wants_owner() => self.cede_room(id),
            _ => self.describe_stored(&done.change.record),
        }
    }

    fn conflict(&mut self, now: Now, id: &RoomId, current: Option<RoomRecord>, epoch: Epoch) {
        let Some(front) = self.rooms.get(id).and_then(|r| r.unstored.front()) else {
            return;
        };
        let behind = |c: &RoomRecord| c.version.next() < front.change.record.version;
        let newer = current.as_ref().map(|c| c.epoch).filter(|e| *e > epoch);
        if let Some(newer) = newer.filter(|_| self.claims_rooms()) {
            return self.outvoted(now, id, newer);
        }
        if self.shares() && newer.is_none() && current.as_ref().is_none_or(behind) {
            let state = front.change.event.old_state;
            return self.put_back_first(now, id, current.as_ref(), state);
        }
        if let Some(current) = current.as_ref().filter(|c| behind(c)) {
            // It took the version before this one and lost it. A version number is never used twice.
            let behind = format!("the store fell behind: it holds version {}", current.version);
            return self.give_up(now, id, &behind);
        }
        let reason = match &current {
            None => "the store has no record of this room".to_string(),
            Some(c) => format!("{} version {} of {} is stored", c.state, c.version, c.owner),
        };
        let kept = self
            .first_that_fits(id, current.as_ref())
            .filter(|_| newer.is_none());
        match (kept, current) {
            (Some(kept), current) => {
                self.refuse_first(now, id, kept, &reason);
                self.rebase(now, id, current.as_ref());
            }
            (None, None) => self.give_up(now, id, &reason),
            (None, Some(current)) => {
                self.give_up(now, id, &reason);
                self.take_over(now, id, current);
                self.note("conflict", id, reason);
            }
        }
    }

    /// From where on what waits can follow on what is stored; it begins with what must not be lost: a new life, a trip,
    /// its end.
    fn first_that_fits(&self, id: &RoomId, current: Option<&RoomRecord>) -> Option<usize> {
        let waiting = &self.rooms.get(id)?.unstored;
        let must = |n: &usize| {
            let event = waiting.get(*n).map(|p| p.change.event.event_type);
            event.is_some_and(must_not_be_lost)
        };
        (0..waiting.len())
            .filter(must)
            .find(|n| fits(waiting.iter().skip(*n), current, self.rules.isolation))
    }

    /// Puts everything that waits on top of what is stored, in the same order. No version number is used twice.
    fn rebase(&mut self, now: Now, id: &RoomId, current: Option<&RoomRecord>) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(current) = current else {
            // A store without a record takes a new life under any version.
            return self.send_front(now, id);
        };
        // A life is told apart from every earlier one, also after the clock was set back.
        let begins = |p: &&Pending| begins_life(p.change.event.event_type);
        let new_life = room.unstored.front().filter(begins);
        let by = new_life.map_or(0, |p| {
            let last = current.incarnation.next().0;
            last.saturating_sub(p.change.record.incarnation.0)
        });
        let moved = by > 0;
        let mut version = current.version;
        let mut old_state = Some(current.state).filter(|s| *s != State::Destroyed);
        for pending in &mut room.unstored {
            version = version.next();
            let change = &mut pending.change;
            let life = Incarnation(change.record.incarnation.0.saturating_add(by));
            (change.record.version, change.event.version) = (version, version);
            (change.record.incarnation, change.event.incarnation) = (life, life);
            change.event.old_state = old_state;
            old_state = Some(change.record.state).filter(|s| *s != State::Destroyed);
        }
        room.record.version = version;
        room.record.incarnation = Incarnation(room.record.incarnation.0.saturating_add(by));
        if self.tenure.shared.is_some() && !Core::next_is_free(room, current.version) {
            return self.put_back_first(now, id, Some(current), Some(current.state));
        }
        self.send_front(now, id);
        self.keep(id);
        if moved {
            self.bind(now, id);
        }
        self.rebase_trip(id, moved);
    }

    /// The trip that waits has another version now, and perhaps another life: its steps are taken again with it.
    pub(super) fn rebase_trip(&mut self, id: &RoomId, moved: bool) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(trip) = &mut room.trip else { return };
        let op = &trip.change.record.op_id;
        let Some(pending) = room.unstored.iter().find(|p| p.change.record.op_id == *op) else {
            return;
        };
        trip.change = pending.change.clone();
        let cut = trip.change.event.event_type == EventType::Stuck;
        if cut {
            self.retry_step(id, Step::Journal);
        }
        if cut && moved {
            self.retry_step(id, Step::Arm);
        }
        self.retry_step(id, Step::Push);
    }

    /// What is stored wins. A room that is cut stays so: only the store does not have it.
    pub(super) fn take_over(&mut self, now: Now, id: &RoomId, current: RoomRecord) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        if room.trip.is_some() {
            return self.follow_expired(now, id, &current);
        }
        let counted = Counts::of(Some(room));
        let (state, since) = (current.state, current.since);
        let same_life = current.incarnation == room.record.incarnation;
        // A room that is served here keeps what is known of it here, whoever began its life.
        let keeps = state != State::Destroyed
            && (same_life || (room.heartbeat.is_some() && self.tenure.shared.is_some()));
        if keeps {
            let ports = core::mem::take(&mut room.record.ports);
            let source = room.record.source.take().or_else(|| current.source.clone());
            room.used(current.version, &current.op_id);
            room.record = RoomRecord {
                ports,
                source,
                ..current
            };
            if !same_life {
                self.bind(now, id);
            }
        } else {
            self.replace(now, id, current);
        }
        self.counts.change(counted, Counts::of(self.rooms.get(id)));
        if state == State::Expired && !self.isolations.contains_key(id) {
            let left = self.rules.isolation.saturating_sub(now.wall.since(since));
            let isolated = Isolated {
                reason: "expired by another owner".into(),
                until: now.wall + left,
                deadline: now.mono + left,
                here_only: false,
            };
            self.isolations.insert(id.clone(), isolated);
        }
        self.keep(id);
        self.announce(id);
        self.sign(now, id);
        if self.rooms.get(id).is_some_and(|room| !room.wants_owner()) {
            self.cede_room(id);
        }
    }

    /// An owner before has expired the life that is cut here, too: its record is followed by one of ours. Else that owner, which
    /// may not know that it is none any more, would end the room under an epoch that peers refuse by now.
    fn follow_expired(&mut self, now: Now, id: &RoomId, current: &RoomRecord) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let here = (&room.record.state, room.record.incarnation);
        if current.state != State::Expired || here != (&current.state, current.incarnation) {
            return;
        }
        room.used(current.version, &current.op_id);
        room.record.version = current.version;
        room.record.op_id.clone_from(&current.op_id);
        room.record.owner.clone_from(&current.owner);
        self.keep(id);
        self.sign(now, id);
    }

    /// Another life takes the place of what was here.
    fn replace(&mut self, now: Now, id: &RoomId, current: RoomRecord) {
        self.retire(id);
        let (state, ports) = (current.state, current.ports.clone());
        // Ports of another node's record are ports of that node.
        let here = current.owner == self.node;
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let authority = room.authority.clone();
        let (highest, highest_op, held_under) = (room.highest, room.highest_op.take(), room.held_under);
        let mut next = Room::new(current, (now.mono, Progress::Ownership), authority);
        if highest >= next.highest {
            (next.highest, next.highest_op) = (highest, highest_op);
        }
        next.held_under = next.held_under.max(held_under);
        *room = next;
        if state.is_live() && !ports.is_empty() && here {
            self.reclaim(now, id, &ports.into());
        }
    }

    /// Refuses everything that waits. A trip stays in force in the kernel and here; only the store does not have it.
    pub(super) fn give_up(&mut self, now: Now, id: &RoomId, reason: &str) {
        self.refuse_first(now, id, usize::MAX, reason);
    }

    fn refuse_first(&mut self, now: Now, id: &RoomId, n: usize, reason: &str) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let counted = Counts::of(Some(room));
        let n = n.min(room.unstored.len());
        let refused: Vec<Pending> = room.unstored.drain(..n).collect();
        self.counts.change(counted, Counts::of(Some(room)));
        let forgotten = refused.iter().any(|p| ends_trip(p.change.event.event_type));
        let lost_trip = refused.iter().any(|p| self.trip_is(id, &p.change.record.op_id));
        self.refuse_pending(now, refused, reason);
        if lost_trip {
            self.store_step(now, id, Err(reason.to_string()));
        }
        if forgotten {
            self.forget(id);
        }
    }

    fn refuse_pending(&mut self, now: Now, refused: Vec<Pending>, reason: &str) {
        for mut pending in refused {
            if let Some(agreed) = pending.sync.take() {
                let doubtful = pending.doubtful || pending.sent;
                self.sync_refused(now, *agreed, &pending.change, doubtful, reason);
            }
            for to in pending.replies {
                self.out(Command::Reply {
                    to,
                    result: Err(Rejected::Conflict(reason.to_string())),
                });
            }
        }
    }

    /// Whether this change is the trip the room is under, not that of an earlier life.
    fn trip_is(&self, id: &RoomId, op: &OpId) -> bool {
        let trip = self.rooms.get(id).and_then(|r| r.trip.as_ref());
        trip.is_some_and(|t| t.change.record.op_id == *op)
    }

    /// The trip is over, also for the store. A room that was tripped again meanwhile has a new intent, which stays.
    fn forget(&mut self, id: &RoomId) {
        if self.rooms.get(id).is_none_or(|r| r.trip.is_none()) {
            self.out(Command::Forget { room: id.clone() });
        }
    }

    fn store_step(&mut self, now: Now, id: &RoomId, result: Result<String, String>) {
        let Some(incarnation) = self.rooms.get(id).filter(|r| r.trip.is_some()).map(incarnation) else {
            return;
        };
        self.step(
            now,
            StepResult {
                room: id.clone(),
                incarnation,
                step: Step::Store,
                at: None,
                result,
            },
        );
    }
}

fn incarnation(room: &Room) -> crate::Incarnation {
    room.record.incarnation
}

fn begins_trip(event: EventType) -> bool {
    matches!(event, EventType::Stuck | EventType::OwnerLost)
}

pub(super) fn ends_trip(event: EventType) -> bool {
    matches!(event, EventType::Release | EventType::IsolationOver)
}

/// Whether the state table holds each of these changes, one after the other on what is stored.
fn fits<'a>(
    waiting: impl Iterator<Item = &'a Pending>,
    current: Option<&RoomRecord>,
    isolation: Duration,
) -> bool {
    let mut state = current.map(|c| c.state);
    let mut first = true;
    for Pending { change, .. } in waiting {
        let event = &change.event;
        // A life that the store has left behind cannot be tripped in it any more.
        let passed_by = current.is_some_and(|c| c.incarnation > change.record.incarnation);
        // What is over is the trip it ended, and not a later one of the same life that another owner decided.
        let not_over = event.event_type == EventType::IsolationOver
            && current.is_some_and(|c| c.state == State::Expired && c.since + isolation > event.timestamp);
        if core::mem::take(&mut first) && (not_over || passed_by && !begins_life(event.event_type)) {
            return false;
        }
        if !allows(state, event.event_type, event.new_state) {
            return false;
        }
        state = Some(event.new_state);
    }
    true
}

fn begins_life(event: EventType) -> bool {
    matches!(event, EventType::Create | EventType::Adopt)
}

fn must_not_be_lost(event: EventType) -> bool {
    begins_life(event) || begins_trip(event) || ends_trip(event)
}

/// A change as it is told; `over` as in [`crate::command::RoomUpdate`], 0 for another owner's.
pub(super) fn told(event: &StateChangeEvent, over: u64) -> crate::command::RoomUpdate {
    crate::command::RoomUpdate {
        room: event.room.clone(),
        incarnation: event.incarnation,
        state: event.new_state,
        version: event.version,
        epoch: event.epoch,
        reason: event.reason.clone(),
        trace_id: event.trace_id.clone(),
        over,
    }
}
