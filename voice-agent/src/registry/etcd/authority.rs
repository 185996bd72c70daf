//! Whether this agent may act in the name of its lease: written by the keeper of the lease, read by everybody, without a
//! lock and by the clock alone. So a process that was frozen past its lease finds that out before anything is told to it.

use super::{clock, lease::Lease};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};
use voice_room::Mono;

/// A view of the lease. Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    /// Nanoseconds of CLOCK_BOOTTIME; 0: none.
    until: AtomicU64,
    /// When the lease was granted, on the same clock.
    since: AtomicU64,
    live: watch::Sender<Option<i64>>,
    /// Somebody has reason to think that the lease is gone.
    check: Notify,
    problem: Mutex<String>,
}

impl Authority {
    pub(super) fn new() -> Authority {
        Authority(Arc::new(Inner {
            until: AtomicU64::new(0),
            since: AtomicU64::new(0),
            live: watch::Sender::new(None),
            check: Notify::new(),
            problem: Mutex::new("no lease was granted yet".into()),
        }))
    }

    /// Whether there is a lease that holds now.
    pub fn holds(&self) -> bool {
        clock::now().0 < self.0.until.load(Ordering::Acquire)
    }

    /// The lease that holds now.
    pub fn lease(&self) -> Option<i64> {
        let live = *self.0.live.borrow();
        live.filter(|_| self.holds())
    }

    /// How long ago the lease was granted, and how long it still gives authority; `None`: there is none that holds.
    pub fn age_and_left(&self) -> Option<(Duration, Duration)> {
        let now = clock::now();
        let moment = |of: &AtomicU64| Mono(of.load(Ordering::Acquire));
        let (since, until) = (moment(&self.0.since), moment(&self.0.until));
        (now < until).then(|| (now.since(since), until.since(now)))
    }

    /// The lease, whenever it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<i64>> {
        self.0.live.subscribe()
    }

    /// Why there is none, in words.
    pub fn problem(&self) -> String {
        self.0
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the keeper to renew now, and so to find out whether the lease is still there.
    pub(super) fn check(&self) {
        self.0.check.notify_one();
    }

    pub(super) async fn asked_to_check(&self) {
        self.0.check.notified().await;
    }

    /// A lease was granted or renewed.
    pub(super) fn set(&self, lease: &Lease) {
        if *self.0.live.borrow() != Some(lease.id) {
            self.0.since.store(clock::now().0, Ordering::Release);
        }
        self.0.until.store(lease.authority_until().0, Ordering::Release);
        self.0
            .live
            .send_if_modified(|live| live.replace(lease.id) != Some(lease.id));
    }

    /// It is over.
    pub(super) fn end(&self, problem: String) {
        self.0.until.store(0, Ordering::Release);
        self.failed(problem);
        self.0.live.send_if_modified(|live| live.take().is_some());
    }

    /// A lease cannot be had.
    pub(super) fn failed(&self, problem: String) {
        *self.0.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("lease", &self.lease())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_ends_by_the_clock_although_nobody_says_so() {
        let authority = Authority::new();
        assert!(!authority.holds());
        let long_ago = voice_room::Mono(clock::now().0.saturating_sub(10_000_000_000));
        authority.set(&Lease::granted(7, Duration::from_secs(5), long_ago));
        assert!(!authority.holds() && authority.lease().is_none());
        authority.set(&Lease::granted(8, Duration::from_secs(60), clock::now()));
        assert_eq!(authority.lease(), Some(8));
        let (age, left) = authority.age_and_left().unwrap();
        assert!(age < Duration::from_secs(40) && left <= Duration::from_secs(50));
        authority.end("gone".into());
        assert_eq!((authority.lease(), authority.problem()), (None, "gone".into()));
        assert_eq!(authority.age_and_left(), None);
    }
}
