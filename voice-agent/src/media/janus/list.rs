//! The liveness of the adapter: a listing each heartbeat, and the watch that tells when none is answered any more.
//! A failed listing is never made up for from memory: no listing, no heartbeat.

use super::{
    Shared,
    admin::AdminError,
    counters,
    listing::Asker,
    rooms::{Listing, hosts},
    wire::Participant,
};
use crate::driver::Stopped;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use voice_room::{Input, core::RoomView};

/// Between two listings that were asked for before their time.
const PAUSE: Duration = Duration::from_millis(250);

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
enum ListingError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the listing took longer than {} ms, {answers} questions were answered in that time", .within.as_millis())]
    TooLong {
        /// How long it may take.
        within: Duration,
        /// What Janus answered in that time.
        answers: u32,
    },
}

impl ListingError {
    /// Whether Janus answered, and only we could not make a listing of it: refused, too much, too slow in sum, not
    /// understood. Then its rooms are not known to be gone, and none may be cut for it. A Janus that hangs answers
    /// nothing: that is silence, and judged as such.
    fn was_answered(&self) -> bool {
        match self {
            ListingError::TooLong { answers, .. } => *answers > 0,
            ListingError::Admin(error) => match error {
                AdminError::Question { .. }
                | AdminError::Oversize { .. }
                | AdminError::Garbage { .. }
                | AdminError::Refused { .. } => true,
                AdminError::Connect { .. }
                | AdminError::BackingOff(_)
                | AdminError::Io { .. }
                | AdminError::Deadline { .. } => false,
            },
        }
    }
}

/// Lists at start, each heartbeat, and when asked to. Ends when the driver has.
pub(super) async fn list(mut asker: Asker, shared: Shared, heartbeat: Duration) {
    let mut ticks = interval(heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = shared.counters.all();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.list_now.notified() => {}
        }
        shared.known.lock().await.rooms.listing_begins();
        // Two heartbeats: what takes longer comes too late to keep the source from being lost.
        let within = heartbeat * 2;
        let listing = match timeout(within, asker.everything()).await {
            Ok(listing) => listing.map_err(ListingError::from),
            Err(_) => {
                let answers = asker.answers();
                Err(ListingError::TooLong { within, answers })
            }
        };
        if let Err(Stopped) = take(&shared, listing).await {
            return;
        }
        counted = counters::log_risen(&shared.counters, &counted);
        sleep(PAUSE).await;
    }
}

async fn take(shared: &Shared, listing: Result<Listing, ListingError>) -> Result<(), Stopped> {
    let on_record = match &listing {
        Ok(listing) => on_record(shared, listing).await?,
        Err(_) => Vec::new(),
    };
    let mut known = shared.known.lock().await;
    match listing {
        Ok(listing) => {
            if known.failed {
                tracing::info!(
                    participants = listing.participants.len(),
                    "janus: listing answered again"
                );
            }
            (known.listed_at, known.failed, known.lost) = (Instant::now(), false, false);
            let mut inputs = known.rooms.listed(listing, &hosts(&on_record));
            if !std::mem::replace(&mut known.answered, true) {
                inputs.extend(known.rooms.ended_unseen(&on_record));
            }
            shared.tell(inputs).await
        }
        Err(error) => {
            counters::count(&shared.counters.listings_failed);
            if !known.failed {
                tracing::warn!(%error, "janus: listing failed; no heartbeats until one is answered");
            }
            known.failed = true;
            if error.was_answered() {
                shared
                    .tell(vec![Input::HeartbeatRefused(super::source())])
                    .await?;
            }
            Ok(())
        }
    }
}

/// The rooms as the core has them, if this is the first listing or there is a room in it that is not known here yet.
async fn on_record(shared: &Shared, listing: &Listing) -> Result<Vec<RoomView>, Stopped> {
    let wanted = {
        let known = shared.known.lock().await;
        let unknown = |p: &Participant| !known.rooms.knows(&p.room);
        !known.answered || listing.participants.iter().any(unknown)
    };
    match wanted {
        true => shared.handle.rooms().await,
        false => Ok(Vec::new()),
    }
}

/// Tells once that the source is lost when no listing was answered for 2.5 heartbeats. A listing must have failed in
/// that time: an agent that was frozen itself has heard nothing either, and asks first.
pub(super) async fn watch(shared: Shared, heartbeat: Duration) {
    let source = super::source();
    let patience = heartbeat * 5 / 2;
    let mut due = Instant::now() + patience;
    loop {
        sleep_until(due).await;
        let mut known = shared.known.lock().await;
        due = known.listed_at + patience;
        if due > Instant::now() {
            continue;
        }
        due = Instant::now() + heartbeat;
        if known.failed && !known.lost {
            known.lost = true;
            tracing::warn!(%source, silent_ms = known.listed_at.elapsed().as_millis(), "janus: source lost");
            if let Err(Stopped) = shared.tell(vec![Input::SourceLost(source.clone())]).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
