//! The hub's part in three-phase sync: who is asked, what goes out to whom, and which answers belong to a question.

use super::{Hub, Peer, StreamId};
use crate::{
    proto::v1::agent_message::Message,
    session::{outgoing::Shared, wire},
};
use std::collections::HashMap;
use voice_room::{
    PeerId, RoomId,
    command::RoomUpdate,
    sync::{Attempt, MAX_PARTICIPANTS, Proposal, Rollback},
};

/// The first protocol version with PREPARE, COMMIT and ROLLBACK.
const SYNCS: u32 = 2;

/// The attempts that one peer was asked about and that have no end yet: one a room.
pub(super) type Asked = HashMap<RoomId, Attempt>;

/// What an answer to PREPARE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Vote {
    /// The answer to what this peer was asked.
    Due,
    /// Late, or repeated: what was asked is over, or was never asked of this stream.
    Stray,
    /// The peer does not serve the room.
    NotItsRoom,
}

impl Peer {
    pub(super) fn syncs(&self) -> bool {
        self.protocol >= SYNCS
    }
}

impl Hub {
    /// Who must agree to a change of this room besides the one who asks.
    pub(in crate::session) fn participants(&self, room: &RoomId, asks: &PeerId) -> Vec<PeerId> {
        let serve = self.index.peers(room).filter(|id| *id != asks);
        let sync = serve.filter(|id| self.peers.get(*id).is_some_and(Peer::syncs));
        sync.take(MAX_PARTICIPANTS).cloned().collect()
    }

    /// Sends PREPARE. Those it does not reach, because their stream has ended since.
    pub(in crate::session) fn prepare(&mut self, proposal: &Proposal) -> Vec<PeerId> {
        let message = Shared::from(Message::Prepare(wire::prepare(proposal)));
        let (room, attempt) = (&proposal.room, proposal.attempt);
        let mut missed = Vec::new();
        for id in &proposal.to {
            match self.peers.get_mut(id).filter(|peer| peer.syncs()) {
                Some(peer) if peer.push(message.clone()) => {
                    peer.asked.insert(room.clone(), attempt);
                }
                _ => missed.push(id.clone()),
            }
        }
        missed
    }

    /// Sends ROLLBACK to those who were asked.
    pub(in crate::session) fn rollback(&mut self, rollback: &Rollback) {
        let message = Shared::from(Message::Rollback(wire::rollback(rollback)));
        for id in &rollback.to {
            if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.syncs()) {
                peer.is_over(&rollback.room, Some(rollback.attempt));
                peer.push(message.clone());
            }
        }
    }

    /// Tells one peer what a room is now.
    pub(in crate::session) fn tell(&mut self, to: &PeerId, update: &RoomUpdate) {
        if let Some(peer) = self.peers.get_mut(to) {
            Told::new(update).push(peer);
        }
    }

    /// What this answer to PREPARE is. One that was due is so once.
    pub(in crate::session) fn vote(
        &mut self,
        id: &PeerId,
        stream: StreamId,
        room: &RoomId,
        attempt: Attempt,
    ) -> Vote {
        let Some(peer) = self.peer(id, stream) else {
            return Vote::Stray;
        };
        match peer.asked.get(room) {
            Some(asked) if *asked == attempt => Vote::Due,
            Some(_) => Vote::Stray,
            None if peer.served.contains(room) => Vote::Stray,
            None => Vote::NotItsRoom,
        }
    }
}

impl Peer {
    /// The attempt of this room, or this one and those before it, has come to its end.
    pub(super) fn is_over(&mut self, room: &RoomId, attempt: Option<Attempt>) {
        let ended = |asked: &Attempt| attempt.is_none_or(|over| *asked <= over);
        if self.asked.get(room).is_some_and(ended) {
            self.asked.remove(room);
        }
    }
}

/// A change as it is told: COMMIT to those who know the word, else ROOM_UPDATE. Each is made when the first needs it, once.
pub(super) struct Told<'u> {
    update: &'u RoomUpdate,
    commit: Option<Shared>,
    plain: Option<Shared>,
}

impl<'u> Told<'u> {
    pub(super) fn new(update: &'u RoomUpdate) -> Told<'u> {
        Told {
            update,
            commit: None,
            plain: None,
        }
    }

    pub(super) fn push(&mut self, peer: &mut Peer) {
        let update = self.update;
        if !peer.syncs() {
            let plain = || Message::RoomUpdate(wire::update(update)).into();
            peer.push(self.plain.get_or_insert_with(plain).clone());
            return;
        }
        let over = Attempt {
            epoch: update.epoch,
            number: update.over,
        };
        peer.is_over(&update.room, Some(over));
        let commit = || Message::Commit(wire::commit(update)).into();
        peer.push(self.commit.get_or_insert_with(commit).clone());
    }
}
