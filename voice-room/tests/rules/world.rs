//! A world of one node for the tests: a clock, media servers that answer, counters that move, a store that takes.
//! Feeds the core and collects its commands.

pub(crate) use crate::said::*;
use std::{collections::BTreeMap, time::Duration};
use voice_room::{
    ClientId, Command, Core, Epoch, Flow, Incarnation, Input, Mono, NodeName, Now, OpId, Port, Rejected,
    RoomId, Rules, SourceId, Ssrc, State, Version, Wall,
    command::Accepted,
    core::RoomView,
    input::{
        Ask, ClientAct, ClientFact, Counts, Credential, Heartbeat, ReplyId, Request, Restored, Served,
        Traffic,
    },
    timeline::Actor,
};

pub(crate) const OPERATOR: Actor = Actor::Operator { uid: Some(0) };

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

pub(crate) fn source(name: &str) -> SourceId {
    SourceId::new(name).unwrap()
}

pub(crate) fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

pub(crate) fn op(name: &str) -> OpId {
    OpId::new(name).unwrap()
}

pub(crate) fn gateway() -> Actor {
    Actor::Peer("gateway-1".parse().unwrap())
}

pub(crate) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn start() -> Now {
    Now {
        mono: Mono(1_000_000_000_000),
        wall: Wall(1_700_000_000_000),
    }
}

/// A room as its media server serves it, and the RTP per second that the kernel counts in it.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) source: SourceId,
    pub(crate) ports: Vec<Port>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) ssrcs: Vec<Ssrc>,
    pub(crate) listed: bool,
    pub(crate) rtp: (u64, u64),
    counts: Counts,
    counted: Incarnation,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Now,
    pub(crate) lives: BTreeMap<RoomId, Life>,
    /// Media servers that answer although they list nothing.
    pub(crate) answering: Vec<SourceId>,
    /// Ports with a socket; `None`: not looked.
    pub(crate) sockets: Option<Vec<Port>>,
    /// Whether the kernel's counters are read.
    pub(crate) counters: bool,
    /// Whether the store and the steps of a trip answer, with success.
    pub(crate) answers: bool,
    epoch: Epoch,
    seconds: u64,
    replies: u64,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Rules::default())
    }

    pub(crate) fn with(rules: Rules) -> World {
        World::restored(rules, Restored::default())
    }

    pub(crate) fn restored(rules: Rules, found: Restored) -> World {
        let node = NodeName::new("node-1").unwrap();
        let epoch = Epoch { era: 0, revision: 7 };
        World {
            core: Core::new(node, epoch, rules, found, start()),
            now: start(),
            lives: BTreeMap::new(),
            answering: Vec::new(),
            sockets: None,
            counters: true,
            answers: true,
            epoch,
            seconds: 0,
            replies: 0,
        }
    }

    /// The agent starts again under the next epoch; media servers and counters go on.
    pub(crate) fn restart(&mut self, rules: Rules, found: Restored) {
        self.epoch.revision += 1;
        let node = NodeName::new("node-1").unwrap();
        self.core = Core::new(node, self.epoch, rules, found, self.now);
    }

    /// A node with these rooms LIVEING on media server `sfu`, ports 50000, 50002…, RTP both ways.
    pub(crate) fn live(rules: Rules, rooms: &[&str]) -> World {
        let mut w = World::with(rules);
        for (name, port) in rooms.iter().zip((50_000..).step_by(2)) {
            w.serve(name, "sfu", &[port]);
            w.rtp(name, 50, 50);
        }
        w.pass(6);
        for name in rooms {
            assert_eq!(w.state(name), Some(State::Liveing));
        }
        w
    }

    /// From now on, `from` lists this room with these ports.
    pub(crate) fn serve(&mut self, name: &str, from: &str, ports: &[u16]) {
        let rtp = self.lives.get(&room(name)).map_or((0, 0), |l| l.rtp);
        let old = self.lives.remove(&room(name));
        let (counts, counted) = old.map(|l| (l.counts, l.counted)).unwrap_or_default();
        let life = Life {
            source: source(from),
            ports: ports.iter().map(|p| Port(*p)).collect(),
            flows: vec![],
            ssrcs: vec![],
            listed: true,
            rtp,
            counts,
            counted,
        };
        self.lives.insert(room(name), life);
    }

    /// From now on, the listing names these flows, by their remote ports, and SSRCs on `port`.
    pub(crate) fn marks(&mut self, name: &str, port: u16, flows: &[u16], ssrcs: &[u32]) {
        let life = self.lives.get_mut(&room(name)).unwrap();
        let port = Port(port);
        let flow = |remote: &u16| Flow::new(port, [10, 0, 0, 1].into(), *remote);
        life.flows = flows.iter().map(flow).collect();
        life.ssrcs = ssrcs.iter().map(|ssrc| Ssrc { port, ssrc: *ssrc }).collect();
    }

    pub(crate) fn rtp(&mut self, name: &str, ingress: u64, egress: u64) {
        self.lives.get_mut(&room(name)).unwrap().rtp = (ingress, egress);
    }

    /// The media server no longer lists the room; it still answers.
    pub(crate) fn omit(&mut self, name: &str) {
        let life = self.lives.get_mut(&room(name)).unwrap();
        life.listed = false;
        self.answering.push(life.source.clone());
    }

    /// No media server answers any more.
    pub(crate) fn silence(&mut self) {
        self.answering.clear();
        self.lives.values_mut().for_each(|l| l.listed = false);
    }

    pub(crate) fn silence_rtp(&mut self) {
        self.lives.values_mut().for_each(|l| l.rtp = (0, 0));
    }

    /// Gives one input and returns what the core asks for, answered as the world is set.
    pub(crate) fn feed(&mut self, input: Input) -> Vec<Command> {
        self.core.handle(self.now, input);
        self.settle()
    }

    pub(crate) fn tick(&mut self) -> Vec<Command> {
        self.core.tick(self.now);
        self.settle()
    }

    /// Collects commands; answers them while the world answers.
    pub(crate) fn settle(&mut self) -> Vec<Command> {
        let mut all = Vec::new();
        while let Some(command) = self.core.next_command() {
            if self.answers
                && let Some(answer) = positive(self.now, &command)
            {
                self.core.handle(self.now, answer);
            }
            all.push(command);
        }
        all
    }

    /// Seconds pass: media servers answer every fifth, counters and ticks come each.
    pub(crate) fn pass(&mut self, seconds: u64) -> Vec<Command> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.now = self.now + secs(1);
            self.seconds += 1;
            if self.seconds.is_multiple_of(5) {
                all.extend(self.listings());
                if let Some(open) = self.sockets.clone() {
                    all.extend(self.feed(Input::Sockets(open)));
                }
            }
            if self.counters {
                all.extend(self.count());
            }
            all.extend(self.tick());
        }
        all
    }

    /// Every media server answers now.
    pub(crate) fn listings(&mut self) -> Vec<Command> {
        let mut said: BTreeMap<SourceId, Vec<Served>> =
            self.answering.iter().map(|s| (s.clone(), Vec::new())).collect();
        for (id, life) in self.lives.iter().filter(|(_, l)| l.listed) {
            said.entry(life.source.clone()).or_default().push(Served {
                room: id.clone(),
                ports: life.ports.clone(),
                flows: life.flows.clone(),
                ssrcs: life.ssrcs.clone(),
                participants: 2,
                host: None,
            });
        }
        let mut all = Vec::new();
        for (source, rooms) in said {
            let capacity = None;
            all.extend(self.feed(Input::Heartbeat(Heartbeat {
                source,
                rooms,
                capacity,
            })));
        }
        all
    }

    fn count(&mut self) -> Vec<Command> {
        let mut traffic = Vec::new();
        for (id, life) in &mut self.lives {
            let Some(view) = self.core.view(id, self.now) else {
                continue;
            };
            if view.incarnation != life.counted {
                life.counted = view.incarnation;
                life.counts = Counts::default();
            }
            // What is cut does not pass.
            let (ingress, egress) = if view.block.is_some() { (0, 0) } else { life.rtp };
            life.counts.rtp_in += ingress;
            life.counts.rtp_out += egress;
            life.counts.passed += ingress + egress;
            traffic.push(Traffic {
                room: id.clone(),
                incarnation: view.incarnation,
                counts: life.counts.clone(),
            });
        }
        self.feed(Input::Traffic(traffic))
    }

    pub(crate) fn view(&self, name: &str) -> RoomView {
        self.core.view(&room(name), self.now).unwrap()
    }

    pub(crate) fn state(&self, name: &str) -> Option<State> {
        self.core.view(&room(name), self.now).map(|v| v.state)
    }

    pub(crate) fn life(&self, name: &str) -> Incarnation {
        self.view(name).incarnation
    }

    /// Asks as `actor`; returns the answer and the commands besides.
    pub(crate) fn ask_as(
        &mut self,
        actor: Actor,
        name: &str,
        ask: Ask,
    ) -> (Option<Result<Accepted, Rejected>>, Vec<Command>) {
        let request = self.request(actor, name, ask);
        self.send(request)
    }

    pub(crate) fn ask(&mut self, name: &str, ask: Ask) -> Result<Accepted, Rejected> {
        self.ask_as(gateway(), name, ask).0.unwrap()
    }

    /// Refused with this reason, and nothing but a note and the answer comes of it.
    pub(crate) fn refused(&mut self, actor: Actor, name: &str, ask: Ask) -> Rejected {
        let before = self.core.view(&room(name), self.now);
        let (answer, commands) = self.ask_as(actor, name, ask.clone());
        let quiet = commands.iter().all(|c| matches!(c, Command::Note { .. }));
        assert!(quiet, "{ask:?} was refused, yet: {commands:?}");
        assert_eq!(
            self.core.view(&room(name), self.now),
            before,
            "{ask:?} changed the room"
        );
        answer.unwrap().unwrap_err()
    }

    pub(crate) fn request(&mut self, actor: Actor, name: &str, ask: Ask) -> Request {
        self.replies += 1;
        Request {
            room: room(name),
            ask,
            actor,
            op_id: None,
            incarnation: None,
            sequence: None,
            trace_id: None,
            reply: Some(ReplyId(self.replies)),
            participants: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, request: Request) -> (Option<Result<Accepted, Rejected>>, Vec<Command>) {
        let reply = request.reply;
        let mut commands = self.feed(Input::Request(request));
        let mut answer = None;
        commands.retain(|c| match c {
            Command::Reply { to, result } if Some(*to) == reply => {
                assert!(answer.replace(result.clone()).is_none(), "answered twice");
                false
            }
            _ => true,
        });
        (answer, commands)
    }

    pub(crate) fn client_says(
        &mut self,
        actor: Actor,
        name: &str,
        who: &str,
        what: ClientAct,
        is_host: bool,
    ) -> Result<Accepted, Rejected> {
        self.replies += 1;
        let to = ReplyId(self.replies);
        let fact = ClientFact {
            room: room(name),
            client: client(who),
            what,
            is_host,
            actor,
            incarnation: None,
            reply: Some(to),
        };
        let commands = self.feed(Input::Client(fact));
        replies(&commands, to).pop().unwrap()
    }

    pub(crate) fn block(&mut self, name: &str) -> Vec<Command> {
        let lasts = None;
        let reason = "test".into();
        self.ask_as(OPERATOR, name, Ask::Block { lasts, reason }).1
    }

    pub(crate) fn release(&mut self, name: &str) -> Vec<Command> {
        self.ask_as(
            OPERATOR,
            name,
            Ask::Release {
                reason: "test".into(),
            },
        )
        .1
    }

    /// CREATE, START_LIVE and host `h`, without media.
    pub(crate) fn go_live(&mut self, name: &str) {
        self.ask(name, Ask::Create).unwrap();
        self.ask(name, start_live("h")).unwrap();
    }
}

pub(crate) fn start_live(host: &str) -> Ask {
    Ask::StartLive {
        host: Some(client(host)),
        credential: token(host),
    }
}

pub(crate) fn host_return(host: &str) -> Ask {
    Ask::HostReturn {
        host: Some(client(host)),
        credential: token(host),
    }
}

pub(crate) fn token(host: &str) -> Credential {
    Credential::Token { host: client(host) }
}

pub(crate) fn close(version: Version) -> Ask {
    Ask::Close {
        version,
        reason: "over".into(),
    }
}

pub(crate) fn gone() -> Ask {
    Ask::HostDisconnect { reason: "bye".into() }
}
