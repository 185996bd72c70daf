//! The tables of the embedded store and how they are read. They are written by `group` and `sweep`.

use crate::{
    store::{
        Refresh, Refreshed, Seen, StoreError, Stored,
        disk::{self, Tables},
    },
    telemetry::Counter,
};
use fjall::{Database, Keyspace};
use serde::de::DeserializeOwned;
use voice_room::{
    Epoch, Isolation, RoomId, RoomRecord, StateChangeEvent, Wall,
    patrol::{self, Field, StoreSight},
};

/// rooms, isolation, fence: by room id. events: by position, 8 bytes big-endian.
pub(super) struct RoomTables {
    pub(super) db: Database,
    pub(super) rooms: Keyspace,
    pub(super) events: Keyspace,
    pub(super) isolation: Keyspace,
    pub(super) fence: Keyspace,
    /// Positions `first_event..next_event` are stored.
    pub(super) first_event: u64,
    pub(super) next_event: u64,
    pub(super) swept: super::sweep::Cursors,
}

impl Tables for RoomTables {
    const REOPENED: Counter = Counter::StoreReopened;
    const CUT_SHORT: Counter = Counter::StoreCutShort;
    const FOREIGN: Counter = Counter::StoreForeign;

    fn open(db: Database) -> Result<RoomTables, StoreError> {
        let events = disk::table(&db, "events")?;
        let last = position(events.iter().rev())?;
        let next_event = last.map_or(Some(1), |last| last.checked_add(1));
        let next_event = next_event.ok_or(StoreError::Unavailable("no event position is left".into()))?;
        Ok(RoomTables {
            rooms: disk::table(&db, "rooms")?,
            isolation: disk::table(&db, "isolation")?,
            fence: disk::table(&db, "fence")?,
            first_event: position(events.iter())?.unwrap_or(next_event),
            next_event,
            swept: super::sweep::Cursors::default(),
            events,
            db,
        })
    }
}

/// The first position among `pairs`; keys that are not positions are passed over.
fn position(pairs: impl Iterator<Item = fjall::Guard>) -> Result<Option<u64>, StoreError> {
    for pair in pairs {
        let key = pair.key().map_err(|e| disk::unreadable(&e))?;
        if let Ok(position) = <[u8; 8]>::try_from(&*key) {
            return Ok(Some(u64::from_be_bytes(position)));
        }
    }
    Ok(None)
}

impl RoomTables {
    pub(super) fn record(&self, room: &RoomId) -> Result<Option<RoomRecord>, StoreError> {
        let Some(record) = read::<RoomRecord>(&self.rooms, room)? else {
            return Ok(None);
        };
        belongs(&self.rooms, room.as_bytes(), &record.room)?;
        Ok(Some(record))
    }

    pub(super) fn fence(&self, room: &RoomId) -> Result<Option<Epoch>, StoreError> {
        read(&self.fence, room)
    }

    pub(super) fn isolation(&self, room: &RoomId) -> Result<Option<Isolation>, StoreError> {
        read(&self.isolation, room)
    }

    /// Compares each room with what is stored of it.
    pub(super) fn refresh(&self, rooms: &[Refresh]) -> Result<Vec<(RoomId, Refreshed)>, StoreError> {
        let compare = |wanted: &Refresh| {
            let fence = self.fence(&wanted.room)?.filter(|fence| wanted.epoch < *fence);
            let answer = match (fence, self.record(&wanted.room)?) {
                (Some(fence), _) => Refreshed::Fenced(fence),
                (None, None) => Refreshed::Missing,
                (None, Some(stored))
                    if (stored.version, &stored.op_id) == (wanted.version, &wanted.op_id) =>
                {
                    Refreshed::Kept
                }
                (None, Some(stored)) => Refreshed::Differs(stored),
            };
            Ok((wanted.room.clone(), answer))
        };
        rooms.iter().map(compare).collect()
    }

    pub(super) fn look(&self, room: &RoomId, now: Wall) -> Result<Option<Seen>, StoreError> {
        let seen = |record: RoomRecord| Seen {
            age: now.since(record.since),
            record,
        };
        Ok(self.record(room)?.map(seen))
    }

    /// All that is stored of each room.
    pub(super) fn survey(&self, rooms: &[RoomId]) -> Result<Vec<(RoomId, StoreSight)>, StoreError> {
        let see = |room: &RoomId| {
            let record = match field(self.record(room))? {
                None => patrol::Stored::Nothing,
                Some(Err(problem)) => patrol::Stored::Foreign(problem),
                Some(Ok(record)) => patrol::Stored::Record(Box::new(record.into())),
            };
            let sight = StoreSight {
                record,
                fence: field(self.fence(room))?,
                isolation: field(self.isolation(room))?,
            };
            Ok((room.clone(), sight))
        };
        rooms.iter().map(see).collect()
    }

    /// Everything, with what is damaged beside it. Fences and events are read too, so that damage shows at the start and not
    /// when they are needed: 100,000 events take some 100 ms.
    pub(super) fn load(&self) -> Result<Stored, StoreError> {
        let mut damaged = Vec::new();
        for pair in self.fence.iter().chain(self.events.iter()) {
            pair.into_inner().map_err(|e| disk::unreadable(&e))?;
        }
        Ok(Stored {
            rooms: all(&self.rooms, |record: &RoomRecord| &record.room, &mut damaged)?,
            isolations: all(
                &self.isolation,
                |isolation: &Isolation| &isolation.room,
                &mut damaged,
            )?,
            damaged,
        })
    }

    pub(super) fn events(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, StateChangeEvent)>, StoreError> {
        let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        for pair in self.events.range(from.to_be_bytes()..) {
            let (key, value) = pair.into_inner().map_err(|e| disk::unreadable(&e))?;
            let Ok(position) = <[u8; 8]>::try_from(&*key) else {
                continue;
            };
            if let Ok(event) = disk::decode(&self.events, &key, &value, Counter::StoreForeign) {
                events.push((u64::from_be_bytes(position), event));
            }
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }
}

/// What cannot be read stands in the place of its value.
fn field<T>(read: Result<Option<T>, StoreError>) -> Result<Option<Field<T>>, StoreError> {
    match read {
        Ok(value) => Ok(value.map(Ok)),
        Err(StoreError::Foreign { problem, .. }) => Ok(Some(Err(problem))),
        Err(other) => Err(other),
    }
}

fn read<V: DeserializeOwned>(table: &Keyspace, room: &RoomId) -> Result<Option<V>, StoreError> {
    disk::read(table, room.as_bytes(), Counter::StoreForeign)
}

fn belongs(table: &Keyspace, key: &[u8], room: &RoomId) -> Result<(), StoreError> {
    if room.as_bytes() == key {
        return Ok(());
    }
    let problem = format!("it is of room {room}");
    Err(disk::foreign(table, key, &problem, Counter::StoreForeign))
}

/// Every value of a table that belongs to its key.
fn all<V: DeserializeOwned>(
    table: &Keyspace,
    room: impl Fn(&V) -> &RoomId,
    damaged: &mut Vec<StoreError>,
) -> Result<Vec<V>, StoreError> {
    let mut values = Vec::new();
    for pair in table.iter() {
        let (key, value) = pair.into_inner().map_err(|e| disk::unreadable(&e))?;
        let decoded = disk::decode::<V>(table, &key, &value, Counter::StoreForeign)
            .and_then(|value| belongs(table, &key, room(&value)).map(|()| value));
        match decoded {
            Ok(value) => values.push(value),
            Err(error) => damaged.push(error),
        }
    }
    Ok(values)
}
