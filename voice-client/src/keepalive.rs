//! When to ping the other side, and when it is dead. Both sides use it. Time is an argument; the stream's task owns the timer.

use std::time::Duration;
use tokio::time::Instant;

/// Pings unanswered in a row that end the stream.
const MISSES: u32 = 2;

/// The application keepalive of one stream.
#[derive(Debug)]
pub struct Keepalive {
    every: Duration,
    within: Duration,
    next_ping: Instant,
    /// Until when the last ping may be answered; `None`: it was, or none was sent.
    answer_by: Option<Instant>,
    misses: u32,
    nonce: u64,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A PING with this nonce.
    Ping(u64),
    /// The end: two misses in a row.
    Dead,
}

impl Keepalive {
    /// Nothing is due yet: the first ping is after `every`. Each may be answered `within` a time.
    pub fn new(every: Duration, within: Duration, now: Instant) -> Keepalive {
        Keepalive {
            every,
            within,
            next_ping: now + every,
            answer_by: None,
            misses: 0,
            nonce: 0,
        }
    }

    /// A frame came, whatever it says: the other side lives.
    pub fn alive(&mut self) {
        self.answer_by = None;
        self.misses = 0;
    }

    /// When to look at [`Keepalive::due`] again.
    pub fn wake_at(&self) -> Instant {
        self.answer_by.map_or(self.next_ping, |by| by.min(self.next_ping))
    }

    /// What is due now. A ping that is due while another waits for its answer takes its place; the wait goes on.
    pub fn due(&mut self, now: Instant) -> Due {
        if self.answer_by.is_some_and(|by| by <= now) {
            self.answer_by = None;
            self.misses += 1;
            if self.misses >= MISSES {
                return Due::Dead;
            }
        }
        if self.next_ping > now {
            return Due::Nothing;
        }
        self.next_ping = now + self.every;
        self.nonce += 1;
        self.answer_by.get_or_insert(now + self.within);
        Due::Ping(self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);
    const WITHIN: Duration = Duration::from_secs(15);

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn two_misses_in_a_row_end_the_stream_and_one_does_not() {
        let t = Instant::now();
        let mut keepalive = Keepalive::new(EVERY, WITHIN, t);
        assert_eq!(keepalive.wake_at(), at(t, 30));
        assert_eq!(keepalive.due(at(t, 30)), Due::Ping(1));
        assert_eq!(keepalive.wake_at(), at(t, 45));
        assert_eq!(keepalive.due(at(t, 45)), Due::Nothing);
        assert_eq!(keepalive.due(at(t, 60)), Due::Ping(2));
        assert_eq!(keepalive.due(at(t, 75)), Due::Dead);
    }

    #[test]
    fn any_frame_between_two_misses_starts_the_count_anew() {
        let t = Instant::now();
        let mut keepalive = Keepalive::new(EVERY, WITHIN, t);
        keepalive.due(at(t, 30));
        keepalive.due(at(t, 45));
        keepalive.alive();
        assert_eq!(keepalive.due(at(t, 60)), Due::Ping(2));
        assert_eq!(keepalive.due(at(t, 75)), Due::Nothing);
        assert_eq!(keepalive.due(at(t, 90)), Due::Ping(3));
        assert_eq!(keepalive.due(at(t, 105)), Due::Dead);
    }

    #[test]
    fn a_wait_longer_than_the_ping_interval_still_ends() {
        let t = Instant::now();
        let mut keepalive = Keepalive::new(Duration::from_secs(5), WITHIN, t);
        let mut now = t;
        while keepalive.due(now) != Due::Dead {
            now = keepalive.wake_at();
            assert!(now <= at(t, 40), "never ends");
        }
        assert_eq!(now, at(t, 35));
    }
}
