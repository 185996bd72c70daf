//! Maintenance: orders from the admin service to the core, and what is in force to the journal.

use super::{Driver, clock::now};
use crate::{store::StoreError, telemetry::counters};
use std::{future::Future, time::Duration};
use tokio::sync::oneshot;
use voice_room::{
    Input, Maintenance, Rejected, RoomId,
    input::{Order, ReplyId},
    timeline::Actor,
};

/// Why an order was not carried out, or not in full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMaintained {
    /// Refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Rejected),
    /// In force in this agent, but the journal does not have it.
    #[error("in force, but not written: a restart of the agent would not know: {0}")]
    NotKept(#[from] StoreError),
}

impl Driver {
    /// An order of an operator. `lasts` is `None` to end it.
    pub(super) fn order(
        &mut self,
        room: Option<RoomId>,
        lasts: Option<Duration>,
        reason: String,
        actor: Actor,
        to: oneshot::Sender<Result<(), NotMaintained>>,
    ) {
        let about = room.as_ref().map_or("every room", |r| r.as_str());
        tracing::warn!(room = about, ?lasts, reason, %actor, "maintenance by command");
        let reply = self.next_reply();
        self.maintaining.insert(reply, to);
        let order = Order {
            room,
            until: lasts.map(|d| now().mono + d),
            reason,
            actor,
        };
        self.take(Input::Maintenance(order, Some(reply)));
    }

    pub(super) fn refuse_order(&mut self, reply: ReplyId, why: Rejected) {
        if let Some(to) = self.maintaining.remove(&reply) {
            counters::note("maintenance_refused");
            drop(to.send(Err(why.into())));
        }
    }

    pub(super) fn keep_maintenance(&mut self, notice: Maintenance, reply: Option<ReplyId>) {
        let written = self.journal.maintain(notice);
        self.answer_order(written, reply);
    }

    pub(super) fn forget_maintenance(&mut self, room: Option<RoomId>, reply: Option<ReplyId>) {
        let written = self.journal.end_maintenance(room);
        self.answer_order(written, reply);
    }

    fn answer_order(
        &mut self,
        written: impl Future<Output = Result<(), StoreError>> + Send + 'static,
        reply: Option<ReplyId>,
    ) {
        let to = reply.and_then(|id| self.maintaining.remove(&id));
        self.tasks.spawn(async move {
            let result = written.await;
            if let Err(error) = &result {
                counters::note("maintenance_not_kept");
                tracing::error!(%error, "maintenance is in force, but the journal does not have it");
            }
            if let Some(to) = to {
                // Who asked may be gone; it is in force all the same.
                drop(to.send(result.map_err(NotMaintained::from)));
            }
        });
    }
}
