//! How well what this agent depends on does: Redis, etcd, the media servers and the history, one `Health` each (DESIGN 6).
//! Watched here, told to people, and asked by the sessions before they let somebody new in.
//!
//! No tier stops a trip, a heartbeat, a push or a returning peer: these need this host only.

use crate::{driver, history::History, registry::etcd::Prober, store::Redis, telemetry::Counter};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use voice_room::{
    Mono,
    tier::{Change, Health, Limits, Outcome, Tier, Work},
};

/// How often time alone is looked at; a probe is due every 500 ms.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A probe that is not answered within this has failed.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// What is depended on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The shared store.
    Redis,
    /// The shared registry.
    Etcd,
    /// The media servers that tell of their rooms, together.
    Media,
    /// What keeps snapshots: its disk, or its database and the spool before that.
    History,
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dependency::Redis => "redis",
            Dependency::Etcd => "etcd",
            Dependency::Media => "media",
            Dependency::History => "history",
        })
    }
}

/// Each dependency there is. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tiers(Arc<Mutex<BTreeMap<Dependency, Health>>>);

/// One dependency, for people and programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierView {
    /// Which.
    pub dependency: Dependency,
    /// How it does.
    pub tier: Tier,
    /// For how long.
    pub lasts: Duration,
}

impl Tiers {
    /// A media server told of its rooms. The first one makes media servers a dependency.
    pub fn heartbeat(&self, every: Duration) {
        self.begin(Dependency::Media, Limits::media(every));
        self.call(Dependency::Media, Outcome::Answered);
    }

    /// What became of a call. Of what is not depended on nothing is kept.
    pub fn call(&self, dependency: Dependency, outcome: Outcome) {
        self.with(dependency, |health, now| health.call(now, outcome));
    }

    /// Why nobody new may come now, and when it is worth asking again: what is shared is Broken.
    pub fn refuses_new(&self) -> Option<(Dependency, Duration)> {
        let now = driver::now().mono;
        let all = self.all();
        let shared = [Dependency::Redis, Dependency::Etcd].into_iter();
        let mut broken = shared.filter_map(|d| Some((d, all.get(&d).filter(|h| h.tier() == Tier::Broken)?)));
        let (dependency, health) = broken.next()?;
        let not_now = health.allows(now, Work::New).err()?;
        Some((dependency, not_now.retry_after))
    }

    /// Every one.
    pub fn views(&self) -> Vec<TierView> {
        let now = driver::now().mono;
        let view = |(dependency, health): (&Dependency, &Health)| TierView {
            dependency: *dependency,
            tier: health.tier(),
            lasts: now.since(health.since()),
        };
        self.all().iter().map(view).collect()
    }

    fn begin(&self, dependency: Dependency, limits: Limits) {
        let now = driver::now().mono;
        let mut all = self.all();
        all.entry(dependency).or_insert_with(|| Health::new(limits, now));
    }

    fn with(&self, dependency: Dependency, judge: impl FnOnce(&mut Health, Mono) -> Option<Change>) {
        let now = driver::now().mono;
        let change = self
            .all()
            .get_mut(&dependency)
            .and_then(|health| judge(health, now));
        if let Some(change) = change {
            tell(dependency, change);
        }
    }

    fn probe_due(&self, dependency: Dependency) -> bool {
        let now = driver::now().mono;
        let mut all = self.all();
        let due = all.get_mut(&dependency).filter(|health| health.probe_due(now));
        due.map(|health| health.probe_begins(now)).is_some()
    }

    /// Looks at each until `stop`, and probes Redis, etcd and the history.
    pub async fn watch(
        self,
        redis: Option<Redis>,
        etcd: Option<Prober>,
        history: Option<History>,
        stop: CancellationToken,
    ) {
        let redis = redis.map_or(Probe::Nothing, Probe::Redis);
        let etcd = etcd.map_or(Probe::Nothing, |etcd| Probe::Etcd(Box::new(etcd)));
        let history = history.map_or(Probe::Nothing, |history| Probe::History(Box::new(history)));
        for (dependency, probe) in [
            (Dependency::Redis, &redis),
            (Dependency::Etcd, &etcd),
            (Dependency::History, &history),
        ] {
            if !matches!(probe, Probe::Nothing) {
                self.begin(dependency, Limits::PROBED);
            }
        }
        let all = async {
            tokio::join!(
                self.look(Dependency::Redis, redis),
                self.look(Dependency::Etcd, etcd),
                self.look(Dependency::Media, Probe::Nothing),
                self.look(Dependency::History, history),
            )
        };
        stop.run_until_cancelled(all).await;
    }

    async fn look(&self, dependency: Dependency, mut probe: Probe) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.with(dependency, Health::tick);
            if self.probe_due(dependency) {
                let answered = timeout(PROBE_WITHIN, probe.answers()).await.unwrap_or(false);
                let outcome = match answered {
                    true => Outcome::Answered,
                    false => Outcome::Unavailable,
                };
                self.with(dependency, |health, now| health.probe(now, outcome));
            }
        }
    }

    /// A panic while it was held left whole values behind.
    fn all(&self) -> MutexGuard<'_, BTreeMap<Dependency, Health>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a dependency is asked.
enum Probe {
    Redis(Redis),
    Etcd(Box<Prober>),
    History(Box<History>),
    /// Not at all: it speaks by itself, or is not used.
    Nothing,
}

impl Probe {
    async fn answers(&mut self) -> bool {
        match self {
            Probe::Redis(redis) => redis.ping().await.is_ok(),
            Probe::Etcd(etcd) => etcd.answers().await,
            Probe::History(history) => history.works().await,
            Probe::Nothing => false,
        }
    }
}

fn tell(dependency: Dependency, change: Change) {
    let Change { from, to, why } = change;
    match to {
        Tier::Healthy => {
            tracing::info!(%dependency, %from, %to, "{dependency} is {to} again: {why}");
        }
        Tier::Degraded => {
            Counter::DependencyDegraded.count();
            tracing::warn!(%dependency, %from, %to, "{dependency} is {to}: {why}");
        }
        Tier::Broken => {
            Counter::DependencyBroken.count();
            tracing::error!(%dependency, %from, %to, "{dependency} is {to}: {why}; rooms are watched and cut all the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells what became of a probe at a later time.
    fn probe_at(tiers: &Tiers, which: Dependency, seconds: u64, outcome: Outcome) {
        let later = driver::now().mono + Duration::from_secs(seconds);
        tiers.with(which, |health, _| health.probe(later, outcome));
    }

    #[test]
    fn nobody_new_is_refused_until_what_is_shared_is_broken_and_then_with_the_time_to_wait() {
        for which in [Dependency::Redis, Dependency::Etcd] {
            let tiers = Tiers::default();
            assert_eq!(tiers.refuses_new(), None, "nothing is depended on");
            tiers.begin(which, Limits::PROBED);
            probe_at(&tiers, which, 1, Outcome::Unavailable);
            probe_at(&tiers, which, 2, Outcome::Unavailable);
            assert_eq!(tiers.views()[0].tier, Tier::Degraded);
            assert_eq!(
                tiers.refuses_new(),
                None,
                "one that comes and hears of trips is worth more"
            );
            probe_at(&tiers, which, 18, Outcome::Unavailable);
            assert_eq!(tiers.views()[0].tier, Tier::Broken);
            let (dependency, wait) = tiers.refuses_new().unwrap();
            assert_eq!(dependency, which);
            assert!(wait >= Duration::from_secs(30), "{wait:?}");
            probe_at(&tiers, which, 60, Outcome::Answered);
            assert_eq!(
                (tiers.views()[0].tier, tiers.refuses_new()),
                (Tier::Healthy, None)
            );
        }
    }

    #[test]
    fn media_servers_that_are_silent_are_said_to_be_and_refuse_nobody() {
        let tiers = Tiers::default();
        tiers.heartbeat(Duration::from_secs(5));
        let later = driver::now().mono + Duration::from_secs(13);
        tiers.with(Dependency::Media, |health, _| health.tick(later));
        let view = tiers.views()[0];
        assert_eq!((view.dependency, view.tier), (Dependency::Media, Tier::Degraded));
        assert_eq!(tiers.refuses_new(), None);
        tiers.heartbeat(Duration::from_secs(5));
        assert_eq!(tiers.views()[0].tier, Tier::Healthy);
    }
    #[test]
    fn a_history_that_does_not_work_is_said_to_be_broken_and_refuses_nobody() {
        let tiers = Tiers::default();
        tiers.begin(Dependency::History, Limits::PROBED);
        for seconds in [1, 2, 18] {
            probe_at(&tiers, Dependency::History, seconds, Outcome::Unavailable);
        }
        let view = tiers.views()[0];
        assert_eq!((view.dependency, view.tier), (Dependency::History, Tier::Broken));
        assert_eq!(tiers.refuses_new(), None);
        probe_at(&tiers, Dependency::History, 60, Outcome::Answered);
        assert_eq!(tiers.views()[0].tier, Tier::Healthy);
    }
}
