//! What to do next for the rooms that are wanted, as the parts of one transaction.

use super::{Claim, Claims};
use crate::registry::etcd::{
    records::{Owner, Room, Status},
    txn::{OPERATIONS, Part},
    view::{At, View},
};
use voice_room::{Mono, RoomId};

impl Claims {
    /// Whether there is something to do.
    pub(in super::super) fn has_next(&self, now: Mono) -> bool {
        let held = |room| {
            self.rooms
                .get(room)
                .is_some_and(|claim: &Claim| claim.held.is_some())
        };
        self.is_urgent(now) || self.untold.len() > 0 || self.degraded.keys().any(held)
    }

    /// Whether something is urgent: a room to be given up, which another may wait for, or one to be claimed. One whose key is not
    /// ours may not be, for a while.
    pub(in super::super) fn is_urgent(&self, now: Mono) -> bool {
        let ready = |room| {
            self.rooms
                .get(room)
                .is_some_and(|claim: &Claim| claim.not_before <= now)
        };
        !self.ceded.is_empty() || self.asked.iter().any(ready)
    }

    /// Whether something comes before custody: what is urgent, and to tell that a room has ended.
    pub(in super::super) fn comes_first(&self, now: Mono) -> bool {
        self.is_urgent(now) || !self.untold.ended().is_empty()
    }

    /// What to do next, in one transaction: give up, then claim, then tell of rooms that have ended, then of those that are degraded,
    /// and of the others last: of them there may always be more.
    pub(in super::super) fn next(&self, view: &View, now: Mono) -> Vec<Part> {
        let mut left = OPERATIONS;
        let ceded = self.ceded.iter().map(|(room, held)| Part::Cede {
            room: room.clone(),
            held: *held,
        });
        let asked = self
            .asked
            .iter()
            .filter_map(|room| self.claim_of(room, view, now));
        let telling = |room| self.telling_of(room, view);
        let ended = self.untold.ended().iter().filter_map(telling);
        let live = self.untold.live().iter().filter_map(telling);
        let degraded = self
            .degraded
            .iter()
            .filter_map(|(room, why)| self.degraded_part(room, why));
        // A room is given up, claimed or told of; that it is degraded stands under a key of its own.
        let all = ceded.chain(asked).chain(ended).chain(degraded).chain(live);
        all.take_while(|part| {
            let fits = part.operations() <= left;
            left = left.saturating_sub(part.operations());
            fits
        })
        .collect()
    }

    fn claim_of(&self, room: &RoomId, view: &View, now: Mono) -> Option<Part> {
        let claim = self.rooms.get(room).filter(|claim| claim.not_before <= now)?;
        let owner = Owner {
            node: self.me.node.clone(),
            incarnation: claim.meta.incarnation,
            era: self.me.era,
            custodian: false,
            room: Some(Room::of(&claim.meta, &self.me.address)),
        };
        Some(Part::Claim {
            room: room.clone(),
            owner,
            compare: claim.expected.unwrap_or_else(|| self.seen(room, view)),
        })
    }

    /// The revision over which the room may be claimed, as the view has it. What is another's is never claimed over: then
    /// nothing is expected, and etcd's answer tells whose it is.
    fn seen(&self, room: &RoomId, view: &View) -> i64 {
        let ours = |owner: &&At<Owner>| {
            let Owner {
                node, era, custodian, ..
            } = &owner.value;
            (*custodian || *node == self.me.node) && *era <= self.me.era
        };
        revision(view.owners.get(room).filter(ours))
    }

    fn telling_of(&self, room: &RoomId, view: &View) -> Option<Part> {
        let claim = self.rooms.get(room)?;
        Some(Part::Describe {
            room: room.clone(),
            told: Room::of(&claim.meta, &self.me.address),
            held: claim.held?,
            compare: claim.told.unwrap_or_else(|| revision(view.rooms.get(room))),
        })
    }

    fn degraded_part(&self, room: &RoomId, why: &str) -> Option<Part> {
        Some(Part::Degraded {
            room: room.clone(),
            status: Status {
                status: "degraded".into(),
                by: self.me.node.clone(),
                reason: why.to_owned(),
            },
            held: self.rooms.get(room)?.held?,
        })
    }
}

/// Of what is there; 0: nothing.
fn revision<T>(at: Option<&At<T>>) -> i64 {
    at.map_or(0, |at| at.revision)
}
