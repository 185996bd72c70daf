//! Which rooms this agent may write to, under which epoch. What is not held waits; kernel, local push and audit never do.

use super::{Core, Isolated, counts::Counts, room::Room, stored::ends_trip};
use crate::{
    Command, Epoch, EventType, NodeName, Now, Rejected, RoomId, RoomRecord, State,
    command::Meta,
    core::StepState,
    timeline::{Progress, Step},
};
use alloc::{format, string::String, vec::Vec};
use serde::Serialize;

/// How an agent comes to own rooms, and who else sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// Every room is held under it from the start on; `None`: each is claimed by itself.
    pub epoch: Option<Epoch>,
    /// The store is shared: records there run out, and may be lost by it. This names the start in op ids; no other start
    /// of any agent has the same.
    pub shared: Option<u64>,
}

impl From<Epoch> for Tenure {
    /// Of a node alone, with a store of its own.
    fn from(epoch: Epoch) -> Tenure {
        Tenure {
            epoch: Some(epoch),
            shared: None,
        }
    }
}

/// What this agent may write of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// Nothing, and nothing was asked for: its life is over.
    Unclaimed,
    /// Nothing yet: it was asked for.
    Claiming {
        /// What the registry said last, if it said anything.
        problem: Option<String>,
    },
    /// Everything, under this epoch.
    Held(Epoch),
    /// Nothing: it is another's.
    Ceded(NodeName),
}

impl Authority {
    /// The epoch to write under.
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            Authority::Held(epoch) => Some(*epoch),
            _ => None,
        }
    }

    /// Whose it is, if it is another's.
    pub fn ceded_to(&self) -> Option<&NodeName> {
        match self {
            Authority::Ceded(owner) => Some(owner),
            _ => None,
        }
    }
}

impl Core {
    /// What a room has before anything is asked.
    pub(super) fn authority_at_first(&self) -> Authority {
        self.tenure.epoch.map_or(Authority::Unclaimed, Authority::Held)
    }

    /// Whether rooms are claimed one by one.
    pub(super) fn claims_rooms(&self) -> bool {
        self.tenure.epoch.is_none()
    }

    /// Asks for a room, unless it is held or asked for.
    pub(super) fn claim_room(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        if matches!(room.authority, Authority::Held(_) | Authority::Claiming { .. }) {
            return;
        }
        room.authority = Authority::Claiming { problem: None };
        let known = meta(&room.record);
        self.out(Command::Claim(known));
    }

    pub(super) fn claimed(&mut self, now: Now, id: &RoomId, epoch: Epoch) {
        let ours = self.node.clone();
        let Some(room) = self.rooms.get_mut(id).filter(|_| self.tenure.epoch.is_none()) else {
            // Its life ended, here and in the store, before the answer came.
            return self.out(Command::Cede { room: id.clone() });
        };
        let gained = room.authority.ceded_to().is_some() || room.record.owner != ours;
        room.authority = Authority::Held(epoch);
        room.held_under = room.held_under.max(epoch);
        if gained {
            // Until now another's facts counted.
            room.progress = room.progress.max((now.mono, Progress::Ownership));
        }
        if room.record.state == State::Destroyed && room.unstored.is_empty() {
            return self.cede_room(id);
        }
        // A store that has another version says so when it is asked to refresh this one.
        room.kept = None;
        self.keep(id);
        self.announce(id);
        self.describe(id);
        self.send_front(now, id);
    }

    pub(super) fn not_claimed(&mut self, now: Now, id: &RoomId, owner: Option<NodeName>, problem: String) {
        // Nobody's custodian any more.
        self.custody.remove(id);
        let Some(room) = self.rooms.get_mut(id).filter(|_| self.tenure.epoch.is_none()) else {
            return;
        };
        let Some(owner) = owner else {
            let was_held = room.authority.epoch().is_some();
            room.authority = Authority::Claiming {
                problem: Some(problem),
            };
            if was_held {
                // A registry that held it as its custodian does not claim it by itself.
                let known = meta(&room.record);
                self.out(Command::Claim(known));
            }
            return;
        };
        if room.authority.ceded_to() == Some(&owner) {
            return;
        }
        let reason = format!("the room is owned by {owner}");
        room.authority = Authority::Ceded(owner);
        self.note("ceded", id, reason.clone());
        self.give_up(now, id, &reason);
        self.tell_of_other(id);
        // The isolation of another's room is that owner's to tell.
        if let Some(isolated) = self.isolations.get_mut(id) {
            isolated.here_only = true;
        }
    }

    /// No epoch that was held is used again. An answer of the store that is under way may still come.
    pub(super) fn lease_lost(&mut self) {
        if !self.claims_rooms() {
            return;
        }
        self.custody.clear();
        let held = |(id, room): (&RoomId, &mut Room)| {
            room.authority.epoch()?;
            room.authority = Authority::Unclaimed;
            Some(id.clone())
        };
        let lost: Vec<RoomId> = self.rooms.iter_mut().filter_map(held).collect();
        for id in lost {
            if self.rooms.get(&id).is_some_and(Room::wants_owner) {
                self.claim_room(&id);
            }
        }
    }

    /// A higher epoch has written: whoever told us that the room is ours was wrong, or late. It is asked for anew.
    pub(super) fn outvoted(&mut self, now: Now, id: &RoomId, fence: Epoch) {
        self.note(
            "fenced",
            id,
            format!("epoch {fence} has written; the room is claimed anew"),
        );
        let again = now.mono + super::stored::RETRY;
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        room.authority = Authority::Unclaimed;
        if let Some(front) = room.unstored.front_mut() {
            front.retry_at = Some(again);
        }
        self.out(Command::Cede { room: id.clone() });
        self.claim_room(id);
    }

    /// The life is over and stored.
    pub(super) fn cede_room(&mut self, id: &RoomId) {
        if !self.claims_rooms() {
            return;
        }
        if let Some(room) = self.rooms.get_mut(id).filter(|r| r.authority.epoch().is_some()) {
            room.authority = Authority::Unclaimed;
            self.out(Command::Cede { room: id.clone() });
        }
    }

    /// Tells the registry of a room that is held.
    pub(super) fn describe(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get(id).filter(|_| self.claims_rooms()) else {
            return;
        };
        if room.authority.epoch().is_some() {
            let known = meta(&room.record);
            self.out(Command::Describe(known));
        }
    }

    /// Tells the registry of what was stored just now.
    pub(super) fn describe_stored(&mut self, record: &RoomRecord) {
        if self.claims_rooms()
            && self
                .rooms
                .get(&record.room)
                .is_some_and(|r| r.authority.epoch().is_some())
        {
            self.out(Command::Describe(meta(record)));
        }
    }

    /// Its media server lists a room that is another's: it may be free by now.
    pub(super) fn ask_again(&mut self, now: Now, id: &RoomId) {
        let every = self.rules.refresh;
        let due = |r: &&mut Room| {
            r.authority.ceded_to().is_some() && r.asked_again.is_none_or(|t| now.mono.since(t) >= every)
        };
        let Some(room) = self.rooms.get_mut(id).filter(due) else {
            return;
        };
        room.asked_again = Some(now.mono);
        let known = meta(&room.record);
        self.out(Command::Claim(known));
    }

    /// Requests for another's room are for its owner; what the ports need is done here all the same.
    pub(super) fn not_ceded(room: &Room) -> Result<(), Rejected> {
        match room.authority.ceded_to() {
            Some(owner) => Err(Rejected::NotOwner { owner: owner.clone() }),
            None => Ok(()),
        }
    }

    /// Of another's room only this is changed here, and told nobody but the sessions: its ports are on this host.
    pub(super) fn is_ours_to_change(room: &Room, event: EventType) -> bool {
        let local = event == EventType::Stuck || ends_trip(event);
        room.authority.ceded_to().is_none() || local
    }

    /// Another's room that neither its media server nor the kernel sees here any more: there is nothing to cut.
    pub(super) fn has_gone_to_owner(&mut self, id: &RoomId) {
        self.retire(id);
        let counted = Counts::of(self.rooms.get(id));
        self.counts.change(counted, Counts::default());
        self.rooms.remove(id);
        self.note(
            "gone_to_owner",
            id,
            "it is another node's, and served here no more",
        );
        self.out(Command::ForgetRoom { room: id.clone() });
    }

    /// The step of a trip that the owner alone may take.
    pub(super) fn leave_to_owner(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let (Some(owner), Some(trip)) = (room.authority.ceded_to(), &mut room.trip) else {
            return;
        };
        let detail = format!("not stored: the room is owned by {owner}");
        trip.steps.insert(Step::Store, StepState::Done(detail));
        if let Some(Isolated { here_only, .. }) = self.isolations.get_mut(id) {
            *here_only = true;
        }
    }
}

fn meta(record: &RoomRecord) -> Meta {
    Meta {
        room: record.room.clone(),
        incarnation: record.incarnation,
        state: record.state,
        version: record.version,
        epoch: record.epoch,
        source: record.source.clone(),
    }
}
