//! What went wrong or was left out, counted: here for the log, once a listing, and in the process's own counters.

use crate::telemetry::counters::Counter;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter of this adapter. Each count is one in the process's counter of the same meaning too.
#[derive(Debug)]
pub struct Tally {
    here: AtomicU64,
    process: Counter,
}

impl Tally {
    /// Its value since the adapter started.
    pub fn load(&self, order: Ordering) -> u64 {
        self.here.load(order)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $process:ident),* $(,)?) => {
        /// Counters of the adapter; each only rises.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Tally,)*
        }

        impl Default for Counters {
            fn default() -> Counters {
                Counters {
                    $($name: Tally { here: AtomicU64::new(0), process: Counter::$process },)*
                }
            }
        }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Event requests that were not JSON objects with the fields they need, or too large; answered with an error.
    bad_requests: JanusBadRequests,
    /// Events dropped because the queue was full; a listing repairs what they said.
    events_dropped: JanusEventsDropped,
    /// Connections to the event listener that ended with an error.
    connections_failed: JanusConnectionsFailed,
    /// Room or participant ids that are not valid here; the participant is left out.
    invalid_ids: JanusInvalidIds,
    /// Media ports outside the configured range; not bound.
    ports_outside: JanusPortsOutside,
    /// Questions to the admin socket that got no answer or a wrong one.
    admin_failed: JanusAdminFailed,
    /// Answers of another transaction than the one asked for; dropped.
    stray_answers: JanusStrayAnswers,
    /// Listings that failed: no heartbeat was sent.
    listings_failed: JanusListingsFailed,
    /// Listings without the plugin's list of rooms; empty rooms are unknown then.
    room_lists_failed: JanusRoomListsFailed,
}

/// Adds one.
pub(super) fn count(counter: &Tally) {
    counter.here.fetch_add(1, Ordering::Relaxed);
    counter.process.count();
}

/// Logs every counter that rose since `before`, and gives the present values.
pub(super) fn log_risen(counters: &Counters, before: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let now = counters.all();
    for ((name, value), (_, old)) in now.iter().zip(before) {
        if value > old {
            tracing::warn!(
                counter = name,
                since_last = value - old,
                total = value,
                "janus: trouble counted"
            );
        }
    }
    now
}
