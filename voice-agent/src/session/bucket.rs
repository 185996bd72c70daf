//! A token bucket: how much one peer may say in a time. Time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// What one peer may say: `rate` a second, and `burst` at once.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one. Both are at least 1.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Bucket {
        let burst = f64::from(burst.max(1));
        Bucket {
            rate: f64::from(rate.max(1)),
            burst,
            left: burst,
            at: now,
        }
    }

    /// Takes so much; a full bucket is enough for anything. The error says when there is enough, and takes nothing.
    pub(super) fn take(&mut self, cost: usize, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(self.burst);
        self.at = now;
        let cost = (cost as f64).min(self.burst);
        if self.left < cost {
            return Err(Duration::from_secs_f64((cost - self.left) / self.rate));
        }
        self.left -= cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_so_many_a_second_and_the_refusal_says_when() {
        let t = Instant::now();
        let mut bucket = Bucket::new(10, 30, t);
        assert_eq!((0..100).filter(|_| bucket.take(1, t).is_ok()).count(), 30);
        assert_eq!(bucket.take(1, t), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(5, t), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(5, t + Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(1, t + Duration::from_millis(500)).is_err());
    }

    #[test]
    fn what_costs_more_than_the_burst_goes_when_the_bucket_is_full() {
        let t = Instant::now();
        let mut bucket = Bucket::new(10, 30, t);
        assert_eq!(bucket.take(10_000, t), Ok(()));
        assert_eq!(bucket.take(10_000, t), Err(Duration::from_secs(3)));
        assert_eq!(bucket.take(10_000, t + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn a_long_silence_saves_no_more_than_the_burst() {
        let t = Instant::now();
        let mut bucket = Bucket::new(10, 30, t);
        let later = t + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(1, later).is_ok()).count(), 30);
    }
}
