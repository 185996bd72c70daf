//! The clock that leases are judged by, and the chance that keeps agents from doing the same thing at the same moment.

use nix::time::{ClockId, clock_gettime};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};
use voice_room::Mono;

/// CLOCK_BOOTTIME: as the monotonic clock, but it goes on while the machine sleeps, as etcd's does meanwhile.
pub(super) fn now() -> Mono {
    // It fails for unknown clocks only, and Linux knows this one since 2.6.39.
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Mono(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// `base` times a random factor from 1 - `spread` to 1 + `spread`.
pub(super) fn jittered(base: Duration, spread: f64) -> Duration {
    // Every RandomState is keyed anew.
    let random = RandomState::new().build_hasher().finish();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of 1, as good as a double has it"
    )]
    let share = random as f64 / u64::MAX as f64;
    base.mul_f64((1.0 + spread * (2.0 * share - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_stays_within_its_spread_and_is_not_always_the_same() {
        let base = Duration::from_secs(10);
        let all: Vec<Duration> = (0..100).map(|_| jittered(base, 0.1)).collect();
        assert!(all.iter().all(|d| (9.0..=11.0).contains(&d.as_secs_f64())));
        assert!(all.iter().any(|d| *d != all[0]));
    }
}
