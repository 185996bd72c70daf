//! How long to wait before the next try at what is not there: growing from try to try, with chance in it. The waits are
//! backon's.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// The waits of one row of failed tries. Each wait is between half of its size and all of it, by chance; sizes double.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    /// `None`: the last try succeeded.
    waits: Option<ExponentialBackoff>,
}

impl Backoff {
    /// The size of the first wait, and of the longest.
    pub(crate) const fn new(first: Duration, most: Duration) -> Backoff {
        Backoff {
            first,
            most,
            waits: None,
        }
    }

    /// The wait before the next try.
    pub(crate) fn wait(&mut self) -> Duration {
        let (first, most) = (self.first, self.most);
        let waits = self.waits.get_or_insert_with(|| builder(first, most).build());
        waits.next().unwrap_or(most)
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.waits = None;
    }
}

/// backon adds up to as much again to each wait.
fn builder(first: Duration, most: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(first / 2)
        .with_max_delay(most / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_again_after_a_success() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, most);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.wait().as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{wait} of {whole}");
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
    }
}
