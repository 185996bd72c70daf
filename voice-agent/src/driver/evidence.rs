//! Brings the timeline to the journal in the order it was made, one batch at a time. What the journal does not take waits for
//! it; a disk that hung and went on may then have an entry twice.

use crate::{
    store::{StoreError, journal::JournalHandle},
    telemetry::counters,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use voice_room::{
    Entry, Input,
    input::StepResult,
    timeline::{Step, What},
};

/// Entries that may wait while the journal is away. More are counted and left out; the log has them. A trip's own entry does
/// not wait: its failure is told, and the core asks for it again.
const WAITING: usize = 65_536;

/// Entries in one write: some hundred KiB to a MiB, so that the journal's tables in memory stay small.
const BATCH: usize = 4096;

/// Entries on their way to the journal.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    journal: JournalHandle,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    /// A task is writing; it goes on until nothing waits or the journal fails.
    writing: bool,
    /// The journal failed when last asked.
    failing: bool,
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
        let mut queue = self.lock();
        if queue.waiting.len() < WAITING {
            queue.waiting.push_back(entry);
        } else {
            counters::note("evidence_left_out");
        }
    }

    /// Starts writing, unless a task is at it or the journal fails.
    pub(super) fn send(&self, tasks: &TaskTracker, results: &mpsc::Sender<Input>) {
        if !self.lock().failing {
            self.send_again(tasks, results);
        }
    }

    /// Starts writing, unless a task is at it; at each tick, also when the journal failed and nothing new is recorded.
    pub(super) fn send_again(&self, tasks: &TaskTracker, results: &mpsc::Sender<Input>) {
        let mut queue = self.lock();
        if !queue.waiting.is_empty() && !std::mem::replace(&mut queue.writing, true) {
            let (this, results) = (self.clone(), results.clone());
            tasks.spawn(async move { this.write(&results).await });
        }
    }

    async fn write(&self, results: &mpsc::Sender<Input>) {
        while let Some(batch) = self.next_batch() {
            let audits: Vec<StepResult> = batch.iter().filter_map(audit).collect();
            let written = self.journal.append(batch.clone()).await;
            for mut audit in audits {
                if let Err(error) = &written {
                    audit.result = Err(error.to_string());
                }
                // The driver ends only after this task.
                drop(results.send(Input::Step(audit)).await);
            }
            match written {
                Ok(()) => self.works_again(),
                Err(error) => return self.wait_for_journal(batch, &error),
            }
        }
    }

    fn works_again(&self) {
        let mut queue = self.lock();
        if std::mem::replace(&mut queue.failing, false) {
            tracing::info!("evidence is written again");
        }
    }

    /// Puts back what was not written, to be tried again with the next `send`.
    fn wait_for_journal(&self, batch: Vec<Entry>, error: &StoreError) {
        let mut queue = self.lock();
        if !std::mem::replace(&mut queue.failing, true) {
            tracing::error!(%error, "evidence is not written; it waits in memory and is tried again at each tick");
        }
        queue.writing = false;
        for entry in batch.into_iter().rev().filter(|entry| audit(entry).is_none()) {
            if queue.waiting.len() < WAITING {
                queue.waiting.push_front(entry);
            } else {
                counters::note("evidence_left_out");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> Option<Vec<Entry>> {
        let mut queue = self.lock();
        let most = queue.waiting.len().min(BATCH);
        let batch: Vec<Entry> = queue.waiting.drain(..most).collect();
        if queue.waiting.is_empty() {
            // After a storm no memory is kept for the next.
            queue.waiting = VecDeque::new();
        }
        queue.writing = !batch.is_empty();
        queue.writing.then_some(batch)
    }

    /// Writes what nobody has sent yet.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        while let Some(batch) = self.next_batch() {
            self.journal.append(batch).await?;
        }
        Ok(())
    }
}

/// What changes or threatens a room is logged for people; the rest, such as its ports, for who looks closer.
fn log(entry: &Entry) {
    // Every entry has a JSON form (the journal keeps it so); were there one without, its text would be empty.
    let what = || serde_json::to_string(&entry.what).unwrap_or_default();
    let (room, incarnation) = (&entry.room, entry.incarnation.0);
    match entry.what {
        What::Ports { .. } | What::Host { .. } | What::Acked { .. } | What::Step { result: Ok(_), .. } => {
            tracing::debug!(%room, incarnation, what = %what(), "recorded");
        }
        _ => tracing::info!(%room, incarnation, what = %what(), "recorded"),
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
