//! The stream of events: pages from the store to a reader, at the reader's pace. What waits for a reader is bounded, and a
//! reader that takes nothing is cut off.

use super::{convert, ops::asked};
use crate::{
    driver::Handle,
    proto::admin::Event,
    store::{Cursor, Position, StoreError},
    telemetry::counters,
};
use futures::{Stream, StreamExt};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use voice_room::{RoomId, StateChangeEvent};

/// Readers at one time; more are refused.
const READERS: usize = 32;
/// Events read from the store in one go.
pub(super) const PAGE: usize = 1_000;
/// Events that wait for one reader, besides what fits into its HTTP/2 window.
const WAITING: usize = 256;
/// How long a reader may take nothing while events wait.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// How often a follower looks for new events.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a call answers.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

/// Those who read events.
#[derive(Debug)]
pub(super) struct Readers {
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Readers {
    pub(super) fn new(shutdown: CancellationToken) -> Readers {
        Readers {
            places: Arc::new(Semaphore::new(READERS)),
            shutdown,
        }
    }

    /// Begins a stream. Its task ends with the reader, the last event, or the agent.
    pub(super) fn read(
        &self,
        handle: Handle,
        room: Option<RoomId>,
        since: Cursor,
        follow: bool,
    ) -> Result<Events, Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            counters::note("event_reader_refused");
            Status::resource_exhausted(format!("{READERS} readers of events are connected; end one"))
        })?;
        let (to, events) = mpsc::channel(WAITING);
        let (ended, end) = oneshot::channel();
        let reader = Reader {
            handle,
            room,
            since,
            follow,
            to,
            _place: place,
        };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = reader.read() => result,
                () = shutdown.cancelled() => Err(Status::unavailable("the agent is shutting down")),
            };
            // The reader may be gone.
            drop(ended.send(result));
        });
        // How it ended comes last, behind what waits.
        let end = futures::stream::once(end).filter_map(async |end| end.ok()?.err().map(Err));
        Ok(Box::pin(ReceiverStream::new(events).map(Ok).chain(end)))
    }
}

struct Reader {
    handle: Handle,
    room: Option<RoomId>,
    since: Cursor,
    follow: bool,
    to: mpsc::Sender<Event>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn read(mut self) -> Result<(), Status> {
        loop {
            let page = asked(self.handle.events(self.since.clone(), PAGE)).await?;
            let page = match page {
                Err(StoreError::Cut { up_to }) => {
                    if !self.tell_gap(&up_to).await? {
                        return Ok(());
                    }
                    continue;
                }
                page => page.map_err(|e| Status::internal(format!("reading the events: {e}")))?,
            };
            if page.is_empty() {
                if !self.follow {
                    return Ok(());
                }
                tokio::select! {
                    () = self.to.closed() => return Ok(()),
                    () = tokio::time::sleep(LOOK_EVERY) => continue,
                }
            }
            for (position, event) in page {
                self.since.read(position);
                if !self.give(position, &event).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Gives one event to the reader; `false` when it is gone.
    async fn give(&self, position: Position, event: &StateChangeEvent) -> Result<bool, Status> {
        if self.room.as_ref().is_some_and(|room| *room != event.room) {
            return Ok(!self.to.is_closed());
        }
        self.send(position, convert::event(position, event)).await
    }

    /// Says that events were cut off before they were read, and goes on behind them; `false` when the reader is gone.
    async fn tell_gap(&mut self, up_to: &[Position]) -> Result<bool, Status> {
        up_to.iter().for_each(|position| self.since.read(*position));
        let Some(last) = up_to.last() else {
            return Ok(true);
        };
        let gap = StoreError::Cut {
            up_to: up_to.to_vec(),
        }
        .to_string();
        let told = Event {
            gap: Some(gap),
            ..Event::default()
        };
        self.send(*last, told).await
    }

    async fn send(&self, position: Position, event: Event) -> Result<bool, Status> {
        match self.to.send_timeout(event, SLOW).await {
            Ok(()) => Ok(true),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Ok(false),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                counters::note("slow_event_reader");
                tracing::warn!(
                    %position,
                    "a reader of events took nothing for {SLOW:?}; it was cut off"
                );
                Err(Status::resource_exhausted(format!(
                    "cut off at position {position}: the reader took nothing for {} s; go on with --since",
                    SLOW.as_secs()
                )))
            }
        }
    }
}
