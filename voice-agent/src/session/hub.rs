//! The topology: which peers are connected, which rooms each serves, and what is pushed to whom. No I/O: pushing means
//! queueing, so every method is quick. A peer's own rooms are in `served`, the peers of a room in `index`.

mod sync;

pub(super) use sync::Vote;

use crate::{
    proto::v1::{Welcome, agent_message::Message},
    session::{
        PeerView, Role,
        index::Index,
        ledger::Ledger,
        outgoing::{NotTaken, Outgoing, Shared},
        peer::PeerInfo,
        served::{Because, Served},
        wire,
    },
    telemetry::Counter,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use voice_room::{
    ClientId, Epoch, PeerId, RoomId, State, Version, Wall,
    command::{Expired, RoomUpdate},
};

/// Peers that are named in the evidence of a push: a storm tells every gateway of every room.
const NAMED: usize = 16;

/// A peer that was connected is nobody new for so long: as long as an isolation lasts by default.
const LATELY: Duration = Duration::from_secs(300);
/// So many are remembered; beyond it the oldest are forgotten.
const MAX_LATELY: usize = 16_384;

/// All connected peers, and what is pending for them.
#[derive(Debug, Default)]
pub(super) struct Hub {
    peers: BTreeMap<PeerId, Peer>,
    index: Index,
    ledger: Ledger,
    streams: u64,
    /// Peers that were here lately, and when they left.
    lately: HashMap<PeerId, Instant>,
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
    /// What it said of its software, for people.
    pub(super) software: String,
    /// The protocol that is spoken with it.
    pub(super) protocol: u32,
    pub(super) outgoing: Outgoing,
    /// Ends the stream's task once the stream is cut off or replaced.
    pub(super) cut: CancellationToken,
    pub(super) welcome: Welcome,
}

/// A peer that is in the topology now.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) stream: StreamId,
    /// What the stream that this one replaced leaves behind.
    pub(super) replaced: Option<Left>,
}

/// What a stream that ended leaves behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The rooms it served.
    pub(super) rooms: Vec<RoomId>,
    /// Clients that it told of, and that are in their rooms through no other peer.
    pub(super) members: Vec<(RoomId, ClientId)>,
}

#[derive(Debug)]
struct Peer {
    role: Role,
    tag: String,
    software: String,
    protocol: u32,
    weight: Option<u32>,
    stream: StreamId,
    since: Wall,
    outgoing: Outgoing,
    cut: CancellationToken,
    served: Served,
    asked: sync::Asked,
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
    pub(super) fn join(&mut self, new: Newcomer, limits: Limits, now: Wall) -> Option<Joined> {
        let known = self.peers.contains_key(&new.info.id);
        if !known && self.peers.len() >= limits.peers {
            Counter::SessionTooManyPeers.count();
            return None;
        }
        self.streams += 1;
        let stream = StreamId(self.streams);
        let old = self.peers.remove(&new.info.id);
        let replaced = old.map(|old| self.replace(&new.info.id, old));
        let mut served = Served::new(limits.rooms);
        for room in &new.info.rooms {
            served.add(room.clone(), Because::Named);
            self.index.add(room, &new.info.id);
        }
        let due = self.ledger.due(&new.info, now);
        let peer = Peer {
            role: new.info.role,
            tag: new.info.tag,
            software: new.software,
            protocol: new.protocol,
            weight: new.info.weight,
            stream,
            since: now,
            outgoing: new.outgoing,
            cut: new.cut,
            served,
            asked: sync::Asked::new(),
        };
        peer.push(Message::Welcome(new.welcome));
        for expired in due {
            peer.push(Message::StateExpired(wire::expired(&expired, now)));
        }
        self.peers.insert(new.info.id, peer);
        Some(Joined { stream, replaced })
    }

    fn replace(&mut self, id: &PeerId, old: Peer) -> Left {
        Counter::SessionReplaced.count();
        let said = "a new stream of the same peer-id replaces this one";
        old.outgoing.end(said, Some(tonic::Status::aborted(said)));
        old.cut.cancel();
        self.leave_behind(id, old.served)
    }

    /// The stream ended. `None`: it was replaced before; else the peer is gone, and this is what it leaves behind.
    pub(super) fn leave(&mut self, id: &PeerId, stream: StreamId) -> Option<Left> {
        self.peer(id, stream)?;
        let peer = self.peers.remove(id)?;
        self.was_here(id);
        Some(self.leave_behind(id, peer.served))
    }

    fn was_here(&mut self, id: &PeerId) {
        let now = Instant::now();
        if self.lately.len() >= MAX_LATELY {
            self.lately
                .retain(|_, left| now.saturating_duration_since(*left) < LATELY);
        }
        if self.lately.len() >= MAX_LATELY
            && let Some(oldest) = self
                .lately
                .iter()
                .min_by_key(|(_, left)| **left)
                .map(|(id, _)| id.clone())
        {
            self.lately.remove(&oldest);
        }
        self.lately.insert(id.clone(), now);
    }

    /// Whether this peer is connected or was lately, or waits for a STATE_EXPIRED.
    pub(super) fn knows(&self, id: &PeerId) -> bool {
        let lately = |left: &Instant| left.elapsed() < LATELY;
        self.peers.contains_key(id) || self.lately.get(id).is_some_and(lately) || self.ledger.waits_for(id)
    }

    fn leave_behind(&mut self, id: &PeerId, served: Served) -> Left {
        let mut left = Left::default();
        for (room, clients) in served.into_rooms() {
            self.index.remove(&room, id);
            for client in clients {
                let mut others = self.index.peers(&room).filter_map(|id| self.peers.get(id));
                if !others.any(|peer| peer.served.has(&room, &client)) {
                    left.members.push((room.clone(), client));
                }
            }
            left.rooms.push(room);
        }
        left
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

    /// A peer serves a room from now on. It is told what it missed. True: it did not serve it before.
    pub(super) fn serves(&mut self, id: &PeerId, stream: StreamId, room: &RoomId, because: Because) -> bool {
        let peer = self.peer(id, stream);
        let new = peer.is_some_and(|peer| peer.served.add(room.clone(), because));
        if new {
            self.index.add(room, id);
        }
        self.catch_up(id, stream, room);
        new
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
        if let Some(peer) = self.peer(id, stream)
            && peer.served.leave(room, client)
        {
            self.index.remove(room, id);
        }
    }

    /// A media server listed these rooms. Those that it serves from now on.
    pub(super) fn listed<'r>(
        &mut self,
        id: &PeerId,
        stream: StreamId,
        rooms: impl ExactSizeIterator<Item = &'r RoomId> + Clone,
    ) -> Result<Vec<RoomId>, String> {
        let now = Instant::now();
        let Some(peer) = self.peer(id, stream) else {
            return Ok(Vec::new());
        };
        let gone = peer.served.purge(now);
        let listed = peer.served.list(rooms, now);
        for room in &gone {
            self.index.remove(room, id);
        }
        let listed = listed?;
        for room in &listed {
            self.index.add(room, id);
        }
        Ok(listed)
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
        self.end_attempts(&expired.room);
        let targets = self.targets(&expired.room, everyone);
        let message = Shared::from(Message::StateExpired(wire::expired(expired, now)));
        let told: Vec<&PeerId> = targets
            .iter()
            .filter(|(_, peer)| peer.push(message.clone()))
            .map(|(id, _)| *id)
            .collect();
        let (taken, cut) = (told.len(), targets.len() - told.len());
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
            (_, 0) => named(&told),
            (_, cut) => format!("{}; {cut} cut off, kept for reconnects", named(&told)),
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
        let mut told = sync::Told::new(update);
        for id in self.index.peers(&update.room) {
            if let Some(peer) = self.peers.get_mut(id) {
                told.push(peer);
            }
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
            software: peer.software.clone(),
            protocol: peer.protocol,
            since: peer.since,
            rooms: peer.served.len(),
            prepared: peer.asked.len(),
            pending: pending.get(id).copied().unwrap_or_default(),
        };
        let serves = |peer: &Peer| room.is_none_or(|room| peer.served.contains(room));
        self.peers
            .iter()
            .filter(|(_, peer)| serves(peer))
            .map(view)
            .collect()
    }

    /// Peers, and rooms that one of them serves.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.peers.len(), self.index.len())
    }

    fn peer(&mut self, id: &PeerId, stream: StreamId) -> Option<&mut Peer> {
        self.peers.get_mut(id).filter(|peer| peer.stream == stream)
    }

    fn nobody_lets_clients_into(&self, room: &RoomId) -> bool {
        let mut serve = self.index.peers(room).filter_map(|id| self.peers.get(id));
        !serve.any(|peer| peer.role.lets_clients_in())
    }

    fn targets(&self, room: &RoomId, everyone: bool) -> Vec<(&PeerId, &Peer)> {
        if everyone {
            let told = |peer: &Peer| peer.role.lets_clients_in() || peer.served.contains(room);
            return self.peers.iter().filter(|(_, peer)| told(peer)).collect();
        }
        let serve = self.index.peers(room);
        serve.filter_map(|id| self.peers.get_key_value(id)).collect()
    }

    /// Whatever the peers of this room were asked about is void.
    fn end_attempts(&mut self, room: &RoomId) {
        for id in self.index.peers(room) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_over(room, None);
            }
        }
    }

    fn forget_if_over(&mut self, update: &RoomUpdate) {
        if update.state == State::Destroyed {
            self.end_attempts(&update.room);
            for id in self.index.take(&update.room) {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.served.forget(&update.room);
                }
            }
        }
    }
}

/// How many were told, and who: those beyond [`NAMED`] are only counted.
fn named(told: &[&PeerId]) -> String {
    let names: Vec<&str> = told.iter().take(NAMED).map(|id| id.as_str()).collect();
    let more = match told.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.is_empty() {
        true => sessions(0),
        false => format!("{}: {}{more}", sessions(told.len()), names.join(", ")),
    }
}

fn sessions(n: usize) -> String {
    match n {
        1 => "1 session".into(),
        n => format!("{n} sessions"),
    }
}
