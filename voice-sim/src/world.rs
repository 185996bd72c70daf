//! The clock, the queue of what happens, and who there is.

use crate::{
    CHAOS, Ms, Plant, REST, Tally,
    agent::Agent,
    invariants::{Invariants, Seen},
    net::{Cut, Event, Net},
    peer::Peer,
    random::Random,
    registry::Registry,
    store::{self, Store},
};
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{EventType, RoomId, record::Committed};

pub(crate) const AGENTS: usize = 3;
/// Gateways, signalling servers, then the media server of each agent's node.
pub(crate) const PEERS: [&str; 8] = [
    "gw-0", "gw-1", "gw-2", "sig-0", "sig-1", "sfu-0", "sfu-1", "sfu-2",
];
pub(crate) const SFU: usize = 5;
const ROOMS: usize = 4;

pub(crate) struct World {
    pub(crate) now: Ms,
    queue: BTreeMap<(Ms, u64), Event>,
    queued: u64,
    pub(crate) random: Random,
    pub(crate) net: Net,
    pub(crate) agents: Vec<Agent>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) calls: u64,
    pub(crate) streams: u64,
    pub(crate) replies: u64,
    /// Since when the agent of a served room's node could tell the store of it, without a break.
    told_since: BTreeMap<RoomId, Ms>,
    invariants: Invariants,
    broken: Option<String>,
    traced: bool,
    plant: Option<Plant>,
    pub(crate) trace: Vec<String>,
    pub(crate) tally: Tally,
}

pub(crate) fn room(n: usize) -> RoomId {
    RoomId::new(&format!("r{n}")).unwrap_or_else(|_| unreachable!("the names are valid"))
}

pub(crate) fn rooms() -> impl Iterator<Item = RoomId> {
    (0..ROOMS).map(room)
}

/// The node whose media server serves the room.
pub(crate) fn home(room: &RoomId) -> usize {
    usize::from(number(room)) % AGENTS
}

pub(crate) fn number(room: &RoomId) -> u16 {
    room.trim_start_matches('r').parse().unwrap_or(0)
}

/// Gateways and signalling servers serve every room, media servers those of their node.
pub(crate) fn serves(p: usize, room: &RoomId) -> bool {
    p < SFU || home(room) == p - SFU
}

/// Media servers speak to the agent of their node only.
pub(crate) fn speaks_to(p: usize, a: usize) -> bool {
    p < SFU || p - SFU == a
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>, traced: bool) -> World {
        let mut random = Random::new(seed);
        let net = Net {
            lost: random.between(0, 20),
            repeated: random.between(0, 50),
            late: random.between(0, 80),
            cuts: BTreeSet::new(),
        };
        let agents = (0..AGENTS).map(|a| Agent::new(a, &mut random)).collect();
        let peers = (0..PEERS.len()).map(|p| Peer::new(p, &mut random)).collect();
        let mut world = World {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            random,
            net,
            agents,
            peers,
            store: Store::default(),
            registry: Registry::default(),
            calls: 0,
            streams: 0,
            replies: 0,
            told_since: BTreeMap::new(),
            invariants: Invariants::default(),
            broken: None,
            traced,
            plant,
            trace: Vec::new(),
            tally: Tally::default(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for a in 0..AGENTS {
            let start = self.random.between(0, 5_000);
            self.after(start, Event::AgentStarts(a));
            for p in (0..PEERS.len()).filter(|p| speaks_to(*p, a)) {
                let join = self.random.between(0, 30_000);
                self.after(join, Event::Connect(p, a));
            }
        }
        (0..AGENTS).for_each(|n| self.after(1_000, Event::Beat(n)));
        self.after(1_000, Event::Leases);
        self.after(6_000, Event::Act);
        self.after(10_000, Event::Fault);
        self.after(CHAOS, Event::Heal);
    }

    /// Until it has come to rest, or an invariant is broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > CHAOS + REST {
                break;
            }
            self.now = at;
            self.happens(event);
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        let mut invariants = std::mem::take(&mut self.invariants);
        invariants.end(self)
    }

    /// Whether this fault is planted, and comes now: by so many in a thousand. Without it no chance is drawn.
    pub(crate) fn is_planted(&mut self, plant: Plant, per_mille: u64) -> bool {
        self.plant == Some(plant) && self.random.happens(per_mille)
    }

    pub(crate) fn is_chaos(&self) -> bool {
        self.now < CHAOS
    }

    pub(crate) fn after(&mut self, delay: Ms, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), event);
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.traced {
            self.trace
                .push(format!("{:>9.3}  {}", self.now as f64 / 1_000.0, line()));
        }
    }

    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        self.tell(|| format!("  seen: {seen:?}"));
        if let Err(broken) = self.invariants.see(self.now, seen)
            && self.broken.is_none()
        {
            self.tell(|| format!("BROKEN: {broken}"));
            self.broken = Some(broken);
        }
    }

    pub(crate) fn ask_store(&mut self, ask: &store::Ask) -> store::Answer {
        let before = match ask {
            store::Ask::Commit(change, _) => {
                let isolated = self.store.isolation(self.now, &change.record.room);
                isolated.map(|(_, end)| *end)
            }
            _ => None,
        };
        let stored = match ask {
            store::Ask::Commit(change, _) => self.store.record(self.now, &change.record.room).cloned(),
            _ => None,
        };
        let answer = self.store.answer(self.now, ask);
        if let (store::Ask::Commit(change, _), store::Answer::Committed(Committed::Ok)) = (ask, &answer) {
            self.tally.stored += 1;
            if change.event.event_type == EventType::OwnerLost {
                self.tally.lost += 1;
                let room = &change.record.room;
                let told = self.told_since.get(room).map(|since| self.now - since);
                self.see(&Seen::Lost(room, told));
            }
            self.see(&Seen::Stored(change, before));
            if self.is_planted(Plant::TakesWhatItRefuses, 100) {
                return store::Answer::Committed(Committed::Conflict(stored));
            }
        }
        answer
    }

    /// Which served rooms an agent can tell of: it runs, hears of the media server, reaches the store, and takes the room for
    /// live.
    fn who_can_tell(&mut self) {
        for room in rooms() {
            let (a, p) = (home(&room), SFU + home(&room));
            let (agent, cuts) = (&self.agents[a], &self.net.cuts);
            let runs = agent.frozen_until <= self.now && agent.takes_for_live(&room, self.now);
            let hears = self.peers[p].up
                && self.peers[p].streams[a].is_some()
                && agent.sessions.get(&p).copied() == self.peers[p].streams[a]
                && !cuts.contains(&Cut::Peer(a, p));
            let tells = runs && hears && !cuts.contains(&Cut::Store(a));
            if tells && self.served_since(&room).is_some() {
                self.told_since.entry(room).or_insert(self.now);
            } else {
                self.told_since.remove(&room);
            }
        }
    }

    fn happens(&mut self, event: Event) {
        if let Some(a) = event.agent()
            && self.agents[a].frozen_until > self.now
        {
            let thaw = self.agents[a].frozen_until - self.now;
            return self.after(thaw, event);
        }
        if !matches!(
            event,
            Event::Tick(..) | Event::Lease(..) | Event::Leases | Event::Call(..)
        ) {
            self.tell(|| format!("{event:?}"));
        }
        match event {
            Event::Tick(a, run) => self.tick(a, run),
            Event::Lease(a, run) => self.look_after_lease(a, run),
            Event::Beat(n) => self.beat(n),
            Event::Act => self.act(),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
            Event::Leases => {
                self.who_can_tell();
                for (a, answer) in self.registry.pass(self.now) {
                    let delay = self.random.between(1, 100);
                    let run = self.agents[a].run;
                    self.after(delay, Event::Told(a, run, answer));
                }
                self.after(500, Event::Leases);
            }
            Event::Down(p, a, stream, message) => self.peer_hears(p, a, stream, message),
            Event::Up(p, a, stream, message) => self.agent_hears(p, a, stream, message),
            Event::PeerFinds(p, a, stream) => self.peer_finds(p, a, stream),
            Event::AgentFinds(p, a, stream) => self.agent_finds(p, a, stream),
            Event::Connect(p, a) => self.connect(p, a),
            Event::Call(a, run, call, ask) => self.called(a, run, call, ask),
            Event::Reply(a, run, call, answer) => self.replied(a, run, call, Some(answer)),
            Event::TimesOut(a, run, call) => self.replied(a, run, call, None),
            Event::Told(a, run, answer) => self.registry_says(a, run, answer),
            Event::AgentStarts(a) => self.start_agent(a),
            Event::PeerStarts(p) => self.start_peer(p),
            Event::PartitionEnds(Cut::Peer(..)) if self.is_planted(Plant::StaysCut, 1_000) => {}
            Event::PartitionEnds(cut) => drop(self.net.cuts.remove(&cut)),
        }
    }
}
