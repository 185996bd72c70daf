//! Judges changes in order, each against what the ones before it leave behind, and writes those that hold as one batch
//! with one sync.

use super::tables::RoomTables;
use crate::store::{
    StoreError,
    disk::{encode, unwritable},
};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::HashMap;
use voice_room::{
    Change, Epoch, EventType, RoomId, RoomRecord, State,
    record::{Committed, IsolationChange},
};

/// Events kept. Older ones are removed as new ones come.
pub(super) const EVENTS_KEPT: u64 = 100_000;
/// For each new event at most so many old ones are removed, so that a group stays small.
const REMOVED_PER_EVENT: u64 = 2;

/// What a room is after the changes judged so far.
#[derive(Default)]
struct Pending {
    record: Option<RoomRecord>,
    fence: Option<Epoch>,
}

/// Changes on their way to the disk.
pub(super) struct Group<'a> {
    tables: &'a mut RoomTables,
    batch: OwnedWriteBatch,
    pending: HashMap<RoomId, Pending>,
    events: u64,
}

impl<'a> Group<'a> {
    pub(super) fn new(tables: &'a mut RoomTables) -> Group<'a> {
        Group {
            batch: tables.db.batch().durability(Some(PersistMode::SyncAll)),
            tables,
            pending: HashMap::new(),
            events: 0,
        }
    }

    /// The answer to a change; true only once [`Group::write`] has succeeded.
    pub(super) fn judge(&mut self, change: &Change) -> Result<Committed, StoreError> {
        let room = &change.record.room;
        let found = match self.pending.remove(room) {
            Some(found) => found,
            None => Pending {
                record: readable(change, self.tables.record(room))?,
                fence: self.tables.fence(room)?,
            },
        };
        let verdict = verdict(&found, change);
        let (left, result) = match verdict {
            Committed::Ok => match self.put(change) {
                Ok(after) => (after, Ok(Committed::Ok)),
                Err(e) => (found, Err(e)),
            },
            other => (found, Ok(other)),
        };
        self.pending.insert(room.clone(), left);
        result
    }

    /// Adds record, event, isolation and fence to the batch: all of them, or on an error none.
    fn put(&mut self, change: &Change) -> Result<Pending, StoreError> {
        let (tables, room) = (&*self.tables, &change.record.room);
        let (record, event) = (encode(&change.record)?, encode(&change.event)?);
        let fence = encode(&change.record.epoch)?;
        let position = tables.next_event.checked_add(self.events);
        let position = position.ok_or(StoreError::Unavailable("no event position is left".into()))?;
        if change.isolation != IsolationChange::Keep {
            // A value that is not ours is not written over, but by a person.
            readable(change, tables.isolation(room))?;
        }
        match &change.isolation {
            IsolationChange::Keep => {}
            IsolationChange::Set(isolation) => {
                let value = encode(isolation)?;
                self.batch.insert(&tables.isolation, room.as_bytes(), value);
            }
            IsolationChange::Clear => self.batch.remove(&tables.isolation, room.as_bytes()),
        }
        self.batch.insert(&tables.rooms, room.as_bytes(), record);
        self.batch.insert(&tables.fence, room.as_bytes(), fence);
        self.batch.insert(&tables.events, position.to_be_bytes(), event);
        self.events += 1;
        Ok(Pending {
            record: Some(change.record.clone()),
            fence: Some(change.record.epoch),
        })
    }

    /// Writes and syncs what was judged `Ok`.
    pub(super) fn write(mut self) -> Result<(), StoreError> {
        if self.events == 0 {
            return Ok(());
        }
        let next = self.tables.next_event.saturating_add(self.events);
        let surplus = (next - self.tables.first_event).saturating_sub(EVENTS_KEPT);
        let removed = surplus.min(self.events * REMOVED_PER_EVENT);
        let first = self.tables.first_event + removed;
        for position in self.tables.first_event..first {
            self.batch.remove(&self.tables.events, position.to_be_bytes());
        }
        self.batch.commit().map_err(|e| unwritable(&e))?;
        self.tables.next_event = next;
        self.tables.first_event = first;
        Ok(())
    }
}

/// To a person's RESTORE what cannot be read is nothing.
fn readable<T>(change: &Change, stored: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match stored {
        Err(StoreError::Foreign { .. }) if change.is_by_hand() => Ok(None),
        other => other,
    }
}

/// The semantics of every store; see [`RoomStore::commit`](crate::store::RoomStore::commit).
fn verdict(found: &Pending, change: &Change) -> Committed {
    let record = &change.record;
    if let Some(fence) = found.fence.filter(|fence| record.epoch < *fence) {
        return Committed::Fenced(fence);
    }
    let same = |stored: &RoomRecord| stored.version == record.version && stored.op_id == record.op_id;
    if found.record.as_ref().is_some_and(same) {
        return Committed::Skipped;
    }
    if change.event.event_type == EventType::Restore {
        let older = |stored: &RoomRecord| stored.version < record.version && stored.epoch <= record.epoch;
        return if found.record.as_ref().is_none_or(older) {
            Committed::Ok
        } else {
            Committed::Conflict(found.record.clone())
        };
    }
    let begins = matches!(change.event.event_type, EventType::Create | EventType::Adopt);
    let holds = match &found.record {
        // The owner may know of versions that were swept away here: any number will do.
        None => begins && change.event.old_state.is_none(),
        Some(stored) => {
            let state = Some(stored.state).filter(|s| !(begins && *s == State::Destroyed));
            stored.version.next() == record.version && state == change.event.old_state
        }
    };
    if holds {
        Committed::Ok
    } else {
        Committed::Conflict(found.record.clone())
    }
}
