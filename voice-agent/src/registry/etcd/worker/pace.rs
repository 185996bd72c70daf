//! When the next transaction may be sent, so that others who write to the same etcd get their turn. No I/O; the time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The longest pause after a transaction, before jitter.
const LONGEST: Duration = Duration::from_secs(1);
/// The pause before what is urgent, in times that the transaction before it took: 10,000 rooms are claimed in time
/// (`cargo xtask bench recovery`).
const HURRIED: f64 = 2.0;
/// The same before what is not.
const UNHURRIED: f64 = 12.0;
/// And no shorter, before jitter: what others notice of a transaction is etcd's garbage after it, however quick it was. Telling of 10,000 rooms then
/// takes some 10 s, where a lease has 20 to 30 left after a crash. What still hangs on it when it ends, etcd deletes, and it is told anew.
const UNHURRIED_AT_LEAST: Duration = Duration::from_millis(60);

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
        let after = |pause: Duration| now + jittered(pause.min(LONGEST));
        *self = Pace {
            hurried: after(took.mul_f64(HURRIED)),
            unhurried: after(took.mul_f64(UNHURRIED).max(UNHURRIED_AT_LEAST)),
        };
    }

    /// When the next may be sent, by whether there is something urgent: what is asked for in a long pause ends it.
    pub(super) fn next(&self, urgent: bool) -> Instant {
        if urgent { self.hurried } else { self.unhurried }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_urgent_does_not_wait_out_the_pause_of_what_is_not_and_nothing_waits_longer_than_a_second() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::from(now);
        assert_eq!((pace.next(true), pace.next(false)), (now, now));
        pace.sent(now, ms(10), |pause| pause);
        assert_eq!((pace.next(true), pace.next(false)), (now + ms(20), now + ms(120)));
        // However quick.
        pace.sent(now, ms(1), |pause| pause);
        assert_eq!((pace.next(true), pace.next(false)), (now + ms(2), now + ms(60)));
        pace.sent(now, ms(700), |pause| pause);
        assert_eq!(
            (pace.next(true), pace.next(false)),
            (now + LONGEST, now + LONGEST)
        );
        // Not all at once after the longest either.
        pace.sent(now, ms(700), |pause| pause / 2);
        assert_eq!(
            (pace.next(true), pace.next(false)),
            (now + LONGEST / 2, now + LONGEST / 2)
        );
        // After a failure nothing is sent, what is urgent neither.
        pace.wait(now + ms(300));
        assert_eq!(
            (pace.next(true), pace.next(false)),
            (now + ms(300), now + ms(300))
        );
    }
}
