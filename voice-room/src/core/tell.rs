//! What peers are told of a room besides its changes: those who come back say what they know, and a new owner says what is.
//!
//! Only what is certain is told: the room is held, nothing of it is on its way to the store, and the store has confirmed it
//! under the present epoch. Until then it is announced: told to all who serve the room as soon as it is certain. Of another
//! owner's room a shared store is asked.

use super::{Core, room::Room};
use crate::{
    Command, Mono, Now, PeerId, RoomId, RoomRecord, State,
    command::{Expired, RoomUpdate},
    sync::Known,
};
use alloc::{collections::BTreeMap, format, vec::Vec};

/// Rooms about which the store is asked at a time for peers that came back. Of more they hear with their next change.
const MAX_ASKED: usize = 4_096;

/// Who waits to hear what the store holds of another's room.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Peers that came back, with what they know.
    peers: BTreeMap<PeerId, Known>,
    /// All who serve the room here.
    all: bool,
    /// When a store that could not say is asked again.
    again: Option<Mono>,
}

impl Core {
    /// A peer said what it knows: it is told of each room that differs, or of which it waits for an attempt's end.
    pub(super) fn known(&mut self, peer: &PeerId, rooms: &[Known]) {
        for known in rooms {
            match self.is_certain(&known.room) {
                Some(true) if self.is_behind(known) => self.ask_the_store(peer, known),
                Some(true) => self.tell_what_differs(peer, known),
                Some(false) => self.announce(&known.room),
                None if self.shares() => self.ask_the_store(peer, known),
                None => {}
            }
        }
    }

    fn ask_the_store(&mut self, peer: &PeerId, known: &Known) {
        if let Some(waiting) = self.waiting_for_stored(&known.room) {
            waiting.peers.insert(peer.clone(), known.clone());
        }
    }

    /// It turned out to be another's: what that owner stored was not passed on while the room was thought to be ours.
    pub(super) fn tell_of_other(&mut self, id: &RoomId) {
        if self.shares()
            && let Some(waiting) = self.waiting_for_stored(id)
        {
            waiting.all = true;
        }
    }

    /// Asks the store about a room, unless it is being asked.
    fn waiting_for_stored(&mut self, id: &RoomId) -> Option<&mut Waiting> {
        if !self.asked.contains_key(id) {
            if self.asked.len() >= MAX_ASKED {
                let many = format!(
                    "{MAX_ASKED} rooms are asked about, the most: of this one peers are not told now"
                );
                self.note("known_left_out", id, many);
                return None;
            }
            self.out(Command::Look { room: id.clone() });
        }
        Some(self.asked.entry(id.clone()).or_default())
    }

    /// What the store holds of another's room. One that it does not hold: they know no less than before.
    pub(super) fn tell_stored(&mut self, id: &RoomId, stored: Option<&RoomRecord>) {
        let waiting = self.asked.remove(id).unwrap_or_default();
        let Some(update) = stored.map(as_stored) else {
            return;
        };
        if waiting.all {
            return self.out(Command::PushUpdate(update));
        }
        for (to, known) in waiting.peers {
            let given = (known.epoch, known.incarnation, known.version);
            if given < (update.epoch, update.incarnation, update.version) {
                let update = update.clone();
                self.out(Command::Tell { to, update });
            }
        }
    }

    /// The store could not say: who waits goes on waiting.
    pub(super) fn not_stored_yet(&mut self, now: Now, id: &RoomId) {
        let again = now.mono + self.rules.heartbeat;
        if let Some(waiting) = self.asked.get_mut(id) {
            waiting.again = Some(again);
        }
    }

    pub(super) fn ask_the_store_again(&mut self, now: Now) {
        let due = |waiting: &mut Waiting| waiting.again.take_if(|at| *at <= now.mono).is_some();
        let due = self
            .asked
            .iter_mut()
            .filter_map(|(id, w)| due(w).then(|| id.clone()));
        let due: Vec<RoomId> = due.collect();
        for room in due {
            self.out(Command::Look { room });
        }
    }

    /// Whether the peer has heard of a room that ended here from an owner since.
    fn is_behind(&self, known: &Known) -> bool {
        let behind =
            |r: &Room| r.authority.epoch().is_none() && r.record.epoch.max(r.held_under) < known.epoch;
        self.shares() && self.rooms.get(&known.room).is_some_and(behind)
    }

    fn tell_what_differs(&mut self, peer: &PeerId, known: &Known) {
        let Some(update) = self.present(&known.room) else {
            return;
        };
        let given = (known.epoch, known.incarnation, known.version);
        let here = (update.epoch, update.incarnation, update.version);
        if known.prepared || given != here {
            let to = peer.clone();
            self.out(Command::Tell { to, update });
        }
    }

    fn present(&self, id: &RoomId) -> Option<RoomUpdate> {
        self.update(id, "as it is")
    }

    /// Whether what is in memory is what is stored, now and under this epoch. `None`: that is not for this agent to say.
    fn is_certain(&self, id: &RoomId) -> Option<bool> {
        let room = self.rooms.get(id).filter(|r| r.authority.ceded_to().is_none())?;
        let over = |r: &Room| r.state().is_none() && r.record.version.0 > 0;
        let confirmed = room.authority.epoch().is_some() && (room.kept.is_some() || !self.shares());
        Some(room.unstored.is_empty() && (confirmed || over(room)))
    }

    /// All who serve the room are told of its state, once that is certain.
    pub(super) fn announce(&mut self, id: &RoomId) {
        self.announced.insert(id.clone());
    }

    pub(super) fn tell_announced(&mut self, now: Now) {
        for id in core::mem::take(&mut self.announced) {
            match self.is_certain(&id) {
                Some(true) => self.tell_all(now, &id),
                Some(false) => drop(self.announced.insert(id)),
                None => {}
            }
        }
    }

    fn tell_all(&mut self, now: Now, id: &RoomId) {
        let Some(update) = self.present(id) else { return };
        let isolation = self.isolation(id, now).map(|(isolation, _)| isolation);
        self.out(match isolation.filter(|_| update.state == State::Expired) {
            Some(isolation) => Command::PushExpired(Expired {
                room: id.clone(),
                incarnation: update.incarnation,
                version: update.version,
                epoch: update.epoch,
                reason: isolation.reason,
                isolated_until: isolation.until,
            }),
            None => Command::PushUpdate(update),
        });
    }
}

fn as_stored(record: &RoomRecord) -> RoomUpdate {
    RoomUpdate {
        room: record.room.clone(),
        incarnation: record.incarnation,
        state: record.state,
        version: record.version,
        epoch: record.epoch,
        reason: "as it is stored".into(),
        trace_id: None,
        over: 0,
    }
}
