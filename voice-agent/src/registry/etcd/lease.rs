//! What this agent may believe about its lease, by its own clock. No I/O; the time is an argument.

use std::time::Duration;
use voice_room::Mono;

/// Renewals in the time of a lease (DESIGN 5.3).
const RENEWALS: u32 = 3;
/// The share of the TTL by which authority ends before the lease can: for what was sent in the last moment, and for clocks
/// that do not run alike.
const MARGIN: u32 = 6;

/// A lease that etcd granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Its id.
    pub(super) id: i64,
    /// As granted.
    pub(super) ttl: Duration,
    /// When the last request that etcd answered was sent. etcd counts from when it got that, which is later.
    renewed: Mono,
}

impl Lease {
    /// Granted in answer to a request that was sent at `sent`.
    pub(super) fn granted(id: i64, ttl: Duration, sent: Mono) -> Lease {
        Lease {
            id,
            ttl,
            renewed: sent,
        }
    }

    /// etcd answered a renewal that was sent at `sent`.
    pub(super) fn renew(&mut self, sent: Mono) {
        self.renewed = self.renewed.max(sent);
    }

    /// From then on nothing may be done in the name of this lease. It lies before the earliest moment at which etcd can
    /// end it and give its keys to others.
    pub(super) fn authority_until(&self) -> Mono {
        self.renewed + (self.ttl - self.ttl / MARGIN)
    }

    /// Whether it gives authority.
    pub(super) fn holds(&self, now: Mono) -> bool {
        now < self.authority_until()
    }

    /// How long to wait until the next renewal is sent, before jitter.
    pub(super) fn renew_in(&self, now: Mono) -> Duration {
        (self.renewed + self.ttl / RENEWALS).since(now)
    }

    /// A renewal not answered within this is late: then another member is asked, while there is time.
    pub(super) fn late_after(&self) -> Duration {
        self.ttl / MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn authority_ends_before_etcd_can_end_the_lease_and_counts_from_when_the_renewal_was_sent() {
        let mut lease = Lease::granted(7, TTL, at(100));
        assert!(lease.holds(at(124)) && !lease.holds(at(125)));
        // Sent at 110, answered at 118: etcd may have got it at 110 already.
        lease.renew(at(110));
        assert!(lease.holds(at(134)) && !lease.holds(at(135)));
        assert!(lease.authority_until() < at(110) + TTL);
    }

    #[test]
    fn an_answer_that_was_read_late_brings_no_authority_back() {
        // Frozen from 110 to 200, the answer to the renewal of 110 waiting in the socket.
        let mut lease = Lease::granted(7, TTL, at(100));
        lease.renew(at(110));
        assert!(!lease.holds(at(200)));
    }

    #[test]
    fn an_older_answer_takes_nothing_from_a_newer_one() {
        let mut lease = Lease::granted(7, TTL, at(100));
        lease.renew(at(120));
        lease.renew(at(110));
        assert_eq!(lease.authority_until(), at(145));
    }

    #[test]
    fn a_lease_is_renewed_three_times_in_its_life_and_two_late_answers_leave_time_for_a_third_try() {
        let lease = Lease::granted(7, TTL, at(100));
        assert_eq!(lease.renew_in(at(100)), Duration::from_secs(10));
        assert_eq!(lease.renew_in(at(111)), Duration::ZERO);
        let third = at(100) + TTL / 3 + lease.late_after() * 2;
        assert!(lease.holds(third));
    }
}
