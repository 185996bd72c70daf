//! The one task that writes to the registry and tells the driver: it brings together what the driver asked for, what the
//! lease allows and what is seen in etcd. One transaction at a time, and after each a pause, as long as it took or longer.

use super::{
    authority::Authority,
    claims::{Claims, Me, epoch, era_problem},
    clock::{self, jittered},
    desk::Desk,
    error::{Cause, EtcdError},
    follow::Seen,
    records::{self, Agent, Owner, Status},
    txn::{self, Done, Part},
    view::{Changes, View},
    vigil::{Due, Vigil},
    wire::Link,
};
use crate::{
    backoff::Backoff,
    driver::{self, Stopped},
    proto::etcdserverpb as pb,
    telemetry::counters::Counter,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use voice_room::{Epoch, Input, RoomId};

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// The longest pause after a transaction.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a transaction with claims, in times that it took: others get their turn, and 10,000 rooms are claimed within
/// a second (`cargo xtask bench recovery`).
const HURRIED: f64 = 0.8;
/// The same without claims. Telling of 10,000 rooms then takes some seconds in which others hardly notice it.
const UNHURRIED: f64 = 6.0;
/// How long a room's status lasts (DESIGN 5.3: a short TTL).
const STATUS_TTL: Duration = Duration::from_secs(60);
/// How often keys of ours that nobody wants are looked for.
const UNWANTED_EVERY: Duration = Duration::from_secs(30);
/// How often what cannot be claimed for a reason of its own is tried again.
const BARRED_AGAIN: Duration = Duration::from_secs(1);

/// What others may see of the registry through this agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Rooms held.
    pub held: usize,
    /// Rooms waited for.
    pub waiting: usize,
    /// Whether the watch is up to date.
    pub follows: bool,
}

/// Its parts; made by `etcd::prepare`.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) me: Me,
    pub(super) agent: Agent,
    pub(super) grace: Duration,
    pub(super) link: Link,
    pub(super) authority: Authority,
    pub(super) desk: Arc<Desk>,
    pub(super) standing: Arc<Mutex<Standing>>,
    pub(super) driver: driver::Handle,
    pub(super) seen: mpsc::Receiver<Seen>,
}

/// What changes while it runs.
struct State {
    worker: Worker,
    leases: watch::Receiver<Option<i64>>,
    /// The lease under which rooms are held.
    lease: Option<i64>,
    /// Whether this agent's own key is on that lease.
    registered: bool,
    claims: Claims,
    view: View,
    /// Whether `view` is up to date.
    follows: bool,
    vigil: Vigil,
    /// Rooms to become custodian of.
    custody: BTreeSet<RoomId>,
    status_lease: Option<(i64, Instant)>,
    /// Before then nothing is sent.
    not_before: tokio::time::Instant,
    backoff: Backoff,
    /// Why nothing can be claimed, although there is a lease.
    barred: Option<String>,
    /// Why the last transaction failed, until one does not.
    failed: Option<String>,
    /// Why the keys are not followed, while they are not.
    unseen: Option<String>,
    /// The highest epoch that may have been used by anybody: of a revision that etcd has had.
    used: Epoch,
    unwanted_at: Instant,
}

impl Worker {
    /// Runs until the driver has ended.
    pub(super) async fn run(self) {
        let now = tokio::time::Instant::now();
        let state = State {
            leases: self.authority.subscribe(),
            lease: None,
            registered: false,
            claims: Claims::new(self.me.clone()),
            view: View::default(),
            follows: false,
            vigil: Vigil::default(),
            custody: BTreeSet::new(),
            status_lease: None,
            not_before: now,
            backoff: RETRY,
            barred: None,
            failed: None,
            unseen: None,
            used: Epoch::default(),
            unwanted_at: Instant::now(),
            worker: self,
        };
        if let Err(Stopped) = state.run().await {
            tracing::debug!("the registry ends with the driver");
        }
    }
}

impl State {
    async fn run(mut self) -> Result<(), Stopped> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_work = self.lease.is_some() && self.has_work();
            tokio::select! {
                _ = self.leases.changed() => {}
                () = self.worker.desk.asked() => {}
                seen = self.worker.seen.recv() => match seen {
                    Some(seen) => self.saw(seen).await?,
                    None => return Err(Stopped),
                },
                _ = tick.tick() => self.look_after().await?,
                () = sleep_until(self.not_before), if has_work => {}
            }
            self.follow_lease().await?;
            self.take_asks().await?;
            if self.lease.is_some() && self.has_work() && tokio::time::Instant::now() >= self.not_before {
                self.step().await?;
            }
            self.show();
        }
    }

    /// Whether there is something to send. Without a first listing it is not known what is whose.
    fn has_work(&self) -> bool {
        let next = || !self.custody.is_empty() || self.claims.has_next(clock::now());
        self.view.revision > 0 && (!self.registered || next())
    }

    /// Another lease, or none: what was held under the last is not held any more.
    async fn follow_lease(&mut self) -> Result<(), Stopped> {
        let now = self.worker.authority.lease();
        if now == self.lease {
            return Ok(());
        }
        let lost = self.lease.is_some();
        self.lease = now;
        self.registered = false;
        self.status_lease = None;
        self.custody.clear();
        if lost {
            self.claims.lost();
            self.tell(Input::LeaseLost).await?;
        }
        // Leases that ended together do not come back together.
        self.pause(jittered(Duration::from_millis(50), 1.0));
        Ok(())
    }

    async fn take_asks(&mut self) -> Result<(), Stopped> {
        let now = clock::now();
        for (room, ask) in self.worker.desk.take() {
            if ask.cede {
                self.give_up(&room);
            }
            if let Some(incarnation) = ask.claim {
                self.vigil.forget(&room);
                self.custody.remove(&room);
                if let Some(answer) = self.claims.ask(&room, incarnation, now) {
                    self.tell(answer).await?;
                }
            }
            if let Some(meta) = ask.describe {
                self.claims.describe(meta);
            }
            if let Some(reason) = ask.degraded {
                self.claims.degraded(room, reason);
            }
        }
        Ok(())
    }

    /// A room that we were custodian of and that goes on living is waited for again.
    fn give_up(&mut self, room: &RoomId) {
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

    async fn saw(&mut self, seen: Seen) -> Result<(), Stopped> {
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
    fn reached(&self) -> Epoch {
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
            if !self.claims.knows(&diff.room) && !self.vigil.saw(diff, now, extra) {
                Counter::RegistryTooLarge.count();
            }
            let Some(lease) = self.lease else { continue };
            let after = diff.after.as_ref().map(|at| (&at.value, at.revision, at.lease));
            if let Some(input) = self.claims.changed_hands(&diff.room, after, lease, now) {
                own_lost |= after.is_none();
                self.tell(input).await?;
            }
        }
        if own_lost {
            // Gone with the lease, perhaps.
            self.worker.authority.check();
        }
        Ok(())
    }

    /// Once a second.
    async fn look_after(&mut self) -> Result<(), Stopped> {
        let problem = self.problem();
        for input in self.claims.still_waiting(&problem, clock::now()) {
            self.tell(input).await?;
        }
        let Some(lease) = self.lease.filter(|_| self.follows) else {
            return Ok(());
        };
        let due = self.vigil.all_due(clock::now(), self.worker.grace);
        self.custody
            .extend(due.into_iter().filter(|room| !self.claims.knows(room)));
        if self.unwanted_at.elapsed() >= UNWANTED_EVERY {
            self.unwanted_at = Instant::now();
            self.claims.cede_unwanted(&self.view, lease);
        }
        Ok(())
    }

    /// Why claims wait.
    fn problem(&self) -> String {
        if self.lease.is_none() {
            return self.worker.authority.problem();
        }
        let mut known = [&self.barred, &self.failed, &self.unseen].into_iter().flatten();
        let unknown = || "etcd has not answered the claim yet".into();
        known.next().cloned().unwrap_or_else(unknown)
    }

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
    async fn step(&mut self) -> Result<(), Stopped> {
        let Some(lease) = self.lease else { return Ok(()) };
        let begun = Instant::now();
        match self.try_step(lease).await {
            Ok(()) => {
                self.backoff.reset();
                self.failed = None;
                // Owning is urgent, telling of it is not.
                let times = if self.claims.waiting() > 0 {
                    HURRIED
                } else {
                    UNHURRIED
                };
                self.pause(jittered(begun.elapsed().mul_f64(times), 0.5).min(LONGEST_PAUSE));
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
        let mut parts = self.claims.next(&self.view, now);
        let mut due = Vec::new();
        if parts.is_empty() {
            (parts, due) = self.custody_parts();
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

    /// Puts this agent's own key on the lease. One that another agent of our name holds is not taken from it.
    async fn register(&mut self, lease: i64) -> Result<(), Failed> {
        let key = records::agent_key(&self.worker.me.node);
        let mut expected = self
            .view
            .agents
            .get(&self.worker.me.node)
            .map_or(0, |agent| agent.revision);
        let client = self.worker.link.client().await?;
        loop {
            let request = pb::TxnRequest {
                compare: vec![txn::changed_at(&key, expected)],
                success: vec![txn::put(key.clone(), records::write(&self.worker.agent), lease)],
                failure: vec![txn::get(key.clone())],
            };
            // What is there may be another agent's only in the view.
            if let Some(agent) = self.view.agents.get(&self.worker.me.node)
                && agent.revision == expected
                && agent.value.identity != self.worker.agent.identity
            {
                return Err(Failed::Barred(self.twin(&agent.value)));
            }
            let answer = until_lost(client.txn(request), &mut self.leases).await?;
            if answer.succeeded {
                return Ok(());
            }
            let found = answer
                .responses
                .into_iter()
                .next()
                .and_then(|response| match response.response {
                    Some(pb::response_op::Response::ResponseRange(mut range)) => range.kvs.pop(),
                    _ => None,
                });
            expected = match found {
                None => 0,
                Some(kv) => match records::read::<Agent>(&kv) {
                    Ok(agent) if agent.identity == self.worker.agent.identity => kv.mod_revision,
                    Ok(agent) => return Err(Failed::Barred(self.twin(&agent))),
                    Err(foreign) => return Err(Failed::Barred(foreign.to_string())),
                },
            };
        }
    }

    fn twin(&self, other: &Agent) -> String {
        format!(
            "another agent is registered as node {} ({}, listening on {}): give each node a name of its own (node.name); if it \
             was this host before a reboot, its lease ends by itself",
            self.worker.me.node, other.identity, other.address
        )
    }

    fn custody_parts(&mut self) -> (Vec<Part>, Vec<Due>) {
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

    async fn took_custody(&mut self, due: Due, done: &Done, revision: i64) -> Result<(), Stopped> {
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

    async fn tell(&self, input: Input) -> Result<(), Stopped> {
        self.worker.driver.fact(input).await
    }

    fn pause(&mut self, pause: Duration) {
        self.not_before = tokio::time::Instant::now() + pause;
    }

    /// What a survivor waits on top of the grace.
    fn chance(&self) -> Duration {
        jittered(self.worker.grace / 20, 1.0)
    }

    fn show(&self) {
        let (held, waiting) = self.claims.count();
        let mut standing = self
            .worker
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standing.held = held;
        standing.waiting = waiting;
        standing.follows = self.follows;
    }
}

fn went_back(used: Epoch) -> String {
    format!(
        "epoch {used} was used before, and etcd would give a lower one now: it was restored from a backup, or is another etcd. \
         Raise registry.etcd.era to {} on every agent and restart them",
        used.era.saturating_add(1)
    )
}

/// Why a step was not done.
enum Failed {
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

/// The answer, unless the lease is lost before it comes.
async fn until_lost<T>(
    answer: impl Future<Output = Result<T, EtcdError>>,
    leases: &mut watch::Receiver<Option<i64>>,
) -> Result<T, Failed> {
    tokio::select! {
        answer = answer => Ok(answer?),
        _ = leases.changed() => Err(Failed::LeaseLost),
    }
}
