//! What other agents stored: their isolations hold here too, and the sessions here hear of their rooms.

use super::{Core, room::Room, stored::told};
use crate::{Command, EventType, Isolation, Now, RoomId, State, StateChangeEvent, command::Expired};
use alloc::{collections::BTreeSet, format, vec::Vec};

/// Isolations that are remembered, of every agent. More are not, which is said.
const MAX_ISOLATIONS: usize = 100_000;

impl Core {
    /// Own rooms are told of when they change; this is for the others.
    pub(super) fn heard(&mut self, now: Now, event: &StateChangeEvent, isolation: Option<Isolation>) {
        let id = &event.room;
        if self.is_ours(id) {
            return;
        }
        match &isolation {
            Some(isolation) => self.isolate(now, isolation.clone()),
            None if event.new_state != State::Expired => drop(self.isolations.remove(id)),
            None => {}
        }
        self.follow(event);
        self.out(match (event.new_state, isolation) {
            (State::Expired, Some(isolation)) => Command::PushExpired(Expired {
                room: id.clone(),
                incarnation: event.incarnation,
                version: event.version,
                epoch: event.epoch,
                reason: event.reason.clone(),
                isolated_until: isolation.until,
            }),
            _ if event.event_type == EventType::Release => Command::PushRestored(told(event, 0)),
            _ => Command::PushUpdate(told(event, 0)),
        });
    }

    /// A room that is another's and whose life is over there is over here.
    fn follow(&mut self, event: &StateChangeEvent) {
        let told = (event.incarnation, event.version);
        let over = |r: &Room| {
            let later = told >= (r.record.incarnation, r.record.version);
            later && r.authority.ceded_to().is_some() && r.trip.is_none()
        };
        if event.new_state == State::Destroyed && self.rooms.get(&event.room).is_some_and(over) {
            self.has_gone_to_owner(&event.room);
        }
    }

    /// All that is stored: what is not among them of others' rooms was lifted while nobody told.
    pub(super) fn isolations_read(&mut self, now: Now, all: Vec<Isolation>) {
        let stored: BTreeSet<&RoomId> = all.iter().map(|i| &i.room).collect();
        let lifted = self.isolations.keys().filter(|id| !stored.contains(id));
        let lifted: Vec<RoomId> = lifted.filter(|id| !self.is_ours(id)).cloned().collect();
        for id in lifted {
            self.isolations.remove(&id);
        }
        for isolation in all {
            if !self.is_ours(&isolation.room) {
                self.isolate(now, isolation);
            }
        }
    }

    fn isolate(&mut self, now: Now, isolation: Isolation) {
        let known = self.isolations.contains_key(&isolation.room);
        if !known && self.isolations.len() >= MAX_ISOLATIONS {
            let many = format!("{MAX_ISOLATIONS} isolations are remembered, the most: this one is not");
            return self.note("isolation_left_out", &isolation.room, many);
        }
        // One that is cut here too keeps its own end.
        if self.rooms.get(&isolation.room).is_none_or(|r| r.trip.is_none()) {
            self.restore_isolation(now, isolation);
        }
    }

    /// Whether this agent speaks for the room: it owns it, or will unless somebody else does.
    fn is_ours(&self, id: &RoomId) -> bool {
        let ours = |r: &Room| r.wants_owner() && r.authority.ceded_to().is_none();
        self.rooms.get(id).is_some_and(ours)
    }
}
