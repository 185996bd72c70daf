//! The one task that writes to the registry and tells the driver: it brings together what the driver asked for, what the
//! lease allows and what is seen in etcd. One transaction at a time, and after each a pause, as long as it took or longer.

mod custody;
mod pace;
mod register;
mod seen;
mod step;

use super::{
    authority::Authority,
    claims::{Claims, Me},
    clock::{self, jittered},
    desk::{Desk, Look},
    follow::Seen,
    records::Agent,
    view::View,
    vigil::Vigil,
    wire::Link,
};
use crate::{
    backoff::Backoff,
    driver::{self, Stopped},
};
use pace::Pace;
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
/// How often keys of ours that nobody wants are looked for.
const UNWANTED_EVERY: Duration = Duration::from_secs(30);

/// What others may see of the registry through this agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Rooms held.
    pub held: usize,
    /// Rooms waited for.
    pub waiting: usize,
    /// Held rooms of which there is something new to tell.
    pub untold: usize,
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
    pace: Pace,
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
            pace: Pace::from(tokio::time::Instant::now()),
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
            let (has_work, next_at) = (self.lease.is_some() && self.has_work(), self.next_at());
            tokio::select! {
                _ = self.leases.changed() => {}
                () = self.worker.desk.asked() => {}
                seen = self.worker.seen.recv() => match seen {
                    Some(seen) => self.saw(seen).await?,
                    None => return Err(Stopped),
                },
                _ = tick.tick() => self.look_after().await?,
                () = sleep_until(next_at), if has_work => {}
            }
            self.follow_lease().await?;
            self.take_asks().await?;
            self.answer_looks();
            if self.lease.is_some() && self.has_work() && tokio::time::Instant::now() >= self.next_at() {
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
                self.claims.cede(&room);
            }
            if let Some(meta) = ask.claim {
                self.vigil.forget(&room);
                self.custody.remove(&room);
                if let Some(answer) = self.claims.ask(meta, now) {
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

    /// Who asked may be gone.
    fn answer_looks(&self) {
        for Look { rooms, to } in self.worker.desk.take_looks() {
            let sight = |room: &RoomId| {
                let telling = self.claims.is_telling(room);
                self.view.sight(room, telling, &self.worker.me.address)
            };
            let answer = match self.follows {
                true => Ok(rooms.iter().map(sight).collect()),
                false => Err(self.problem()),
            };
            drop(to.send(answer));
        }
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

    async fn tell(&self, input: Input) -> Result<(), Stopped> {
        self.worker.driver.fact(input).await
    }

    fn pause(&mut self, pause: Duration) {
        self.pace.wait(tokio::time::Instant::now() + pause);
    }

    /// When the next transaction may be sent. To own a room or to give it up is urgent, to tell of it is not; nor is custody.
    fn next_at(&self) -> tokio::time::Instant {
        self.pace.next(self.claims.is_urgent(clock::now()))
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
        standing.untold = self.claims.untold();
        standing.follows = self.follows;
    }
}
