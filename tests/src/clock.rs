//! The two clocks of a measurement: the kernel's deadlines are CLOCK_MONOTONIC, its packet timestamps CLOCK_REALTIME.

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use voice_room::Mono;

/// CLOCK_MONOTONIC now, the clock of the programs' deadlines.
pub fn now() -> Mono {
    Mono(nanoseconds(ClockId::CLOCK_MONOTONIC))
}

/// A packet timestamp of the kernel (CLOCK_REALTIME) on CLOCK_MONOTONIC. Good to a few microseconds when it is fresh:
/// the offset of the clocks is taken now.
pub fn from_realtime(at: Duration) -> Mono {
    let offset =
        i128::from(nanoseconds(ClockId::CLOCK_REALTIME)) - i128::from(nanoseconds(ClockId::CLOCK_MONOTONIC));
    let at = i128::try_from(at.as_nanos()).unwrap_or(i128::MAX);
    Mono(u64::try_from(at - offset).unwrap_or(0))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Asks `f` every 20 ms until it answers, for at most `within`; `None` if it never did.
pub fn poll<T>(within: Duration, mut f: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = f() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `f` holds. Panics with `what` when it does not within `within`: for tests.
pub fn wait_for(what: &str, within: Duration, mut f: impl FnMut() -> bool) {
    let held = poll(within, || f().then_some(()));
    assert!(held.is_some(), "not within {within:?}: {what}");
}

/// Sleeps until `at`.
pub fn sleep_until(at: Mono) {
    std::thread::sleep(at.since(now()));
}
