//! Carries what was learned to the driver: facts in order, requests apart, since their answers come from the store.

use super::{
    Shared,
    counters::{Counters, count},
};
use crate::driver::{Handle, Stopped};
use std::sync::Arc;
use tokio::sync::mpsc;
use voice_room::{
    Input, Rejected,
    input::{Ask, Request},
};

/// A way to the driver.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    handle: Handle,
    requests: mpsc::Sender<Request>,
    counters: Arc<Counters>,
}

impl Teller {
    /// A teller, and the requests it was told, for [`requests`].
    pub(super) fn new(
        handle: Handle,
        bound: usize,
        counters: Arc<Counters>,
    ) -> (Teller, mpsc::Receiver<Request>) {
        let (requests, waiting) = mpsc::channel(bound);
        (
            Teller {
                handle,
                requests,
                counters,
            },
            waiting,
        )
    }

    /// Tells in order. Facts wait for room in the driver's queue; requests never wait.
    pub(super) async fn tell(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        for input in inputs {
            let Input::Request(request) = input else {
                self.handle.fact(input).await?;
                continue;
            };
            if self.requests.try_send(request).is_err() {
                count(&self.counters.requests_dropped);
            }
        }
        Ok(())
    }
}

/// Asks the driver, one request after the other, and takes note of its answers. Ends when the driver has.
pub(super) async fn requests(handle: Handle, shared: Shared, mut waiting: mpsc::Receiver<Request>) {
    while let Some(request) = waiting.recv().await {
        let (room, event) = (request.room.clone(), request.ask.event());
        let no_active_user = request.ask == Ask::NoActiveUser;
        let Ok(answer) = handle.request(request).await else {
            return;
        };
        match &answer {
            Ok(accepted) => tracing::info!(%room, %event, state = %accepted.state, "janus: told and taken"),
            Err(rejected) => tracing::debug!(%room, %event, %rejected, "janus: told and refused"),
        }
        if no_active_user && !matches!(answer, Err(Rejected::NotYet(_))) {
            shared.known.lock().await.rooms.settled(&room);
        }
    }
}
