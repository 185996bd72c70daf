//! Tells the driver what is stored by other agents: their changes, as the streams have them, and their isolations. After a gap
//! it goes on where it was; what is published besides is only a hint to look sooner.

use crate::{
    driver::Handle,
    store::{Cursor, Redis, RoomStore, StoreError},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use voice_room::{Input, State, StateChangeEvent, Wall};

/// Events in one look.
const PAGE: usize = 256;
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// The clocks of hosts may differ by so much: a start reads from before its own time on. What is read twice is told twice, which
/// its version says.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// Whether what others store is heard of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hearing(Arc<AtomicBool>);

impl Hearing {
    /// False from the first look that failed to the next that did not.
    pub fn hears(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Streams are cut at their old end so often. Every agent does it; what another has cut is no more work.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Keeps the streams short until `shutdown`.
pub async fn trim(redis: Redis, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TRIM_EVERY) => {}
        }
        if let Err(error) = redis.trim().await {
            tracing::warn!(%error, "old events are not cut off; tried again in a minute");
        }
    }
}

/// Relays until `shutdown`, or until the driver has ended.
pub async fn run(redis: Redis, driver: Handle, hearing: Hearing, started: Wall, shutdown: CancellationToken) {
    let from = Wall(
        started
            .0
            .saturating_sub(u64::try_from(CLOCKS_DIFFER.as_millis()).unwrap_or(0)),
    );
    let mut cursor = Cursor::since(from);
    loop {
        let relayed = relay(&redis, &driver, &hearing, &mut cursor);
        match shutdown.run_until_cancelled(relayed).await {
            None | Some(Ok(())) => return,
            Some(Err(error)) => {
                if hearing.0.swap(false, Ordering::Relaxed) {
                    tracing::warn!(%error, "changes by other agents are not heard of; told once the store answers again");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Ends without an error when the driver has ended.
async fn relay(
    redis: &Redis,
    driver: &Handle,
    hearing: &Hearing,
    cursor: &mut Cursor,
) -> Result<(), StoreError> {
    let isolations = redis.load(Vec::new()).await?.isolations;
    if driver.fact(Input::Isolations(isolations)).await.is_err() {
        return Ok(());
    }
    let mut follower = redis.follow(cursor.clone());
    hearing.0.store(true, Ordering::Relaxed);
    loop {
        for (position, event) in follower.next(PAGE).await? {
            let isolation = isolation_of(redis, &event).await?;
            if driver.fact(Input::Heard(event, isolation)).await.is_err() {
                return Ok(());
            }
            // Only what was told counts as read: what comes next may fail.
            cursor.read(position);
        }
    }
}

/// An event says that a room is expired; for how long says the isolation.
async fn isolation_of(
    redis: &Redis,
    event: &StateChangeEvent,
) -> Result<Option<voice_room::Isolation>, StoreError> {
    if event.new_state != State::Expired {
        return Ok(None);
    }
    RoomStore::isolation(redis, event.room.clone()).await
}
