//! Keeps the process small: bounds what the allocator holds on to, and gives back what bursts have left behind. With 10,000
//! rooms a start or a storm needs tens of MiB for a second; glibc alone would keep them for ever.

use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often free memory goes back to the system.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(20);

/// To be called before the first thread is made.
pub(crate) fn bound() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [
        // Each arena keeps what is freed in it; glibc makes up to eight for each core.
        (libc::M_ARENA_MAX, 2),
        // Set, they stay: else the first large allocation that is freed raises both, and heaps are not trimmed any more.
        (libc::M_MMAP_THRESHOLD, 256 << 10),
        (libc::M_TRIM_THRESHOLD, 1 << 20),
    ] {
        // SAFETY: sets a number inside the allocator, which takes its own lock.
        if unsafe { libc::mallopt(what, value) } == 0 {
            tracing::debug!(what, value, "the allocator did not take this option");
        }
    }
}

/// Gives back free memory until the agent stops.
pub(crate) async fn keep_small(stop: CancellationToken) {
    let mut due = interval(GIVE_BACK_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => give_back(),
        }
    }
}

fn give_back() {
    // SAFETY: returns free pages to the system; the allocator takes its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
