//! The shared store: DESIGN 5.2's compare-and-swap, fence, expiry and stream of events, as Redis has them.

use crate::Ms;
use std::collections::BTreeMap;
use voice_room::{
    Change, Epoch, EventType, Isolation, NodeName, RoomId, RoomRecord, State, StateChangeEvent,
    record::{Committed, IsolationChange, Looked, Refresh, Refreshed, Seen},
};

/// Records run out after this long unless refreshed.
const RECORD: Ms = 300_000;

/// What an agent asks.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A change; its isolation has so long to go.
    Commit(Box<Change>, Ms),
    /// The owner's word that rooms live on.
    Refresh(Vec<Refresh>),
    /// An agent's word, without a lease, that these rooms are served.
    TellServed(NodeName, Vec<RoomId>),
    /// What is stored of a room.
    Look(RoomId),
    /// Events from this one on.
    Events(usize),
    /// Every isolation.
    Isolations,
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// To a commit.
    Committed(Committed),
    /// To a refresh.
    Refreshed(Vec<(RoomId, Refreshed)>),
    /// To what was told of served rooms.
    ServedTold(Vec<RoomId>),
    /// To a look.
    Looked(Looked),
    /// To a question for events: with the isolation of each one's room.
    Events(Vec<(StateChangeEvent, Option<Isolation>)>),
    /// To a question for isolations.
    Isolations(Vec<Isolation>),
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    records: BTreeMap<RoomId, (RoomRecord, Ms)>,
    fences: BTreeMap<RoomId, Epoch>,
    served: BTreeMap<RoomId, Ms>,
    isolations: BTreeMap<RoomId, (Isolation, Ms)>,
    events: Vec<StateChangeEvent>,
}

impl Store {
    /// What is stored of a room now.
    pub(crate) fn record(&self, now: Ms, room: &RoomId) -> Option<&RoomRecord> {
        let (record, written) = self.records.get(room)?;
        (now < written + RECORD).then_some(record)
    }

    /// The isolation of a room, and when it ends.
    pub(crate) fn isolation(&self, now: Ms, room: &RoomId) -> Option<&(Isolation, Ms)> {
        self.isolations.get(room).filter(|(_, end)| *end > now)
    }

    /// Every isolation that lasts.
    pub(crate) fn isolations(&self, now: Ms) -> Vec<Isolation> {
        let lasting = self.isolations.values().filter(|(_, end)| *end > now);
        lasting.map(|(isolation, _)| isolation.clone()).collect()
    }

    pub(crate) fn answer(&mut self, now: Ms, ask: &Ask) -> Answer {
        match ask {
            Ask::Commit(change, left) => Answer::Committed(self.commit(now, change, *left)),
            Ask::Refresh(rooms) => {
                let one = |asked: &Refresh| (asked.room.clone(), self.refresh(now, asked));
                Answer::Refreshed(rooms.iter().map(one).collect())
            }
            Ask::TellServed(by, rooms) => {
                rooms.iter().for_each(|room| self.tell_served(now, by, room));
                Answer::ServedTold(rooms.clone())
            }
            Ask::Look(room) => Answer::Looked(self.look(now, room)),
            Ask::Events(from) => {
                let after = self.events.get(*from..).unwrap_or_default();
                let with = |e: &StateChangeEvent| {
                    let isolation = self.isolation(now, &e.room).map(|(i, _)| i.clone());
                    (e.clone(), isolation)
                };
                Answer::Events(after.iter().map(with).collect())
            }
            Ask::Isolations => Answer::Isolations(self.isolations(now)),
        }
    }

    fn look(&self, now: Ms, room: &RoomId) -> Looked {
        let stored = self.record(now, room).map(|record| Seen {
            record: record.clone(),
            age: crate::ms(now - self.records[room].1),
        });
        let told = self.served.get(room).filter(|told| now < **told + RECORD);
        Looked {
            stored,
            served: told.map(|told| crate::ms(now - told)),
        }
    }

    fn tell_served(&mut self, now: Ms, by: &NodeName, room: &RoomId) {
        self.served.insert(room.clone(), now);
        let still = self.record(now, room).is_some_and(|record| record.owner == *by);
        if let Some((_, written)) = self.records.get_mut(room).filter(|_| still) {
            *written = now;
        }
    }

    fn commit(&mut self, now: Ms, change: &Change, left: Ms) -> Committed {
        let (record, event) = (&change.record, &change.event);
        let found = self.record(now, &record.room);
        if let Some(fence) = self.fences.get(&record.room).filter(|f| record.epoch < **f) {
            return Committed::Fenced(*fence);
        }
        if found.is_some_and(|f| f.version == record.version && f.op_id == record.op_id) {
            return Committed::Skipped;
        }
        let begins = matches!(event.event_type, EventType::Create | EventType::Adopt);
        let holds = match found {
            Some(f) if event.event_type == EventType::Restore => {
                f.version < record.version && f.epoch <= record.epoch
            }
            None => begins || event.event_type == EventType::Restore,
            Some(f) => {
                let state = Some(f.state).filter(|s| !(begins && *s == State::Destroyed));
                f.version.next() == record.version && state == event.old_state
            }
        };
        if !holds {
            return Committed::Conflict(found.cloned());
        }
        let id = &record.room;
        self.records.insert(id.clone(), (record.clone(), now));
        self.fences.insert(id.clone(), record.epoch);
        match &change.isolation {
            IsolationChange::Keep => {}
            IsolationChange::Set(i) => drop(self.isolations.insert(id.clone(), (i.clone(), now + left))),
            IsolationChange::Clear => drop(self.isolations.remove(id)),
        }
        self.events.push(event.clone());
        Committed::Ok
    }

    fn refresh(&mut self, now: Ms, asked: &Refresh) -> Refreshed {
        if let Some(fence) = self.fences.get(&asked.room).filter(|f| asked.epoch < **f) {
            return Refreshed::Fenced(*fence);
        }
        match self.record(now, &asked.room) {
            None => Refreshed::Missing,
            Some(r) if (r.version, &r.op_id) == (asked.version, &asked.op_id) => {
                if let Some((_, written)) = self.records.get_mut(&asked.room) {
                    *written = now;
                }
                self.fences.insert(asked.room.clone(), asked.epoch);
                Refreshed::Kept
            }
            Some(r) => Refreshed::Differs(r.clone()),
        }
    }
}
