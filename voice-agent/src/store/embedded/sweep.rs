//! Removes what nobody needs any more, a page at a time, so that commits never wait for it long.

use super::tables::RoomTables;
use crate::{
    store::{
        StoreError,
        disk::{self, Pair, unwritable},
    },
    telemetry::Counter,
};
use std::time::Duration;
use voice_room::{Isolation, RoomRecord, State, Wall};

/// DESTROYED records, and with them their fence, go after so long: as in the shared store.
const DESTROYED_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Isolations go so long after their end: a clock set back must not bring one to life that was told as over, and one
/// set forward must not end one early.
const ISOLATION_KEPT: Duration = Duration::from_secs(3_600);
/// Records and isolations looked at in one go.
const PAGE: usize = 1_000;

/// How far the sweep has come.
#[derive(Default)]
pub(super) struct Cursors {
    rooms: Vec<u8>,
    isolation: Vec<u8>,
}

impl RoomTables {
    /// Looks at the next page of records and isolations; says how many it removed. Values that are not ours stay.
    pub(super) fn sweep(&mut self, now: Wall) -> Result<usize, StoreError> {
        let rooms = disk::page(&self.rooms, &mut self.swept.rooms, PAGE)?;
        let isolations = disk::page(&self.isolation, &mut self.swept.isolation, PAGE)?;
        let mut batch = self.db.batch();
        for (key, value) in &rooms {
            let record = disk::decode::<RoomRecord>(&self.rooms, key, value, Counter::StoreForeign);
            if record.is_ok_and(|r| r.state == State::Destroyed && now.since(r.since) > DESTROYED_KEPT) {
                batch.remove(&self.rooms, key.clone());
                batch.remove(&self.fence, key.clone());
            }
        }
        let ended = |(key, value): &&Pair| {
            let isolation = disk::decode::<Isolation>(&self.isolation, key, value, Counter::StoreForeign);
            isolation.is_ok_and(|i| now.since(i.until) > ISOLATION_KEPT)
        };
        for (key, _) in isolations.iter().filter(ended) {
            batch.remove(&self.isolation, key.clone());
        }
        let removed = batch.len();
        batch.commit().map_err(|e| unwritable(&e))?;
        Ok(removed)
    }
}
