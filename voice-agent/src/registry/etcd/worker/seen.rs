//! What is seen in etcd, and what it means for what this agent holds and waits for.

use super::State;
use crate::{
    driver::Stopped,
    registry::etcd::{claims::epoch, clock, follow::Seen, view::Changes},
    telemetry::counters::Counter,
};
use voice_room::Epoch;

impl State {
    pub(super) async fn saw(&mut self, seen: Seen) -> Result<(), Stopped> {
        let changes = match seen {
            Seen::Lost(error) => {
                self.follows = false;
                self.unseen = Some(error.to_string());
                tracing::warn!(%error, "the registry is not followed until it answers again");
                return Ok(());
            }
            Seen::Resumed => {
                self.follows = true;
                self.unseen = None;
                return Ok(());
            }
            // At a start rooms are claimed as soon as it is known whose they are; later the whole listing comes soon enough.
            Seen::Owners { keys, revision } if self.view.revision == 0 => self.view.replace(&keys, revision),
            Seen::Owners { .. } => return Ok(()),
            Seen::Listed { keys, revision } => {
                self.follows = true;
                self.unseen = None;
                self.vigil.missed_something(clock::now());
                self.view.replace(&keys, revision)
            }
            Seen::Events { events, revision } => self.view.apply(&events, revision),
        };
        self.used = self.used.max(self.reached());
        self.changed(changes).await
    }

    /// The epoch of a claim at the newest revision seen: the next is higher.
    pub(super) fn reached(&self) -> Epoch {
        epoch(self.worker.me.era, self.view.revision)
    }

    async fn changed(&mut self, changes: Changes) -> Result<(), Stopped> {
        for foreign in &changes.foreign {
            Counter::RegistryForeign.count();
            tracing::warn!(%foreign, "in the registry");
        }
        if changes.left_out > 0 {
            Counter::RegistryTooLarge.count();
            tracing::error!(
                left_out = changes.left_out,
                "the registry has more keys than are kept; some rooms are not seen"
            );
        }
        let now = clock::now();
        let mut own_lost = false;
        for diff in &changes.diffs {
            let extra = self.chance();
            // Custody that was taken without an answer is still to be taken note of.
            let after = diff.after.as_ref();
            let unanswered = after.is_some_and(|at| self.is_own_custody(&at.value, at.lease));
            if !self.claims.knows(&diff.room) && !unanswered && !self.vigil.saw(diff, now, extra) {
                Counter::RegistryTooLarge.count();
            }
            let Some(lease) = self.lease else { continue };
            let custody = self.claims.in_custody(&diff.room).cloned();
            let after = diff.after.as_ref().map(|at| (&at.value, at.revision, at.lease));
            if let Some(input) = self.claims.changed_hands(&diff.room, after, lease, now) {
                own_lost |= after.is_none();
                self.tell(input).await?;
                // Nobody is in charge of it any more.
                if let Some(meta) = custody.filter(|meta| after.is_none() && meta.state.is_live()) {
                    self.vigil.wait(meta, now, extra);
                }
            }
        }
        if own_lost {
            // Gone with the lease, perhaps.
            self.worker.authority.check();
        }
        Ok(())
    }
}
