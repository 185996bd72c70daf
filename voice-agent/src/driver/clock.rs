//! Both clocks, read together.

use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};
use voice_room::{Mono, Now, Wall};

/// The present moment.
pub(crate) fn now() -> Now {
    Now {
        mono: monotonic(),
        wall: wall(),
    }
}

fn monotonic() -> Mono {
    // CLOCK_MONOTONIC exists on every Linux; without it the agent has no deadlines, and time standing still lets all pass.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Mono(0), |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        Mono(seconds * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0))
    })
}

fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
