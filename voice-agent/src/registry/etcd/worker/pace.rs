//! When the next transaction may be sent, so that others who write to the same etcd get their turn. No I/O; the time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The longest pause after a transaction.
const LONGEST: Duration = Duration::from_secs(1);
/// The pause before a claim, in times that the transaction before it took: 10,000 rooms are claimed in time
/// (`cargo xtask bench recovery`).
const HURRIED: f64 = 2.0;
/// The same when nothing is to be claimed: etcd is busy with it for 4 % of the time. Telling of 10,000 rooms then takes some 10 s, where
/// a lease has 20 to 30 left after a crash. What still hangs on it when it ends, etcd deletes in one step, and it is told anew.
const UNHURRIED: f64 = 24.0;

/// The two times from which a transaction may be sent.
#[derive(Debug)]
pub(super) struct Pace {
    hurried: Instant,
    unhurried: Instant,
}

impl Pace {
    /// Whatever it is, from `then`.
    pub(super) fn from(then: Instant) -> Pace {
        Pace {
            hurried: then,
            unhurried: then,
        }
    }

    /// Whatever it is, it waits until `then`.
    pub(super) fn wait(&mut self, then: Instant) {
        *self = Pace::from(then);
    }

    /// A transaction ended at `now`; `jittered` spreads a pause, so that those who began together do not go on together.
    pub(super) fn sent(&mut self, now: Instant, took: Duration, jittered: impl Fn(Duration) -> Duration) {
        let after = |times| now + jittered(took.mul_f64(times)).min(LONGEST);
        *self = Pace {
            hurried: after(HURRIED),
            unhurried: after(UNHURRIED),
        };
    }

    /// When the next may be sent, by whether a room waits to be claimed: what is asked for in a long pause ends it.
    pub(super) fn next(&self, claims: bool) -> Instant {
        if claims { self.hurried } else { self.unhurried }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_does_not_wait_out_the_pause_of_what_is_not_urgent_and_nothing_waits_longer_than_a_second() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::from(now);
        assert_eq!((pace.next(true), pace.next(false)), (now, now));
        pace.sent(now, ms(10), |pause| pause);
        assert_eq!((pace.next(true), pace.next(false)), (now + ms(20), now + ms(240)));
        pace.sent(now, ms(700), |pause| pause);
        assert_eq!(
            (pace.next(true), pace.next(false)),
            (now + LONGEST, now + LONGEST)
        );
        // After a failure nothing is sent, a claim neither.
        pace.wait(now + ms(300));
        assert_eq!(
            (pace.next(true), pace.next(false)),
            (now + ms(300), now + ms(300))
        );
    }
}
