//! What comes by chance: faults, what peers ask for, what operators do; and the healing.

use crate::{
    Ms, Plant,
    net::{Cut, Event, Up},
    world::{AGENTS, PEERS, SFU, World, home, room, rooms},
};
use voice_room::{
    ClientId, Input, RoomId, State, Version,
    input::{Ask, ClientAct, ClientFact, Credential, ReplyId, Request},
    timeline::Actor,
};

impl World {
    pub(crate) fn fault(&mut self) {
        if !self.is_chaos() {
            return;
        }
        self.tally.faults += 1;
        let (a, p) = (self.random.index(AGENTS), self.random.index(PEERS.len()));
        match self.random.index(12) {
            0 => self.agent_dies(a),
            1 => self.peer_dies(p),
            2 => self.freeze(a),
            3 | 4 => self.cut(Cut::Store(a), 60_000),
            // One in three outlasts lease and grace.
            5 => {
                let most = if self.random.happens(300) { 400_000 } else { 50_000 };
                self.cut(Cut::Registry(a), most);
            }
            6 | 7 => self.cut(Cut::Peer(a, p), 60_000),
            8..=10 => self.forget_a_room(),
            _ => self.operate(),
        }
        let next = self.random.between(500, 15_000);
        self.after(next, Event::Fault);
    }

    fn cut(&mut self, cut: Cut, most: Ms) {
        if self.net.cuts.insert(cut) {
            let lasts = self.random.between(100, most);
            self.tell(|| format!("FAULT: {cut:?} for {lasts} ms"));
            self.after(lasts, Event::PartitionEnds(cut));
        }
    }

    fn freeze(&mut self, a: usize) {
        let lasts = self.random.between(100, 50_000);
        self.tell(|| format!("FAULT: agent {a} is frozen for {lasts} ms"));
        self.agents[a].frozen_until = self.now + lasts;
    }

    /// A media server no longer serves a room, and says nothing.
    fn forget_a_room(&mut self) {
        let id = room(self.random.index(rooms().count()));
        let p = SFU + home(&id);
        self.tell(|| format!("FAULT: peer {p} forgets {id:?}"));
        self.peers[p].serving.remove(&id);
    }

    fn operate(&mut self) {
        let id = room(self.random.index(rooms().count()));
        let a = home(&id);
        let reason = "an operator".to_string();
        let ask = if self.random.happens(400) {
            Ask::Block { lasts: None, reason }
        } else {
            Ask::Release { reason }
        };
        let actor = Actor::Operator { uid: Some(0) };
        let request = self.request(&id, ask, actor);
        if self.agents[a].is_up() && self.agents[a].frozen_until <= self.now {
            self.ask_agent(a, request);
        }
    }

    pub(crate) fn request(&mut self, id: &RoomId, ask: Ask, actor: Actor) -> Request {
        self.replies += 1;
        Request {
            actor,
            reply: Some(ReplyId(self.replies)),
            ..Request::by_map(id.clone(), ask)
        }
    }

    pub(crate) fn heal(&mut self) {
        self.tell(|| "HEAL".into());
        let stays = self.is_planted(Plant::StaysCut, 1_000);
        self.net.cuts.retain(|cut| stays && matches!(cut, Cut::Peer(..)));
        (self.net.lost, self.net.repeated, self.net.late) = (0, 0, 0);
        for a in 0..AGENTS {
            self.agents[a].frozen_until = self.agents[a].frozen_until.min(self.now);
        }
    }

    /// Somebody asks for something.
    pub(crate) fn act(&mut self) {
        if !self.is_chaos() {
            return;
        }
        let next = self.random.between(200, 4_000);
        self.after(next, Event::Act);
        let id = room(self.random.index(rooms().count()));
        let mut p = self.random.index(SFU + 1);
        if p == SFU {
            p += home(&id);
        }
        if !self.peers[p].up {
            return;
        }
        let clients = p < SFU;
        if clients && self.random.happens(400) {
            self.let_in(p, &id);
            return self.client_acts(p, &id);
        }
        let known = self.peers[p].participant.committed(&id);
        let state = known.map(|c| c.state).filter(|s| *s != State::Destroyed);
        let Some(ask) = self.what_to_ask(state, known.map_or(Version(0), |c| c.version)) else {
            return;
        };
        // A room is created where it is served.
        let astray = clients && ask != Ask::Create && self.random.happens(100);
        let a = if astray {
            self.random.index(AGENTS)
        } else {
            home(&id)
        };
        let actor = self.peers[p].actor();
        let request = self.request(&id, ask, actor);
        self.up(p, a, &Up::Request(request));
    }

    fn what_to_ask(&mut self, state: Option<State>, version: Version) -> Option<Ask> {
        let (host, credential) = (Some(host()), Credential::Token { host: host() });
        let start = Ask::StartLive {
            host: host.clone(),
            credential: credential.clone(),
        };
        let back = Ask::HostReturn { host, credential };
        let reason = "by chance".to_string();
        let gone = Ask::HostDisconnect {
            reason: reason.clone(),
        };
        let close = Ask::Close { version, reason };
        let often = |n: &mut Self, first: Ask, other: Ask| if n.random.happens(850) { first } else { other };
        if self.random.happens(100) {
            let any = [Ask::Create, start, back, gone, close, Ask::NoActiveUser];
            return any.get(self.random.index(6)).cloned();
        }
        Some(match state {
            None => Ask::Create,
            Some(State::Created) => often(self, start, close),
            Some(State::Liveing) => often(self, gone, close),
            Some(State::GraceClosing) if self.random.happens(200) => Ask::NoActiveUser,
            Some(State::GraceClosing) => often(self, back, close),
            Some(State::Expired | State::Destroyed) => return None,
        })
    }

    fn client_acts(&mut self, p: usize, id: &RoomId) {
        let fact = ClientFact {
            room: id.clone(),
            client: host(),
            what: ClientAct::Keepalive,
            is_host: true,
            actor: self.peers[p].actor(),
            incarnation: None,
            reply: None,
        };
        self.up(p, home(id), &Up::Client(fact));
    }

    /// Gives an agent's core a request that is answered.
    pub(crate) fn ask_agent(&mut self, a: usize, request: Request) {
        if let Some(reply) = request.reply {
            self.agents[a].waiting.insert(reply);
        }
        self.feed(a, Input::Request(request));
    }
}

fn host() -> ClientId {
    ClientId::new("host").unwrap_or_else(|_| unreachable!("the name is valid"))
}
