//! The tables of the journal.

use super::Journalled;
use crate::{
    store::{
        StoreError,
        disk::{self, Tables, encode, unreadable, unwritable},
    },
    telemetry::Counter,
};
use fjall::{Database, Keyspace, PersistMode};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use voice_room::{Entry, Maintenance, RoomId, RoomRecord, Wall, input::Intent};

/// Entries kept of a room.
pub(super) const ENTRIES_KEPT: usize = 2_000;
/// A room's timeline is cut to [`ENTRIES_KEPT`] after so many new entries.
pub(super) const TRIM_EVERY: u32 = 128;
/// Entries go after so long.
const ENTRY_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Entries looked at in one sweep.
const PAGE: usize = 2_000;
/// Rooms whose entries are counted; beyond it the counting begins anew.
const COUNTED: usize = 65_536;
/// What follows the room id and its NUL in an entry's key: run, number within the run, wall clock.
const KEY_TAIL: usize = 4 + 8 + 8;

/// The key of the maintenance of every room; no room id has this character.
const EVERY_ROOM: &[u8] = b"*";

/// intents, rooms: by room id. maintenance: by room id, or [`EVERY_ROOM`]. timeline: by room id, NUL, position and time. meta: `epoch`, `run`.
pub(super) struct JournalTables {
    db: Database,
    pub(super) intents: Keyspace,
    pub(super) rooms: Keyspace,
    pub(super) maintenance: Keyspace,
    pub(super) timeline: Keyspace,
    pub(super) meta: Keyspace,
    /// Which opening of the journal this is: entries of a later one sort behind, whatever the clock says.
    run: u32,
    number: u64,
    /// New entries of each room since it was last trimmed.
    untrimmed: HashMap<RoomId, u32>,
    /// Rooms that have grown by [`TRIM_EVERY`].
    too_long: BTreeSet<RoomId>,
    swept: Vec<u8>,
}

impl Tables for JournalTables {
    const REOPENED: Counter = Counter::JournalReopened;
    const CUT_SHORT: Counter = Counter::JournalCutShort;
    const FOREIGN: Counter = Counter::JournalForeign;

    fn open(db: Database) -> Result<JournalTables, StoreError> {
        let meta = disk::table(&db, "meta")?;
        let run = disk::read::<u32>(&meta, b"run", Counter::JournalForeign)?
            .unwrap_or(0)
            .saturating_add(1);
        disk::read::<u64>(&meta, b"epoch", Counter::JournalForeign)?;
        disk::insert_one(&meta, b"run", &run)?;
        Ok(JournalTables {
            intents: disk::table(&db, "intents")?,
            rooms: disk::table(&db, "rooms")?,
            maintenance: disk::table(&db, "maintenance")?,
            timeline: disk::table(&db, "timeline")?,
            meta,
            db,
            run,
            number: 0,
            untrimmed: HashMap::new(),
            too_long: BTreeSet::new(),
            swept: Vec::new(),
        })
    }
}

impl JournalTables {
    pub(super) fn put(&self, intents: &[Intent]) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for (intent, encoded) in intents.iter().zip(disk::encode_all(intents)?) {
            batch.insert(&self.intents, intent.change.record.room.as_bytes(), encoded);
        }
        batch.commit().map_err(|e| unwritable(&e))
    }

    pub(super) fn forget(&self, room: &RoomId) -> Result<(), StoreError> {
        self.intents.remove(room.as_bytes()).map_err(|e| unwritable(&e))
    }

    pub(super) fn keep(&self, rooms: &[RoomRecord], over: &[RoomId]) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for record in rooms {
            batch.insert(&self.rooms, record.room.as_bytes(), encode(record)?);
        }
        for room in over {
            batch.remove(&self.rooms, room.as_bytes());
        }
        batch.commit().map_err(|e| unwritable(&e))
    }

    pub(super) fn maintain(&self, notice: &Maintenance) -> Result<(), StoreError> {
        disk::insert_one(&self.maintenance, maintained(notice.room.as_ref()), notice)
    }

    pub(super) fn end_maintenance(&self, room: Option<&RoomId>) -> Result<(), StoreError> {
        self.maintenance
            .remove(maintained(room))
            .map_err(|e| unwritable(&e))
    }

    pub(super) fn intents(&self) -> Result<Journalled, StoreError> {
        let mut found = Journalled::default();
        for pair in self.intents.iter() {
            let (key, value) = pair.into_inner().map_err(|e| unreadable(&e))?;
            match disk::decode(&self.intents, &key, &value, Counter::JournalForeign) {
                Ok(intent) => found.intents.push(intent),
                Err(error) => found.damaged.push(error),
            }
        }
        for pair in self.rooms.iter() {
            let (key, value) = pair.into_inner().map_err(|e| unreadable(&e))?;
            match disk::decode(&self.rooms, &key, &value, Counter::JournalForeign) {
                Ok(room) => found.rooms.push(room),
                Err(error) => found.damaged.push(error),
            }
        }
        for pair in self.maintenance.iter() {
            let (key, value) = pair.into_inner().map_err(|e| unreadable(&e))?;
            match disk::decode(&self.maintenance, &key, &value, Counter::JournalForeign) {
                Ok(notice) => found.maintenance.push(notice),
                Err(error) => found.damaged.push(error),
            }
        }
        Ok(found)
    }

    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for entry in entries {
            let key = self.key(entry);
            batch.insert(&self.timeline, key, encode(entry)?);
        }
        batch.commit().map_err(|e| unwritable(&e))?;
        for entry in entries {
            self.count(&entry.room);
        }
        Ok(())
    }

    fn key(&mut self, entry: &Entry) -> Vec<u8> {
        self.number += 1;
        let mut key = prefix(&entry.room);
        key.extend_from_slice(&self.run.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&entry.at.0.to_be_bytes());
        key
    }

    fn count(&mut self, room: &RoomId) {
        if self.untrimmed.len() >= COUNTED {
            self.untrimmed.clear();
        }
        // Rooms begin at different counts, so that they are not all trimmed at one time after a start.
        let begin = u32::try_from(self.number % u64::from(TRIM_EVERY)).unwrap_or(0);
        let count = self.untrimmed.entry(room.clone()).or_insert(begin);
        *count += 1;
        if *count >= TRIM_EVERY {
            *count = 0;
            self.too_long.insert(room.clone());
        }
    }

    /// Cuts the timelines that have grown since the last time.
    pub(super) fn trim_grown(&mut self) -> Result<(), StoreError> {
        while let Some(room) = self.too_long.pop_first() {
            self.trim(&room)?;
        }
        Ok(())
    }

    fn trim(&self, room: &RoomId) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for pair in self.timeline.prefix(prefix(room)).rev().skip(ENTRIES_KEPT) {
            batch.remove(&self.timeline, pair.key().map_err(|e| unreadable(&e))?);
        }
        batch.commit().map_err(|e| unwritable(&e))
    }

    pub(super) fn timeline(&self, room: &RoomId) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for pair in self.timeline.prefix(prefix(room)).rev().take(ENTRIES_KEPT) {
            let (key, value) = pair.into_inner().map_err(|e| unreadable(&e))?;
            if let Ok(entry) = disk::decode(&self.timeline, &key, &value, Counter::JournalForeign) {
                entries.push(entry);
            }
        }
        entries.reverse();
        Ok(entries)
    }

    pub(super) fn next_epoch(&self, known: u64) -> Result<u64, StoreError> {
        let last = disk::read::<u64>(&self.meta, b"epoch", Counter::JournalForeign)?.unwrap_or(0);
        let next = last.max(known).checked_add(1);
        let next = next.ok_or(StoreError::Unavailable("no epoch is left".into()))?;
        disk::insert_one(&self.meta, b"epoch", &next)?;
        self.sync()?;
        Ok(next)
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(|e| unwritable(&e))
    }

    /// Removes entries that are too old from the next page; says how many. Keys that are not ours stay.
    pub(super) fn sweep(&mut self, now: Wall) -> Result<usize, StoreError> {
        let page = disk::page(&self.timeline, &mut self.swept, PAGE)?;
        let mut batch = self.db.batch();
        let old = |key: &[u8]| written_at(key).is_some_and(|at| now.since(at) > ENTRY_KEPT);
        for (key, _) in page.into_iter().filter(|(key, _)| old(key)) {
            batch.remove(&self.timeline, key);
        }
        let removed = batch.len();
        batch.commit().map_err(|e| unwritable(&e))?;
        Ok(removed)
    }
}

fn maintained(room: Option<&RoomId>) -> &[u8] {
    room.map_or(EVERY_ROOM, |room| room.as_bytes())
}

/// No room id holds a NUL: no room's keys begin with another's.
fn prefix(room: &RoomId) -> Vec<u8> {
    let mut key = Vec::with_capacity(room.len() + 1 + KEY_TAIL);
    key.extend_from_slice(room.as_bytes());
    key.push(0);
    key
}

fn written_at(key: &[u8]) -> Option<Wall> {
    let (room, tail) = key.split_at_checked(key.len().checked_sub(KEY_TAIL)?)?;
    let at = tail.last_chunk::<8>()?;
    (room.last() == Some(&0)).then_some(Wall(u64::from_be_bytes(*at)))
}
