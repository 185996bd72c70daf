//! What travels, and what happens to it: delay, loss, repetition, other order, partitions.

use crate::{Ms, registry, store, world::World};
use std::collections::BTreeSet;
use voice_room::{
    Epoch, PeerId, RoomId, Version,
    command::{Expired, RoomUpdate},
    input::{ClientFact, Request},
    sync::{Attempt, Known, Proposal, Rollback},
};

/// One stream between a peer and an agent; each reconnect is another.
pub(crate) type Stream = u64;

/// From an agent to a peer.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Welcome(Vec<(RoomId, String, Ms)>),
    Expired(Expired, Ms),
    Restored(RoomUpdate),
    Commit(RoomUpdate),
    Prepare(Proposal),
    Rollback(Rollback),
}

/// From a peer to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello,
    Known(Vec<Known>),
    Vote(RoomId, Attempt, Result<(), String>),
    CommitAck(RoomId, Epoch, Version),
    ExpiredAck(RoomId, Version),
    Request(Request),
    Client(ClientFact),
    Heartbeat(Vec<RoomId>),
}

/// What an agent asks of the store or the registry.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Store(store::Ask),
    Registry(registry::Ask),
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Store(store::Answer),
    Registry(registry::Answer),
}

/// Everything that happens at a time.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Of this run of an agent.
    Tick(usize, u64),
    Lease(usize, u64),
    Beat(usize),
    Act,
    Fault,
    Heal,
    /// The registry looks at its leases.
    Leases,
    Down(usize, usize, Stream, Down),
    Up(usize, usize, Stream, Up),
    /// A side of a stream finds that it is broken.
    PeerFinds(usize, usize, Stream),
    AgentFinds(usize, usize, Stream),
    Connect(usize, usize),
    /// To the store or the registry, from this run of an agent.
    Call(usize, u64, u64, Ask),
    Reply(usize, u64, u64, Answer),
    TimesOut(usize, u64, u64),
    /// The registry speaks by itself.
    Told(usize, u64, registry::Answer),
    AgentStarts(usize),
    PeerStarts(usize),
    PartitionEnds(Cut),
}

impl Event {
    /// Whose process handles it; a frozen one does so later.
    pub(crate) fn agent(&self) -> Option<usize> {
        match self {
            Event::Tick(a, _)
            | Event::Lease(a, _)
            | Event::Up(_, a, ..)
            | Event::AgentFinds(_, a, _)
            | Event::Reply(a, ..)
            | Event::TimesOut(a, ..)
            | Event::Told(a, ..) => Some(*a),
            _ => None,
        }
    }
}

/// Two sides that do not reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    Peer(usize, usize),
    Store(usize),
    Registry(usize),
}

/// How bad the network is.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) late: u64,
    pub(crate) cuts: BTreeSet<Cut>,
}

/// What is not answered within this is retried by who asked.
const TIMEOUT: Ms = 2_000;

impl World {
    fn delay(&mut self) -> Ms {
        if self.random.happens(self.net.late) {
            self.random.between(50, 4_000)
        } else {
            self.random.between(1, 20)
        }
    }

    /// Nothing arrives, and each side finds out in its own time.
    fn breaks(&mut self, p: usize, a: usize, stream: Stream) {
        let (peer, agent) = (self.random.between(10, 20_000), self.random.between(10, 20_000));
        self.after(peer, Event::PeerFinds(p, a, stream));
        self.after(agent, Event::AgentFinds(p, a, stream));
    }

    fn is_lost(&mut self, cut: Cut) -> bool {
        self.net.cuts.contains(&cut) || self.random.happens(self.net.lost)
    }

    pub(crate) fn down(&mut self, a: usize, p: usize, message: &Down) {
        let Some(stream) = self.agents[a].sessions.get(&p).copied() else {
            return;
        };
        if self.is_lost(Cut::Peer(a, p)) {
            self.tell(|| format!("lost: agent {a} -> peer {p}: {message:?}"));
            return self.breaks(p, a, stream);
        }
        let again = self.random.happens(self.net.repeated);
        for _ in 0..=u8::from(again) {
            let delay = self.delay();
            self.after(delay, Event::Down(p, a, stream, message.clone()));
        }
    }

    pub(crate) fn up(&mut self, p: usize, a: usize, message: &Up) {
        let Some(stream) = self.peers[p].streams[a] else {
            return;
        };
        if self.is_lost(Cut::Peer(a, p)) {
            self.tell(|| format!("lost: peer {p} -> agent {a}: {message:?}"));
            return self.breaks(p, a, stream);
        }
        // A repeated request would be another: the stream does not repeat those.
        let once = matches!(message, Up::Request(_) | Up::Client(_) | Up::Hello);
        let again = self.random.happens(self.net.repeated) && !once;
        for _ in 0..=u8::from(again) {
            let delay = self.delay();
            self.after(delay, Event::Up(p, a, stream, message.clone()));
        }
    }

    /// Asks the store or the registry; the answer comes as `Event::Reply`, or `Event::TimesOut` before it.
    pub(crate) fn call(&mut self, a: usize, ask: Ask) -> u64 {
        self.calls += 1;
        let (call, run) = (self.calls, self.agents[a].run);
        if !self.is_lost(cut(a, &ask)) {
            let delay = self.delay();
            self.after(delay, Event::Call(a, run, call, ask));
        }
        self.after(TIMEOUT, Event::TimesOut(a, run, call));
        call
    }

    pub(crate) fn called(&mut self, a: usize, run: u64, call: u64, ask: Ask) {
        let (now, cut) = (self.now, cut(a, &ask));
        let answer = match ask {
            Ask::Store(ask) => Answer::Store(self.ask_store(&ask)),
            Ask::Registry(ask) => Answer::Registry(self.registry.answer(now, a, &ask)),
        };
        self.tell(|| format!("agent {a} call {call}: {answer:?}"));
        if !self.is_lost(cut) {
            let delay = self.delay();
            self.after(delay, Event::Reply(a, run, call, answer));
        }
    }

    pub(crate) fn peer_id(p: usize) -> PeerId {
        crate::world::PEERS[p]
            .parse()
            .unwrap_or_else(|_| unreachable!("the names are valid"))
    }
}

fn cut(a: usize, ask: &Ask) -> Cut {
    match ask {
        Ask::Store(_) => Cut::Store(a),
        Ask::Registry(_) => Cut::Registry(a),
    }
}
