//! One transaction after the other: when, how large a pause, and what is done when it fails.

use super::State;
use crate::{
    driver::Stopped,
    registry::etcd::{
        claims::{epoch, era_problem},
        clock::{self, jittered},
        error::{Cause, EtcdError},
        txn::{self, Done, Part},
    },
    telemetry::counters::Counter,
};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use voice_room::Epoch;

/// How long a room's status lasts (DESIGN 5.3: a short TTL).
const STATUS_TTL: Duration = Duration::from_secs(60);
/// How often what cannot be claimed for a reason of its own is tried again.
const BARRED_AGAIN: Duration = Duration::from_secs(1);

/// Why a step was not done.
pub(super) enum Failed {
    Etcd(EtcdError),
    Driver(Stopped),
    Barred(String),
    LeaseLost,
}

impl From<EtcdError> for Failed {
    fn from(error: EtcdError) -> Failed {
        Failed::Etcd(error)
    }
}

impl State {
    /// Why nothing may be claimed now.
    fn bar(&self) -> Option<String> {
        let (era, ours) = (self.view.highest_era(), self.worker.me.era);
        if era > ours {
            return Some(era_problem(era, ours));
        }
        let used = self.used.max(self.worker.desk.known());
        (used > self.reached()).then(|| went_back(used))
    }

    /// One transaction.
    pub(super) async fn step(&mut self) -> Result<(), Stopped> {
        let Some(lease) = self.lease else { return Ok(()) };
        let begun = Instant::now();
        match self.try_step(lease).await {
            Ok(()) => {
                self.backoff.reset();
                self.failed = None;
                let spread = |pause| jittered(pause, 0.5);
                self.pace
                    .sent(tokio::time::Instant::now(), begun.elapsed(), spread);
                Ok(())
            }
            Err(Failed::Driver(stopped)) => Err(stopped),
            Err(Failed::Etcd(error)) => {
                self.failed(&error);
                Ok(())
            }
            Err(Failed::Barred(problem)) => {
                if self.barred.as_ref() != Some(&problem) {
                    Counter::RegistryBarred.count();
                    tracing::error!(problem, "no room can be claimed");
                }
                self.barred = Some(problem);
                self.pause(jittered(BARRED_AGAIN, 0.2));
                Ok(())
            }
            // The lease changed meanwhile; what became of the transaction is of no interest.
            Err(Failed::LeaseLost) => Ok(()),
        }
    }

    fn failed(&mut self, error: &EtcdError) {
        Counter::RegistryFailed.count();
        tracing::warn!(%error, "the registry; trying again");
        if error.cause == Cause::LeaseGone {
            self.worker.authority.check();
        }
        self.worker.link.failed();
        self.failed = Some(error.to_string());
        let wait = self.backoff.wait();
        self.pause(wait);
    }

    async fn try_step(&mut self, lease: i64) -> Result<(), Failed> {
        if let Some(problem) = self.bar() {
            self.registered = false;
            return Err(Failed::Barred(problem));
        }
        if !self.registered {
            self.register(lease).await?;
            self.registered = true;
            self.barred = None;
        }
        let now = clock::now();
        // Before what there may always be more of.
        let (mut parts, due) = match self.claims.comes_first(now) {
            true => (Vec::new(), Vec::new()),
            false => self.custody_parts(),
        };
        if parts.is_empty() {
            parts = self.claims.next(&self.view, now);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let client = self.worker.link.client().await?;
        let status_lease = if parts.iter().any(Part::has_status) {
            self.status_lease().await?
        } else {
            0
        };
        let carried_out = txn::carry_out(&client, &parts, lease, status_lease);
        let (revision, done) = until_lost(carried_out, &mut self.leases).await?;
        // Written under a lease that is over by now, it is worth nothing.
        if self.worker.authority.lease() != Some(lease) {
            return Err(Failed::LeaseLost);
        }
        // etcd was restored from a backup a moment ago, and the watch has not noticed yet.
        let now_at = epoch(self.worker.me.era, revision);
        if now_at < self.used || (now_at == self.used && done.contains(&Done::Written)) {
            return Err(Failed::Barred(went_back(self.used)));
        }
        for (part, done) in parts.iter().zip(&done) {
            if let Some(input) = self.claims.done(part, done, revision, lease, now) {
                self.tell(input).await.map_err(Failed::Driver)?;
            }
        }
        for (due, done) in due.into_iter().zip(&done) {
            self.took_custody(due, done, revision)
                .await
                .map_err(Failed::Driver)?;
        }
        Ok(())
    }

    /// A lease for statuses, with most of its time left.
    async fn status_lease(&mut self) -> Result<i64, Failed> {
        if let Some((lease, granted)) = self.status_lease
            && granted.elapsed() < STATUS_TTL / 4
        {
            return Ok(lease);
        }
        let client = self.worker.link.client().await?;
        let (lease, _) = client.grant(STATUS_TTL).await?;
        self.status_lease = Some((lease, Instant::now()));
        Ok(lease)
    }
}

fn went_back(used: Epoch) -> String {
    format!(
        "epoch {used} was used before, and etcd would give a lower one now: it was restored from a backup, or is another etcd. \
         Raise registry.etcd.era to {} on every agent and restart them",
        used.era.saturating_add(1)
    )
}

/// The answer, unless the lease is lost before it comes.
pub(super) async fn until_lost<T>(
    answer: impl Future<Output = Result<T, EtcdError>>,
    leases: &mut watch::Receiver<Option<i64>>,
) -> Result<T, Failed> {
    tokio::select! {
        answer = answer => Ok(answer?),
        _ = leases.changed() => Err(Failed::LeaseLost),
    }
}
