//! Rooms whose owner's lease ended for good: becoming their custodian, and waiting on if they live.

use super::State;
use crate::{
    driver::Stopped,
    registry::etcd::{
        claims::epoch,
        clock::{self, jittered},
        records::{Owner, Status},
        txn::{self, Done, Part},
        vigil::Due,
    },
    telemetry::counters::Counter,
};
use std::time::Duration;
use voice_room::{Input, RoomId};

impl State {
    /// A room that we were custodian of and that goes on living is waited for again.
    pub(super) fn give_up(&mut self, room: &RoomId) {
        let meta = self
            .claims
            .in_custody(room)
            .filter(|meta| meta.state.is_live())
            .cloned();
        self.claims.cede(room);
        if let Some(meta) = meta {
            self.vigil.wait(meta, clock::now(), self.chance());
        }
    }

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
        if *done != Done::Written {
            // Somebody owns it, or claimed it a moment ago; the watch tells who.
            let chance = self.chance();
            self.vigil.wait(due.meta, clock::now(), chance);
            return Ok(());
        }
        Counter::RegistryCustody.count();
        tracing::warn!(%room, lost_for = ?due.lost_for, "custodian of a room whose owner is gone");
        self.vigil.forget(&room);
        self.claims.hold(due.meta.clone(), revision, clock::now());
        let input = Input::OwnerGone {
            meta: due.meta,
            epoch: epoch(self.worker.me.era, revision),
            lost_for: due.lost_for,
        };
        self.tell(input).await
    }

    /// What a survivor waits on top of the grace.
    pub(super) fn chance(&self) -> Duration {
        jittered(self.worker.grace / 20, 1.0)
    }
}
