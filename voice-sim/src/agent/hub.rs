//! The sessions of an agent: who is connected, what is pushed to whom, and the STATE_EXPIRED nobody has acknowledged yet.

use crate::{
    Ms, Plant,
    invariants::Seen,
    net::{Down, Stream, Up},
    world::{PEERS, SFU, World, number, serves},
};
use std::collections::BTreeSet;
use voice_room::{
    Command, Input, PeerId, Port, RoomId, State, Wall,
    command::{Expired, RoomUpdate},
    input::{Heartbeat, Served},
    timeline::Step,
};

/// A STATE_EXPIRED, until each peer has acknowledged it or the isolation is over.
#[derive(Debug)]
pub(super) struct Notice {
    expired: Expired,
    acked: BTreeSet<usize>,
}

fn index(peer: &PeerId) -> Option<usize> {
    PEERS.iter().position(|name| *name == &**peer)
}

fn left(until: Wall, now: Wall) -> Ms {
    Ms::try_from(until.since(now).as_millis()).unwrap_or(0)
}

impl World {
    fn wall(&self, a: usize) -> Wall {
        self.agents[a].now(self.now).wall
    }

    fn sessions(&self, a: usize, room: &RoomId) -> Vec<usize> {
        let sessions = self.agents[a].sessions.keys().copied();
        sessions.filter(|p| serves(*p, room)).collect()
    }

    /// Carries out what is pushed.
    pub(super) fn push(&mut self, a: usize, command: Command) {
        match command {
            Command::PushExpired(expired) => self.push_expired(a, expired),
            Command::PushRestored(update) => {
                self.agents[a].ledger.remove(&update.room);
                for p in self.sessions(a, &update.room) {
                    self.down(a, p, &Down::Restored(update.clone()));
                }
            }
            Command::PushUpdate(update) => {
                for p in self.sessions(a, &update.room) {
                    self.push_update(a, p, &update);
                }
            }
            Command::Tell { to, update } => {
                if let Some(p) = index(&to) {
                    self.push_update(a, p, &update);
                }
            }
            Command::Prepare(proposal) => {
                self.tally.prepared += 1;
                self.see(&Seen::Prepares(a, &proposal));
                for p in proposal.to.iter().filter_map(index) {
                    self.down(a, p, &Down::Prepare(proposal.clone()));
                }
            }
            Command::Rollback(rollback) => {
                self.tally.rolled_back += 1;
                self.see(&Seen::RollsBack(&rollback));
                for p in rollback.to.iter().filter_map(index) {
                    self.down(a, p, &Down::Rollback(rollback.clone()));
                }
            }
            other => unreachable!("not pushed: {other:?}"),
        }
    }

    fn push_update(&mut self, a: usize, p: usize, update: &RoomUpdate) {
        let mut update = update.clone();
        if self.peers[p].old {
            // ROOM_UPDATE does not tell it.
            update.over = 0;
        }
        if p == 0 && self.is_planted(Plant::TellsAnother, 1_000) {
            update.state = match update.state {
                State::Liveing => State::GraceClosing,
                _ => State::Liveing,
            };
        }
        self.down(a, p, &Down::Commit(update));
    }

    fn push_expired(&mut self, a: usize, expired: Expired) {
        let lasts = left(expired.isolated_until, self.wall(a));
        for p in self.sessions(a, &expired.room) {
            self.down(a, p, &Down::Expired(expired.clone(), lasts));
        }
        let (room, incarnation) = (expired.room.clone(), expired.incarnation);
        let acked = BTreeSet::new();
        self.agents[a]
            .ledger
            .insert(room.clone(), Notice { expired, acked });
        self.step(a, room, incarnation, Step::Push);
    }

    pub(crate) fn agent_finds(&mut self, p: usize, a: usize, stream: Stream) {
        if self.agents[a].sessions.get(&p) == Some(&stream) {
            self.agents[a].sessions.remove(&p);
            self.gone(a, p);
        }
    }

    fn gone(&mut self, a: usize, p: usize) {
        self.feed(a, Input::PeerGone(World::peer_id(p)));
        if p >= SFU {
            self.feed(a, Input::SourceLost(World::source_of(a)));
        }
    }

    pub(crate) fn agent_hears(&mut self, p: usize, a: usize, stream: Stream, message: Up) {
        if !self.agents[a].is_up() {
            return self.after(1, crate::net::Event::PeerFinds(p, a, stream));
        }
        if let Up::Hello = message {
            return self.welcome(p, a, stream);
        }
        if self.agents[a].sessions.get(&p) != Some(&stream) {
            return;
        }
        let peer = World::peer_id(p);
        let input = match message {
            Up::Hello => return,
            Up::Known(rooms) => Input::Known { peer, rooms },
            Up::Vote(room, attempt, vote) => Input::Vote {
                room,
                peer,
                attempt,
                vote,
            },
            Up::CommitAck(room, epoch, version) => Input::CommitAcked {
                room,
                peer,
                epoch,
                version,
            },
            Up::ExpiredAck(room, version) => {
                let notice = self.agents[a].ledger.get_mut(&room);
                if let Some(notice) = notice.filter(|n| n.expired.version == version) {
                    notice.acked.insert(p);
                }
                Input::Acked { room, peer, version }
            }
            Up::Request(request) => {
                let request = self.with_participants(a, p, request);
                return self.ask_agent(a, request);
            }
            Up::Client(fact) => Input::Client(fact),
            Up::Heartbeat(_) if self.is_planted(Plant::SeesNothing, 1_000) => return,
            Up::Heartbeat(rooms) => Input::Heartbeat(heartbeat(a, &rooms)),
        };
        self.feed(a, input);
    }

    fn welcome(&mut self, p: usize, a: usize, stream: Stream) {
        // A HELLO that was late may be of a stream before the present one.
        if self.agents[a]
            .sessions
            .get(&p)
            .is_some_and(|present| *present > stream)
        {
            return;
        }
        if self.agents[a].sessions.insert(p, stream).is_some() {
            self.gone(a, p);
        }
        let (now, wall) = (self.agents[a].now(self.now), self.wall(a));
        let Some(core) = &self.agents[a].core else { return };
        let all = core.isolations(now).into_iter();
        let isolations = all.map(|i| (i.room, i.reason, left(i.until, wall))).collect();
        self.down(a, p, &Down::Welcome(isolations));
        let due = |n: &&Notice| serves(p, &n.expired.room) && !n.acked.contains(&p);
        let due: Vec<Expired> = self.agents[a]
            .ledger
            .values()
            .filter(due)
            .map(|n| n.expired.clone())
            .collect();
        for expired in due {
            let lasts = left(expired.isolated_until, wall);
            if lasts > 0 {
                self.down(a, p, &Down::Expired(expired, lasts));
            }
        }
    }
}

fn heartbeat(a: usize, rooms: &[RoomId]) -> Heartbeat {
    // Each room has a port of its own.
    let served = |room: &RoomId| Served {
        room: room.clone(),
        ports: vec![Port(50_000 + 2 * number(room))],
        flows: Vec::new(),
        ssrcs: Vec::new(),
        participants: 2,
        host: None,
    };
    Heartbeat {
        source: World::source_of(a),
        rooms: rooms.iter().map(served).collect(),
        capacity: None,
    }
}
