//! A node is gone and this agent is custodian of its rooms: a room ends only if the store, too, has not heard of it since
//! (DESIGN 5.3), neither of its record nor that an agent without a lease serves it. What is not known stays live.
//!
//! The store is asked twice. One that was away or came back empty has nothing to say at first; whoever serves the room has told
//! it by the second time.

use super::{Core, authority::Authority, room::Room};
use crate::{
    Command, Epoch, Mono, Now, RoomId, RoomRecord,
    command::Meta,
    input::{Ask, Request},
    record::Looked,
    timeline::{Actor, Progress},
};
use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

/// A room of a lost node, until it ends, is claimed, or this agent's lease is lost.
#[derive(Debug)]
pub(super) struct Custody {
    meta: Meta,
    epoch: Epoch,
    /// How long a room is left to whoever may serve it, before the store is asked.
    grace: Duration,
    /// Since that node's lease ended, or since it was left alive last, at `told`.
    lost_for: Duration,
    told: Mono,
    asked: Asked,
}

/// How far the store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    /// It had heard of nothing, and is asked again then.
    AgainAt(Mono),
    Twice,
    /// It had heard of it, or could not say; all begins anew then.
    AnewAt(Mono),
}

impl Core {
    pub(super) fn owner_gone(
        &mut self,
        now: Now,
        meta: Meta,
        epoch: Epoch,
        lost_for: Duration,
        grace: Duration,
    ) {
        let id = meta.room.clone();
        if self.rooms.get(&id).is_some_and(Room::wants_owner) {
            // It is served here: then it is ours like any other, and no custodian's.
            return self.claim_room(&id);
        }
        let told = now.mono;
        let custody = Custody {
            meta,
            epoch,
            grace,
            lost_for,
            told,
            asked: Asked::Once,
        };
        self.custody.insert(id.clone(), custody);
        self.out(Command::Look { room: id });
    }

    pub(super) fn looked(&mut self, now: Now, id: &RoomId, result: Result<Looked, String>) {
        match &result {
            Ok(looked) => self.tell_stored(id, looked.stored.as_ref().map(|seen| &seen.record)),
            Err(_) => self.not_stored_yet(now, id),
        }
        let Some(mut custody) = self.custody.remove(id) else {
            return;
        };
        if self.rooms.get(id).is_some_and(Room::wants_owner) {
            return self.claim_room(id);
        }
        if matches!(custody.asked, Asked::AnewAt(_)) {
            // The answer to somebody else's question.
            self.custody.insert(id.clone(), custody);
            return;
        }
        let lost_for = custody.lost_for + now.mono.since(custody.told);
        let looked = match result {
            Ok(looked) => looked,
            Err(problem) => {
                return self.leave_alive(now, id, custody, &format!("the store cannot say: {problem}"));
            }
        };
        if let Some(witness) = witness(&looked, lost_for) {
            let why = format!("{witness}, nobody has owned it for {} s", lost_for.as_secs());
            return self.leave_alive(now, id, custody, &why);
        }
        if custody.asked == Asked::Twice {
            return self.expire_lost(now, id, &custody, looked.stored.map(|seen| seen.record));
        }
        if custody.asked == Asked::Once {
            custody.asked = Asked::AgainAt(now.mono + self.told_again());
        }
        self.custody.insert(id.clone(), custody);
    }

    /// Asks a second time about rooms of which the store had heard nothing, and anew about those that were left alive.
    pub(super) fn look_again(&mut self, now: Now) {
        let mut due: Vec<RoomId> = Vec::new();
        for (id, custody) in &mut self.custody {
            custody.asked = match custody.asked {
                Asked::AgainAt(at) if at <= now.mono => Asked::Twice,
                Asked::AnewAt(at) if at <= now.mono => Asked::Once,
                _ => continue,
            };
            due.push(id.clone());
        }
        for room in due {
            self.out(Command::Look { room });
        }
    }

    /// Within which each agent that serves a room has said so to a store that has heard of nothing: its turn to, and two more
    /// tries.
    fn told_again(&self) -> Duration {
        self.rules.refresh + 3 * self.rules.heartbeat
    }

    /// It stays in custody: whoever serves it may claim it, and it is asked about anew after another grace.
    fn leave_alive(&mut self, now: Now, id: &RoomId, mut custody: Custody, why: &str) {
        self.note(
            "custody_unknown",
            id,
            format!("its owner is gone, yet it stays live: {why}"),
        );
        custody.told = now.mono;
        custody.lost_for = Duration::ZERO;
        custody.asked = Asked::AnewAt(now.mono + custody.grace);
        self.custody.insert(id.clone(), custody);
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

/// What says that the room was served since its owner's lease ended.
fn witness(looked: &Looked, lost_for: Duration) -> Option<String> {
    let stored = looked.stored.as_ref().map(|seen| seen.age);
    let since = |age: Option<Duration>| age.filter(|age| *age < lost_for).map(|age| age.as_secs());
    if let Some(age) = since(looked.served) {
        return Some(format!("an agent without a lease served it {age} s ago"));
    }
    since(stored).map(|age| format!("its record is {age} s old"))
}
