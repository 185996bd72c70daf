//! What a shared store must be told besides changes: that records live on, who is a member, and what it has lost.

use super::{
    Core,
    room::{Pending, Room},
};
use crate::{
    Change, Command, EventType, Now, RoomId, RoomRecord, State, StateChangeEvent, Version,
    input::ReplyId,
    record::{IsolationChange, Member, Refresh, Refreshed},
    timeline::Actor,
};
use alloc::{format, string::String, vec::Vec};

/// Rooms in one question to the store.
pub(super) const AT_ONCE: usize = 512;
/// Members that may wait to be told. Beyond it the oldest are left out, and that is said.
const MAX_MEMBERS: usize = 100_000;

impl Core {
    pub(super) fn shares(&self) -> bool {
        self.tenure.shared.is_some()
    }

    /// Each record is refreshed after its time, those that were never seen stored at once; of rooms that are not held it is told
    /// that they are served. One question at a time.
    pub(super) fn refresh(&mut self, now: Now) {
        if !self.shares() || self.refreshing > 0 {
            return;
        }
        let every = self.rules.refresh;
        let mut due: Vec<Refresh> = Vec::new();
        for (id, room) in &mut self.rooms {
            let Some(epoch) = room.authority.epoch() else {
                continue;
            };
            let quiet = room.unstored.is_empty() && room.state().is_some();
            if quiet && room.kept.is_none_or(|t| now.mono.since(t) >= every) {
                room.asked = Some(room.record.version);
                let (version, op_id) = (room.record.version, room.record.op_id.clone());
                due.push(Refresh {
                    room: id.clone(),
                    version,
                    op_id,
                    epoch,
                });
            }
        }
        for some in due.chunks(AT_ONCE) {
            self.refreshing += 1;
            self.out(Command::Refresh(some.to_vec()));
        }
        self.tell_served(now);
    }

    pub(super) fn refreshed(&mut self, now: Now, answer: Result<Vec<(RoomId, Refreshed)>, String>) {
        self.refreshing = self.refreshing.saturating_sub(1);
        // What is not known is asked again with the next sweep.
        for (id, stored) in answer.into_iter().flatten() {
            // An answer about a version that is no longer the last says nothing of the present one.
            let Some(room) = self.rooms.get_mut(&id) else {
                continue;
            };
            if !room.unstored.is_empty() || room.asked.take() != Some(room.record.version) {
                continue;
            }
            let Some(epoch) = room.authority.epoch() else {
                continue;
            };
            match stored {
                Refreshed::Kept => {
                    room.kept = Some(now.mono);
                    self.sign(now, &id);
                }
                Refreshed::Missing => self.put_back(now, &id, None),
                Refreshed::Differs(stored) if stored.epoch > epoch => self.fenced(now, &id, stored.epoch),
                Refreshed::Differs(stored) if stored.version < room.record.version => {
                    self.put_back(now, &id, Some(&stored));
                }
                Refreshed::Differs(stored) => self.overtaken(now, &id, stored),
                Refreshed::Fenced(fence) => self.fenced(now, &id, fence),
            }
        }
    }

    fn fenced(&mut self, now: Now, id: &RoomId, fence: crate::Epoch) {
        if self.claims_rooms() {
            return self.outvoted(now, id, fence);
        }
        self.note(
            "fenced",
            id,
            format!("epoch {fence} has written: another agent serves this store under this node's rooms"),
        );
    }

    /// Somebody else wrote: what is stored wins, and becomes ours.
    fn overtaken(&mut self, now: Now, id: &RoomId, stored: RoomRecord) {
        let (version, owner) = (stored.version, stored.owner.clone());
        self.note("conflict", id, format!("version {version} of {owner} is stored"));
        self.take_over(now, id, stored);
    }

    /// A room that was another's is ours in the store too, before anything becomes of it.
    pub(super) fn sign(&mut self, now: Now, id: &RoomId) {
        let used = |r: &Room| r.highest > r.record.version;
        let foreign = |r: &Room| (r.record.owner != self.node || used(r)) && r.authority.epoch().is_some();
        let quiet = |r: &Room| r.unstored.is_empty() && r.state().is_some();
        let Some(room) = self.rooms.get(id).filter(|_| self.shares()) else {
            return;
        };
        if foreign(room) && quiet(room) {
            let stored = room.record.clone();
            self.restore_under(now, id, Some(&stored), "it is owned here now");
        }
    }

    /// The store lost what it had of a room.
    fn put_back(&mut self, now: Now, id: &RoomId, stored: Option<&RoomRecord>) {
        let held = stored.map_or_else(|| "nothing".into(), |s| format!("version {}", s.version));
        self.note(
            "put_back",
            id,
            format!("the store holds {held}: its record is put back"),
        );
        self.restore_under(now, id, stored, "the store had lost it");
    }

    /// Stores the present state under the next version.
    fn restore_under(&mut self, now: Now, id: &RoomId, stored: Option<&RoomRecord>, reason: &str) {
        let Some(room) = self.rooms.get(id) else { return };
        let state = room.record.state;
        let change = self.restoring(now, &room.record.clone(), state, stored, reason);
        self.store_restored(now, id, change, None);
    }

    /// Gives a RESTORE its number and brings it to the store.
    pub(super) fn store_restored(
        &mut self,
        now: Now,
        id: &RoomId,
        mut change: Change,
        reply: Option<ReplyId>,
    ) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let version = room.highest.max(room.record.version).next();
        (change.record.version, change.event.version) = (version, version);
        room.record.version = version;
        room.record.op_id.clone_from(&change.record.op_id);
        room.record.owner.clone_from(&self.node);
        self.store(now, change.clone(), reply);
        self.record_transition(&change);
    }

    /// What waits builds on a record that the store has lost: that is put back before it.
    pub(super) fn put_back_first(
        &mut self,
        now: Now,
        id: &RoomId,
        stored: Option<&RoomRecord>,
        state: Option<State>,
    ) {
        let Some(front) = self.rooms.get(id).and_then(|r| r.unstored.front()) else {
            return;
        };
        let state = state.unwrap_or(State::Destroyed);
        let base = front.change.record.clone();
        let change = self.restoring(now, &base, state, stored, "the store had lost it");
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let counted = super::counts::Counts::of(Some(room));
        room.unstored.push_front(Pending::new(change.clone()));
        self.counts.change(counted, super::counts::Counts::of(Some(room)));
        self.renumber(id);
        self.note(
            "put_back",
            id,
            "the store had lost a record that more builds on: it is put back",
        );
        self.record_transition(&change);
        self.keep(id);
        self.rebase_trip(id, false);
        self.send_front(now, id);
    }

    /// Gives what waits the versions after each that was ever used of this room.
    fn renumber(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let mut version = room.highest;
        for pending in &mut room.unstored {
            version = version.next();
            let change = &mut pending.change;
            (change.record.version, change.event.version) = (version, version);
        }
        room.record.version = version;
    }

    pub(super) fn restoring(
        &mut self,
        now: Now,
        base: &RoomRecord,
        state: State,
        stored: Option<&RoomRecord>,
        reason: &str,
    ) -> Change {
        let op_id = self.next_op();
        let isolation = self.isolation(&base.room, now).map(|(isolation, _)| isolation);
        let record = RoomRecord {
            state,
            op_id: op_id.clone(),
            owner: self.node.clone(),
            ..base.clone()
        };
        let event = StateChangeEvent {
            room: base.room.clone(),
            incarnation: base.incarnation,
            event_type: EventType::Restore,
            old_state: stored.map(|_| state).filter(|s| *s != State::Destroyed),
            new_state: state,
            version: base.version,
            epoch: base.epoch,
            op_id,
            actor: Actor::Agent,
            reason: reason.into(),
            trace_id: None,
            timestamp: now.wall,
        };
        // A store that still holds it EXPIRED has lost its release as well.
        let lost_release = stored.is_some_and(|s| s.state == State::Expired);
        let isolation = match isolation.filter(|_| state == State::Expired) {
            Some(isolation) => IsolationChange::Set(isolation),
            None if lost_release && state != State::Expired => IsolationChange::Clear,
            None => IsolationChange::Keep,
        };
        Change::new(record, event, isolation)
    }

    /// Keeps the room as it will be stored on this host, for a start, which must not tell of it under an epoch below one that was
    /// told.
    pub(super) fn keep(&mut self, id: &RoomId) {
        if let Some(room) = self.rooms.get(id).filter(|_| self.shares()) {
            let epoch = room.record.epoch.max(room.held_under);
            let record = RoomRecord {
                epoch,
                ..room.record.clone()
            };
            self.out(Command::Keep(record));
        }
    }

    /// Somebody joined or left, for others to read.
    pub(super) fn member(&mut self, member: Member) {
        if !self.shares() {
            return;
        }
        if self.members.len() >= MAX_MEMBERS
            && let Some(left_out) = self.members.pop_front()
        {
            let detail = format!(
                "{MAX_MEMBERS} members wait for the store: {} is left out",
                left_out.client
            );
            self.note("members_left_out", &left_out.room, detail);
        }
        self.members.push_back(member);
    }

    /// Tells the store of members, one message at a time, in order. Those of another's rooms are told too: they are here.
    pub(super) fn tell_members(&mut self) {
        if !self.members.is_empty() && !self.telling {
            self.telling = true;
            let count = self.members.len().min(AT_ONCE);
            let some = self.members.drain(..count).collect();
            self.out(Command::Members(some));
        }
    }

    pub(super) fn members_told(&mut self, answer: Result<(), (Vec<Member>, String)>) {
        self.telling = false;
        match answer {
            Ok(()) => self.tell_members(),
            // Tried again at the next tick.
            Err((members, _)) => {
                for member in members.into_iter().rev() {
                    self.members.push_front(member);
                }
            }
        }
    }

    /// Whether this version of what is stored may be followed by the next number.
    pub(super) fn next_is_free(room: &Room, stored: Version) -> bool {
        let next = stored.next();
        let first = room.unstored.front();
        let again = first.is_some_and(|p| room.highest_op.as_ref() == Some(&p.change.record.op_id));
        next > room.highest || (next == room.highest && again)
    }
}
