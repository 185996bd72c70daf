//! Webhooks: whether LiveKit posted it, then what it says, then into the queue. What is dropped here a listing repairs.

use super::{
    token::{Credentials, Refused},
    wire::{self, Event},
};
use crate::{
    media::posts::{NotTaken, Receiver},
    telemetry::counters::Counter,
};
use hyper::{HeaderMap, StatusCode, header::AUTHORIZATION};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, mpsc};
use voice_room::Wall;

/// Where webhooks go.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    pub(super) credentials: Arc<Credentials>,
    pub(super) queue: mpsc::Sender<Event>,
    /// Asks for a listing when the queue was full.
    pub(super) list_now: Arc<Notify>,
}

impl Receiver for Sink {
    const NAME: &'static str = "livekit";
    const KEY: &'static str = "livekit.webhook_listen";

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), NotTaken> {
        self.verify(headers, body)?;
        match wire::event(body) {
            Ok(Some(event)) => self.queue(event),
            Ok(None) => {}
            Err(error) => {
                self.refused();
                return Err((
                    StatusCode::BAD_REQUEST,
                    format!("expected a webhook of LiveKit: {error}\n"),
                ));
            }
        }
        Ok(())
    }

    fn refused(&self) {
        Counter::LivekitBadRequests.count();
    }

    fn failed(&self) {
        Counter::LivekitConnectionsFailed.count();
    }
}

impl Sink {
    /// LiveKit sends the token alone, without the word Bearer; a proxy may have added it.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), NotTaken> {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = token.map(|text| text.strip_prefix("Bearer ").unwrap_or(text).trim()) else {
            Counter::LivekitBadTokens.count();
            let why = "a webhook needs LiveKit's token in the header Authorization\n";
            return Err((StatusCode::UNAUTHORIZED, why.into()));
        };
        self.credentials.verify(token, body, now()).map_err(|refused| {
            match refused {
                Refused::Body => Counter::LivekitBadHashes.count(),
                _ => Counter::LivekitBadTokens.count(),
            }
            (StatusCode::UNAUTHORIZED, format!("{refused}\n"))
        })
    }

    fn queue(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            Counter::LivekitEventsDropped.count();
            self.list_now.notify_one();
        }
    }
}

/// The system's time.
pub(super) fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
