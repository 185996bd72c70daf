//! Rooms whose owner's lease ended for good: becoming their custodian.

use super::State;
use crate::{
    driver::Stopped,
    proto::mvccpb::KeyValue,
    registry::etcd::{
        claims::epoch,
        clock::{self, jittered},
        records::{self, Owner, Room, Status},
        txn::{self, Done, Part},
        vigil::Due,
    },
    telemetry::counters::Counter,
};
use std::time::Duration;
use voice_room::Input;

impl State {
    pub(super) fn custody_parts(&mut self) -> (Vec<Part>, Vec<Due>) {
        let now = clock::now();
        let (mut parts, mut dues) = (Vec::new(), Vec::new());
        let mut left = txn::OPERATIONS;
        while let Some(room) = self.custody.pop_first() {
            let Some(due) = self.vigil.due(&room, now, self.worker.grace) else {
                continue;
            };
            let owner = Owner {
                node: self.worker.me.node.clone(),
                incarnation: due.meta.incarnation,
                era: self.worker.me.era,
                custodian: true,
                room: Some(Room::of(&due.meta, &self.worker.me.address)),
            };
            let status = Status {
                status: "degraded".into(),
                by: self.worker.me.node.clone(),
                reason: format!("its owner's lease ended {} s ago", due.lost_for.as_secs()),
            };
            let part = Part::Custody {
                room: room.clone(),
                owner,
                status,
            };
            if part.operations() > left {
                self.custody.insert(room);
                break;
            }
            left -= part.operations();
            parts.push(part);
            dues.push(due);
        }
        (parts, dues)
    }

    pub(super) async fn took_custody(&mut self, due: Due, done: &Done, revision: i64) -> Result<(), Stopped> {
        let room = due.meta.room.clone();
        let taken = match done {
            Done::Written => Some(revision),
            Done::Differs(there, _) => there.as_ref().and_then(|kv| self.own_custody(kv)),
        };
        let Some(revision) = taken else {
            // Somebody owns it, or claimed it a moment ago; the watch tells who.
            let chance = self.chance();
            self.vigil.wait(due.meta, clock::now(), chance);
            return Ok(());
        };
        Counter::RegistryCustody.count();
        tracing::warn!(%room, lost_for = ?due.lost_for, "custodian of a room whose owner is gone");
        self.vigil.forget(&room);
        self.claims.hold(due.meta.clone(), revision, clock::now());
        let input = Input::OwnerGone {
            meta: due.meta,
            epoch: epoch(self.worker.me.era, revision),
            lost_for: due.lost_for,
            grace: self.worker.grace,
        };
        self.tell(input).await
    }

    /// The revision of an earlier try that was not answered, and by which this agent is custodian.
    fn own_custody(&self, there: &KeyValue) -> Option<i64> {
        let owner = records::read::<Owner>(there).ok()?;
        let ours = self.is_own_custody(&owner, there.lease);
        ours.then_some(there.mod_revision)
    }

    pub(super) fn is_own_custody(&self, owner: &Owner, lease: i64) -> bool {
        owner.custodian && owner.node == self.worker.me.node && Some(lease) == self.lease
    }

    /// What a survivor waits on top of the grace.
    pub(super) fn chance(&self) -> Duration {
        jittered(self.worker.grace / 20, 1.0)
    }
}
