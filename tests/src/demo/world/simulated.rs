//! One media server for each room, and users fast enough to resolve microseconds.

use super::{Which, World};
use crate::{
    agent::{Settings, settings::Times},
    callers::Callers,
    clock,
    netns::{NODE_DEV, Netns, Pair, USER_DEV},
    peer::{MediaRoom, MediaServer},
};
use anyhow::Context;
use std::{sync::Arc, time::Duration};
use voice_room::Mono;

/// Two users: 20,000 packets/s in all, one every 50 us.
const STUCK: Plan = Plan {
    name: "stuck",
    ports: &[50000, 50002],
    pps: 10_000,
};
const HEALTHY: Plan = Plan {
    name: "healthy",
    ports: &[50010, 50012, 50014],
    pps: 200,
};

struct Plan {
    name: &'static str,
    ports: &'static [u16],
    pps: u32,
}

/// A room with all that belongs to it.
struct Part {
    users: Callers,
    room: Arc<MediaRoom>,
    server: MediaServer,
}

impl Part {
    fn start(pair: &Pair, plan: &Plan, heartbeat: Duration) -> anyhow::Result<Part> {
        let server = MediaServer::start(&pair.node, &format!("media-{}", plan.name), heartbeat)?;
        let room = server.open(&pair.node, plan.name, plan.ports)?;
        let users = Callers::start(&pair.users, &room, plan.pps)?;
        Ok(Part { users, room, server })
    }

    /// Ends the senders and gives the last packets a moment.
    fn end(&mut self) {
        self.users.stop();
        clock::poll(Duration::from_millis(500), || {
            (self.room.delivered() >= self.users.sent()).then_some(())
        });
    }
}

/// See the file's head.
pub(crate) struct Simulated {
    parts: Option<[Part; 2]>,
    heartbeat: Duration,
    pair: Pair,
}

impl Simulated {
    pub(crate) fn new(times: Times) -> anyhow::Result<Simulated> {
        Ok(Simulated {
            parts: None,
            heartbeat: times.heartbeat,
            pair: Pair::new()?,
        })
    }

    fn part(&self, which: Which) -> Option<&Part> {
        let [stuck, healthy] = self.parts.as_ref()?;
        Some(match which {
            Which::Stuck => stuck,
            Which::Healthy => healthy,
        })
    }
}

impl World for Simulated {
    fn scene(&self) -> String {
        let (node, users) = (self.pair.node.name(), self.pair.users.name());
        format!(
            "namespaces {node} ({NODE_DEV}) and {users} ({USER_DEV}), a veth pair; one media server for each room"
        )
    }

    fn node(&self) -> &Netns {
        &self.pair.node
    }

    fn room(&self, which: Which) -> &str {
        match which {
            Which::Stuck => STUCK.name,
            Which::Healthy => HEALTHY.name,
        }
    }

    fn settings(&self, settings: Settings) -> Settings {
        settings
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let start = |plan| Part::start(&self.pair, plan, self.heartbeat);
        self.parts = Some([start(&STUCK)?, start(&HEALTHY)?]);
        Ok(())
    }

    fn break_stuck(&mut self) -> anyhow::Result<String> {
        let part = self.part(Which::Stuck).context("the world has not begun")?;
        part.server.stop_answering();
        let all = u64::from(STUCK.pps) * STUCK.ports.len() as u64;
        Ok(format!(
            "its media server stops answering: no heartbeats, no mix. Its users send on, {all} packets/s"
        ))
    }

    fn counts(&self, which: Which) -> (u64, u64) {
        self.part(which)
            .map_or((0, 0), |p| (p.users.sent(), p.room.delivered()))
    }

    fn healthy(&self) -> (u64, u64) {
        self.counts(Which::Healthy)
    }

    fn sent_within(&self, from: Mono, to: Mono) -> u64 {
        self.part(Which::Stuck)
            .map_or(0, |p| p.users.sent_between(from, to))
    }

    fn delivered_within(&self, from: Mono, to: Mono) -> u64 {
        self.part(Which::Stuck)
            .map_or(0, |p| p.room.delivered_within(from, to))
    }

    fn first_sent_from(&self, t: Mono) -> Option<Mono> {
        self.part(Which::Stuck)?.users.first_sent_from(t)
    }

    fn first_from(&self, t: Mono) -> Option<Mono> {
        self.part(Which::Stuck)?.room.first_from(t)
    }

    fn end(&mut self) {
        self.parts.iter_mut().flatten().for_each(Part::end);
    }
}
