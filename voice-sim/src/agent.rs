//! An agent: the real core, and a model of the adapters around it. What it asks of store and registry is in `calls`, its
//! starts and deaths in `process`.

mod calls;
mod hub;
mod lease;
mod process;
mod relay;

use crate::{
    Ms, Plant,
    invariants::Seen,
    net::{Ask, Event, Stream},
    peer::source,
    random::Random,
    store,
    world::{AGENTS, SFU, World, home, rooms},
};
use calls::Called;
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{
    Command, Core, Entry, Incarnation, Input, Mono, NodeName, Now, RoomId, RoomRecord, Wall,
    core::Authority,
    input::{Counts, Intent, ReplyId, Request, StepResult, Traffic},
    timeline::{Rule, Step, What},
};

pub(crate) struct Agent {
    index: usize,
    /// `None` while the process is dead.
    pub(crate) core: Option<Core>,
    /// Counts its starts.
    pub(crate) run: u64,
    pub(crate) frozen_until: Ms,
    /// So much its wall clock is ahead, in milliseconds, of clocks that are all late by as much as one may be.
    skew: Ms,
    /// Its clock is so many parts in a million fast.
    fast: u64,
    /// When the counters were last read, by its own clock.
    counted: Ms,
    pub(crate) sessions: BTreeMap<usize, Stream>,
    pub(crate) waiting: BTreeSet<ReplyId>,
    calls: BTreeMap<u64, Called>,
    lease: lease::Lease,
    ledger: BTreeMap<RoomId, hub::Notice>,
    relay: relay::Relay,
    /// What survives the process: journal, and the kernel's verdicts and counters.
    kept: BTreeMap<RoomId, RoomRecord>,
    intents: BTreeMap<RoomId, Intent>,
    armed: BTreeMap<RoomId, (Incarnation, Mono)>,
    counters: BTreeMap<RoomId, (Incarnation, Counts)>,
}

pub(crate) fn node(a: usize) -> NodeName {
    NodeName::new(&format!("node-{a}")).unwrap_or_else(|_| unreachable!("the names are valid"))
}

impl Agent {
    pub(crate) fn new(index: usize, random: &mut Random) -> Agent {
        Agent {
            index,
            core: None,
            run: 0,
            frozen_until: 0,
            skew: random.between(0, 3_000),
            fast: random.between(0, 1_000),
            counted: 0,
            sessions: BTreeMap::new(),
            waiting: BTreeSet::new(),
            calls: BTreeMap::new(),
            lease: lease::Lease::default(),
            ledger: BTreeMap::new(),
            relay: relay::Relay::default(),
            kept: BTreeMap::new(),
            intents: BTreeMap::new(),
            armed: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(crate) fn takes_for_live(&self, room: &RoomId, now: Ms) -> bool {
        let view = self.core.as_ref().and_then(|core| core.view(room, self.now(now)));
        view.is_some_and(|view| view.state.is_live())
    }

    /// Its own clock, in milliseconds.
    fn clock(&self, now: Ms) -> Ms {
        now * (1_000_000 + self.fast) / 1_000_000
    }

    pub(crate) fn now(&self, now: Ms) -> Now {
        Now {
            mono: Mono(1_000_000_000 + now * (1_000_000 + self.fast)),
            wall: Wall(1_700_000_000_000 + now + self.skew),
        }
    }
}

impl World {
    /// Gives the core an input, and carries out what it asks for.
    pub(crate) fn feed(&mut self, a: usize, input: Input) {
        let agent = &mut self.agents[a];
        let now = agent.now(self.now);
        if let Some(core) = &mut agent.core {
            core.handle(now, input);
        }
        self.carry_out(a);
    }

    pub(crate) fn tick(&mut self, a: usize, run: u64) {
        let now = self.agents[a].now(self.now);
        if !self.agents[a].is_up() || self.agents[a].run != run {
            return;
        }
        let clock = self.agents[a].clock(self.now);
        if clock >= self.agents[a].counted + 5_000 {
            self.agents[a].counted = clock;
            self.count_traffic(a);
        }
        if let Some(core) = &mut self.agents[a].core {
            core.tick(now);
        }
        self.carry_out(a);
        self.follow_events(a);
        self.after(1_000, Event::Tick(a, run));
    }

    /// What the kernel counted of the rooms of this node: RTP both ways of those that are served.
    fn count_traffic(&mut self, a: usize) {
        if self.is_planted(Plant::SeesNothing, 1_000) {
            return;
        }
        let now = self.agents[a].now(self.now);
        let mut traffic = Vec::new();
        for room in rooms().filter(|room| home(room) == a) {
            let served = self.served_since(&room).is_some();
            let agent = &mut self.agents[a];
            let Some(view) = agent.core.as_ref().and_then(|c| c.view(&room, now)) else {
                continue;
            };
            let (incarnation, counts) = agent.counters.entry(room.clone()).or_default();
            if *incarnation != view.incarnation {
                (*incarnation, *counts) = (view.incarnation, Counts::default());
            }
            let cut = agent.armed.get(&room).is_some_and(|(_, end)| *end > now.mono);
            if served && !cut {
                counts.rtp_in += 250;
                counts.rtp_out += 250;
                counts.passed += 500;
            }
            traffic.push(Traffic {
                room,
                incarnation: *incarnation,
                counts: counts.clone(),
            });
        }
        self.feed(a, Input::Traffic(traffic));
    }

    fn carry_out(&mut self, a: usize) {
        while let Some(command) = self.agents[a].core.as_mut().and_then(Core::next_command) {
            self.tell(|| format!("  agent {a}: {command:?}"));
            self.do_one(a, command);
        }
    }

    fn do_one(&mut self, a: usize, command: Command) {
        match command {
            Command::Commit(change) => self.commit(a, change),
            Command::Refresh(rooms) if self.has_authority(a) => {
                self.ask(a, Ask::Store(store::Ask::Refresh(rooms)), Called::Refresh);
            }
            Command::Refresh(_) => self.direct(a, Input::Refreshed(Err("no lease".into()))),
            Command::TellServed { by, rooms } => {
                self.ask(
                    a,
                    Ask::Store(store::Ask::TellServed(by, rooms)),
                    Called::TellServed,
                );
            }
            Command::Look { room } => {
                self.ask(a, Ask::Store(store::Ask::Look(room.clone())), Called::Look(room));
            }
            Command::Members(_) => self.direct(a, Input::Members(Ok(()))),
            Command::Claim(meta) => self.claim(a, meta),
            Command::Cede { room } => self.cede(a, room),
            Command::Describe(meta) => self.describe(a, meta),
            Command::Keep(record) => drop(self.agents[a].kept.insert(record.room.clone(), record)),
            Command::ForgetRoom { room } => drop(self.agents[a].kept.remove(&room)),
            Command::Journal(intent) => {
                let record = &intent.change.record;
                let (room, incarnation) = (record.room.clone(), record.incarnation);
                self.agents[a].intents.insert(room.clone(), intent);
                self.step(a, room, incarnation, Step::Journal);
            }
            Command::Forget { room } => drop(self.agents[a].intents.remove(&room)),
            Command::Arm {
                room,
                incarnation,
                deadline,
                ..
            } => {
                self.agents[a].armed.insert(room.clone(), (incarnation, deadline));
                self.step(a, room, incarnation, Step::Arm);
            }
            Command::Disarm { room } => drop(self.agents[a].armed.remove(&room)),
            Command::Record(entry) | Command::RecordAgain(entry) => self.recorded(a, entry),
            Command::Reply { .. } if self.is_planted(Plant::NeverAnswers, 20) => {}
            Command::Reply { to, .. } => {
                let waited = self.agents[a].waiting.remove(&to);
                self.see(&Seen::Answered(to, waited));
            }
            Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::KeepMaintenance { .. }
            | Command::ForgetMaintenance { .. }
            | Command::Degraded { .. }
            | Command::Note { .. } => {}
            push => self.push(a, push),
        }
    }

    /// An answer that comes at once; its commands are carried out with the others.
    fn direct(&mut self, a: usize, input: Input) {
        let agent = &mut self.agents[a];
        let now = agent.now(self.now);
        if let Some(core) = &mut agent.core {
            core.handle(now, input);
        }
    }

    fn step(&mut self, a: usize, room: RoomId, incarnation: Incarnation, step: Step) {
        let at = (step == Step::Arm).then(|| self.agents[a].now(self.now).mono);
        let result = Ok("done".into());
        let result = StepResult {
            room,
            incarnation,
            step,
            at,
            result,
        };
        self.direct(a, Input::Step(result));
    }

    fn recorded(&mut self, a: usize, entry: Entry) {
        let What::Trip { rule, .. } = entry.what else {
            return;
        };
        let (room, incarnation) = (entry.room, entry.incarnation);
        if rule != Rule::Operator {
            self.tally.trips += 1;
            let served = self.served_since(&room).map(|since| self.now - since);
            self.see(&Seen::Tripped(a, &room, rule, served));
        }
        self.step(a, room, incarnation, Step::Audit);
    }

    /// What must hold of an agent at rest: nobody waits, nothing is unstored.
    pub(crate) fn unrest(&self, a: usize) -> Option<String> {
        let agent = &self.agents[a];
        let core = agent.core.as_ref()?;
        let now = agent.now(self.now);
        if !agent.waiting.is_empty() {
            return Some(format!("agent {a} never answered {:?}", agent.waiting));
        }
        let unstored = |v: &&voice_room::core::RoomView| v.unstored > 0 && v.authority.ceded_to().is_none();
        let views = core.views(now);
        views
            .iter()
            .find(unstored)
            .map(|v| format!("agent {a} has never stored {v:?}"))
    }

    /// Who holds a room, and what it says of it.
    pub(crate) fn held(&self, id: &RoomId) -> Option<voice_room::core::RoomView> {
        (0..AGENTS).find_map(|a| {
            let agent = &self.agents[a];
            let view = agent.core.as_ref()?.view(id, agent.now(self.now))?;
            matches!(view.authority, Authority::Held(_)).then_some(view)
        })
    }

    /// The source of the media server of this node.
    fn source_of(a: usize) -> voice_room::SourceId {
        source(SFU + a)
    }

    /// Fills in who takes part: the peers of this agent that serve the room and know the sync.
    fn with_participants(&self, a: usize, p: usize, request: Request) -> Request {
        let sessions = self.agents[a].sessions.keys();
        let serve = |other: &&usize| {
            **other != p && !self.peers[**other].old && crate::world::serves(**other, &request.room)
        };
        let participants = sessions
            .filter(serve)
            .map(|other| World::peer_id(*other))
            .collect();
        Request {
            participants,
            ..request
        }
    }
}
