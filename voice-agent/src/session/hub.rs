//! The topology: which peers are connected, which rooms each serves, and what is pushed to whom. No I/O: pushing means
//! queueing, so every method is quick.

use crate::{
    proto::v1::{Welcome, agent_message::Message},
    session::{
        PeerView, Role,
        ledger::Ledger,
        outgoing::{NotTaken, Outgoing, Shared},
        peer::PeerInfo,
        served::{Because, Served},
        wire,
    },
    telemetry::Counter,
};
use std::collections::BTreeMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use voice_room::{
    ClientId, Epoch, PeerId, RoomId, State, Version, Wall,
    command::{Expired, RoomUpdate},
};

/// All connected peers, and what is pending for them.
#[derive(Debug, Default)]
pub(super) struct Hub {
    peers: BTreeMap<PeerId, Peer>,
    ledger: Ledger,
    streams: u64,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Peers that are connected.
    pub(super) peers: usize,
    /// Rooms that one of them serves.
    pub(super) rooms: usize,
}

/// Tells a stream from an earlier one of the same peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamId(u64);

/// A stream that may join the topology.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) info: PeerInfo,
    pub(super) outgoing: Outgoing,
    /// Ends the stream's task once the stream is cut off or replaced.
    pub(super) cut: CancellationToken,
    pub(super) welcome: Welcome,
}

#[derive(Debug)]
struct Peer {
    role: Role,
    tag: String,
    weight: Option<u32>,
    stream: StreamId,
    since: Wall,
    outgoing: Outgoing,
    cut: CancellationToken,
    served: Served,
}

impl Peer {
    /// Queues; a peer whose queue is full is cut off. True: it was taken.
    fn push(&self, message: impl Into<Shared>) -> bool {
        match self.outgoing.push(message) {
            Ok(()) => true,
            Err(NotTaken::Ended) => false,
            Err(NotTaken::Full) => {
                Counter::SessionSlowReaders.count();
                self.cut.cancel();
                false
            }
        }
    }
}

impl Hub {
    /// Takes a peer in, says Welcome, and then what it has not acknowledged yet. An older stream of the same peer id is
    /// ended. `None`: so many others are connected.
    pub(super) fn join(&mut self, new: Newcomer, limits: Limits, now: Wall) -> Option<StreamId> {
        let known = self.peers.contains_key(&new.info.id);
        if !known && self.peers.len() >= limits.peers {
            Counter::SessionTooManyPeers.count();
            return None;
        }
        self.streams += 1;
        let stream = StreamId(self.streams);
        let mut served = Served::new(limits.rooms);
        for room in &new.info.rooms {
            served.add(room.clone(), Because::Named);
        }
        let due = self.ledger.due(&new.info, now);
        let peer = Peer {
            role: new.info.role,
            tag: new.info.tag,
            weight: new.info.weight,
            stream,
            since: now,
            outgoing: new.outgoing,
            cut: new.cut,
            served,
        };
        peer.push(Message::Welcome(new.welcome));
        for expired in due {
            peer.push(Message::StateExpired(wire::expired(&expired, now)));
        }
        if let Some(old) = self.peers.insert(new.info.id, peer) {
            Counter::SessionReplaced.count();
            let said = "a new stream of the same peer-id replaces this one";
            old.outgoing.end(said, Some(tonic::Status::aborted(said)));
            old.cut.cancel();
        }
        Some(stream)
    }

    /// The stream ended. True: it was the peer's present one, so the peer is gone.
    pub(super) fn leave(&mut self, id: &PeerId, stream: StreamId) -> bool {
        let present = self.peer(id, stream).is_some();
        if present {
            self.peers.remove(id);
        }
        present
    }

    /// Whether this peer may serve one room more.
    pub(super) fn fits(
        &mut self,
        id: &PeerId,
        stream: StreamId,
        room: &RoomId,
        because: &Because,
    ) -> Result<(), String> {
        self.peer(id, stream)
            .map_or(Ok(()), |peer| peer.served.fits(room, because))
    }

    /// A peer serves a room from now on. It is told what it missed.
    pub(super) fn serves(&mut self, id: &PeerId, stream: StreamId, room: &RoomId, because: Because) {
        if let Some(peer) = self.peer(id, stream) {
            peer.served.add(room.clone(), because);
        }
        self.catch_up(id, stream, room);
    }

    /// A peer meant a room that is expired, and may not have been told.
    pub(super) fn catch_up(&mut self, id: &PeerId, stream: StreamId, room: &RoomId) {
        let now = super::wall_now();
        let Some(peer) = self.peers.get(id).filter(|peer| peer.stream == stream) else {
            return;
        };
        if let Some(expired) = self.ledger.due_for(id, room, now) {
            peer.push(Message::StateExpired(wire::expired(&expired, now)));
        }
    }

    /// A client left the room at this peer.
    pub(super) fn left(&mut self, id: &PeerId, stream: StreamId, room: &RoomId, client: &ClientId) {
        if let Some(peer) = self.peer(id, stream) {
            peer.served.leave(room, client);
        }
    }

    /// A media server listed these rooms.
    pub(super) fn listed<'r>(
        &mut self,
        id: &PeerId,
        stream: StreamId,
        rooms: impl ExactSizeIterator<Item = &'r RoomId> + Clone,
    ) -> Result<(), String> {
        self.peer(id, stream)
            .map_or(Ok(()), |peer| peer.served.list(rooms, Instant::now()))
    }

    /// Pushes STATE_EXPIRED and keeps it.
    pub(super) fn expired(&mut self, expired: &Expired, now: Wall) -> Result<String, String> {
        let everyone = self.nobody_lets_clients_into(&expired.room);
        let ids: Vec<PeerId> = self
            .targets(&expired.room, everyone)
            .into_iter()
            .map(|(id, _)| id.clone())
            .collect();
        let kept = self.ledger.keep(expired, everyone, ids.into_iter(), now);
        let targets = self.targets(&expired.room, everyone);
        let message = Shared::from(Message::StateExpired(wire::expired(expired, now)));
        let taken = targets
            .iter()
            .filter(|(_, peer)| peer.push(message.clone()))
            .count();
        let cut = targets.len() - taken;
        if !kept {
            Counter::SessionNotKept.count();
            return Err(format!(
                "STATE_EXPIRED of room {} went to {}, but is not kept for reconnects: too many are pending",
                expired.room,
                sessions(taken)
            ));
        }
        Ok(match (taken, cut) {
            (0, 0) => "no session connected; kept for reconnects".into(),
            (n, 0) => sessions(n),
            (n, cut) => format!("{}; {cut} cut off, kept for reconnects", sessions(n)),
        })
    }

    /// Pushes STATE_RESTORED to those who serve the room or were told of its end; what was pending is withdrawn.
    pub(super) fn restored(&mut self, update: &RoomUpdate) {
        let notice = self.ledger.withdraw(&update.room);
        let everyone = notice.is_none() && self.nobody_lets_clients_into(&update.room);
        let mut targets: BTreeMap<&PeerId, &Peer> =
            self.targets(&update.room, everyone).into_iter().collect();
        if let Some(notice) = &notice {
            targets.extend(notice.told().filter_map(|id| self.peers.get_key_value(id)));
        }
        for peer in targets.values() {
            peer.push(Message::StateRestored(wire::restored(update)));
        }
        self.forget_if_over(update);
    }

    /// Tells those who serve the room of a change.
    pub(super) fn update(&mut self, update: &RoomUpdate) {
        for (_, peer) in self.targets(&update.room, false) {
            peer.push(Message::RoomUpdate(wire::update(update)));
        }
        self.forget_if_over(update);
    }

    /// A peer took note of a STATE_EXPIRED. False: it is not pending.
    pub(super) fn ack(&mut self, peer: &PeerId, room: &RoomId, version: Version, epoch: Epoch) -> bool {
        self.ledger.ack(peer, room, version, epoch)
    }

    /// Connected peers by role.
    pub(super) fn by_role(&self) -> [(Role, usize); 3] {
        Role::ALL.map(|role| (role, self.peers.values().filter(|peer| peer.role == role).count()))
    }

    /// Every connected peer, or those that serve `room`, by id.
    pub(super) fn views(&self, room: Option<&RoomId>, now: Wall) -> Vec<PeerView> {
        let pending = self.ledger.pending(now);
        let view = |(id, peer): (&PeerId, &Peer)| PeerView {
            peer: id.clone(),
            role: peer.role,
            tag: peer.tag.clone(),
            weight: peer.weight,
            since: peer.since,
            rooms: peer.served.len(),
            pending: pending.get(id).copied().unwrap_or_default(),
        };
        let serves = |peer: &Peer| room.is_none_or(|room| peer.served.contains(room));
        self.peers
            .iter()
            .filter(|(_, peer)| serves(peer))
            .map(view)
            .collect()
    }

    fn peer(&mut self, id: &PeerId, stream: StreamId) -> Option<&mut Peer> {
        self.peers.get_mut(id).filter(|peer| peer.stream == stream)
    }

    fn nobody_lets_clients_into(&self, room: &RoomId) -> bool {
        !self
            .peers
            .values()
            .any(|peer| peer.role.lets_clients_in() && peer.served.contains(room))
    }

    fn targets(&self, room: &RoomId, everyone: bool) -> Vec<(&PeerId, &Peer)> {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.served.contains(room) || (everyone && peer.role.lets_clients_in()))
            .collect()
    }

    fn forget_if_over(&mut self, update: &RoomUpdate) {
        if update.state == State::Destroyed {
            for peer in self.peers.values_mut() {
                peer.served.forget(&update.room);
            }
        }
    }
}

fn sessions(n: usize) -> String {
    match n {
        1 => "1 session".into(),
        n => format!("{n} sessions"),
    }
}
