//! Every few seconds: what each room is like, for the history. Only copied here; encoded and written elsewhere.

use super::{Driver, clock::now};
use crate::{
    history::{Recorder, probe::Probed},
    registry::Registry,
    relay::Hearing,
    tiers::Dependency,
};
use std::time::Duration;
use voice_history::{Counters, Health, NodeHealth, Snapshot, Tick, Transition};
use voice_room::{Mono, core::Glance, tier::Tier};

/// What the driver needs for it.
pub(super) struct Snapshots {
    recorder: Recorder,
    probed: Probed,
    every: Duration,
    taken: Mono,
}

impl Snapshots {
    pub(super) fn new(recorder: Recorder, probed: Probed, every: Duration) -> Snapshots {
        Snapshots {
            recorder,
            probed,
            every,
            taken: Mono(0),
        }
    }

    pub(super) fn changed(&mut self, change: &Transition) {
        self.recorder.changed(change);
    }
}

impl Driver {
    /// Takes snapshots when they are due.
    pub(super) fn snapshot(&mut self) {
        let now = now();
        let due =
            |s: &Snapshots| now.mono.since(s.taken) >= s.every.saturating_sub(Duration::from_millis(50));
        let Some(mut snapshots) = self.snapshots.take_if(|s| due(s)) else {
            return;
        };
        snapshots.taken = now.mono;
        let mut health = snapshots.probed.health();
        self.dependencies(&mut health, snapshots.recorder.health());
        let glances = self.core.glances(now);
        let rooms = glances
            .map(|glance| (glance.room.clone(), self.of(&glance)))
            .collect();
        snapshots.recorder.record(Tick {
            at: now.wall,
            rooms,
            health,
            transitions: Vec::new(),
        });
        self.snapshots = Some(snapshots);
    }

    fn of(&self, glance: &Glance<'_>) -> Snapshot {
        let record = glance.record;
        let age = |age: Duration| u32::try_from(age.as_millis() / 100).unwrap_or(u32::MAX);
        Snapshot {
            state: record.state,
            since: record.since,
            incarnation: record.incarnation,
            version: record.version,
            epoch: record.epoch,
            misses: glance.misses,
            heartbeat_age: glance.heartbeat_age.map(age),
            members: glance.clients,
            blocked_until: glance.blocked_until,
            media: self
                .kernel
                .counted(glance.room)
                .map_or_else(Counters::default, |counted| Counters(counted.counts)),
        }
    }

    /// What is known here of what the node depends on: whether it answered when last asked, or its tier if that is worse. `kept`
    /// is how the history did with the last snapshots.
    fn dependencies(&self, health: &mut NodeHealth, kept: Health) {
        let healthy = |well: bool| if well { Health::Healthy } else { Health::Broken };
        let tiers = self.tiers.views();
        let tier = |dependency| {
            let view = tiers.iter().find(|view| view.dependency == dependency)?;
            Some(match view.tier {
                Tier::Healthy => Health::Healthy,
                Tier::Degraded => Health::Degraded,
                Tier::Broken => Health::Broken,
            })
        };
        let worse = |known: Health, dependency| known.max(tier(dependency).unwrap_or(Health::Healthy));
        let store = worse(healthy(self.store_answers), Dependency::Redis);
        health.insert("store".into(), store);
        health.insert("history".into(), worse(kept, Dependency::History));
        // Until a media server tells of its rooms, none is depended on.
        health.extend(tier(Dependency::Media).map(|media| ("media".into(), media)));
        if let Some(hearing) = &self.hearing {
            let hears = Hearing::hears(hearing);
            health.insert("store-events".into(), healthy(hears));
        }
        if !matches!(self.registry, Registry::Local) {
            let registry = worse(healthy(self.registry.authority()), Dependency::Etcd);
            health.insert("registry".into(), registry);
        }
    }
}
