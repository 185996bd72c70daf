//! The store's answers. A conflict rebases what must not be lost (a new life, a trip and its end) and refuses the rest.

use super::{
    Core,
    request::accepted,
    room::{Pending, Room},
    trip::stored_detail,
};
use crate::{
    Command, EventType, Now, OpId, Rejected, RoomId, RoomRecord, State, StateChangeEvent, input::StepResult,
    record::Committed, timeline::Step,
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

/// A change the store did not take is offered again after this long.
const RETRY: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn stored(&mut self, now: Now, id: &RoomId, op: &OpId, result: Result<Committed, String>) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        // An answer to a change that is not the one waited for is late: the queue has moved on.
        let Some(front) = room.unstored.front_mut().filter(|p| p.change.record.op_id == *op) else {
            return;
        };
        match result {
            Ok(Committed::Ok | Committed::Skipped) => self.taken(now, id),
            Ok(Committed::Conflict(current)) => self.conflict(now, id, current),
            Ok(Committed::Fenced(epoch)) => {
                self.give_up(now, id, &format!("fenced: epoch {epoch} has written before"));
            }
            Err(problem) => {
                front.retry_at = Some(now.mono + RETRY);
                self.store_step(now, id, Err(problem));
            }
        }
    }

    /// The front of the queue is stored: answer, tell, and go on with the next.
    fn taken(&mut self, now: Now, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(done) = room.unstored.pop_front() else {
            return;
        };
        let next = room.unstored.front().map(|p| p.change.clone());
        let mut answer = accepted(room);
        answer.state = done.change.record.state;
        answer.version = done.change.record.version;
        for to in done.replies {
            self.out(Command::Reply {
                to,
                result: Ok(answer.clone()),
            });
        }
        let event = &done.change.event;
        if ends_trip(event.event_type) {
            self.out(Command::Forget { room: id.clone() });
        }
        if begins_trip(event.event_type) {
            self.store_step(now, id, Ok(stored_detail(event.version)));
        } else {
            self.out(Command::PushUpdate(told(event)));
        }
        self.commands.extend(next.map(Command::Commit));
    }

    fn conflict(&mut self, now: Now, id: &RoomId, current: Option<RoomRecord>) {
        let Some(front) = self.rooms.get(id).and_then(|r| r.unstored.front()) else {
            return;
        };
        let event = front.change.event.event_type;
        let Some(current) = current else {
            // The store forgot the room; there is nothing left that this change could be of.
            return self.give_up(now, id, "the store has no record of this room");
        };
        let fresh_life = matches!(event, EventType::Create | EventType::Adopt);
        let over = current.state == State::Destroyed;
        let rebase = current.epoch <= self.epoch
            && if fresh_life {
                over
            } else {
                must_not_be_lost(event) && !over
            };
        if rebase {
            self.rebase(now, id, &current);
        } else {
            self.cede(now, id, current);
        }
    }

    /// Puts everything that waits on top of what is stored, in the same order. No version number is used twice.
    fn rebase(&mut self, now: Now, id: &RoomId, current: &RoomRecord) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        // A life is told apart from every earlier one, also after the clock was set back.
        let life = room.record.incarnation;
        let (life, moved) = if current.incarnation < life || current.state != State::Destroyed {
            (life, false)
        } else {
            (current.incarnation.next(), true)
        };
        let mut version = current.version;
        let mut old_state = Some(current.state).filter(|s| *s != State::Destroyed);
        for pending in &mut room.unstored {
            version = version.next();
            let change = &mut pending.change;
            (change.record.version, change.event.version) = (version, version);
            (change.record.incarnation, change.event.incarnation) = (life, life);
            change.event.old_state = old_state;
            old_state = Some(change.record.state).filter(|s| *s != State::Destroyed);
            if let Some(trip) = room
                .trip
                .as_mut()
                .filter(|t| t.change.record.op_id == change.record.op_id)
            {
                trip.change = change.clone();
            }
        }
        (room.record.version, room.record.incarnation) = (version, life);
        let next = room.unstored.front().map(|p| p.change.clone());
        self.commands.extend(next.map(Command::Commit));
        if moved {
            self.bind(now, id);
        }
    }

    /// What is stored wins: the waiting changes are refused and the stored record is taken over.
    fn cede(&mut self, now: Now, id: &RoomId, current: RoomRecord) {
        let reason = format!(
            "{} version {} of {} is stored",
            current.state, current.version, current.owner
        );
        self.give_up(now, id, &reason);
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        if room.trip.is_none() {
            room.record = current;
        }
        self.note("conflict", id, reason);
    }

    /// Refuses everything that waits. A trip stays in force in the kernel and here; only the store does not have it.
    fn give_up(&mut self, now: Now, id: &RoomId, reason: &str) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let waiting = core::mem::take(&mut room.unstored);
        let lost_trip = waiting.iter().any(|p| begins_trip(p.change.event.event_type));
        let forgotten = waiting.iter().any(|p| ends_trip(p.change.event.event_type));
        for to in waiting.into_iter().flat_map(|p: Pending| p.replies) {
            self.out(Command::Reply {
                to,
                result: Err(Rejected::Conflict(reason.to_string())),
            });
        }
        if lost_trip {
            self.store_step(now, id, Err(reason.to_string()));
        }
        if forgotten {
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

fn ends_trip(event: EventType) -> bool {
    matches!(event, EventType::Release | EventType::IsolationOver)
}

fn must_not_be_lost(event: EventType) -> bool {
    begins_trip(event) || ends_trip(event)
}

fn told(event: &StateChangeEvent) -> crate::command::RoomUpdate {
    crate::command::RoomUpdate {
        room: event.room.clone(),
        incarnation: event.incarnation,
        state: event.new_state,
        version: event.version,
        epoch: event.epoch,
        reason: event.reason.clone(),
        trace_id: event.trace_id.clone(),
    }
}
