//! The store of one node: rooms, events and isolations in an fjall database. One thread writes: it takes all changes
//! that wait, judges each in order, writes them as one batch and syncs once. Survives kill -9 and loss of power.

mod group;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use super::{
    Cursor, Member, Position, Refresh, Refreshed, RoomStore, Seen, StoreError, Stored,
    disk::Disk,
    queue::{Answer, Queue},
};
use crate::telemetry::Counter;
use async_trait::async_trait;
use std::{path::Path, time::Duration};
use tables::RoomTables;
use voice_room::{Change, Isolation, RoomId, StateChangeEvent, patrol::StoreSight, record::Committed};

/// Requests that may wait; more are refused at once.
const QUEUE: usize = 4_096;
/// Longest wait for a commit. The core tries again by op_id.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for a read.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// `events` gives at most so many at once.
const EVENTS_AT_ONCE: usize = 10_000;

/// The embedded store. Cheap to clone; the database is closed by [`Embedded::close`] or when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Embedded {
    queue: Queue<Job>,
}

/// What the writer can be asked.
#[derive(Debug)]
enum Job {
    Commit(Box<Change>, Answer<Committed>),
    Load(Answer<Stored>),
    Refresh(Vec<Refresh>, Answer<Vec<(RoomId, Refreshed)>>),
    Look(RoomId, Answer<Option<Seen>>),
    Survey(Vec<RoomId>, Answer<Vec<(RoomId, StoreSight)>>),
    Isolation(RoomId, Answer<Option<Isolation>>),
    Events {
        after: Option<u64>,
        limit: usize,
        answer: Answer<Vec<(u64, StateChangeEvent)>>,
    },
    Close(Answer<()>),
}

impl Embedded {
    /// Opens or makes the database in the directory `path`. Blocks while the disk is read.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub fn open(path: &Path) -> Result<Embedded, StoreError> {
        let disk = Disk::<RoomTables>::open(path)?;
        let queue = Queue::start("store", QUEUE, Counter::StoreFailed, move |jobs| {
            writer::run(disk, &jobs);
        });
        let queue = queue.map_err(|e| StoreError::Unavailable(format!("cannot start its thread: {e}")))?;
        Ok(Embedded { queue })
    }

    /// Ends the writer after the work that waits and closes the database. Later requests are refused.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.queue.ask(COMMIT_WITHIN, Job::Close).await
    }
}

#[async_trait]
impl RoomStore for Embedded {
    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let job = |answer| Job::Commit(Box::new(change), answer);
        self.queue.ask(COMMIT_WITHIN, job).await
    }

    async fn load(&self, _known: Vec<RoomId>) -> Result<Stored, StoreError> {
        self.queue.ask(READ_WITHIN, Job::Load).await
    }

    /// Compares only: nothing here runs out.
    async fn refresh(&self, rooms: Vec<Refresh>) -> Result<Vec<(RoomId, Refreshed)>, StoreError> {
        let job = |answer| Job::Refresh(rooms, answer);
        self.queue.ask(READ_WITHIN, job).await
    }

    /// Nothing is refreshed here: a record is as old as its last change.
    async fn look(&self, room: RoomId) -> Result<Option<Seen>, StoreError> {
        self.queue
            .ask(READ_WITHIN, |answer| Job::Look(room, answer))
            .await
    }

    async fn survey(&self, rooms: Vec<RoomId>) -> Result<Vec<(RoomId, StoreSight)>, StoreError> {
        self.queue
            .ask(READ_WITHIN, |answer| Job::Survey(rooms, answer))
            .await
    }

    async fn isolation(&self, room: RoomId) -> Result<Option<Isolation>, StoreError> {
        let job = |answer| Job::Isolation(room, answer);
        self.queue.ask(READ_WITHIN, job).await
    }

    /// Keeps nothing: nobody else reads this store.
    async fn members(&self, _changes: Vec<Member>) -> Result<(), StoreError> {
        Ok(())
    }

    /// At most 10,000 at once. Older than the last 100,000 are gone. Damaged ones are counted and left out.
    async fn events(
        &self,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        let (after, limit) = (after.local(), limit.min(EVENTS_AT_ONCE));
        let job = |answer| Job::Events { after, limit, answer };
        let events = self.queue.ask(READ_WITHIN, job).await?;
        Ok(events
            .into_iter()
            .map(|(n, event)| (Position::Local(n), event))
            .collect())
    }
}
