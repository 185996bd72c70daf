//! What the demo measured, and what must hold of it.

use serde::Serialize;
use std::time::Duration;

/// A cut ends this close to its deadline, or the demo failed.
pub const LIFT_TOLERANCE_MS: f64 = 20.0;
/// First drops come in microseconds; a trip that takes longer than this is no cut.
const FIRST_DROP_LIMIT_US: u64 = 1_000_000;

/// The result, as `--json` prints it. Packets, and times by the kernel's clocks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The stuck room, from the moment its verdict was armed until its deadline.
    pub stuck: Stuck,
    /// The other room, over the whole run.
    pub healthy: Healthy,
    /// From the verdict being armed to the kernel's first drop, in microseconds.
    pub trip_to_first_drop_us: u64,
    /// From the verdict being armed to STATE_EXPIRED in the gateway's hands, in milliseconds.
    pub state_expired_ms: f64,
    /// The gateway's question whether a client may rejoin the stuck room.
    pub rejoin: Rejoin,
    /// The end of the cut.
    pub lifted: Lifted,
}

/// See [`Report::stuck`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Stuck {
    pub sent_after_trip: u64,
    pub delivered_after_trip: u64,
}

/// See [`Report::healthy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Healthy {
    pub sent: u64,
    pub delivered: u64,
}

/// See [`Report::rejoin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejoin {
    /// Whether it was refused.
    pub refused: bool,
    /// When to ask again, in seconds, rounded up.
    pub retry_after_s: u64,
}

/// See [`Report::lifted`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lifted {
    /// Whether `error_ms` is within 20 ms.
    pub at_deadline: bool,
    /// From the deadline, or from the first packet sent after it, to the first packet that got through; milliseconds.
    /// Negative: before the deadline.
    pub error_ms: f64,
}

impl Report {
    /// Everything that should have happened and did not.
    pub fn problems(&self, isolation: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let (stuck, healthy) = (&self.stuck, &self.healthy);
        must(
            stuck.sent_after_trip > 0,
            "nobody sent to the stuck room after the trip".into(),
        );
        must(
            stuck.delivered_after_trip == 0,
            format!(
                "{} packets of the stuck room were delivered during the cut",
                stuck.delivered_after_trip
            ),
        );
        must(healthy.sent > 0, "nobody sent to the healthy room".into());
        must(
            healthy.sent == healthy.delivered,
            format!(
                "the healthy room lost packets: {} sent, {} delivered",
                healthy.sent, healthy.delivered
            ),
        );
        must(
            self.trip_to_first_drop_us < FIRST_DROP_LIMIT_US,
            format!(
                "the first drop came {} us after arming",
                self.trip_to_first_drop_us
            ),
        );
        must(
            self.rejoin.refused,
            "a rejoin of the stuck room was allowed".into(),
        );
        must(
            (1..=isolation.as_secs().max(1)).contains(&self.rejoin.retry_after_s),
            format!(
                "retry-after is {} s, the isolation {isolation:?}",
                self.rejoin.retry_after_s
            ),
        );
        must(
            self.lifted.at_deadline,
            format!("the cut ended {} ms off its deadline", self.lifted.error_ms),
        );
        problems
    }
}

impl Lifted {
    /// From the error, in nanoseconds; negative is before the deadline.
    pub fn from_error_ns(error: i128) -> Lifted {
        let error_ms = milliseconds(error);
        Lifted {
            at_deadline: error_ms.abs() <= LIFT_TOLERANCE_MS,
            error_ms,
        }
    }
}

/// Nanoseconds as milliseconds with three digits.
pub fn milliseconds(ns: i128) -> f64 {
    let us = i32::try_from(ns / 1000).unwrap_or(if ns < 0 { i32::MIN } else { i32::MAX });
    f64::from(us) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        Report {
            stuck: Stuck {
                sent_after_trip: 240_000,
                delivered_after_trip: 0,
            },
            healthy: Healthy {
                sent: 900,
                delivered: 900,
            },
            trip_to_first_drop_us: 21,
            state_expired_ms: 1.5,
            rejoin: Rejoin {
                refused: true,
                retry_after_s: 12,
            },
            lifted: Lifted::from_error_ns(1_234_567),
        }
    }

    #[test]
    fn a_good_run_has_no_problems_and_is_printed_as_promised() {
        assert_eq!(good().problems(Duration::from_secs(12)), Vec::<String>::new());
        assert_eq!(
            serde_json::to_string(&good()).unwrap(),
            r#"{"stuck":{"sent_after_trip":240000,"delivered_after_trip":0},"healthy":{"sent":900,"delivered":900},"trip_to_first_drop_us":21,"state_expired_ms":1.5,"rejoin":{"refused":true,"retry_after_s":12},"lifted":{"at_deadline":true,"error_ms":1.234}}"#
        );
    }

    #[test]
    fn each_thing_that_went_wrong_is_a_problem_of_its_own() {
        let bad = Report {
            stuck: Stuck {
                sent_after_trip: 0,
                delivered_after_trip: 1,
            },
            healthy: Healthy {
                sent: 0,
                delivered: 1,
            },
            trip_to_first_drop_us: 1_000_000,
            state_expired_ms: 0.0,
            rejoin: Rejoin {
                refused: false,
                retry_after_s: 13,
            },
            lifted: Lifted::from_error_ns(-20_001_000),
        };
        assert_eq!(bad.problems(Duration::from_secs(12)).len(), 8);
    }
}
