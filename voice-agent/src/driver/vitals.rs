//! What the driver leaves behind as it works, for whoever watches it: readable without asking it anything.

use super::clock::now;
use crate::telemetry::Counter;
use prometheus::{Histogram, HistogramOpts};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};
use voice_room::{Entry, Mono, config::Mode, timeline::What};

/// A driver that has not ticked for longer is not alive. It ticks at least once a second.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// How far the agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The driver has not ticked yet.
    Starting,
    /// Rooms are judged.
    Running,
    /// It was told to stop.
    Stopping,
}

/// `trip.mode` as it is in force; a reload changes it. Clones share it.
#[derive(Debug, Clone)]
pub struct ModeInForce(Arc<AtomicU8>);

impl From<Mode> for ModeInForce {
    fn from(mode: Mode) -> ModeInForce {
        ModeInForce(Arc::new(AtomicU8::new(mode as u8)))
    }
}

impl ModeInForce {
    /// The mode now.
    pub fn get(&self) -> Mode {
        let mode = self.0.load(Ordering::Relaxed);
        let all = [Mode::Enforce, Mode::Shadow, Mode::Off];
        // Only what `set` and `from` wrote is there.
        all.into_iter().find(|m| *m as u8 == mode).unwrap_or_default()
    }

    pub(super) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }
}

/// Upper bounds in seconds: a group commit is one sync, from below a millisecond to a hung disk.
const COMMIT_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// Shared by the driver and the metrics endpoint.
#[derive(Debug, Clone)]
pub struct Vitals {
    tick: Arc<AtomicU64>,
    phase: Arc<AtomicU8>,
    /// How long the store took to answer a commit, seconds; failures included.
    pub commits: Histogram,
    /// How long a sync took from PREPARE to the store's answer, seconds; those that came to nothing are not in it.
    pub syncs: Histogram,
}

impl Vitals {
    /// As of a tick right now.
    ///
    /// # Errors
    /// Never in practice: the histogram's name is a constant.
    pub fn new() -> Result<Vitals, prometheus::Error> {
        let help = "How long the store took to answer a commit, failures included.";
        let options = HistogramOpts::new("store_commit_seconds", help).buckets(COMMIT_SECONDS.to_vec());
        let help =
            "How long a change took from asking the peers of its room (PREPARE) to the store's answer.";
        let syncs = HistogramOpts::new("sync_seconds", help).buckets(COMMIT_SECONDS.to_vec());
        Ok(Vitals {
            tick: Arc::new(AtomicU64::new(now().mono.0)),
            phase: Arc::new(AtomicU8::new(Phase::Starting as u8)),
            commits: Histogram::with_opts(options)?,
            syncs: Histogram::with_opts(syncs)?,
        })
    }

    /// Counts what an entry tells of a sync.
    pub fn take(&self, entry: &Entry) {
        let What::Synced(sync) = &entry.what else { return };
        Counter::SyncAgreed.add(sync.agreed.len());
        Counter::SyncRefused.add(sync.refused.len());
        Counter::SyncSilent.add(sync.silent.len());
        Counter::SyncNoted.add(sync.committed.len());
        if sync.result.is_ok() {
            Counter::SyncCommitted.count();
            self.syncs.observe(sync.took.as_secs_f64());
        } else {
            Counter::SyncRolledBack.count();
        }
    }

    /// The driver ticked at this time.
    pub fn ticked(&self, at: Mono) {
        self.tick.store(at.0, Ordering::Relaxed);
        let (from, to) = (Phase::Starting as u8, Phase::Running as u8);
        // It fails at each but the first tick, as it should.
        let _ = self
            .phase
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The agent was told to stop.
    pub fn stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    /// Whether the driver ticks.
    pub fn is_alive(&self) -> bool {
        self.tick_age() <= ALIVE_WITHIN
    }

    /// Whether rooms are judged and peers are served. Neither store, registry nor media server is asked: a trip needs none.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Running && self.is_alive()
    }

    /// Since the driver's last tick.
    pub fn tick_age(&self) -> Duration {
        now().mono.since(Mono(self.tick.load(Ordering::Relaxed)))
    }
}
