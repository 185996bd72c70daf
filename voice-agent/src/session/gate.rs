//! How many streams may begin in a time. After a restart of the agent, or of a network, every peer comes at once: they are let
//! in one after the other, and the rest are told when to come again, each at another time.

use crate::session::{Role, bucket::Bucket};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The longest that a peer is sent away for.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// What chance adds to a wait, at most, as a share of it.
const JITTER: f64 = 0.25;

/// Two lanes: media servers have one of their own, so that no crowd of gateways keeps their heartbeats out.
#[derive(Debug)]
pub(super) struct Gate {
    lanes: Mutex<Lanes>,
}

#[derive(Debug)]
struct Lanes {
    media: Lane,
    others: Lane,
}

#[derive(Debug)]
struct Lane {
    bucket: Bucket,
    rate: f64,
    /// About how many were sent away and have not come again yet: those told to be here by now are taken off.
    away: f64,
    at: Instant,
}

impl Gate {
    /// `rate` a second and `burst` at once, in each lane.
    pub(super) fn new(rate: u32, burst: u32) -> Gate {
        let now = Instant::now();
        let lanes = Lanes {
            media: Lane::new(rate, burst, now),
            others: Lane::new(rate, burst, now),
        };
        Gate {
            lanes: Mutex::new(lanes),
        }
    }

    /// Lets a stream begin; the error says when to come again.
    pub(super) fn pass(&self, role: Role) -> Result<(), Duration> {
        let mut lanes = self.lanes();
        let lane = match role {
            Role::Media => &mut lanes.media,
            Role::Gateway | Role::Signalling => &mut lanes.others,
        };
        lane.pass(Instant::now(), chance())
    }

    /// A panic while it was held left whole numbers behind.
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(rate: u32, burst: u32, now: Instant) -> Lane {
        Lane {
            bucket: Bucket::new(rate, burst, now),
            rate: f64::from(rate.max(1)),
            away: 0.0,
            at: now,
        }
    }

    /// `chance` is from 0 to 1.
    fn pass(&mut self, now: Instant, chance: f64) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.away = (self.away - passed * self.rate).max(0.0);
        self.at = now;
        self.bucket.take(1, now).map_err(|wait| {
            let after_them = Duration::from_secs_f64(self.away / self.rate);
            // More than this would be told the same time anyway.
            self.away = (self.away + 1.0).min(self.rate * MAX_WAIT.as_secs_f64());
            (wait + after_them).mul_f64(1.0 + JITTER * chance).min(MAX_WAIT)
        })
    }
}

/// A little longer, by chance: they do not all come again at once.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + JITTER * chance())
}

/// From 0 to 1, another each time.
fn chance() -> f64 {
    // Every RandomState is keyed anew.
    let random = RandomState::new().build_hasher().finish();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of 1, as good as a double has it"
    )]
    let share = random as f64 / u64::MAX as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crowd that comes at once, each coming again when it was told to: when each was let in, and how often it asked.
    fn storm(rate: u32, burst: u32, crowd: u32) -> (Vec<Duration>, u32) {
        let start = Instant::now();
        let mut lane = Lane::new(rate, burst, start);
        let mut coming: std::collections::BTreeSet<(Duration, u32)> =
            (0..crowd).map(|n| (Duration::ZERO, n)).collect();
        let (mut let_in, mut asked) = (Vec::new(), 0);
        while let Some((at, who)) = coming.pop_first() {
            asked += 1;
            match lane.pass(start + at, f64::from(who % 100) / 100.0) {
                Ok(()) => let_in.push(at),
                Err(wait) => {
                    assert!(wait > Duration::ZERO);
                    coming.insert((at + wait, who));
                }
            }
        }
        (let_in, asked)
    }

    #[test]
    fn a_crowd_is_let_in_at_the_rate_and_nobody_has_to_ask_often() {
        let (let_in, asked) = storm(500, 500, 2000);
        assert_eq!(let_in.len(), 2000);
        for second in 0..10 {
            let within = |at: &&Duration| at.as_secs() == second;
            let n = let_in.iter().filter(within).count();
            assert!(
                n <= if second == 0 { 1000 } else { 501 },
                "{n} in second {second}"
            );
        }
        // 1,500 at 500 a second are 3 s; with chance, and the few that come a second time, not twice that.
        assert!(let_in.last().unwrap().as_secs() < 6, "{:?}", let_in.last());
        assert!(asked < 3 * 2000, "asked {asked} times");
    }

    #[test]
    fn those_who_are_sent_away_are_told_different_times_and_none_beyond_a_minute() {
        let now = Instant::now();
        let mut lane = Lane::new(10, 1, now);
        lane.pass(now, 0.0).unwrap();
        let waits: Vec<Duration> = (0..2000).map(|_| lane.pass(now, 0.5).unwrap_err()).collect();
        assert!(waits[..100].windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(waits.last(), Some(&MAX_WAIT));
    }

    #[tokio::test]
    async fn a_crowd_of_gateways_takes_no_place_of_a_media_server() {
        let gate = Gate::new(1, 5);
        while gate.pass(Role::Gateway).is_ok() {}
        assert!(gate.pass(Role::Signalling).is_err());
        assert!(gate.pass(Role::Media).is_ok());
    }
}
