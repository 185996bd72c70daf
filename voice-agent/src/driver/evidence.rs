//! Brings the timeline to the journal in the order it was made, one batch at a time.

use crate::{
    store::{StoreError, journal::JournalHandle},
    telemetry::counters,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use voice_room::{
    Entry, Input,
    input::StepResult,
    timeline::{Step, What},
};

/// Entries that may wait while the journal is away. More are counted and left out; the log has them. A trip's own entry
/// is asked for again by the core.
const WAITING: usize = 65_536;

/// Entries on their way to the journal.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    journal: JournalHandle,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    /// A task is writing; it goes on until nothing waits.
    writing: bool,
}

impl Evidence {
    pub(super) fn new(journal: JournalHandle) -> Evidence {
        Evidence {
            journal,
            queue: Arc::default(),
        }
    }

    /// Takes an entry. It is written after the next `send`.
    pub(super) fn keep(&self, entry: Entry) {
        log(&entry);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() < WAITING {
            queue.waiting.push_back(entry);
        } else {
            counters::note("evidence_left_out");
        }
    }

    /// Starts writing, unless a task is at it.
    pub(super) fn send(&self, tasks: &TaskTracker, results: &mpsc::Sender<Input>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.waiting.is_empty() && !std::mem::replace(&mut queue.writing, true) {
            let (this, results) = (self.clone(), results.clone());
            tasks.spawn(async move { this.write(&results).await });
        }
    }

    async fn write(&self, results: &mpsc::Sender<Input>) {
        while let Some(batch) = self.next_batch() {
            let audits: Vec<StepResult> = batch.iter().filter_map(audit).collect();
            let written = self.journal.append(batch).await;
            for mut audit in audits {
                if let Err(error) = &written {
                    audit.result = Err(error.to_string());
                }
                // The driver ends only after this task.
                drop(results.send(Input::Step(audit)).await);
            }
            if let Err(error) = written {
                tracing::error!(%error, "evidence was not written");
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<Entry>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let batch: Vec<Entry> = queue.waiting.drain(..).collect();
        queue.writing = !batch.is_empty();
        queue.writing.then_some(batch)
    }

    /// Writes what nobody has sent yet.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        match self.next_batch() {
            Some(batch) => self.journal.append(batch).await,
            None => Ok(()),
        }
    }
}

/// What changes or threatens a room is logged for people; the rest, such as its ports, for who looks closer.
fn log(entry: &Entry) {
    // Every entry has a JSON form (the journal keeps it so); were there one without, its text would be empty.
    let what = serde_json::to_string(&entry.what).unwrap_or_default();
    let (room, incarnation) = (&entry.room, entry.incarnation.0);
    match entry.what {
        What::Ports { .. } | What::Host { .. } | What::Acked { .. } | What::Step { result: Ok(_), .. } => {
            tracing::debug!(%room, incarnation, %what, "recorded");
        }
        _ => tracing::info!(%room, incarnation, %what, "recorded"),
    }
}

/// The result that a trip's own entry stands for.
fn audit(entry: &Entry) -> Option<StepResult> {
    matches!(entry.what, What::Trip { .. }).then(|| StepResult {
        room: entry.room.clone(),
        incarnation: entry.incarnation,
        step: Step::Audit,
        at: None,
        result: Ok("recorded".into()),
    })
}
