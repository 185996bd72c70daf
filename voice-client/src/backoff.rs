//! How long to wait before the next attempt to connect.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;
use tonic::Status;

/// Half of the first wait. backon adds up to as much again, at random: 250 to 500 ms.
const HALF_FIRST: Duration = Duration::from_millis(250);
/// Half of the longest: 5 to 10 s.
const HALF_LONGEST: Duration = Duration::from_secs(5);
/// What each wait is times the one before (docs/PROTOCOL.md).
const FACTOR: f32 = 1.5;
/// The longest that an agent can make us wait: as long as an isolation.
const LONGEST_HINT: Duration = Duration::from_secs(300);
/// A stream that lasted so long was a good one: the next wait is the first again.
pub(crate) const GOOD_STREAM: Duration = Duration::from_secs(10);
/// The metadata of a status that says when to come again.
const RETRY_AFTER: &str = "retry-after-ms";

/// The waits of one row of failed attempts.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff::from(builder())
    }

    fn from(builder: ExponentialBuilder) -> Backoff {
        Backoff(builder.build())
    }

    /// The next wait, and no less than the agent asked for.
    pub(crate) fn next(&mut self, hint: Option<Duration>) -> Duration {
        let own = self.0.next().unwrap_or(2 * HALF_LONGEST);
        own.max(hint.unwrap_or_default().min(LONGEST_HINT))
    }

    /// The next wait is the first again.
    pub(crate) fn reset(&mut self) {
        *self = Backoff::new();
    }
}

fn builder() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(HALF_FIRST)
        .with_max_delay(HALF_LONGEST)
        .with_factor(FACTOR)
        .with_jitter()
        .without_max_times()
}

/// When the agent wants us again, as a status of its says.
pub(crate) fn hint_of(status: &Status) -> Option<Duration> {
    let said = status.metadata().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_millis(said.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_half_from_500_ms_to_10_s_and_each_is_between_half_and_all_of_that() {
        for seed in 0..50 {
            let mut backoff = Backoff::from(builder().with_jitter_seed(seed));
            let mut whole = 0.5_f64;
            for n in 0..20 {
                let wait = backoff.next(None).as_secs_f64();
                assert!(
                    (whole / 2.0 - 0.001..=whole + 0.001).contains(&wait),
                    "{n}: {wait} of {whole}"
                );
                whole = (whole * 1.5).min(10.0);
            }
        }
    }

    #[test]
    fn peers_that_lost_their_agent_at_once_do_not_come_back_at_once() {
        let first = |seed| Backoff::from(builder().with_jitter_seed(seed)).next(None);
        let waits: std::collections::BTreeSet<Duration> = (0..100).map(first).collect();
        assert!(waits.len() > 50, "{} different waits of 100", waits.len());
    }

    #[test]
    fn what_the_agent_asks_for_is_waited_for_but_not_for_ever() {
        let mut backoff = Backoff::new();
        assert_eq!(
            backoff.next(Some(Duration::from_secs(60))),
            Duration::from_secs(60)
        );
        assert!(backoff.next(Some(Duration::from_millis(1))) >= HALF_FIRST);
        assert_eq!(backoff.next(Some(Duration::MAX)), LONGEST_HINT);
    }

    #[test]
    fn the_hint_of_a_status_is_its_metadata_and_junk_is_none() {
        let with = |said: &str| {
            let mut status = Status::unavailable("later");
            status.metadata_mut().insert(RETRY_AFTER, said.parse().unwrap());
            hint_of(&status)
        };
        assert_eq!(with("1500"), Some(Duration::from_millis(1500)));
        assert_eq!((with("soon"), with("-1")), (None, None));
        assert_eq!(hint_of(&Status::unavailable("later")), None);
    }
}
