//! What etcd's answers mean for each room.

use super::{Claims, era_problem, not_claimed};
use crate::{
    proto::mvccpb::KeyValue,
    registry::etcd::{
        records::{self, Owner, Room},
        txn::{Done, Part},
    },
    telemetry::counters::Counter,
};
use std::time::Duration;
use voice_room::{Input, Mono, NodeName, RoomId};

/// What is not ours under a room's key is looked at again after so long.
pub(super) const FOREIGN_AGAIN: Duration = Duration::from_secs(10);

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
    /// Takes note of what became of a part that was carried out at `revision` under `lease`.
    pub(in super::super) fn done(
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
                let address = &self.me.address;
                let newer = self.rooms.change(room, |claim| {
                    claim.told = Some(revision);
                    Room::of(&claim.meta, address) != *told
                })?;
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
        let won = self.rooms.change(room, |claim| {
            claim.held = Some(revision);
            claim.meta.state.is_live()
        });
        let Some(live) = won else {
            // Given up while the claim was under way.
            self.ceded.insert(room.clone(), revision);
            return None;
        };
        self.untold.insert(room.clone(), live);
        Some(self.claimed(room, revision))
    }

    fn not_won(&mut self, room: &RoomId, found: Option<&KeyValue>, lease: i64, now: Mono) -> Option<Input> {
        let found = self.judge(found, lease);
        if let Found::Ours(revision) = found {
            // An earlier try that was not answered has won.
            return self.won(room, revision);
        }
        match found {
            Found::Ours(_) => None,
            Found::Free(revision) => {
                self.rooms.change(room, |claim| claim.expected = Some(revision));
                None
            }
            Found::Theirs(node) => {
                self.forget(room)?;
                Counter::RegistryTaken.count();
                Some(not_claimed(room, Some(node), "another agent owns it"))
            }
            Found::Untouchable(problem) => {
                let new = self.rooms.change(room, |claim| {
                    claim.not_before = now + FOREIGN_AGAIN;
                    claim.expected = None;
                    !std::mem::replace(&mut claim.told_that_it_waits, true)
                })?;
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
        // We own the room, so what we say of it stands in place of whatever is there: what an owner before us said, or
        // what is none of ours.
        match there.map(records::read::<Room>) {
            Some(Err(foreign)) => {
                Counter::RegistryForeign.count();
                tracing::warn!(%foreign, "written over: the room is held here");
            }
            current => {
                tracing::debug!(%room, ?current, "a room's metadata was of another revision; written over it");
            }
        }
        let revision = there.map_or(0, |kv| kv.mod_revision);
        self.rooms.change(room, |claim| claim.told = Some(revision));
        None
    }

    fn judge(&self, found: Option<&KeyValue>, lease: i64) -> Found {
        let Some(kv) = found else { return Found::Free(0) };
        let owner = match records::read::<Owner>(kv) {
            Ok(owner) => owner,
            // On our lease nobody else writes: it is ours, whatever it says.
            Err(_) if kv.lease == lease => return Found::Free(kv.mod_revision),
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
}
