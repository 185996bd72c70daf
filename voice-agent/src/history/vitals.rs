//! What the history leaves behind as it works, for whoever watches it.

use prometheus::{Histogram, HistogramOpts};
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use voice_history::{Health, KeptFigures};

/// Upper bounds in seconds: from a block in memory to the 5 s after which nobody waits any more.
const QUERY_SECONDS: [f64; 9] = [0.000_5, 0.002_5, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Shared by who writes, who asks, and the metrics endpoint.
#[derive(Debug, Clone)]
pub struct HistoryVitals {
    health: Arc<AtomicU8>,
    /// What was kept, sent and lost.
    pub kept: KeptFigures,
    /// How long an answer took, seconds; failures included.
    pub queries: Histogram,
}

impl HistoryVitals {
    /// As of a history that works.
    ///
    /// # Errors
    /// Never in practice: the histogram's name is a constant.
    pub fn new(kept: KeptFigures) -> Result<HistoryVitals, prometheus::Error> {
        let help = "How long the history took to answer a question, failures included.";
        let options = HistogramOpts::new("history_query_seconds", help).buckets(QUERY_SECONDS.to_vec());
        Ok(HistoryVitals {
            health: Arc::default(),
            kept,
            queries: Histogram::with_opts(options)?,
        })
    }

    /// How it does: Broken when the last snapshots were not kept, Degraded while they wait for a database that is away.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Healthy,
            1 => Health::Degraded,
            _ => Health::Broken,
        }
    }

    pub(super) fn set(&self, health: Health) {
        let number = match health {
            Health::Healthy => 0,
            Health::Degraded => 1,
            Health::Broken => 2,
        };
        self.health.store(number, Ordering::Relaxed);
    }
}
