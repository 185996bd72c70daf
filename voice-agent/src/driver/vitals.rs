//! What the driver leaves behind as it works, for whoever watches it: readable without asking it anything.

use super::clock::now;
use crate::telemetry::Counter;
use prometheus::{Histogram, HistogramOpts};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use voice_room::{Entry, Mono, timeline::What};

/// Upper bounds in seconds: a group commit is one sync, from below a millisecond to a hung disk.
const COMMIT_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// Shared by the driver and the metrics endpoint.
#[derive(Debug, Clone)]
pub struct Vitals {
    tick: Arc<AtomicU64>,
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
    }

    /// Since the driver's last tick.
    pub fn tick_age(&self) -> Duration {
        now().mono.since(Mono(self.tick.load(Ordering::Relaxed)))
    }
}
