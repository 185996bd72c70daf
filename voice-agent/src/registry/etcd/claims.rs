//! Which rooms this agent wants, holds and has told of, and what etcd's answers mean for each. No I/O; the time is an
//! argument.

mod done;
mod next;
mod rooms;
mod untold;

use super::{records::Owner, view::View};
use crate::telemetry::counters::Counter;
use rooms::Rooms;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use untold::Untold;
use voice_room::{Epoch, Input, Mono, NodeName, RoomId, command::Meta};

/// A claim that waits so long is told, so that the core can say why nothing is stored.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// Who we are to others.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub(super) node: NodeName,
    pub(super) era: u32,
    pub(super) address: String,
}

/// The rooms that the core named.
#[derive(Debug)]
pub(super) struct Claims {
    me: Me,
    rooms: Rooms,
    /// Those that are wanted and not held.
    asked: BTreeSet<RoomId>,
    /// Those that are held and of which there is something new to tell.
    untold: Untold,
    /// Those that are held and served less well, with why, until it is told.
    degraded: BTreeMap<RoomId, String>,
    /// Those given up whose keys are still there, with the revision of our claim.
    ceded: BTreeMap<RoomId, i64>,
}

#[derive(Debug)]
struct Claim {
    /// What the core said of it last.
    meta: Meta,
    /// The revision of our key, under the present lease.
    held: Option<i64>,
    /// Since when it is asked for.
    since: Mono,
    not_before: Mono,
    told_that_it_waits: bool,
    /// What has to be under the owner's key for our claim, as etcd has answered: its revision, 0 for nothing. Until then it
    /// is as the view has it.
    expected: Option<i64>,
    /// The revision of what was told last; until something was, it is as the view has it.
    told: Option<i64>,
    /// Held only to end it.
    custodian: bool,
}

impl Claims {
    pub(super) fn new(me: Me) -> Claims {
        Claims {
            me,
            rooms: Rooms::default(),
            asked: BTreeSet::new(),
            untold: Untold::default(),
            degraded: BTreeMap::new(),
            ceded: BTreeMap::new(),
        }
    }

    /// Rooms held, and rooms waited for.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.rooms.held(), self.asked.len())
    }

    /// Held rooms of which there is something new to tell.
    pub(super) fn untold(&self) -> usize {
        self.untold.len()
    }

    pub(super) fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains(room)
    }

    /// Whether something new is to be told of it.
    pub(super) fn is_telling(&self, room: &RoomId) -> bool {
        self.untold.contains(room)
    }

    /// What is known of a room that is held as its custodian.
    pub(super) fn in_custody(&self, room: &RoomId) -> Option<&Meta> {
        let claim = self.rooms.get(room).filter(|claim| claim.custodian)?;
        Some(&claim.meta)
    }

    /// The core wants this room. Answered at once if it is held already.
    pub(super) fn ask(&mut self, meta: Meta, now: Mono) -> Option<Input> {
        let room = meta.room.clone();
        self.ceded.remove(&room);
        let claim = self.rooms.get(&room);
        let in_custody = claim.is_some_and(|claim| claim.custodian);
        if let Some(revision) = claim.and_then(|claim| claim.held).filter(|_| !in_custody) {
            self.rooms.change(&room, |claim| claim.meta = meta);
            return Some(self.claimed(&room, revision));
        }
        // One in custody is claimed anew, as its owner: then nobody else may take it any more. Until it is, nothing is told of it.
        self.untold.remove(&room);
        self.rooms.insert(room.clone(), Claim::new(meta, now));
        self.asked.insert(room);
        None
    }

    /// The core needs the room no more.
    pub(super) fn cede(&mut self, room: &RoomId) {
        if let Some(held) = self.forget(room).and_then(|claim| claim.held) {
            self.ceded.insert(room.clone(), held);
        }
    }

    /// Nothing is to be done for this room any more.
    fn forget(&mut self, room: &RoomId) -> Option<Claim> {
        self.asked.remove(room);
        self.untold.remove(room);
        self.degraded.remove(room);
        self.rooms.remove(room)
    }

    /// What the core says of a room is told once the room is held.
    pub(super) fn describe(&mut self, meta: Meta) {
        let (room, live) = (meta.room.clone(), meta.state.is_live());
        let held = self.rooms.change(&room, |claim| {
            claim.meta = meta;
            claim.held.is_some()
        });
        if held == Some(true) {
            self.untold.insert(room, live);
        }
    }

    /// A held room is served less well. Of one that is not, nobody is told: it may be another's.
    pub(super) fn degraded(&mut self, room: RoomId, reason: String) {
        if self.rooms.get(&room).is_some_and(|claim| claim.held.is_some()) {
            self.degraded.insert(room, reason);
        }
    }

    /// This agent is custodian of the room.
    pub(super) fn hold(&mut self, meta: Meta, revision: i64, now: Mono) {
        let room = meta.room.clone();
        let mut claim = Claim::new(meta, now);
        claim.held = Some(revision);
        claim.custodian = true;
        self.rooms.insert(room, claim);
    }

    /// The lease is over: nothing is held, and the core asks anew for what it wants.
    pub(super) fn lost(&mut self) {
        self.untold.clear();
        self.degraded.clear();
        self.ceded.clear();
        self.rooms.let_all_go();
    }

    /// What we believed to hold under this key is not ours any more, or was never taken back: `after` is there instead.
    pub(super) fn changed_hands(
        &mut self,
        room: &RoomId,
        after: Option<(&Owner, i64, i64)>,
        lease: i64,
        now: Mono,
    ) -> Option<Input> {
        let held = self.rooms.get(room)?.held?;
        match after {
            // What we know better: an event from before our claim, or of it.
            Some((_, revision, _)) if revision <= held => None,
            Some((owner, revision, on)) if owner.node == self.me.node && on == lease => {
                self.rooms.change(room, |claim| claim.held = Some(revision));
                Some(self.claimed(room, revision))
            }
            Some((owner, ..)) if owner.node != self.me.node => {
                Counter::RegistryOvertaken.count();
                let owner = owner.node.clone();
                self.forget(room);
                Some(not_claimed(room, Some(owner), "another agent has claimed it"))
            }
            _ if self.in_custody(room).is_some() => {
                Counter::RegistryOvertaken.count();
                self.forget(room);
                Some(not_claimed(room, None, "the key of its custodian is gone"))
            }
            _ => {
                Counter::RegistryOvertaken.count();
                self.rooms.change(room, |claim| {
                    *claim = Claim {
                        told_that_it_waits: true,
                        ..Claim::new(claim.meta.clone(), now)
                    };
                });
                self.untold.remove(room);
                self.degraded.remove(room);
                self.asked.insert(room.clone());
                Some(not_claimed(room, None, "its key is gone; it is claimed anew"))
            }
        }
    }

    /// Claims that have waited for long and were not told to, with why.
    pub(super) fn still_waiting(&mut self, problem: &str, now: Mono) -> Vec<Input> {
        let mut inputs = Vec::new();
        for room in &self.asked {
            let told = self.rooms.change(room, |claim| {
                let due = !claim.told_that_it_waits && now.since(claim.since) >= TELL_AFTER;
                claim.told_that_it_waits |= due;
                due
            });
            if told == Some(true) {
                inputs.push(not_claimed(room, None, problem));
            }
        }
        inputs
    }

    /// Keys of ours that nobody wants: of claims that were given up before they were answered.
    pub(super) fn cede_unwanted(&mut self, view: &View, lease: i64) {
        let ours = view
            .owners
            .iter()
            .filter(|(_, owner)| owner.lease == lease && owner.value.node == self.me.node);
        let unwanted = ours.filter(|(room, owner)| !owner.value.custodian && !self.rooms.contains(room));
        let unwanted: Vec<(RoomId, i64)> = unwanted
            .map(|(room, owner)| (room.clone(), owner.revision))
            .collect();
        self.ceded.extend(unwanted);
    }

    fn claimed(&self, room: &RoomId, revision: i64) -> Input {
        let epoch = epoch(self.me.era, revision);
        Input::Claimed {
            room: room.clone(),
            epoch,
        }
    }
}

impl Claim {
    fn new(meta: Meta, now: Mono) -> Claim {
        Claim {
            meta,
            held: None,
            since: now,
            not_before: Mono(0),
            told_that_it_waits: false,
            expected: None,
            told: None,
            custodian: false,
        }
    }
}

/// The epoch of a claim.
pub(super) fn epoch(era: u32, revision: i64) -> Epoch {
    Epoch {
        era,
        // etcd's revisions begin at 1 and rise.
        revision: u64::try_from(revision).unwrap_or(0),
    }
}

pub(super) fn era_problem(theirs: u32, ours: u32) -> String {
    format!(
        "registry.etcd.era is {ours} here, and others claim with {theirs}: raise it here to {theirs} and restart"
    )
}

fn not_claimed(room: &RoomId, owner: Option<NodeName>, problem: &str) -> Input {
    Input::NotClaimed {
        room: room.clone(),
        owner,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
