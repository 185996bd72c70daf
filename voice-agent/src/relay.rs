//! Tells the driver what is stored by other agents: their changes, as the streams have them, and their isolations. After a gap
//! it goes on where it was; what is published besides is only a hint to look sooner.

use crate::{
    driver::Handle,
    store::{Cursor, Redis, RoomStore, Seen, StoreError},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use voice_room::{EventType, Input, Isolation, State, StateChangeEvent, Wall, timeline::Actor};

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
    let (mut cursor, mut missed) = (Cursor::since(from), false);
    loop {
        let relayed = relay(&redis, &driver, &hearing, &mut cursor, &mut missed);
        match shutdown.run_until_cancelled(relayed).await {
            None | Some(Ok(())) => return,
            Some(Err(error @ StoreError::Cut { .. })) => {
                tracing::warn!(%error, "the isolations of all rooms are read anew and told again");
                missed = true;
                continue;
            }
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

/// Ends without an error when the driver has ended. When events were `missed`, what they left behind is told first.
async fn relay(
    redis: &Redis,
    driver: &Handle,
    hearing: &Hearing,
    cursor: &mut Cursor,
    missed: &mut bool,
) -> Result<(), StoreError> {
    let isolations = redis.load(Vec::new()).await?.isolations;
    if driver.fact(Input::Isolations(isolations.clone())).await.is_err() {
        return Ok(());
    }
    if *missed {
        for isolation in isolations {
            let Some(event) = expiry_of(redis, &isolation).await? else {
                continue;
            };
            if driver.fact(Input::Heard(event, Some(isolation))).await.is_err() {
                return Ok(());
            }
        }
    }
    *missed = false;
    let mut follower = redis.follow(cursor.clone());
    hearing.0.store(true, Ordering::Relaxed);
    loop {
        let heard = follower.next(PAGE).await;
        if let Err(StoreError::Cut { up_to }) = &heard {
            up_to.iter().for_each(|position| cursor.read(*position));
        }
        for (position, event) in heard? {
            let isolation = isolation_of(redis, &event).await?;
            if driver.fact(Input::Heard(event, isolation)).await.is_err() {
                return Ok(());
            }
            // Only what was told counts as read: what comes next may fail.
            cursor.read(position);
        }
    }
}

/// The event that an isolated room's record tells of, for when the event itself was missed. Who has heard of it knows the version.
async fn expiry_of(redis: &Redis, isolation: &Isolation) -> Result<Option<StateChangeEvent>, StoreError> {
    let Some(Seen { record, .. }) = redis.look(isolation.room.clone()).await? else {
        return Ok(None);
    };
    Ok((record.state == State::Expired).then(|| StateChangeEvent {
        room: record.room,
        incarnation: record.incarnation,
        event_type: EventType::Stuck,
        old_state: Some(State::Liveing),
        new_state: State::Expired,
        version: record.version,
        epoch: record.epoch,
        op_id: record.op_id,
        actor: Actor::Agent,
        reason: isolation.reason.clone(),
        trace_id: None,
        timestamp: record.since,
    }))
}

/// An event says that a room is expired; for how long says the isolation.
async fn isolation_of(redis: &Redis, event: &StateChangeEvent) -> Result<Option<Isolation>, StoreError> {
    if event.new_state != State::Expired {
        return Ok(None);
    }
    RoomStore::isolation(redis, event.room.clone()).await
}
