//! A start: what store, journal and pinned maps say becomes the rooms in memory.
//!
//! Blocks keep their original deadline. A block that neither record nor intent explains is lifted: what cannot be known
//! passes.

use super::{
    Core, Isolated,
    room::{Pending, Room, Trip},
    view::StepState,
};
use crate::{
    Binding, Command, EventType, Isolation, Mono, Now, RoomId, RoomRecord, State, StateChangeEvent,
    input::{Ask, FoundBinding, FoundBlock, Intent, Request, Restored},
    record::{Change, IsolationChange},
    state::allows,
    timeline::{Actor, Progress, Step},
};
use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};
use core::time::Duration;

impl Core {
    pub(super) fn restore(&mut self, now: Now, found: Restored) {
        let mut intents: BTreeMap<RoomId, Intent> = found
            .intents
            .into_iter()
            .map(|i| (i.change.record.room.clone(), i))
            .collect();
        let blocks: BTreeMap<RoomId, FoundBlock> =
            found.blocks.into_iter().map(|b| (b.room.clone(), b)).collect();
        self.restore_maintenance(now, found.maintenance);
        let bindings: BTreeMap<RoomId, FoundBinding> =
            found.bindings.into_iter().map(|b| (b.room.clone(), b)).collect();
        for isolation in found.isolations {
            self.restore_isolation(now, isolation);
        }
        let mut rooms = found.rooms;
        // What the pins say of ports comes before what records say: those are as old as the last change of state.
        let found_of = |record: &RoomRecord| {
            let found = bindings.get(&record.room);
            found.filter(|b| b.incarnation == record.incarnation)
        };
        for record in &mut rooms {
            if let Some(found) = found_of(record) {
                record.ports.clone_from(&found.binding.ports);
            }
        }
        let pinned = |id: &RoomId| blocks.contains_key(id) || bindings.contains_key(id);
        rooms.sort_by_key(|record| !pinned(&record.room));
        for record in rooms {
            let intent = intents.remove(&record.room);
            let binding = found_of(&record).map(|b| b.binding.clone());
            self.restore_room(now, record, intent, binding, &blocks);
        }
        for (id, intent) in intents {
            let record = RoomRecord {
                version: crate::Version(0),
                ..intent.change.record.clone()
            };
            self.restore_room(
                now,
                RoomRecord { room: id, ..record },
                Some(intent),
                None,
                &blocks,
            );
        }
        for (id, block) in blocks {
            self.settle_block(now, &id, &block);
        }
        for stored in &found.unstored {
            self.store_end(now, stored);
        }
        if self.claims_rooms() {
            let wanted = |(id, room): (&RoomId, &Room)| room.wants_owner().then(|| id.clone());
            let wanted: Vec<RoomId> = self.rooms.iter().filter_map(wanted).collect();
            for id in wanted {
                self.claim_room(&id);
            }
        }
    }

    /// The end of a life was lost with the process that waited to store it. It is offered again by its own name and number: a store
    /// that has it says so, and so does one that has something else by now.
    fn store_end(&mut self, now: Now, stored: &RoomRecord) {
        let id = &stored.room;
        let follows = |room: &&mut Room| {
            let record = &room.record;
            record.state == State::Destroyed
                && room.unstored.is_empty()
                && (record.incarnation, record.version) == (stored.incarnation, stored.version.next())
        };
        if stored.owner != self.node {
            return;
        }
        let Some(room) = self.rooms.get_mut(id).filter(follows) else {
            return;
        };
        let record = room.record.clone();
        let event = StateChangeEvent {
            room: id.clone(),
            incarnation: record.incarnation,
            event_type: match stored.state {
                State::Expired => EventType::IsolationOver,
                _ => EventType::Close,
            },
            old_state: Some(stored.state),
            new_state: State::Destroyed,
            version: record.version,
            epoch: record.epoch,
            op_id: record.op_id.clone(),
            actor: Actor::Agent,
            reason: "it had ended before the restart".into(),
            trace_id: None,
            timestamp: now.wall,
        };
        let change = Change::new(record, event, IsolationChange::Keep);
        room.unstored.push_back(Pending::new(change));
        self.send_front(now, id);
    }

    pub(super) fn restore_isolation(&mut self, now: Now, isolation: Isolation) {
        let left = isolation.until.since(now.wall);
        if !left.is_zero() {
            let Isolation { room, reason, until } = isolation;
            self.isolations.insert(
                room,
                Isolated {
                    reason,
                    until,
                    deadline: now.mono + left,
                    here_only: false,
                },
            );
        }
    }

    fn restore_room(
        &mut self,
        now: Now,
        record: RoomRecord,
        intent: Option<Intent>,
        binding: Option<Binding>,
        blocks: &BTreeMap<RoomId, FoundBlock>,
    ) {
        let id = record.room.clone();
        // An intent counts until the record has moved past it, within its life or into a later one.
        let at = |r: &RoomRecord| (r.incarnation, r.version);
        let journalled = intent.is_some();
        let intent = intent.filter(|i| at(&record) <= at(&i.change.record));
        if journalled && intent.is_none() {
            self.out(Command::Forget { room: id.clone() });
        }
        let binding = binding.unwrap_or_else(|| record.ports.clone().into());
        let authority = self.authority_at_first();
        let room = Room::new(record, (now.mono, Progress::AgentStart), authority);
        self.rooms.insert(id.clone(), room);
        if let Some(intent) = intent {
            let life = intent.change.record.incarnation;
            let block = blocks.get(&id).filter(|b| b.incarnation == life);
            return self.resume_trip(now, &id, &intent, block);
        }
        match self
            .rooms
            .get(&id)
            .map(|r| (r.record.state, r.record.incarnation))
        {
            Some((State::Expired, life)) => {
                let block = blocks.get(&id).filter(|b| b.incarnation == life);
                self.restore_trip(now, &id, block);
            }
            Some((State::Destroyed, _)) | None => {}
            Some(_) if binding.is_empty() => {}
            Some(_) => self.reclaim(now, &id, &binding),
        }
    }

    /// A journalled trip goes on: armed again with its deadline, pushed again, stored if it was not.
    fn resume_trip(&mut self, now: Now, id: &RoomId, intent: &Intent, block: Option<&FoundBlock>) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let left = remaining(now, intent);
        let known = room.record.version > crate::Version(0);
        let stored = known && room.record.op_id == intent.change.record.op_id;
        let mut change = follow_up(&intent.change, &room.record);
        if stored {
            change.record.clone_from(&room.record);
            change.event.version = change.record.version;
        } else {
            let epoch = self.tenure.epoch.unwrap_or(room.record.epoch);
            (change.record.epoch, change.event.epoch) = (epoch, epoch);
            room.record.clone_from(&change.record);
            room.unstored.push_back(Pending {
                retry_at: Some(now.mono),
                ..Pending::new(change.clone())
            });
        }
        if change.record.version != intent.change.record.version {
            let change = change.clone();
            self.out(Command::Journal(Intent {
                change,
                ..intent.clone()
            }));
        }
        // A trip that was released is journalled as ended: a block that outlived it is not taken up again.
        // Pins are of this boot, so the block's deadline and the intent's are of one clock.
        let block_ends = block
            .filter(|_| !left.is_zero())
            .map(|b| b.deadline.min(intent.deadline));
        let deadline = block_ends.unwrap_or(now.mono + left);
        let trip = found_trip(now, change, deadline, intent.until, stored);
        self.re_arm(now, id, trip, block);
    }

    /// An EXPIRED record without an intent: its isolation says how long it lasts.
    fn restore_trip(&mut self, now: Now, id: &RoomId, block: Option<&FoundBlock>) {
        let Some(record) = self.rooms.get(id).map(|r| r.record.clone()) else {
            return;
        };
        let isolated = self
            .isolations
            .get(id)
            .cloned()
            .or_else(|| self.unread_isolation(now, &record));
        let deadline = block
            .map(|b| b.deadline)
            .or(isolated.as_ref().map(|i| i.deadline))
            .unwrap_or(now.mono);
        let until = isolated.as_ref().map_or(now.wall, |i| i.until);
        // Not longer than it was meant to last, whatever the clocks say now.
        let whole = isolated
            .as_ref()
            .map_or(self.rules.isolation, |i| i.until.since(record.since));
        let deadline = deadline.min(now.mono + whole);
        let reason = isolated.map_or_else(|| "expired before the restart".into(), |i| i.reason);
        let event = StateChangeEvent {
            room: id.clone(),
            incarnation: record.incarnation,
            event_type: EventType::Stuck,
            old_state: Some(State::Liveing),
            new_state: State::Expired,
            version: record.version,
            epoch: record.epoch,
            op_id: record.op_id.clone(),
            actor: Actor::Agent,
            reason: reason.clone(),
            trace_id: None,
            timestamp: record.since,
        };
        let isolation = IsolationChange::Set(Isolation {
            room: id.clone(),
            reason,
            until,
        });
        let trip = found_trip(now, Change::new(record, event, isolation), deadline, until, true);
        self.re_arm(now, id, trip, block);
    }

    /// A shared store that is away cannot say how long the room is isolated: then as long as any.
    fn unread_isolation(&self, now: Now, record: &RoomRecord) -> Option<Isolated> {
        let left = self.rules.isolation.saturating_sub(now.wall.since(record.since));
        self.shares().then(|| Isolated {
            reason: "expired before the restart".into(),
            until: now.wall + left,
            deadline: now.mono + left,
            here_only: false,
        })
    }

    fn re_arm(&mut self, now: Now, id: &RoomId, trip: Trip, block: Option<&FoundBlock>) {
        let (deadline, until, reason) = (trip.deadline, trip.until, trip.reason.clone());
        let binding = block.map_or_else(|| trip.change.record.ports.clone().into(), |b| b.binding.clone());
        self.isolations.insert(
            id.clone(),
            Isolated {
                reason,
                until,
                deadline,
                here_only: false,
            },
        );
        if let Some(room) = self.rooms.get_mut(id) {
            room.trip = Some(Box::new(trip));
        }
        let released = block.is_some_and(|b| b.released);
        if deadline > now.mono && !released {
            self.reclaim(now, id, &binding);
            self.arm(id);
            self.push_expired(id);
        }
    }

    /// A block armed in the kernel: lifted if nothing explains it, released if the CLI released it meanwhile.
    fn settle_block(&mut self, now: Now, id: &RoomId, block: &FoundBlock) {
        let explained = self
            .rooms
            .get(id)
            .is_some_and(|r| r.trip.is_some() && r.record.incarnation == block.incarnation);
        if !explained {
            self.out(Command::Disarm { room: id.clone() });
            let left = block.deadline.since(now.mono).as_secs_f32();
            let detail = format!("an armed block with {left:.0} s left had no record; lifted");
            self.note("unexplained_block", id, detail);
            // The same room may be under a later trip.
            let later = |r: &Room| r.trip.as_ref().is_some_and(|t| t.deadline > now.mono);
            if self.rooms.get(id).is_some_and(later) {
                self.arm(id);
            }
            return;
        }
        if block.released {
            let release = Ask::Release {
                reason: "released through the pinned maps while the agent was away".into(),
            };
            self.request(now, &Request::by_map(id.clone(), release));
        }
    }
}

/// The trip as it follows on the stored record: what waited for the store before it is lost with the agent that died.
fn follow_up(journalled: &Change, record: &RoomRecord) -> Change {
    let mut change = journalled.clone();
    let from = Some(record.state);
    let next = record.version.next();
    let same_life = record.incarnation == change.record.incarnation;
    if same_life && next < change.record.version && allows(from, change.event.event_type, State::Expired) {
        (change.record.version, change.event.version) = (next, next);
        change.event.old_state = from;
    }
    change
}

/// What is left of a journalled trip. Its monotonic deadline counts for this boot only and the wall clock may have been
/// set; the nearest end is the one that cannot cut too long. After a boot with a clock in the past, that is the whole
/// length of the trip.
fn remaining(now: Now, intent: &Intent) -> Duration {
    let whole = intent.until.since(intent.change.event.timestamp);
    intent
        .deadline
        .since(now.mono)
        .min(intent.until.since(now.wall))
        .min(whole)
}

fn found_trip(now: Now, change: Change, deadline: Mono, until: crate::Wall, stored: bool) -> Trip {
    let mut trip = Trip::new(change, until, deadline, now.mono);
    trip.steps
        .insert(Step::Journal, StepState::Done("found at start".into()));
    trip.steps.insert(
        Step::Audit,
        StepState::Done("not tried again: the agent was restarted".into()),
    );
    if stored {
        trip.steps
            .insert(Step::Store, StepState::Done("found at start".into()));
    }
    trip
}
