//! The start of an agent, from what survived the one before, and its death.

use super::{lease, node};
use crate::{ms, net::Event, world::World};
use voice_room::{
    Core, Incarnation, Isolation, Mono, RoomId, RoomRecord, Rules, State, Tenure,
    input::{FoundBlock, Restored},
};

fn rules() -> Rules {
    Rules {
        // Shorter than DESIGN's, so that a run sees many.
        isolation: ms(90_000),
        stuck_after: ms(45_000),
        refresh: ms(10_000),
        cap_percent: 100,
        ..Rules::default()
    }
}

impl World {
    pub(crate) fn start_agent(&mut self, a: usize) {
        let (stored, isolations): (Vec<RoomRecord>, Vec<Isolation>) =
            if self.net.cuts.contains(&crate::net::Cut::Store(a)) {
                (Vec::new(), Vec::new())
            } else {
                let kept = self.agents[a].kept.keys();
                let stored = kept.filter_map(|id| self.store.record(self.now, id).cloned());
                (stored.collect(), self.store.isolations(self.now))
            };
        let agent = &mut self.agents[a];
        let now = agent.now(self.now);
        let mut rooms = agent.kept.clone();
        let before = |stored: &&RoomRecord| {
            let kept = rooms.get(&stored.room);
            kept.is_some_and(|k| k.state == State::Destroyed && k.version == stored.version.next())
        };
        let unstored = stored.iter().filter(before).cloned().collect();
        for record in stored {
            let kept = rooms.get(&record.room);
            if kept.is_none_or(|k| record.version > k.version) {
                rooms.insert(record.room.clone(), record);
            }
        }
        let block = |(room, (incarnation, deadline)): (&RoomId, &(Incarnation, Mono))| FoundBlock {
            room: room.clone(),
            incarnation: *incarnation,
            deadline: *deadline,
            binding: Vec::new().into(),
            released: false,
        };
        let found = Restored {
            rooms: rooms.into_values().collect(),
            intents: agent.intents.values().cloned().collect(),
            blocks: agent.armed.iter().map(block).collect(),
            isolations,
            unstored,
            ..Restored::default()
        };
        agent.run += 1;
        let tenure = Tenure {
            epoch: None,
            shared: Some(agent.run * 10 + a as u64),
        };
        agent.core = Some(Core::new(node(a), tenure, rules(), found, now));
        let (run, index) = (agent.run, agent.index);
        self.tell(|| format!("agent {index} starts, run {run}"));
        self.read_isolations(a);
        self.carry_out(a);
        self.after(1_000, Event::Tick(a, run));
        self.after(1, Event::Lease(a, run));
    }

    pub(crate) fn agent_dies(&mut self, a: usize) {
        if !self.agents[a].is_up() {
            return;
        }
        self.tell(|| format!("FAULT: agent {a} dies"));
        let agent = &mut self.agents[a];
        agent.core = None;
        agent.frozen_until = 0;
        agent.calls.clear();
        agent.ledger.clear();
        agent.lease = lease::Lease::default();
        // Who waits for an answer of a dead agent finds that out by its stream.
        agent.waiting.clear();
        let sessions = std::mem::take(&mut agent.sessions);
        for (p, stream) in sessions {
            let finds = self.random.between(1, 2_000);
            self.after(finds, Event::PeerFinds(p, a, stream));
        }
        let later = self.random.between(500, 60_000);
        self.after(later, Event::AgentStarts(a));
    }
}
