//! The rooms of which there is something new to tell, those that have ended first: whoever sees this agent die must not take one
//! of them for a room that lives.

use std::collections::BTreeSet;
use voice_room::RoomId;

#[derive(Debug, Default)]
pub(super) struct Untold {
    ended: BTreeSet<RoomId>,
    live: BTreeSet<RoomId>,
}

impl Untold {
    pub(super) fn insert(&mut self, room: RoomId, live: bool) {
        if live {
            self.ended.remove(&room);
            self.live.insert(room);
        } else {
            self.live.remove(&room);
            self.ended.insert(room);
        }
    }

    pub(super) fn remove(&mut self, room: &RoomId) {
        self.ended.remove(room);
        self.live.remove(room);
    }

    pub(super) fn clear(&mut self) {
        *self = Untold::default();
    }

    pub(super) fn contains(&self, room: &RoomId) -> bool {
        self.ended.contains(room) || self.live.contains(room)
    }

    pub(super) fn len(&self) -> usize {
        self.ended.len() + self.live.len()
    }

    pub(super) fn ended(&self) -> &BTreeSet<RoomId> {
        &self.ended
    }

    pub(super) fn live(&self) -> &BTreeSet<RoomId> {
        &self.live
    }
}
