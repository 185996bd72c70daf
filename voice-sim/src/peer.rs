//! A peer process: its participant, its streams, and of a media server which rooms it serves.

use crate::{
    Ms, Plant,
    invariants::Seen,
    ms,
    net::{Cut, Down, Event, Stream, Up},
    random::Random,
    world::{AGENTS, SFU, World, home, rooms, serves, speaks_to},
};
use std::collections::BTreeMap;
use voice_room::{
    Mono, RoomId, SourceId, State,
    sync::{Known, Participant, Proposal, Taken},
    timeline::Actor,
};

#[derive(Debug)]
pub(crate) struct Peer {
    index: usize,
    pub(crate) up: bool,
    pub(crate) participant: Participant,
    /// Its present stream to each agent.
    pub(crate) streams: [Option<Stream>; AGENTS],
    /// Of a media server: the rooms it serves, and since when.
    pub(crate) serving: BTreeMap<RoomId, Ms>,
    /// Speaks protocol version 1: it is told, and asked nothing.
    pub(crate) old: bool,
    /// Its clock is so many parts in a million fast.
    fast: u64,
}

pub(crate) fn source(p: usize) -> SourceId {
    SourceId::new(crate::world::PEERS[p]).unwrap_or_else(|_| unreachable!("the names are valid"))
}

impl Peer {
    pub(crate) fn new(index: usize, random: &mut Random) -> Peer {
        Peer {
            index,
            up: true,
            participant: Participant::new(1_000),
            streams: [None; AGENTS],
            serving: BTreeMap::new(),
            old: index == 2 && random.happens(300),
            fast: random.between(0, 1_000),
        }
    }

    pub(crate) fn mono(&self, now: Ms) -> Mono {
        Mono(1_000_000_000 + now * (1_000_000 + self.fast))
    }

    pub(crate) fn actor(&self) -> Actor {
        if self.index >= SFU {
            Actor::Source(source(self.index))
        } else {
            Actor::Peer(World::peer_id(self.index))
        }
    }
}

impl World {
    pub(crate) fn connect(&mut self, p: usize, a: usize) {
        let peer = &mut self.peers[p];
        if !peer.up || peer.streams[a].is_some() {
            return;
        }
        if !self.agents[a].is_up() || self.net.cuts.contains(&Cut::Peer(a, p)) {
            let later = self.random.between(500, 3_000);
            return self.after(later, Event::Connect(p, a));
        }
        self.streams += 1;
        self.peers[p].streams[a] = Some(self.streams);
        self.up(p, a, &Up::Hello);
    }

    pub(crate) fn peer_finds(&mut self, p: usize, a: usize, stream: Stream) {
        if self.peers[p].streams[a] == Some(stream) {
            self.peers[p].streams[a] = None;
            let later = self.random.between(100, 2_000);
            self.after(later, Event::Connect(p, a));
        }
    }

    pub(crate) fn peer_dies(&mut self, p: usize) {
        if !self.peers[p].up {
            return;
        }
        self.tell(|| format!("FAULT: peer {p} dies"));
        let peer = &mut self.peers[p];
        peer.up = false;
        peer.serving.clear();
        peer.participant = Participant::new(1_000);
        for (a, stream) in std::mem::take(&mut peer.streams).into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            let later = self.random.between(10, 20_000);
            self.after(later, Event::AgentFinds(p, a, stream));
        }
        self.see(&Seen::PeerDied(p));
        let later = self.random.between(500, 60_000);
        self.after(later, Event::PeerStarts(p));
    }

    pub(crate) fn start_peer(&mut self, p: usize) {
        self.peers[p].up = true;
        for a in (0..AGENTS).filter(|a| speaks_to(p, *a)) {
            self.after(1, Event::Connect(p, a));
        }
    }

    pub(crate) fn peer_hears(&mut self, p: usize, a: usize, stream: Stream, message: Down) {
        if !self.peers[p].up || self.peers[p].streams[a] != Some(stream) {
            return;
        }
        let now = self.peers[p].mono(self.now);
        match message {
            Down::Welcome(isolations) => {
                for (room, reason, left) in isolations {
                    let taken = self.peers[p].participant.isolated(now, &room, &reason, ms(left));
                    debug_assert!(taken.is_ok(), "{taken:?}");
                    self.see(&Seen::Isolated(p, &room, now + ms(left)));
                }
                let known = self.what_it_knows(p);
                self.up(p, a, &Up::Known(known));
            }
            Down::Prepare(proposal) => self.peer_is_asked(p, a, now, &proposal),
            Down::Rollback(rollback) => {
                drop(self.peers[p].participant.rollback(now, &rollback));
            }
            Down::Commit(update) => {
                let taken = self.take(p, &update.room, |held| held.commit(now, &update));
                if taken.is_ok() {
                    self.up(p, a, &Up::CommitAck(update.room, update.epoch, update.version));
                }
            }
            Down::Restored(update) => {
                let taken = self.take(p, &update.room, |held| held.restored(now, &update));
                if taken == Ok(Taken::Anew) {
                    self.see(&Seen::Released(p, &update.room));
                }
            }
            Down::Expired(expired, left) => {
                let taken = self.take(p, &expired.room, |held| held.expired(now, &expired, ms(left)));
                if taken == Ok(Taken::Anew) {
                    self.see(&Seen::Isolated(p, &expired.room, now + ms(left)));
                }
                self.up(p, a, &Up::ExpiredAck(expired.room, expired.version));
            }
        }
    }

    /// Of every room it serves, also of those it knows nothing of.
    fn what_it_knows(&self, p: usize) -> Vec<Known> {
        let mut known = self.peers[p].participant.known();
        for room in rooms().filter(|room| serves(p, room)) {
            if !known.iter().any(|k| k.room == room) {
                known.push(Known::nothing(room));
            }
        }
        known
    }

    fn peer_is_asked(&mut self, p: usize, a: usize, now: Mono, proposal: &Proposal) {
        if self.random.happens(5) {
            return; // it thinks for too long
        }
        let decision = if self.random.happens(15) {
            Err("no".into())
        } else {
            Ok(())
        };
        let room = proposal.room.clone();
        let before = self.peers[p].participant.epoch(&room);
        let vote = self.peers[p].participant.prepare(now, proposal, decision);
        if vote.is_ok() {
            self.see(&Seen::Agreed(p, &room, proposal.attempt, before));
        }
        let vote = vote.map_err(|e| e.to_string());
        self.up(p, a, &Up::Vote(room, proposal.attempt, vote));
    }

    /// Takes a state, tells the invariants, and does what a media server does in that state.
    fn take<E>(
        &mut self,
        p: usize,
        room: &RoomId,
        message: impl FnOnce(&mut Participant) -> Result<Taken, E>,
    ) -> Result<Taken, E>
    where
        E: std::fmt::Display,
    {
        if self.is_planted(Plant::ForgetsEpochs, 50) {
            self.peers[p].participant = Participant::new(1_000);
        }
        let held = &mut self.peers[p].participant;
        let before = held.epoch(room);
        let taken = message(held);
        let after = held.committed(room);
        match (&taken, after) {
            (Ok(Taken::Anew), Some(state)) => {
                self.see(&Seen::Took(p, room, before, state));
                self.serve_or_not(p, room, state.state);
            }
            (Err(error), _) => {
                let error = error.to_string();
                self.see(&Seen::Refused(p, room, &error));
            }
            _ => {}
        }
        taken
    }

    fn serve_or_not(&mut self, p: usize, room: &RoomId, state: State) {
        if p < SFU || !serves(p, room) {
            return;
        }
        match state {
            State::Liveing if self.random.happens(900) => {
                let now = self.now;
                self.peers[p].serving.entry(room.clone()).or_insert(now);
            }
            State::Expired | State::Destroyed => drop(self.peers[p].serving.remove(room)),
            _ => {}
        }
    }

    /// A media server lists its rooms.
    pub(crate) fn beat(&mut self, n: usize) {
        self.after(5_000, Event::Beat(n));
        let p = SFU + n;
        if self.peers[p].up {
            let rooms: Vec<RoomId> = self.peers[p].serving.keys().cloned().collect();
            self.up(p, n, &Up::Heartbeat(rooms));
        }
    }

    /// A client wants to get into a room at this gateway.
    pub(crate) fn let_in(&mut self, p: usize, room: &RoomId) {
        let now = self.peers[p].mono(self.now);
        let admitted = self.peers[p].participant.admits(now, room).is_ok();
        let admitted = admitted || self.is_planted(Plant::LetsAllIn, 1_000);
        self.see(&Seen::Knocked(p, room, now, admitted));
    }

    /// Whether the room is really served by its media server, and since when.
    pub(crate) fn served_since(&self, room: &RoomId) -> Option<Ms> {
        self.peers[SFU + home(room)].serving.get(room).copied()
    }
}
