//! The Janus adapter: follows the AudioBridge rooms of one Janus and tells the driver.
//!
//! Its tasks share `Known` and wait for each other in nothing else: `events` listens, `follow` translates events,
//! `list` asks for the whole listing each heartbeat, `watch` says when that has failed for too long. The meaning of it
//! all is in `rooms`, without I/O. Everything is told as facts, in order; what the core refuses, the core counts.

pub mod admin;
pub mod counters;
mod events;
mod follow;
mod list;
mod listing;
pub mod rooms;
pub mod wire;

use crate::{
    config::JanusConfig,
    driver::{Handle, Stopped},
    media::posts,
};
use admin::Admin;
use counters::Counters;
use events::Sink;
use listing::Asker;
use rooms::Rooms;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use voice_room::{Input, SourceId};

/// The name under which the core knows this adapter.
pub const SOURCE: &str = "janus";
/// Events that wait for their translation. When full, events are dropped, counted, and a listing is asked for.
const EVENT_QUEUE: usize = 1024;

/// What the tasks share. Whoever changes it tells the driver before letting go of it, so that what is told has the
/// order of what was learned.
#[derive(Debug)]
struct Known {
    rooms: Rooms,
    /// When a listing was last answered.
    listed_at: Instant,
    /// Whether a listing was ever answered.
    answered: bool,
    /// Whether a listing has failed since.
    failed: bool,
    /// Whether the driver was told that the source is lost.
    lost: bool,
}

/// What every task holds.
#[derive(Debug, Clone)]
struct Shared {
    known: Arc<Mutex<Known>>,
    handle: Handle,
    /// Asks for a listing before its time.
    list_now: Arc<Notify>,
    counters: Arc<Counters>,
}

/// Follows the rooms until `shutdown`, or until the driver has ended. `ports` is the media range; a listing is asked
/// for each `heartbeat`. A Janus that is away, hangs or talks nonsense is told (`SourceLost`), logged and counted, and
/// tried again for ever.
pub async fn run(
    config: JanusConfig,
    heartbeat: Duration,
    ports: RangeInclusive<u16>,
    handle: Handle,
    shutdown: CancellationToken,
) {
    let counters = Arc::new(Counters::default());
    let shared = Shared::new(handle, counters.clone());
    let (queue, events) = mpsc::channel(EVENT_QUEUE);
    let sink = Sink {
        queue,
        list_now: shared.list_now.clone(),
        counters: counters.clone(),
    };
    let asker = || {
        let admin = Admin::new(&config, counters.clone());
        Asker::new(admin, ports.clone(), counters.clone())
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(list::list(asker(), shared.clone(), heartbeat));
    tasks.spawn(list::watch(shared.clone(), heartbeat));
    tasks.spawn(follow::follow(asker(), shared, events));
    tasks.spawn(posts::listen(config.events_listen, sink, shutdown.clone()));
    // The first task to end does so because of the shutdown or because the driver is gone: then all end.
    let ended = shutdown.run_until_cancelled(tasks.join_next()).await;
    tasks.shutdown().await;
    if let Some(Some(Err(error))) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Shared {
    fn new(handle: Handle, counters: Arc<Counters>) -> Shared {
        let known = Known {
            rooms: Rooms::new(source()),
            listed_at: Instant::now(),
            answered: false,
            failed: false,
            lost: false,
        };
        Shared {
            known: Arc::new(Mutex::new(known)),
            handle,
            list_now: Arc::new(Notify::new()),
            counters,
        }
    }

    /// Tells in order; waits while the driver's queue is full.
    async fn tell(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        for input in inputs {
            self.handle.fact(input).await?;
        }
        Ok(())
    }
}

/// [`SOURCE`] as an id.
#[expect(
    clippy::expect_used,
    reason = "a constant of visible ASCII characters; a test makes it too"
)]
fn source() -> SourceId {
    SourceId::new(SOURCE).expect("a valid source id")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_source_has_a_valid_name() {
        assert_eq!(super::source().as_str(), "janus");
    }
}
