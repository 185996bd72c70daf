//! The figures of the history: what is kept, what waits for a database, what was lost, how long answers take. How many ticks were
//! not kept is among the counters.

use super::page::{Page, Result, one};
use crate::history::HistoryVitals;
use std::sync::atomic::{AtomicU64, Ordering};
use voice_history::{Health, KeptFigures, embedded, influx};

impl Page {
    pub(super) fn history(&self, vitals: &HistoryVitals) -> Result<()> {
        self.0.register(Box::new(vitals.queries.clone()))?;
        let help = "How well the history does: 0 healthy, 1 degraded (snapshots wait for the database), 2 broken (they are not kept).";
        let health = match vitals.health() {
            Health::Healthy => 0_u64,
            Health::Degraded => 1,
            Health::Broken => 2,
        };
        self.gauge("history_health", help, &[], one(health))?;
        match &vitals.kept {
            KeptFigures::Embedded(figures) => self.kept_here(figures),
            KeptFigures::Influx(figures) => self.kept_in_influx(figures),
        }
    }

    fn kept_here(&self, figures: &embedded::Figures) -> Result<()> {
        let help = "Bytes of the history on disk, as of its last chapter.";
        self.gauge("history_bytes", help, &[], one(now(&figures.bytes)))?;
        for (name, help, figure) in [
            (
                "history_snapshots_total",
                "Snapshots of rooms that were kept.",
                &figures.snapshots,
            ),
            (
                "history_tightened_total",
                "Times the oldest snapshots were removed because the disk was short.",
                &figures.tightened,
            ),
            (
                "history_reopened_total",
                "Times the history was opened anew after its disk had failed.",
                &figures.reopened,
            ),
            (
                "history_damaged_records_total",
                "Records of the history that could not be read; answers say so.",
                &figures.damaged,
            ),
        ] {
            self.counter(name, help, &[], one(now(figure)))?;
        }
        Ok(())
    }

    fn kept_in_influx(&self, figures: &influx::Figures) -> Result<()> {
        let help = "Bytes of snapshots that wait on this host for the database.";
        self.gauge("history_spool_bytes", help, &[], one(now(&figures.waiting)))?;
        for (name, help, figure) in [
            (
                "history_sent_batches_total",
                "Batches of snapshots that the database took.",
                &figures.sent,
            ),
            (
                "history_refused_batches_total",
                "Batches that the database refused as malformed or too large; the last ones are kept aside.",
                &figures.refused,
            ),
            (
                "history_send_failed_total",
                "Attempts to send a batch that failed: away, slow, overloaded, not allowed; they are tried again.",
                &figures.failed,
            ),
            (
                "history_lost_batches_total",
                "Batches that were lost because the spool was full.",
                &figures.lost,
            ),
        ] {
            self.counter(name, help, &[], one(now(figure)))?;
        }
        Ok(())
    }
}

fn now(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}
