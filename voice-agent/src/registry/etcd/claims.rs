//! Which rooms this agent wants, holds and has told of, and what etcd's answers mean for each. No I/O; the time is an
//! argument.

use super::{
    records::{self, Owner, Room, Status},
    txn::{Done, OPERATIONS, Part},
    view::{At, View},
};
use crate::{proto::mvccpb::KeyValue, telemetry::counters::Counter};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use voice_room::{Epoch, Incarnation, Input, Mono, NodeName, RoomId, command::Meta};

/// A claim that waits so long is told, so that the core can say why nothing is stored.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// What is not ours under a room's key is looked at again after so long.
const FOREIGN_AGAIN: Duration = Duration::from_secs(10);

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
    rooms: BTreeMap<RoomId, Claim>,
    /// Those that are wanted and not held.
    asked: BTreeSet<RoomId>,
    /// Those that are held and of which there is something new to tell.
    untold: BTreeSet<RoomId>,
    /// Those that are held and served less well, with why, until it is told.
    degraded: BTreeMap<RoomId, String>,
    /// Those given up whose keys are still there, with the revision of our claim.
    ceded: BTreeMap<RoomId, i64>,
}

#[derive(Debug)]
struct Claim {
    incarnation: Incarnation,
    /// The revision of our key, under the present lease.
    held: Option<i64>,
    /// Since when it is asked for.
    since: Mono,
    not_before: Mono,
    told_that_it_waits: bool,
    /// What has to be under the owner's key for our claim, as etcd has answered: its revision, 0 for nothing. Until then it
    /// is as the view has it.
    expected: Option<i64>,
    meta: Option<Meta>,
    /// The revision of what was told last; until something was, it is as the view has it.
    told: Option<i64>,
    /// Held only to end it.
    custodian: bool,
}

/// What stands under an owner's key, for one who wants to claim it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Ours under this lease, by the claim of this revision.
    Ours(i64),
    /// May be claimed over this revision: nobody's (0), ours of an older lease, or a custodian's.
    Free(i64),
    /// Somebody else's.
    Theirs(NodeName),
    /// May not be touched.
    Untouchable(String),
}

impl Claims {
    pub(super) fn new(me: Me) -> Claims {
        Claims {
            me,
            rooms: BTreeMap::new(),
            asked: BTreeSet::new(),
            untold: BTreeSet::new(),
            degraded: BTreeMap::new(),
            ceded: BTreeMap::new(),
        }
    }

    /// Rooms held, and rooms waited for.
    pub(super) fn count(&self) -> (usize, usize) {
        (
            self.rooms.values().filter(|claim| claim.held.is_some()).count(),
            self.asked.len(),
        )
    }

    /// Rooms waited for.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// What is known of a room that is held as its custodian.
    pub(super) fn in_custody(&self, room: &RoomId) -> Option<&Meta> {
        self.rooms
            .get(room)
            .filter(|claim| claim.custodian)?
            .meta
            .as_ref()
    }

    /// The core wants this room. Answered at once if it is held already.
    pub(super) fn ask(&mut self, room: &RoomId, incarnation: Incarnation, now: Mono) -> Option<Input> {
        self.ceded.remove(room);
        let claim = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Claim::new(incarnation, now));
        claim.incarnation = incarnation;
        let in_custody = std::mem::take(&mut claim.custodian);
        match claim.held {
            Some(revision) if !in_custody => return Some(self.claimed(room, revision)),
            // Claimed anew, as its owner: then nobody else may take it any more.
            Some(_) => claim.held = None,
            None => {}
        }
        claim.since = now;
        claim.not_before = Mono(0);
        claim.told_that_it_waits = false;
        claim.expected = None;
        claim.told = None;
        self.asked.insert(room.clone());
        None
    }

    /// The core needs the room no more.
    pub(super) fn cede(&mut self, room: &RoomId) {
        self.asked.remove(room);
        self.untold.remove(room);
        self.degraded.remove(room);
        let claim = self.rooms.remove(room);
        if let Some(held) = claim.and_then(|claim| claim.held) {
            self.ceded.insert(room.clone(), held);
        }
    }

    /// What the core says of a room is told once the room is held.
    pub(super) fn describe(&mut self, meta: Meta) {
        let Some(claim) = self.rooms.get_mut(&meta.room) else {
            return;
        };
        if claim.held.is_some() {
            self.untold.insert(meta.room.clone());
        }
        claim.meta = Some(meta);
    }

    /// A held room is served less well. Of one that is not, nobody is told: it may be another's.
    pub(super) fn degraded(&mut self, room: RoomId, reason: String) {
        if self.rooms.get(&room).is_some_and(|claim| claim.held.is_some()) {
            self.degraded.insert(room, reason);
        }
    }

    /// This agent is custodian of the room.
    pub(super) fn hold(&mut self, meta: Meta, revision: i64, now: Mono) {
        let mut claim = Claim::new(meta.incarnation, now);
        claim.held = Some(revision);
        claim.custodian = true;
        let room = meta.room.clone();
        claim.meta = Some(meta);
        self.rooms.insert(room, claim);
    }

    /// The lease is over: nothing is held, and the core asks anew for what it wants.
    pub(super) fn lost(&mut self) {
        self.untold.clear();
        self.degraded.clear();
        self.ceded.clear();
        self.rooms
            .retain(|_, claim| !std::mem::take(&mut claim.held).is_some_and(|_| claim.custodian));
    }

    /// What we believed to hold under this key is not ours any more, or was never taken back: `after` is there instead.
    pub(super) fn changed_hands(
        &mut self,
        room: &RoomId,
        after: Option<(&Owner, i64, i64)>,
        lease: i64,
        now: Mono,
    ) -> Option<Input> {
        let claim = self.rooms.get_mut(room)?;
        let held = claim.held?;
        match after {
            // What we know better: an event from before our claim, or of it.
            Some((_, revision, _)) if revision <= held => None,
            Some((owner, revision, on)) if owner.node == self.me.node && on == lease => {
                claim.held = Some(revision);
                Some(self.claimed(room, revision))
            }
            Some((owner, ..)) if owner.node != self.me.node => {
                Counter::RegistryOvertaken.count();
                let owner = owner.node.clone();
                self.asked.remove(room);
                self.untold.remove(room);
                self.degraded.remove(room);
                self.rooms.remove(room);
                Some(not_claimed(room, Some(owner), "another agent has claimed it"))
            }
            _ => {
                Counter::RegistryOvertaken.count();
                *claim = Claim {
                    meta: claim.meta.take(),
                    told_that_it_waits: true,
                    ..Claim::new(claim.incarnation, now)
                };
                self.untold.remove(room);
                self.degraded.remove(room);
                self.asked.insert(room.clone());
                Some(not_claimed(room, None, "its key is gone; it is claimed anew"))
            }
        }
    }

    /// Whether there is something to do.
    pub(super) fn has_next(&self, now: Mono) -> bool {
        let ready = |room| {
            self.rooms
                .get(room)
                .is_some_and(|claim: &Claim| claim.not_before <= now)
        };
        let held = |room| {
            self.rooms
                .get(room)
                .is_some_and(|claim: &Claim| claim.held.is_some())
        };
        !self.ceded.is_empty()
            || !self.untold.is_empty()
            || self.degraded.keys().any(held)
            || self.asked.iter().any(ready)
    }

    /// What to do next, in one transaction: give up, then claim, then tell, then tell of what is degraded.
    pub(super) fn next(&self, view: &View, now: Mono) -> Vec<Part> {
        let mut left = OPERATIONS;
        let ceded = self.ceded.iter().map(|(room, held)| Part::Cede {
            room: room.clone(),
            held: *held,
        });
        let asked = self
            .asked
            .iter()
            .filter_map(|room| self.claim_of(room, view, now));
        let untold = self.untold.iter().filter_map(|room| self.telling_of(room, view));
        let degraded = self
            .degraded
            .iter()
            .filter_map(|(room, why)| self.degraded_part(room, why));
        // A room stands in one of the first three only, and the last writes another key than they.
        let all = ceded.chain(asked).chain(untold).chain(degraded);
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
            incarnation: claim.incarnation,
            era: self.me.era,
            custodian: false,
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
            told: Room::of(claim.meta.as_ref()?, &self.me.address),
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

    /// Takes note of what became of a part that was carried out at `revision` under `lease`.
    pub(super) fn done(
        &mut self,
        part: &Part,
        done: &Done,
        revision: i64,
        lease: i64,
        now: Mono,
    ) -> Option<Input> {
        match (part, done) {
            (Part::Claim { room, .. }, Done::Written) => self.won(room, revision),
            (Part::Claim { room, .. }, Done::Differs(owner, _)) => {
                self.not_won(room, owner.as_ref(), lease, now)
            }
            (Part::Describe { room, told, .. }, Done::Written) => {
                let claim = self.rooms.get_mut(room)?;
                claim.told = Some(revision);
                let newer = claim
                    .meta
                    .as_ref()
                    .is_some_and(|meta| Room::of(meta, &self.me.address) != *told);
                if !newer {
                    self.untold.remove(room);
                }
                None
            }
            (Part::Describe { room, held, .. }, Done::Differs(owner, there)) => {
                self.not_told(room, *held, owner.as_ref(), there.as_ref(), lease, now)
            }
            (Part::Cede { room, held }, _) => {
                // Given up, or not ours any more.
                if self.ceded.get(room) == Some(held) {
                    self.ceded.remove(room);
                }
                None
            }
            (Part::Degraded { room, status, .. }, _) => {
                // Told, or not ours to tell. It may be so for another reason meanwhile.
                if self.degraded.get(room) == Some(&status.reason) {
                    self.degraded.remove(room);
                }
                None
            }
            (Part::Custody { .. }, _) => None,
        }
    }

    fn won(&mut self, room: &RoomId, revision: i64) -> Option<Input> {
        Counter::RegistryClaimed.count();
        self.asked.remove(room);
        let Some(claim) = self.rooms.get_mut(room) else {
            // Given up while the claim was under way.
            self.ceded.insert(room.clone(), revision);
            return None;
        };
        claim.held = Some(revision);
        if claim.meta.is_some() {
            self.untold.insert(room.clone());
        }
        Some(self.claimed(room, revision))
    }

    fn not_won(&mut self, room: &RoomId, found: Option<&KeyValue>, lease: i64, now: Mono) -> Option<Input> {
        let found = self.judge(found, lease);
        if let Found::Ours(revision) = found {
            // An earlier try that was not answered has won.
            return self.won(room, revision);
        }
        let claim = self.rooms.get_mut(room)?;
        match found {
            Found::Ours(_) => None,
            Found::Free(revision) => {
                claim.expected = Some(revision);
                None
            }
            Found::Theirs(node) => {
                Counter::RegistryTaken.count();
                self.asked.remove(room);
                self.rooms.remove(room);
                Some(not_claimed(room, Some(node), "another agent owns it"))
            }
            Found::Untouchable(problem) => {
                claim.not_before = now + FOREIGN_AGAIN;
                claim.expected = None;
                let new = !std::mem::replace(&mut claim.told_that_it_waits, true);
                new.then(|| not_claimed(room, None, &problem))
            }
        }
    }

    /// The metadata was not written: the room is not ours any more, or something else was told of it.
    fn not_told(
        &mut self,
        room: &RoomId,
        held: i64,
        owner: Option<&KeyValue>,
        there: Option<&KeyValue>,
        lease: i64,
        now: Mono,
    ) -> Option<Input> {
        if owner.map(|kv| kv.mod_revision) != Some(held) {
            let value = owner.and_then(|kv| Some((records::read::<Owner>(kv).ok()?, kv)));
            let after = value
                .as_ref()
                .map(|(owner, kv)| (owner, kv.mod_revision, kv.lease));
            return self.changed_hands(room, after, lease, now);
        }
        Counter::RegistryConflict.count();
        match there.map(records::read::<Room>) {
            Some(Err(foreign)) => {
                Counter::RegistryForeign.count();
                tracing::warn!(%foreign, "a room's metadata is not told");
                self.untold.remove(room);
            }
            current => {
                // We own the room, so what we say of it stands in place of what an owner before us said.
                tracing::debug!(%room, ?current, "a room's metadata was of another revision; written over it");
                if let Some(claim) = self.rooms.get_mut(room) {
                    claim.told = Some(there.map_or(0, |kv| kv.mod_revision));
                }
            }
        }
        None
    }

    fn judge(&self, found: Option<&KeyValue>, lease: i64) -> Found {
        let Some(kv) = found else { return Found::Free(0) };
        let owner = match records::read::<Owner>(kv) {
            Ok(owner) => owner,
            Err(foreign) => {
                Counter::RegistryForeign.count();
                return Found::Untouchable(foreign.to_string());
            }
        };
        if owner.era > self.me.era {
            return Found::Untouchable(era_problem(owner.era, self.me.era));
        }
        match owner.node == self.me.node {
            true if kv.lease == lease && !owner.custodian => Found::Ours(kv.mod_revision),
            true => Found::Free(kv.mod_revision),
            false if owner.custodian => Found::Free(kv.mod_revision),
            false => Found::Theirs(owner.node),
        }
    }

    /// Claims that have waited for long and were not told to, with why.
    pub(super) fn still_waiting(&mut self, problem: &str, now: Mono) -> Vec<Input> {
        let mut inputs = Vec::new();
        for room in &self.asked {
            if let Some(claim) = self.rooms.get_mut(room)
                && !claim.told_that_it_waits
                && now.since(claim.since) >= TELL_AFTER
            {
                claim.told_that_it_waits = true;
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
        let unwanted = ours.filter(|(room, _)| !self.rooms.contains_key(*room));
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
    fn new(incarnation: Incarnation, now: Mono) -> Claim {
        Claim {
            incarnation,
            held: None,
            since: now,
            not_before: Mono(0),
            told_that_it_waits: false,
            expected: None,
            meta: None,
            told: None,
            custodian: false,
        }
    }
}

/// Of what is there; 0: nothing.
fn revision<T>(at: Option<&At<T>>) -> i64 {
    at.map_or(0, |at| at.revision)
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
