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

/// A window of the longest turn; what is shown is of one to two of them.
const WINDOW: Duration = Duration::from_secs(60);

/// How long the driver was busy at one go, ns: the longest of this window, and of the one before. Written by the driver alone.
#[derive(Debug, Default)]
struct Turns {
    since: AtomicU64,
    longest: AtomicU64,
    before: AtomicU64,
}

/// Shared by the driver and the metrics endpoint.
#[derive(Debug, Clone)]
pub struct Vitals {
    tick: Arc<AtomicU64>,
    phase: Arc<AtomicU8>,
    turns: Arc<Turns>,
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
            turns: Arc::default(),
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

    /// The driver was busy from `begun` until `ended`.
    pub fn turned(&self, ended: Mono, begun: Mono) {
        let Turns {
            since,
            longest,
            before,
        } = &*self.turns;
        let took = u64::try_from(ended.since(begun).as_nanos()).unwrap_or(u64::MAX);
        if ended.since(Mono(since.load(Ordering::Relaxed))) >= WINDOW {
            before.store(longest.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            since.store(ended.0, Ordering::Relaxed);
        }
        longest.fetch_max(took, Ordering::Relaxed);
    }

    /// The longest that the driver was busy at one go, in the last one to two minutes.
    pub fn longest_turn(&self) -> Duration {
        let Turns { longest, before, .. } = &*self.turns;
        let both = [longest, before].map(|ns| ns.load(Ordering::Relaxed));
        Duration::from_nanos(both[0].max(both[1]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_shown_for_a_window_after_its_own_and_then_forgotten() {
        let vitals = Vitals::new().unwrap();
        let at = |s: u64| Mono(s * 1_000_000_000);
        vitals.turned(at(101), at(100));
        vitals.turned(at(103), at(103));
        assert_eq!(vitals.longest_turn(), Duration::from_secs(1));
        vitals.turned(at(170), at(170));
        assert_eq!(vitals.longest_turn(), Duration::from_secs(1));
        vitals.turned(at(240), at(240));
        assert_eq!(vitals.longest_turn(), Duration::ZERO);
    }
}
