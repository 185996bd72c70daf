//! A model beside the core: a store, a kernel and a journal that do as they are told, and what must always hold of what
//! the core asks for.

mod store;

use crate::world::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
pub(crate) use store::Mood;
use store::Store;
use voice_room::{
    Binding, Change, Command, Entry, EventType, Incarnation, Input, Mono, Rejected, RoomId, Rules, State,
    Version, Wall,
    config::Mode,
    input::{Ask, FoundBlock, Intent, ReplyId, Request, Restored},
    state::allows,
    timeline::{Rule, What},
};

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) w: World,
    rules: Rules,
    pub(crate) mood: Mood,
    /// Whether the steps of trips succeed.
    pub(crate) steps_fail: bool,
    store: Store,
    withheld: VecDeque<Input>,
    answered: Vec<Input>,
    journal: BTreeMap<RoomId, Intent>,
    blocks: BTreeMap<RoomId, (Incarnation, Mono)>,
    bound: BTreeMap<RoomId, Binding>,
    committed: BTreeMap<(RoomId, Incarnation), Version>,
    waiting: BTreeSet<ReplyId>,
    isolated: BTreeMap<RoomId, Mono>,
    endless: BTreeSet<RoomId>,
    trips: Vec<(Mono, RoomId)>,
    /// Trips by rule, so that a repeated entry is not counted again.
    known_trips: BTreeSet<(RoomId, Incarnation, Wall)>,
    moved: BTreeMap<RoomId, (Mono, Mono)>,
    pub(crate) killed: bool,
    pub(crate) maintenance: BTreeMap<Option<RoomId>, Mono>,
}

impl Lab {
    pub(crate) fn new(rules: Rules) -> Lab {
        let mut w = World::with(rules.clone());
        w.answers = false;
        Lab {
            w,
            rules,
            mood: Mood::Takes,
            steps_fail: false,
            store: Store::default(),
            withheld: VecDeque::new(),
            answered: Vec::new(),
            journal: BTreeMap::new(),
            blocks: BTreeMap::new(),
            bound: BTreeMap::new(),
            committed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            isolated: BTreeMap::new(),
            endless: BTreeSet::new(),
            trips: Vec::new(),
            known_trips: BTreeSet::new(),
            moved: BTreeMap::new(),
            killed: false,
            maintenance: BTreeMap::new(),
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let commands = self.w.pass(1);
            self.note_traffic();
            self.carry_out(commands);
            self.every_second();
        }
    }

    /// The agent sleeps.
    pub(crate) fn freeze(&mut self, seconds: u64) {
        self.w.now = self.w.now + secs(seconds);
        let commands = self.w.tick();
        let arms = commands.iter().filter(
            |c| matches!(c, Command::Journal(i) if !self.journal.contains_key(&i.change.record.room)),
        );
        assert_eq!(arms.count(), 0, "a frozen agent tripped: {commands:?}");
        self.carry_out(commands);
    }

    pub(crate) fn feed(&mut self, input: Input) {
        let commands = self.w.feed(input);
        self.carry_out(commands);
    }

    /// An input that must change nothing.
    pub(crate) fn feed_in_vain(&mut self, input: Input) {
        let before = self.w.core.views(self.w.now);
        let commands = self.w.feed(input.clone());
        assert_eq!(self.w.core.views(self.w.now), before, "{input:?}");
        let quiet = |c: &Command| matches!(c, Command::Note { .. } | Command::Reply { result: Err(_), .. });
        assert!(commands.iter().all(quiet), "{input:?} led to {commands:?}");
        self.carry_out(commands);
    }

    pub(crate) fn ask(&mut self, request: Request) {
        let isolated = self.w.core.isolation(&request.room, self.w.now).is_some();
        let enters = matches!(
            request.ask,
            Ask::Create | Ask::StartLive { .. } | Ask::HostReturn { .. }
        );
        let to = request.reply.unwrap();
        let repeat = request.op_id.is_some();
        self.waiting.insert(to);
        let commands = self.w.feed(Input::Request(request));
        if isolated && enters && !repeat {
            assert!(
                matches!(replies(&commands, to)[..], [Err(Rejected::Isolated { .. })]),
                "{commands:?}"
            );
        }
        self.carry_out(commands);
    }

    /// A join, which isolation must refuse.
    pub(crate) fn client(&mut self, fact: voice_room::input::ClientFact) {
        let isolated = self.w.core.isolation(&fact.room, self.w.now).is_some();
        let joins = fact.what != voice_room::input::ClientAct::Leave;
        let to = fact.reply.unwrap();
        self.waiting.insert(to);
        let commands = self.w.feed(Input::Client(fact));
        assert!(!self.waiting.contains(&to) || replies(&commands, to).len() == 1);
        if isolated && joins {
            assert!(matches!(
                replies(&commands, to)[..],
                [Err(Rejected::Isolated { .. })]
            ));
        }
        self.carry_out(commands);
    }

    /// Somebody else writes to a record in the store.
    pub(crate) fn tamper(&mut self, id: &RoomId, state: State) {
        if let Some(record) = self.store.records.get_mut(id) {
            record.version = record.version.next();
            record.state = state;
            record.op_id = op(&format!("other/{}", record.version));
            self.store.tampered.insert(id.clone());
        }
    }

    /// An answer that was given before comes again.
    pub(crate) fn replay(&mut self, pick: usize) {
        if !self.answered.is_empty() {
            let input = self.answered[pick % self.answered.len()].clone();
            self.feed_in_vain(input);
        }
    }

    pub(crate) fn deliver(&mut self) {
        while let Some(answer) = self.withheld.pop_front() {
            self.answered.push(answer.clone());
            self.feed(answer);
        }
    }

    /// The agent dies and starts again, with what store, journal and pinned maps hold.
    pub(crate) fn restart(&mut self) {
        let now = self.w.now;
        self.blocks.retain(|_, (_, deadline)| *deadline > now.mono);
        let block = |(id, (incarnation, deadline)): (&RoomId, &(Incarnation, Mono))| FoundBlock {
            room: id.clone(),
            incarnation: *incarnation,
            deadline: *deadline,
            binding: self
                .w
                .core
                .view(id, now)
                .map(|v| v.ports)
                .unwrap_or_default()
                .into(),
            released: false,
        };
        let found = Restored {
            rooms: self.store.records.values().cloned().collect(),
            isolations: self.store.isolations.values().cloned().collect(),
            maintenance: self.w.core.maintenance(now),
            intents: self.journal.values().cloned().collect(),
            blocks: self.blocks.iter().map(block).collect(),
            bindings: Vec::new(),
            unstored: Vec::new(),
        };
        for view in self.w.core.views(now).iter().filter(|v| v.unstored > 1) {
            // What waits in memory is lost with the agent; the store may then not hold what a trip builds on.
            self.store.tampered.insert(view.room.clone());
        }
        self.withheld.clear();
        self.answered.clear();
        self.waiting.clear();
        self.trips.clear();
        self.committed.clear();
        self.bound.clear();
        self.moved.clear();
        // The wall clock may have been set since: what is left is the nearer of what it says and the whole.
        let left = |m: &voice_room::Maintenance| m.until.since(now.wall).min(m.until.since(m.since));
        let kept = found.maintenance.iter();
        self.maintenance = kept.map(|m| (m.room.clone(), now.mono + left(m))).collect();
        self.w.restart(self.rules.clone(), found);
        let killed = Input::KillSwitch(self.killed);
        let commands = self.w.feed(killed);
        // What nobody stored or journalled in time is not known any more.
        let present: BTreeSet<RoomId> = self.w.core.isolations(now).into_iter().map(|i| i.room).collect();
        for (id, intent) in &self.journal {
            let untouched = !self.store.tampered.contains(id);
            let lasts = intent.deadline > now.mono;
            let moved_past = self.store.records.get(id).is_some_and(|r| {
                (r.incarnation, r.version) > (intent.change.record.incarnation, intent.change.record.version)
            });
            if untouched && lasts && !moved_past {
                assert_eq!(
                    self.w.state(id),
                    Some(State::Expired),
                    "a journalled trip was lost: {intent:?}"
                );
            }
        }
        let again = present
            .iter()
            .find(|id| !self.isolated.contains_key(*id) && !self.store.tampered.contains(*id));
        assert_eq!(again, None, "isolated again by a restart");
        self.isolated.retain(|id, _| present.contains(id));
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        let mut todo: VecDeque<Command> = commands.into();
        while let Some(command) = todo.pop_front() {
            self.check(&command);
            if let Some(answer) = self.answer(&command) {
                todo.extend(self.w.feed(answer));
            }
        }
    }

    fn answer(&mut self, command: &Command) -> Option<Input> {
        let Command::Commit(change) = command else {
            let answer = positive(self.w.now, command)?;
            return match (self.steps_fail, answer) {
                (true, Input::Step(mut step)) => {
                    step.result = Err("no".into());
                    Some(Input::Step(step))
                }
                (_, answer) => Some(answer),
            };
        };
        let failed = stored(change, Err("no connection".into()));
        if self.mood == Mood::Fails {
            return Some(failed);
        }
        let answer = stored(change, Ok(self.store.take(change)));
        match self.mood {
            Mood::TakesAndFails => Some(failed),
            Mood::TakesAndWaits => {
                self.withheld.push_back(answer);
                None
            }
            _ => {
                self.answered.push(answer.clone());
                Some(answer)
            }
        }
    }

    fn check(&mut self, command: &Command) {
        match command {
            Command::Commit(change) => self.check_commit(change),
            Command::Bind { room, binding, .. } => {
                self.check_binding(room, binding);
                for (other, theirs) in self.bound.iter().filter(|(r, _)| *r != room) {
                    let both = binding.ports.iter().find(|p| theirs.ports.contains(p));
                    assert_eq!(both, None, "a port of {other} is bound to {room} too");
                    let both = binding.flows.iter().find(|f| theirs.flows.contains(f));
                    assert_eq!(both, None, "a flow of {other} is bound to {room} too");
                    let both = binding.ssrcs.iter().find(|s| theirs.ssrcs.contains(s));
                    assert_eq!(both, None, "an SSRC of {other} is bound to {room} too");
                }
                self.bound.insert(room.clone(), binding.clone());
            }
            Command::Unbind { room } => {
                self.bound.remove(room);
                self.blocks.remove(room);
            }
            Command::Arm {
                room,
                incarnation,
                shadow: false,
                deadline,
            } => {
                assert!(
                    self.w
                        .core
                        .view(room, self.w.now)
                        .is_some_and(|v| v.block.is_some()),
                    "{command:?}"
                );
                self.blocks.insert(room.clone(), (*incarnation, *deadline));
            }
            Command::Arm { room, .. } => {
                assert_eq!(self.rules.mode, Mode::Shadow, "{room}");
            }
            Command::Disarm { room } => drop(self.blocks.remove(room)),
            Command::Journal(intent) => {
                self.journal
                    .insert(intent.change.record.room.clone(), intent.clone());
            }
            Command::Forget { room } => drop(self.journal.remove(room)),
            Command::Reply { to, .. } => assert!(self.waiting.remove(to), "{to:?} was answered twice"),
            Command::Record(entry) => self.check_entry(entry),
            _ => {}
        }
    }

    /// No room has a port alone on which another is known by a flow or SSRC.
    fn check_binding(&self, id: &RoomId, binding: &Binding) {
        for (other, theirs) in self.bound.iter().filter(|(other, _)| *other != id) {
            let flows = |of: &Binding| of.flows.iter().map(|f| f.port).collect::<Vec<_>>();
            let ssrcs = |of: &Binding| of.ssrcs.iter().map(|s| s.port).collect::<Vec<_>>();
            for (alone, shared) in [(binding, theirs), (theirs, binding)] {
                let mut shared = flows(shared).into_iter().chain(ssrcs(shared));
                let both = shared.find(|port| alone.ports.contains(port));
                assert_eq!(both, None, "shared by {other} and {id}, and bound to one");
            }
        }
    }

    fn check_commit(&mut self, change: &Change) {
        let (record, event) = (&change.record, &change.event);
        assert!(
            allows(event.old_state, event.event_type, event.new_state),
            "{event:?}"
        );
        assert_eq!((record.state, record.version), (event.new_state, event.version));
        assert_eq!(record.incarnation, event.incarnation);
        let last = self
            .committed
            .entry((record.room.clone(), record.incarnation))
            .or_default();
        assert!(record.version >= *last, "version fell from {last}: {event:?}");
        *last = record.version;
        let place = (record.room.clone(), record.incarnation, record.version);
        let taken = self.store.applied.get(&place);
        assert!(
            taken.is_none_or(|op| *op == record.op_id),
            "version used twice: {event:?}"
        );
    }

    fn check_entry(&mut self, entry: &Entry) {
        match &entry.what {
            What::Transition(event) => {
                assert!(
                    allows(event.old_state, event.event_type, event.new_state),
                    "{event:?}"
                );
                match event.event_type {
                    EventType::Release => drop(self.isolated.remove(&entry.room)),
                    EventType::OwnerLost => {
                        let until = self.w.now.mono + self.rules.isolation;
                        self.isolated.insert(entry.room.clone(), until);
                    }
                    _ => {}
                }
            }
            What::Trip { rule, until, .. } => {
                let left = until.since(self.w.now.wall);
                self.isolated.insert(entry.room.clone(), self.w.now.mono + left);
                let trip = (entry.room.clone(), entry.incarnation, *until);
                if *rule != Rule::Operator && self.known_trips.insert(trip) {
                    assert_eq!(self.rules.mode, Mode::Enforce);
                    self.check_rule(&entry.room, *rule);
                }
            }
            What::WouldTrip { rule, .. } => {
                assert_eq!(self.rules.mode, Mode::Shadow);
                self.check_rule(&entry.room, *rule);
            }
            _ => {}
        }
    }

    fn check_rule(&mut self, id: &RoomId, rule: Rule) {
        let now = self.w.now.mono;
        assert!(!self.killed && !self.rules.never_cut.contains(id), "{id}");
        let kept = [None, Some(id.clone())];
        let maintained = kept
            .iter()
            .any(|k| self.maintenance.get(k).is_some_and(|until| *until > now));
        assert!(!maintained, "{id} is under maintenance");
        let lately = |t: &Mono| now.since(*t) < secs(24);
        let both = self.moved.get(id).is_some_and(|(i, o)| lately(i) && lately(o));
        let bounded = self.rules.trip_on_contradiction_after.is_some();
        assert!(
            !both || bounded || !self.w.counters,
            "RTP moves both ways in {id}, tripped by {rule:?}"
        );
        self.trips.retain(|(t, _)| now.since(*t) < self.rules.cap_window);
        if matches!(
            rule,
            Rule::SourceSilent | Rule::NoWitness | Rule::ContradictionTooLong
        ) {
            let judged = |s: State| matches!(s, State::Liveing | State::GraceClosing);
            let views = self.w.core.views(self.w.now);
            let live = views.iter().filter(|v| judged(v.state)).map(|v| v.room.clone());
            // Rooms tripped later in the same pass were live when this one was judged.
            let pass = views
                .iter()
                .filter(|v| v.state == State::Expired && v.since == self.w.now.wall);
            let rooms: BTreeSet<RoomId> = live
                .chain(pass.map(|v| v.room.clone()))
                .chain(self.trips.iter().map(|(_, r)| r.clone()))
                .collect();
            let allowed = (rooms.len() / 2).max(1);
            assert!(
                self.trips.len() < allowed,
                "{} trips of {rooms:?}",
                self.trips.len() + 1
            );
        }
        self.trips.push((now, id.clone()));
    }

    /// When the core last saw RTP move in each direction.
    fn note_traffic(&mut self) {
        let now = self.w.now.mono;
        for (id, life) in self.w.lives.iter().filter(|_| self.w.counters) {
            let Some(view) = self.w.core.view(id, self.w.now).filter(|v| v.block.is_none()) else {
                self.moved.remove(id);
                continue;
            };
            // The first sample of a life is the base that later ones are compared to.
            let first = view
                .witness
                .as_ref()
                .is_none_or(|t| t.rtp_in == 0 && t.rtp_out == 0);
            if first {
                self.moved.remove(id);
                continue;
            }
            let moved = self.moved.entry(id.clone()).or_default();
            if life.rtp.0 > 0 {
                moved.0 = now;
            }
            if life.rtp.1 > 0 {
                moved.1 = now;
            }
        }
    }

    fn every_second(&mut self) {
        let now = self.w.now;
        for view in self
            .w
            .core
            .views(now)
            .iter()
            .filter(|v| v.state == State::Expired)
        {
            // What a conflict brings may be over already: the next tick ends it.
            if self.w.core.isolation(&view.room, now).is_none() {
                assert!(
                    self.endless.insert(view.room.clone()),
                    "EXPIRED without an end: {view:?}"
                );
            } else {
                self.endless.remove(&view.room);
            }
            assert!(
                view.block.as_ref().is_none_or(|b| b.deadline > now.mono),
                "past its deadline: {view:?}"
            );
        }
        self.endless.retain(|id| self.w.state(id) == Some(State::Expired));
        self.isolated.retain(|_, until| *until > now.mono);
        for id in self.isolated.keys() {
            assert!(
                self.w.core.isolation(id, now).is_some(),
                "{id} is no longer isolated"
            );
        }
    }

    /// Everything answers again; then all must come to rest.
    pub(crate) fn heal(&mut self) {
        self.mood = Mood::Takes;
        self.steps_fail = false;
        self.killed = false;
        self.feed(Input::KillSwitch(false));
        self.deliver();
        self.pass(5);
        assert_eq!(self.waiting, BTreeSet::new(), "never answered");
        for view in self.w.core.views(self.w.now) {
            assert_eq!(view.unstored, 0, "{view:?}");
            let ours = !self.store.tampered.contains(&view.room);
            let steps = view.block.iter().flat_map(|b| &b.steps);
            let done = steps
                .filter(|(_, s)| !matches!(s, voice_room::core::StepState::Done(_)))
                .count();
            assert!(done == 0 || !ours, "{view:?}");
            let stored = self
                .store
                .records
                .get(&view.room)
                .map(|r| (r.state, r.version, r.incarnation));
            let here = Some((view.state, view.version, view.incarnation));
            assert!(!ours || stored == here, "{stored:?} is stored of {view:?}");
        }
    }

    /// All rooms end, and nothing is kept of them.
    pub(crate) fn end(&mut self) {
        self.w.lives.clear();
        for view in self.w.core.views(self.w.now) {
            if view.state.is_live() {
                let request = self.w.request(gateway(), &view.room, close(view.version));
                self.ask(request);
            }
        }
        self.pass(410);
        for view in self.w.core.views(self.w.now) {
            assert!(self.store.tampered.contains(&view.room), "never ended: {view:?}");
            let request = self.w.request(gateway(), &view.room, close(view.version));
            self.ask(request);
        }
        // What somebody else wrote may live, get stuck and be isolated once more.
        self.pass(if self.store.tampered.is_empty() { 310 } else { 720 });
        let held: usize = State::ALL.iter().map(|s| self.w.core.count(*s)).sum();
        assert_eq!(held, 0, "{:?}", self.w.core.views(self.w.now));
        assert_eq!(self.bound, BTreeMap::new());
        assert_eq!(self.journal, BTreeMap::new());
        assert!(
            self.blocks
                .values()
                .all(|(_, deadline)| *deadline <= self.w.now.mono)
        );
        assert_eq!(self.w.core.isolations(self.w.now), vec![]);
    }
}
