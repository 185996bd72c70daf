//! The one task that asks LiveKit and tells the driver: a listing each heartbeat, a look at a room when a webhook says that it may
//! have changed, and the loss of the source when no listing is answered any more. A failed listing is never made up for from
//! memory: no listing, no heartbeat.

use super::{
    SOURCE,
    api::{Api, ApiError},
    rooms::Rooms,
    source,
    wire::{Event, Listed},
};
use crate::{
    driver::{Handle, Stopped},
    telemetry::counters::Counter,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use voice_room::{ClientId, Input, RoomId};

/// Between two listings that were asked for before their time.
const PAUSE: Duration = Duration::from_millis(250);

/// What is counted, for the log.
const COUNTERS: [Counter; 8] = [
    Counter::LivekitBadTokens,
    Counter::LivekitBadHashes,
    Counter::LivekitBadRequests,
    Counter::LivekitEventsDropped,
    Counter::LivekitConnectionsFailed,
    Counter::LivekitInvalidIds,
    Counter::LivekitApiFailed,
    Counter::LivekitListingsFailed,
];

/// Asks and tells.
#[derive(Debug)]
pub(super) struct Follower {
    api: Api,
    rooms: Rooms,
    handle: Handle,
    heartbeat: Duration,
    /// When a listing was last answered.
    listed_at: Instant,
    /// Whether a listing was ever answered.
    answered: bool,
    /// Whether a listing has failed since.
    failed: bool,
    /// Whether the driver was told that the source is lost.
    lost: bool,
    counted: [u64; COUNTERS.len()],
}

impl Follower {
    pub(super) fn new(api: Api, handle: Handle, heartbeat: Duration) -> Follower {
        Follower {
            api,
            rooms: Rooms::new(source()),
            handle,
            heartbeat,
            listed_at: Instant::now(),
            answered: false,
            failed: false,
            lost: false,
            counted: COUNTERS.map(Counter::value),
        }
    }

    /// Follows until the driver ends.
    pub(super) async fn follow(mut self, mut events: mpsc::Receiver<Event>, list_now: Arc<Notify>) {
        let mut ticks = interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                biased;
                _ = ticks.tick() => self.list().await,
                () = sleep_until(self.due()) => self.tell_lost().await,
                () = list_now.notified() => self.list_early().await,
                event = events.recv() => match event {
                    Some(event) => self.look(event, &list_now).await,
                    None => return,
                },
            };
            if let Err(Stopped) = told {
                return;
            }
        }
    }

    async fn list_early(&mut self) -> Result<(), Stopped> {
        self.list().await?;
        sleep(PAUSE).await;
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Stopped> {
        self.rooms.listing_begins();
        match self.api.rooms().await {
            Ok(listed) => self.listed(listed).await?,
            Err(error) => self.not_listed(&error).await?,
        }
        self.log_risen();
        // Not later than a listing that the next heartbeat needs.
        let end = Instant::now() + self.heartbeat / 2;
        if !self.failed {
            self.look_around(end).await?;
        }
        Ok(())
    }

    async fn listed(&mut self, listed: Vec<Listed>) -> Result<(), Stopped> {
        if self.failed {
            tracing::info!(rooms = listed.len(), "{SOURCE}: listing answered again");
        }
        (self.listed_at, self.failed, self.lost) = (Instant::now(), false, false);
        let mut inputs = self.rooms.listed(listed);
        if !std::mem::replace(&mut self.answered, true) {
            let on_record = self.handle.rooms().await?;
            inputs.extend(self.rooms.ended_unseen(&on_record));
        }
        self.tell(inputs).await
    }

    async fn not_listed(&mut self, error: &ApiError) -> Result<(), Stopped> {
        Counter::LivekitListingsFailed.count();
        if !self.failed {
            tracing::warn!(%error, "{SOURCE}: listing failed; no heartbeats until one is answered");
        }
        self.failed = true;
        match error.was_answered() {
            true => self.tell(vec![Input::HeartbeatRefused(source())]).await,
            false => Ok(()),
        }
    }

    /// Asks who is in the rooms that are due, until `end`; the others come after the next listing.
    async fn look_around(&mut self, end: Instant) -> Result<(), Stopped> {
        for room in self.rooms.due() {
            if Instant::now() >= end || !self.ask(&room, None).await? {
                break;
            }
        }
        Ok(())
    }

    /// While listings fail, a single answer must not make the source look alive with all its other rooms left out: then only a
    /// listing counts.
    async fn look(&mut self, event: Event, list_now: &Notify) -> Result<(), Stopped> {
        if self.failed || !self.ask(&event.room, event.left.as_ref()).await? {
            list_now.notify_one();
        }
        Ok(())
    }

    /// Asks who is in a room and tells it. False: not answered.
    async fn ask(&mut self, room: &RoomId, left: Option<&(ClientId, String)>) -> Result<bool, Stopped> {
        let present = match self.api.participants(room).await {
            Ok(present) => present,
            Err(error) => {
                tracing::debug!(%room, %error, "{SOURCE}: looking at a room");
                return Ok(false);
            }
        };
        let host = match self.rooms.knows(room) {
            true => None,
            false => self.host(room).await?,
        };
        let inputs = self.rooms.looked(room, present, host, left);
        self.tell(inputs).await?;
        Ok(true)
    }

    /// The host that the core has on record of the room's present life.
    async fn host(&self, room: &RoomId) -> Result<Option<ClientId>, Stopped> {
        let view = self.handle.room(room.clone()).await?;
        Ok(view
            .filter(|view| view.state.is_live())
            .and_then(|view| view.host))
    }

    /// When no listing was answered for 2.5 heartbeats.
    fn due(&self) -> Instant {
        let silent = self.listed_at + self.heartbeat * 5 / 2;
        match self.lost || !self.failed {
            // Nothing to tell: looked at again later.
            true => silent.max(Instant::now() + self.heartbeat),
            false => silent,
        }
    }

    /// Tells once that the source is lost. A listing must have failed in that time: an agent that was frozen itself has heard
    /// nothing either, and asks first.
    async fn tell_lost(&mut self) -> Result<(), Stopped> {
        if self.lost || !self.failed || self.listed_at.elapsed() < self.heartbeat * 5 / 2 {
            return Ok(());
        }
        self.lost = true;
        tracing::warn!(
            silent_ms = self.listed_at.elapsed().as_millis(),
            "{SOURCE}: source lost"
        );
        self.tell(vec![Input::SourceLost(source())]).await
    }

    /// Tells in order; waits while the driver's queue is full.
    async fn tell(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        for input in inputs {
            self.handle.fact(input).await?;
        }
        Ok(())
    }

    /// Logs every counter that rose since the last listing.
    fn log_risen(&mut self) {
        for (counter, before) in COUNTERS.into_iter().zip(&mut self.counted) {
            let now = counter.value();
            if now > *before {
                let since_last = now - *before;
                tracing::warn!(
                    counter = counter.name(),
                    since_last,
                    total = now,
                    "{SOURCE}: trouble counted"
                );
                *before = now;
            }
        }
    }
}

#[cfg(test)]
mod tests;
