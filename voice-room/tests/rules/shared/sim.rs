//! The model: agents with their leases, a store with a replica, a network that delays and loses, a registry.

use crate::world::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use voice_room::{
    Change, Command, Core, Epoch, EventType, Input, Isolation, NodeName, Now, OpId, RoomId, RoomRecord,
    Rules, State, Tenure, Version,
    core::Authority,
    input::{Ask, Heartbeat, Intent, ReplyId, Request, Restored, Served},
    record::{Committed, IsolationChange, Refreshed},
};

pub(super) const NODES: [&str; 2] = ["n1", "n2"];
pub(super) const ROOMS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Net {
    Works,
    /// The store takes a change; its answer is lost.
    LosesAnswers,
    LosesChanges,
    /// Changes arrive when they are delivered.
    IsSlow,
}

#[derive(Debug, Clone, Default)]
struct Store {
    records: BTreeMap<RoomId, RoomRecord>,
    fences: BTreeMap<RoomId, Epoch>,
    isolations: BTreeMap<RoomId, Isolation>,
}

#[derive(Debug)]
struct Node {
    name: NodeName,
    core: Core,
    runs: u64,
    kept: BTreeMap<RoomId, RoomRecord>,
    intents: BTreeMap<RoomId, Intent>,
    claims: BTreeSet<RoomId>,
    serves: BTreeSet<RoomId>,
    waiting: BTreeSet<ReplyId>,
}

#[derive(Debug)]
pub(super) struct Sim {
    now: Now,
    nodes: Vec<Node>,
    store: Store,
    replica: Store,
    pub(super) net: Net,
    pub(super) registry_answers: bool,
    owners: BTreeMap<RoomId, (usize, Epoch)>,
    revision: u64,
    slow: VecDeque<(usize, u64, Change)>,
    /// Which change a number was used for: by epoch, and by node.
    used: BTreeMap<(RoomId, Version, Epoch), OpId>,
    used_by: BTreeMap<(RoomId, Version, usize), OpId>,
    replies: u64,
    seconds: u64,
}

impl Store {
    /// DESIGN 5.2.
    fn take(&mut self, change: &Change) -> Committed {
        let (record, event) = (&change.record, &change.event);
        let found = self.records.get(&record.room);
        if let Some(fence) = self.fences.get(&record.room).filter(|f| record.epoch < **f) {
            return Committed::Fenced(*fence);
        }
        if found.is_some_and(|f| f.version == record.version && f.op_id == record.op_id) {
            return Committed::Skipped;
        }
        let begins = matches!(event.event_type, EventType::Create | EventType::Adopt);
        let holds = match found {
            Some(f) if event.event_type == EventType::Restore => {
                f.version < record.version && f.epoch <= record.epoch
            }
            None => begins || event.event_type == EventType::Restore,
            Some(f) => {
                let state = Some(f.state).filter(|s| !(begins && *s == State::Destroyed));
                f.version.next() == record.version && state == event.old_state
            }
        };
        if !holds {
            return Committed::Conflict(found.cloned());
        }
        self.records.insert(record.room.clone(), record.clone());
        self.fences.insert(record.room.clone(), record.epoch);
        match &change.isolation {
            IsolationChange::Keep => {}
            IsolationChange::Set(i) => drop(self.isolations.insert(record.room.clone(), i.clone())),
            IsolationChange::Clear => drop(self.isolations.remove(&record.room)),
        }
        Committed::Ok
    }

    fn refresh(&mut self, asked: &voice_room::record::Refresh) -> Refreshed {
        if let Some(fence) = self.fences.get(&asked.room).filter(|f| asked.epoch < **f) {
            return Refreshed::Fenced(*fence);
        }
        match self.records.get(&asked.room) {
            None => Refreshed::Missing,
            Some(r) if (r.version, &r.op_id) == (asked.version, &asked.op_id) => {
                self.fences.insert(asked.room.clone(), asked.epoch);
                Refreshed::Kept
            }
            Some(r) => Refreshed::Differs(r.clone()),
        }
    }
}

fn rules() -> Rules {
    Rules {
        cap_percent: 100,
        ..Rules::default()
    }
}

fn core(name: &NodeName, run: u64, found: Restored, now: Now) -> Core {
    let tenure = Tenure {
        epoch: None,
        shared: Some(run),
    };
    Core::new(name.clone(), tenure, rules(), found, now)
}

impl Sim {
    pub(super) fn new() -> Sim {
        let node = |(n, name): (usize, &&str)| {
            let name = NodeName::new(name).unwrap();
            Node {
                core: core(&name, n as u64, Restored::default(), start()),
                name,
                runs: 0,
                kept: BTreeMap::new(),
                intents: BTreeMap::new(),
                claims: BTreeSet::new(),
                serves: BTreeSet::new(),
                waiting: BTreeSet::new(),
            }
        };
        Sim {
            now: start(),
            nodes: NODES.iter().enumerate().map(node).collect(),
            store: Store::default(),
            replica: Store::default(),
            net: Net::Works,
            registry_answers: true,
            owners: BTreeMap::new(),
            revision: 0,
            slow: VecDeque::new(),
            used: BTreeMap::new(),
            used_by: BTreeMap::new(),
            replies: 0,
            seconds: 0,
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + secs(1);
            self.seconds += 1;
            for n in 0..self.nodes.len() {
                if self.seconds.is_multiple_of(5) {
                    self.list(n);
                }
                self.answer_claims(n);
                self.nodes[n].core.tick(self.now);
                self.carry_out(n);
            }
        }
    }

    pub(super) fn serve(&mut self, n: usize, name: &str, on: bool) {
        if on {
            self.nodes[n].serves.insert(room(name));
        } else {
            self.nodes[n].serves.remove(&room(name));
        }
    }

    fn list(&mut self, n: usize) {
        let served = |id: &RoomId| Served {
            room: id.clone(),
            ports: Vec::new(),
            flows: Vec::new(),
            ssrcs: Vec::new(),
            participants: 2,
            host: None,
        };
        let rooms = self.nodes[n].serves.iter().map(served).collect();
        let (source, capacity) = (source("sfu"), None);
        let heartbeat = Heartbeat {
            source,
            rooms,
            capacity,
        };
        self.feed(n, Input::Heartbeat(heartbeat));
    }

    pub(super) fn ask(&mut self, n: usize, name: &str, ask: Ask) {
        let ask = match ask {
            Ask::Close { .. } => {
                let seen = self.nodes[n].core.view(&room(name), self.now);
                close(seen.map_or(Version(0), |v| v.version))
            }
            other => other,
        };
        self.replies += 1;
        let reply = ReplyId(self.replies);
        self.nodes[n].waiting.insert(reply);
        let request = Request {
            room: room(name),
            ask,
            actor: gateway(),
            op_id: None,
            incarnation: None,
            sequence: None,
            trace_id: None,
            reply: Some(reply),
            participants: Vec::new(),
        };
        self.feed(n, Input::Request(request));
    }

    pub(super) fn lose_lease(&mut self, n: usize) {
        self.feed(n, Input::LeaseLost);
        self.owners.retain(|_, (owner, _)| *owner != n);
    }

    pub(super) fn replicate(&mut self) {
        self.replica = self.store.clone();
    }

    pub(super) fn failover(&mut self) {
        self.store = self.replica.clone();
    }

    /// The agent dies and starts again. What it had sent may still arrive.
    pub(super) fn restart(&mut self, n: usize) {
        self.owners.retain(|_, (owner, _)| *owner != n);
        let works = self.net == Net::Works;
        let node = &mut self.nodes[n];
        let rooms = node.kept.values().map(|kept| {
            let stored = self.store.records.get(&kept.room).filter(|_| works);
            stored
                .filter(|s| s.version > kept.version)
                .unwrap_or(kept)
                .clone()
        });
        let found = Restored {
            rooms: rooms.collect(),
            isolations: self
                .store
                .isolations
                .values()
                .filter(|_| works)
                .cloned()
                .collect(),
            intents: node.intents.values().cloned().collect(),
            ..Restored::default()
        };
        node.runs += 1;
        let run = node.runs * 10 + n as u64;
        node.core = core(&node.name, run, found, self.now);
        node.claims.clear();
        node.waiting.clear();
        self.carry_out(n);
    }

    fn feed(&mut self, n: usize, input: Input) {
        self.nodes[n].core.handle(self.now, input);
        self.carry_out(n);
    }

    fn answer_claims(&mut self, n: usize) {
        for id in core::mem::take(&mut self.nodes[n].claims) {
            let problem = "asked".to_string();
            if !self.registry_answers {
                let input = Input::NotClaimed {
                    room: id.clone(),
                    owner: None,
                    problem,
                };
                self.nodes[n].claims.insert(id);
                self.feed(n, input);
                continue;
            }
            match self.owners.get(&id) {
                Some((owner, _)) if *owner != n => {
                    let owner = Some(self.nodes[*owner].name.clone());
                    self.feed(
                        n,
                        Input::NotClaimed {
                            room: id,
                            owner,
                            problem,
                        },
                    );
                }
                _ => {
                    self.revision += 1;
                    let epoch = Epoch {
                        era: 0,
                        revision: self.revision,
                    };
                    self.owners.insert(id.clone(), (n, epoch));
                    self.feed(n, Input::Claimed { room: id, epoch });
                }
            }
        }
    }

    fn carry_out(&mut self, n: usize) {
        while let Some(command) = self.nodes[n].core.next_command() {
            match command {
                Command::Commit(change) => self.sent(n, change),
                Command::Claim(meta) => drop(self.nodes[n].claims.insert(meta.room)),
                Command::Cede { room } => {
                    self.nodes[n].claims.remove(&room);
                    self.owners.retain(|id, (owner, _)| *id != room || *owner != n);
                }
                Command::Refresh(rooms) => {
                    let answer = match self.net {
                        Net::Works | Net::IsSlow => {
                            let one =
                                |r: &voice_room::record::Refresh| (r.room.clone(), self.store.refresh(r));
                            Ok(rooms.iter().map(one).collect())
                        }
                        _ => Err("away".to_string()),
                    };
                    self.nodes[n].core.handle(self.now, Input::Refreshed(answer));
                }
                Command::TellServed { rooms, .. } => {
                    let works = matches!(self.net, Net::Works | Net::IsSlow);
                    let answer = if works { Ok(rooms) } else { Err("away".to_string()) };
                    self.nodes[n].core.handle(self.now, Input::ServedTold(answer));
                }
                Command::Keep(record) => drop(self.nodes[n].kept.insert(record.room.clone(), record)),
                Command::ForgetRoom { room } => drop(self.nodes[n].kept.remove(&room)),
                Command::Journal(intent) => {
                    self.nodes[n]
                        .intents
                        .insert(intent.change.record.room.clone(), intent.clone());
                    self.positive(n, &Command::Journal(intent));
                }
                Command::Forget { room } => drop(self.nodes[n].intents.remove(&room)),
                Command::Reply { to, .. } => assert!(self.nodes[n].waiting.remove(&to), "answered twice"),
                other => self.positive(n, &other),
            }
        }
    }

    fn positive(&mut self, n: usize, command: &Command) {
        if let Some(answer) = positive(self.now, command) {
            self.nodes[n].core.handle(self.now, answer);
        }
    }

    fn sent(&mut self, n: usize, change: Change) {
        let (id, epoch) = (&change.record.room, change.record.epoch);
        assert_eq!(
            self.owners.get(id),
            Some(&(n, epoch)),
            "sent, but not held: {change:?}"
        );
        assert_eq!(change.event.epoch, epoch);
        let run = self.nodes[n].runs;
        match self.net {
            Net::IsSlow => return self.slow.push_back((n, run, change)),
            Net::LosesChanges => {}
            Net::Works | Net::LosesAnswers => {
                let answer = self.apply(n, &change);
                if self.net == Net::Works {
                    return self.nodes[n].core.handle(self.now, stored(&change, Ok(answer)));
                }
            }
        }
        let lost = stored(&change, Err("timeout".into()));
        self.nodes[n].core.handle(self.now, lost);
    }

    fn apply(&mut self, n: usize, change: &Change) -> Committed {
        let answer = self.store.take(change);
        if answer == Committed::Ok {
            let (id, version, epoch) = (&change.record.room, change.record.version, change.record.epoch);
            let op = &change.record.op_id;
            for first in [
                self.used
                    .entry((id.clone(), version, epoch))
                    .or_insert_with(|| op.clone()),
                self.used_by
                    .entry((id.clone(), version, n))
                    .or_insert_with(|| op.clone()),
            ] {
                assert_eq!(first, op, "version {version} of {id} is used twice: {change:?}");
            }
        }
        answer
    }

    pub(super) fn deliver(&mut self) {
        while let Some((n, run, change)) = self.slow.pop_front() {
            let answer = self.apply(n, &change);
            // The one who sent it may have died since.
            if self.nodes[n].runs == run {
                self.feed(n, stored(&change, Ok(answer)));
            }
        }
    }

    /// Who holds a room is who the registry says.
    pub(super) fn check(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            for view in node.core.views(self.now) {
                if let Authority::Held(epoch) = view.authority {
                    assert_eq!(self.owners.get(&view.room), Some(&(n, epoch)), "{view:?}");
                }
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.net = Net::Works;
        self.registry_answers = true;
        self.deliver();
        self.pass(200);
        self.check();
        for node in &self.nodes {
            assert_eq!(node.waiting, BTreeSet::new(), "never answered");
            for view in node.core.views(self.now) {
                assert_eq!(view.unstored, 0, "{view:?}");
                let Authority::Held(_) = view.authority else {
                    assert!(view.authority.ceded_to().is_some(), "{view:?}");
                    continue;
                };
                let stored = self.store.records.get(&view.room);
                let stored = stored.map(|r| (r.state, r.version, r.incarnation, &r.owner));
                let here = (view.state, view.version, view.incarnation, &node.name);
                assert_eq!(stored, Some(here), "{view:?}");
            }
        }
    }
}
