//! The store of the model, and its faults.

use std::collections::{BTreeMap, BTreeSet};
use voice_room::{
    Change, Incarnation, Isolation, OpId, RoomId, RoomRecord, State, Version,
    record::{Committed, IsolationChange},
};

/// How the store treats the next changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Takes a change and says it failed.
    TakesAndFails,
    Fails,
    /// Takes a change and says so much later.
    TakesAndWaits,
}

/// The semantics of DESIGN 5.2, as every store has them.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) records: BTreeMap<RoomId, RoomRecord>,
    pub(super) isolations: BTreeMap<RoomId, Isolation>,
    pub(super) applied: BTreeMap<(RoomId, Incarnation, Version), OpId>,
    /// Rooms that somebody else wrote to.
    pub(super) tampered: BTreeSet<RoomId>,
}

impl Store {
    pub(super) fn take(&mut self, change: &Change) -> Committed {
        let record = &change.record;
        let found = self.records.get(&record.room);
        if found.is_some_and(|f| f.version == record.version && f.op_id == record.op_id) {
            return Committed::Skipped;
        }
        let state = found.map(|f| f.state).filter(|s| *s != State::Destroyed);
        let next = found.is_none_or(|f| f.version.next() == record.version);
        let begins = change.event.old_state.is_none();
        if !next || state != change.event.old_state || (found.is_none() && !begins) {
            return Committed::Conflict(found.cloned());
        }
        let place = (record.room.clone(), record.incarnation, record.version);
        self.applied.insert(place, record.op_id.clone());
        self.records.insert(record.room.clone(), record.clone());
        match &change.isolation {
            IsolationChange::Keep => {}
            IsolationChange::Set(i) => drop(self.isolations.insert(record.room.clone(), i.clone())),
            IsolationChange::Clear => drop(self.isolations.remove(&record.room)),
        }
        Committed::Ok
    }
}
