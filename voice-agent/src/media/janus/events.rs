//! What Janus' sample event handler posts: checked and queued; what is dropped here a listing repairs. What events mean is in
//! `rooms`.

use super::{
    counters::{Counters, count},
    wire::{self, Event},
};
use crate::media::posts::{NotTaken, Receiver};
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    /// The queue to the translation.
    pub(super) queue: mpsc::Sender<Event>,
    /// Asks for a listing when the queue was full.
    pub(super) list_now: Arc<Notify>,
    pub(super) counters: Arc<Counters>,
}

impl Receiver for Sink {
    const NAME: &'static str = "janus";
    const KEY: &'static str = "janus.events_listen";

    fn take(&self, _: &HeaderMap, body: &[u8]) -> Result<(), NotTaken> {
        match wire::events(body, &self.counters) {
            Ok(events) => {
                self.queue(events);
                Ok(())
            }
            Err(error) => {
                self.refused();
                Err((StatusCode::BAD_REQUEST, format!("{error}\n")))
            }
        }
    }

    fn refused(&self) {
        count(&self.counters.bad_requests);
    }

    fn failed(&self) {
        count(&self.counters.connections_failed);
    }
}

impl Sink {
    fn queue(&self, events: Vec<Event>) {
        for event in events {
            if self.queue.try_send(event).is_err() {
                count(&self.counters.events_dropped);
                self.list_now.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;
