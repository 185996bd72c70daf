//! A node is gone and this agent is custodian of its rooms: a room ends only if the store, too, has not heard of it since
//! (DESIGN 5.3). What is not known stays live.

use super::{Core, authority::Authority, room::Room};
use crate::{
    Command, Epoch, Mono, Now, RoomId, RoomRecord,
    command::Meta,
    input::{Ask, Request},
    record::Seen,
    timeline::{Actor, Progress},
};
use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

/// A room of a lost node, while the store is asked.
#[derive(Debug)]
pub(super) struct Custody {
    meta: Meta,
    epoch: Epoch,
    /// Since that node's lease ended, when this was told.
    lost_for: Duration,
    told: Mono,
}

impl Core {
    pub(super) fn owner_gone(&mut self, now: Now, meta: Meta, epoch: Epoch, lost_for: Duration) {
        let id = meta.room.clone();
        if self.rooms.get(&id).is_some_and(Room::wants_owner) {
            // It is served here: then it is ours like any other.
            return self.claimed(now, &id, epoch);
        }
        let told = now.mono;
        let custody = Custody {
            meta,
            epoch,
            lost_for,
            told,
        };
        self.custody.insert(id.clone(), custody);
        self.out(Command::Look { room: id });
    }

    pub(super) fn looked(&mut self, now: Now, id: &RoomId, result: Result<Option<Seen>, String>) {
        let stored = result.as_ref().ok().and_then(Option::as_ref);
        self.tell_stored(id, stored.map(|seen| &seen.record));
        let Some(custody) = self.custody.remove(id) else {
            return;
        };
        if self.rooms.get(id).is_some_and(Room::wants_owner) {
            return self.claimed(now, id, custody.epoch);
        }
        let lost_for = custody.lost_for + now.mono.since(custody.told);
        match result {
            Err(problem) => self.leave_alive(id, &format!("the store cannot say: {problem}")),
            Ok(Some(seen)) if seen.age < lost_for => {
                let (age, lost) = (seen.age.as_secs(), lost_for.as_secs());
                self.leave_alive(
                    id,
                    &format!("its record is {age} s old, its owner's lease ended {lost} s ago"),
                );
            }
            Ok(seen) => self.expire_lost(now, id, &custody, seen.map(|s| s.record)),
        }
    }

    fn leave_alive(&mut self, id: &RoomId, why: &str) {
        self.note(
            "custody_unknown",
            id,
            format!("its owner is gone, yet it stays live: {why}"),
        );
        self.out(Command::Cede { room: id.clone() });
    }

    fn expire_lost(&mut self, now: Now, id: &RoomId, custody: &Custody, stored: Option<RoomRecord>) {
        let record = stored.unwrap_or_else(|| self.record_of(now, custody));
        if !record.state.is_live() {
            return self.out(Command::Cede { room: id.clone() });
        }
        let mut room = Room::new(
            record,
            (now.mono, Progress::Ownership),
            Authority::Held(custody.epoch),
        );
        room.kept = Some(now.mono);
        let before = super::counts::Counts::of(self.rooms.get(id));
        self.counts.change(before, super::counts::Counts::of(Some(&room)));
        self.rooms.insert(id.clone(), room);
        self.request(
            now,
            &Request {
                room: id.clone(),
                ask: Ask::OwnerLost {
                    record_stale: true,
                    unserved: true,
                },
                actor: Actor::Agent,
                op_id: None,
                incarnation: None,
                sequence: None,
                trace_id: None,
                reply: None,
                participants: Vec::new(),
            },
        );
    }

    /// The store forgot the room: what the registry knew of it.
    fn record_of(&mut self, now: Now, custody: &Custody) -> RoomRecord {
        let meta = &custody.meta;
        RoomRecord {
            room: meta.room.clone(),
            state: meta.state,
            version: meta.version,
            epoch: meta.epoch,
            op_id: self.next_op(),
            incarnation: meta.incarnation,
            owner: self.node.clone(),
            since: now.wall,
            source: meta.source.clone(),
            host: None,
            ports: Vec::new(),
        }
    }
}
