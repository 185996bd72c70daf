//! Which peers serve a room: what `served` says for each peer, the other way round. A push looks here, not at every peer.

use std::collections::{BTreeSet, HashMap};
use voice_room::{PeerId, RoomId};

/// Peers by room. A room that nobody serves is not in it.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<RoomId, BTreeSet<PeerId>>);

impl Index {
    pub(super) fn add(&mut self, room: &RoomId, peer: &PeerId) {
        if let Some(peers) = self.0.get_mut(room) {
            peers.insert(peer.clone());
        } else {
            self.0.insert(room.clone(), BTreeSet::from([peer.clone()]));
        }
    }

    pub(super) fn remove(&mut self, room: &RoomId, peer: &PeerId) {
        if let Some(peers) = self.0.get_mut(room) {
            peers.remove(peer);
            if peers.is_empty() {
                self.0.remove(room);
            }
        }
    }

    /// The room is over: nobody serves it. Who did.
    pub(super) fn take(&mut self, room: &RoomId) -> BTreeSet<PeerId> {
        self.0.remove(room).unwrap_or_default()
    }

    /// Who serves it, by id.
    pub(super) fn peers(&self, room: &RoomId) -> impl Iterator<Item = &PeerId> {
        self.0.get(room).into_iter().flatten()
    }

    /// Rooms that somebody serves.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
