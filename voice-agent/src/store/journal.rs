//! The local journal: intents of trips, rooms that a shared store holds, maintenance, the timeline behind `explain`, and the epoch counter. Always on this host,
//! whatever the store is. Its database is its own, so that it never waits for a sync of the embedded store: intents and
//! entries are given to the operating system, which survives kill -9 but not loss of power; only epochs are synced.

mod tables;
#[cfg(test)]
mod tests;
mod worker;

use super::{
    StoreError,
    disk::Disk,
    queue::{Answer, Queue},
};
use crate::telemetry::Counter;
use std::{path::Path, time::Duration};
use tables::JournalTables;
use voice_room::{Entry, Maintenance, RoomId, RoomRecord, input::Intent};

/// Requests that may wait; more are refused at once.
const QUEUE: usize = 4_096;
/// Longest wait for an intent: a trip does not wait longer for its journal.
const INTENT_WITHIN: Duration = Duration::from_millis(250);
/// Longest wait for anything else that is written.
const WRITE_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait for a read, and for an epoch.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The journal's intents and maintenance at start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journalled {
    /// Every intent, also ended ones.
    pub intents: Vec<Intent>,
    /// The rooms as they were last kept; none where the store is this host's own.
    pub rooms: Vec<RoomRecord>,
    /// All maintenance, also what has ended.
    pub maintenance: Vec<Maintenance>,
    /// What could not be read, by key; left as it is.
    pub damaged: Vec<StoreError>,
}

/// The way to the journal's thread. Cheap to clone. Every method puts its work into the queue when called, so that the
/// order of calls is the order of work, and returns a future of the answer that gives up after a deadline: a disk that
/// hangs is [`StoreError::Unavailable`]. The answer need not be waited for.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    queue: Queue<Job>,
}

/// What the thread can be asked.
#[derive(Debug)]
enum Job {
    Put(Vec<Intent>, Answer<()>),
    Forget(RoomId, Answer<()>),
    Keep(Vec<RoomRecord>, Vec<RoomId>, Answer<()>),
    Intents(Answer<Journalled>),
    Maintain(Box<Maintenance>, Answer<()>),
    EndMaintenance(Option<RoomId>, Answer<()>),
    Append(Vec<Entry>, Answer<()>),
    Timeline(RoomId, Answer<Vec<Entry>>),
    NextEpoch(u64, Answer<u64>),
    Close(Answer<()>),
}

impl JournalHandle {
    /// Opens or makes the journal in the directory `path`. Blocks while the disk is read.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub fn open(path: &Path) -> Result<JournalHandle, StoreError> {
        let disk = Disk::<JournalTables>::open(path)?;
        let queue = Queue::start("journal", QUEUE, Counter::JournalFailed, move |jobs| {
            worker::run(disk, &jobs);
        });
        let queue = queue.map_err(|e| StoreError::Unavailable(format!("cannot start its thread: {e}")))?;
        Ok(JournalHandle { queue })
    }

    /// Writes intents, each in place of its room's last one, all or none. At most 250 ms.
    pub fn put_all(
        &self,
        intents: Vec<Intent>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue.ask(INTENT_WITHIN, |answer| Job::Put(intents, answer))
    }

    /// Removes the room's intent. At most 1 s.
    pub fn forget(&self, room: RoomId) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue.ask(WRITE_WITHIN, |answer| Job::Forget(room, answer))
    }

    /// Keeps maintenance, in place of what was kept for its room. At most 1 s.
    pub fn maintain(
        &self,
        notice: Maintenance,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let job = |answer| Job::Maintain(Box::new(notice), answer);
        self.queue.ask(WRITE_WITHIN, job)
    }

    /// Forgets the maintenance of this room, or of every room. At most 1 s.
    pub fn end_maintenance(
        &self,
        room: Option<RoomId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue
            .ask(WRITE_WITHIN, |answer| Job::EndMaintenance(room, answer))
    }

    /// Keeps these rooms, each in place of what was kept of it, and then forgets those, all or none. At most 1 s.
    pub fn keep(
        &self,
        rooms: Vec<RoomRecord>,
        over: Vec<RoomId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue
            .ask(WRITE_WITHIN, |answer| Job::Keep(rooms, over, answer))
    }

    /// Every intent, kept rooms, and all maintenance. At most 10 s.
    pub fn intents(&self) -> impl Future<Output = Result<Journalled, StoreError>> + Send + use<> {
        self.queue.ask(READ_WITHIN, Job::Intents)
    }

    /// Appends entries to the timelines of their rooms, all or none. At most 1 s. A room keeps its last 2,000 entries of
    /// the last 7 days.
    pub fn append(&self, entries: Vec<Entry>) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue
            .ask(WRITE_WITHIN, |answer| Job::Append(entries, answer))
    }

    /// A room's timeline in the order it was appended, at most the last 2,000. Damaged entries are counted and left out.
    /// At most 10 s.
    pub fn timeline(
        &self,
        room: RoomId,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send + use<> {
        self.queue.ask(READ_WITHIN, |answer| Job::Timeline(room, answer))
    }

    /// The next epoch: above each one given before and above `known`, synced to disk. At most 10 s.
    pub fn next_epoch(&self, known: u64) -> impl Future<Output = Result<u64, StoreError>> + Send + use<> {
        self.queue
            .ask(READ_WITHIN, move |answer| Job::NextEpoch(known, answer))
    }

    /// Ends the thread after the work that waits, syncs and closes the journal. Later requests are refused. At most 10 s.
    pub fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.queue.ask(READ_WITHIN, Job::Close)
    }
}
