//! How well a dependency does (etcd, Redis, media, history), and what is still asked of it meanwhile (DESIGN 6).
//!
//! Pure: one [`Health`] for each dependency, told what became of calls and probes. It decides when to retry and to probe; the
//! caller does both.

use crate::Mono;
use core::{fmt, time::Duration};
use serde::{Deserialize, Serialize};

/// How well it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// L1: it is used. Calls that find it unavailable are retried with backoff.
    Healthy,
    /// L2: what runs goes on, nothing new begins.
    Degraded,
    /// L3: nothing is asked of it until it has cooled down and answered a probe.
    Broken,
}

impl Tier {
    /// Every tier, from best to worst.
    pub const ALL: [Tier; 3] = [Tier::Healthy, Tier::Degraded, Tier::Broken];

    /// The name, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Healthy => "Healthy",
            Tier::Degraded => "Degraded",
            Tier::Broken => "Broken",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The numbers of DESIGN 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// UNAVAILABLE so often in a row starts backoff. 3.
    pub unavailable: u32,
    /// The first wait of a backoff. 500 ms.
    pub backoff: Duration,
    /// The wait before the second retry; each later one is half as long again. 100 ms.
    pub retry: Duration,
    /// Retries of one backoff; after them they are spent. 3.
    pub tries: u32,
    /// Failed checks in a row that make it Degraded. 2.
    pub failed_checks: u32,
    /// Without a sign of life for longer than this it is Degraded. 2 s; of media servers 2.5 heartbeats.
    pub silent: Duration,
    /// How often it is probed. `None`: it speaks by itself (heartbeats), and is probed only when it is Broken and cooled down.
    pub probe: Option<Duration>,
    /// Degraded for so long with retries spent makes it Broken. 10 s.
    pub degraded_spent: Duration,
    /// Degraded for so long makes it Broken in any case. 15 s.
    pub degraded: Duration,
    /// Broken for so long before a probe may bring it back. 30 s.
    pub cool_down: Duration,
}

impl Limits {
    /// Of a dependency that is probed: etcd, Redis, history.
    pub const PROBED: Limits = Limits {
        unavailable: 3,
        backoff: Duration::from_millis(500),
        retry: Duration::from_millis(100),
        tries: 3,
        failed_checks: 2,
        silent: Duration::from_secs(2),
        probe: Some(Duration::from_millis(500)),
        degraded_spent: Duration::from_secs(10),
        degraded: Duration::from_secs(15),
        cool_down: Duration::from_secs(30),
    };

    /// Of a media server that tells its rooms every `heartbeat`.
    pub fn media(heartbeat: Duration) -> Limits {
        Limits {
            silent: heartbeat.saturating_mul(5) / 2,
            probe: None,
            ..Limits::PROBED
        }
    }
}

/// What is asked of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A stream or session that would begin.
    New,
    /// One that runs, and the calls that belong to it.
    Running,
}

/// What became of a call or probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, be it with a refusal: it is there.
    Answered,
    /// It could not be reached, or did not answer in time.
    Unavailable,
}

/// Why nothing is asked of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dependency is {tier}: ask again in {} ms", .retry_after.as_millis())]
pub struct NotNow {
    /// How it does.
    pub tier: Tier,
    /// When it is worth asking again.
    pub retry_after: Duration,
}

/// It does better or worse than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Tier,
    /// Now.
    pub to: Tier,
    /// Why.
    pub why: Why,
}

/// What changed a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Checks failed in a row.
    ChecksFailed,
    /// No sign of life.
    Silent,
    /// Degraded with retries spent.
    RetriesSpent,
    /// Degraded for too long.
    DegradedTooLong,
    /// It answered.
    Answers,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Why::ChecksFailed => "its health checks fail",
            Why::Silent => "there is no sign of life",
            Why::RetriesSpent => "its retries are spent",
            Why::DegradedTooLong => "it was Degraded for too long",
            Why::Answers => "it answers",
        })
    }
}

/// A backoff under way: calls wait until `until`, then one may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Backoff {
    until: Mono,
    /// Retries that failed.
    failed: u32,
}

/// How one dependency does.
#[derive(Debug, Clone)]
pub struct Health {
    limits: Limits,
    tier: Tier,
    since: Mono,
    /// The last sign of life.
    answered: Mono,
    /// Calls in a row that found it unavailable.
    unavailable: u32,
    backoff: Option<Backoff>,
    /// Checks in a row that failed.
    failed_checks: u32,
    probed: Option<Mono>,
}

impl Health {
    /// Healthy, as far as is known.
    pub fn new(limits: Limits, now: Mono) -> Health {
        Health {
            limits,
            tier: Tier::Healthy,
            since: now,
            answered: now,
            unavailable: 0,
            backoff: None,
            failed_checks: 0,
            probed: None,
        }
    }

    /// How it does.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Since when.
    pub fn since(&self) -> Mono {
        self.since
    }

    /// Whether its retries are spent.
    pub fn retries_spent(&self) -> bool {
        self.backoff.is_some_and(|b| b.failed >= self.limits.tries)
    }

    /// Whether this may be asked of it now.
    pub fn allows(&self, now: Mono, work: Work) -> Result<(), NotNow> {
        let not_now = |retry_after| NotNow {
            tier: self.tier,
            retry_after,
        };
        match (self.tier, work) {
            (Tier::Broken, _) => {
                let left = (self.since + self.limits.cool_down).since(now);
                Err(not_now(left.max(self.limits.retry)))
            }
            (Tier::Degraded, Work::New) => {
                let left = (self.since + self.limits.degraded).since(now);
                Err(not_now(left.max(self.limits.retry)))
            }
            (Tier::Healthy | Tier::Degraded, _) => match self.backoff.filter(|b| b.until > now) {
                Some(backoff) => Err(not_now(backoff.until.since(now))),
                None => Ok(()),
            },
        }
    }

    /// Whether a probe is due. Tell its outcome by [`Health::probe`].
    pub fn probe_due(&self, now: Mono) -> bool {
        let every = self.limits.probe;
        let waited = |every| self.probed.is_none_or(|t| now.since(t) >= every);
        match (self.tier, every) {
            (Tier::Broken, every) => {
                let cooled = now.since(self.since) >= self.limits.cool_down;
                cooled && waited(every.unwrap_or(self.limits.backoff))
            }
            (_, Some(every)) => waited(every),
            (_, None) => false,
        }
    }

    /// A probe is on its way.
    pub fn probe_begins(&mut self, now: Mono) {
        self.probed = Some(now);
    }

    /// What became of a probe.
    pub fn probe(&mut self, now: Mono, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Answered => self.answers(now),
            Outcome::Unavailable => {
                self.failed_checks = self.failed_checks.saturating_add(1);
                let fails = self.failed_checks >= self.limits.failed_checks;
                self.worse(now, fails.then_some(Why::ChecksFailed))
            }
        }
    }

    /// What became of a call, or that it spoke by itself.
    pub fn call(&mut self, now: Mono, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Answered => self.answers(now),
            Outcome::Unavailable => {
                self.unavailable = self.unavailable.saturating_add(1);
                self.back_off(now);
                self.worse(now, None)
            }
        }
    }

    /// Judges what time alone changes. Call it often: twice a second, or more.
    pub fn tick(&mut self, now: Mono) -> Option<Change> {
        let silent = now.since(self.answered) > self.limits.silent;
        self.worse(now, silent.then_some(Why::Silent))
    }

    fn back_off(&mut self, now: Mono) {
        let limits = self.limits;
        match &mut self.backoff {
            // What was under way when it began is no retry.
            Some(backoff) if now < backoff.until => {}
            Some(backoff) => {
                backoff.failed = backoff.failed.saturating_add(1).min(limits.tries);
                // 100, 150, 225 ms; once spent, the first wait again between tries.
                let wait = match backoff.failed {
                    n if n >= limits.tries => limits.backoff,
                    n => limits.retry * 3_u32.pow(n - 1) / 2_u32.pow(n - 1),
                };
                backoff.until = now + wait;
            }
            None if self.unavailable >= limits.unavailable => {
                let until = now + limits.backoff;
                self.backoff = Some(Backoff { until, failed: 0 });
            }
            None => {}
        }
    }

    fn answers(&mut self, now: Mono) -> Option<Change> {
        let cooled = now.since(self.since) >= self.limits.cool_down;
        if self.tier == Tier::Broken && !cooled {
            return None;
        }
        self.answered = now;
        (self.unavailable, self.failed_checks, self.backoff) = (0, 0, None);
        self.becomes(now, Tier::Healthy, Why::Answers)
    }

    fn worse(&mut self, now: Mono, sign: Option<Why>) -> Option<Change> {
        let lasted = now.since(self.since);
        match self.tier {
            Tier::Healthy => self.becomes(now, Tier::Degraded, sign?),
            Tier::Degraded if self.retries_spent() && lasted >= self.limits.degraded_spent => {
                self.becomes(now, Tier::Broken, Why::RetriesSpent)
            }
            Tier::Degraded if lasted >= self.limits.degraded => {
                self.becomes(now, Tier::Broken, Why::DegradedTooLong)
            }
            Tier::Degraded | Tier::Broken => None,
        }
    }

    fn becomes(&mut self, now: Mono, to: Tier, why: Why) -> Option<Change> {
        let from = core::mem::replace(&mut self.tier, to);
        if from == to {
            return None;
        }
        self.since = now;
        Some(Change { from, to, why })
    }
}
