//! What went wrong or was left out, counted. Told in the log once a listing, not once an occurrence.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of the adapter; each only rises.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Event requests that were not JSON objects with the fields they need, or too large; answered with an error.
    bad_requests,
    /// Events dropped because the queue was full; a listing repairs what they said.
    events_dropped,
    /// Connections to the event listener that ended with an error.
    connections_failed,
    /// Room or participant ids that are not valid here; the participant is left out.
    invalid_ids,
    /// Media ports outside the configured range; not bound.
    ports_outside,
    /// Questions to the admin socket that got no answer or a wrong one.
    admin_failed,
    /// Answers of another transaction than the one asked for; dropped.
    stray_answers,
    /// Listings that failed: no heartbeat was sent.
    listings_failed,
    /// Listings without the plugin's list of rooms; empty rooms are unknown then.
    room_lists_failed,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
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
