//! The queue towards one peer. Bounded: a reader that does not drain is cut off, never buffered for ever.

use crate::{
    proto::v1::{AgentMessage, Goodbye, agent_message::Message},
    session::stream::refuse,
};
use prost::Message as _;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use tokio_stream::Stream;
use tonic::Status;

/// Bytes that may wait for one peer: a STATE_EXPIRED for each of 10,000 rooms (about 250 bytes each) and room to spare.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// What a queued message takes besides its own bytes.
const OVERHEAD: usize = 128;

/// A message that may wait for many peers: one in memory for all of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    message: Arc<AgentMessage>,
    /// What counts against [`MAX_BYTES`], for each peer.
    cost: usize,
}

impl From<Message> for Shared {
    fn from(message: Message) -> Shared {
        let message = AgentMessage {
            message: Some(message),
        };
        Shared {
            cost: message.encoded_len() + OVERHEAD,
            message: Arc::new(message),
        }
    }
}

/// The end that is pushed to. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(Arc<Mutex<State>>);

/// The end that gRPC reads.
#[derive(Debug)]
pub(super) struct Drain(Arc<Mutex<State>>);

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// This message was too much: the stream is ended now, what waited is gone.
    Full,
    /// The stream had ended before.
    Ended,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Shared>,
    bytes: usize,
    end: End,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum End {
    Open,
    /// After what waits comes this status (`None`: OK).
    Ending(Option<Status>),
    Over,
}

/// A new queue.
pub(super) fn queue() -> (Outgoing, Drain) {
    let state = Arc::new(Mutex::new(State {
        waiting: VecDeque::new(),
        bytes: 0,
        end: End::Open,
        waker: None,
    }));
    (Outgoing(state.clone()), Drain(state))
}

impl Outgoing {
    /// Queues a message.
    pub(super) fn push(&self, message: impl Into<Shared>) -> Result<(), NotTaken> {
        let message = message.into();
        let mut state = lock(&self.0);
        if !matches!(state.end, End::Open) {
            return Err(NotTaken::Ended);
        }
        if state.bytes + message.cost > MAX_BYTES {
            state.clear();
            let said =
                format!("{MAX_BYTES} bytes wait for this peer: it does not read; connect again and drain");
            state.finish(&said.clone(), Some(Status::resource_exhausted(said)));
            return Err(NotTaken::Full);
        }
        state.bytes += message.cost;
        state.waiting.push_back(message);
        state.wake();
        Ok(())
    }

    /// Ends the stream after what waits: Goodbye, then the status (`None`: OK). The first end counts.
    pub(super) fn end(&self, reason: &str, status: Option<Status>) {
        lock(&self.0).finish(reason, status);
    }
}

impl State {
    fn finish(&mut self, reason: &str, status: Option<Status>) {
        if !matches!(self.end, End::Open) {
            return;
        }
        let goodbye = Goodbye {
            reason: reason.to_owned(),
            retry_after_ms: status.as_ref().map_or(0, refuse::retry_after),
        };
        self.waiting.push_back(Message::Goodbye(goodbye).into());
        self.end = End::Ending(status);
        self.wake();
    }

    fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.bytes = 0;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Stream for Drain {
    type Item = Result<AgentMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.0);
        if let Some(message) = state.waiting.pop_front() {
            state.bytes = state.bytes.saturating_sub(message.cost);
            drop(state);
            return Poll::Ready(Some(Ok(Arc::unwrap_or_clone(message.message))));
        }
        match std::mem::replace(&mut state.end, End::Over) {
            End::Open => {
                state.end = End::Open;
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Ending(Some(status)) => Poll::Ready(Some(Err(status))),
            End::Ending(None) | End::Over => Poll::Ready(None),
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.end = End::Over;
        state.clear();
    }
}

/// A panic while the lock was held left whole values behind: each method changes them in one go.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Keepalive, RoomUpdate};
    use tokio_stream::StreamExt;

    fn ping(nonce: u64) -> Message {
        Message::Keepalive(Keepalive { kind: 1, nonce })
    }

    #[tokio::test]
    async fn what_was_queued_comes_before_the_goodbye_and_the_status_and_then_nothing() {
        let (outgoing, mut drain) = queue();
        outgoing.push(ping(1)).unwrap();
        outgoing.end("replaced", Some(Status::aborted("replaced")));
        assert_eq!(outgoing.push(ping(2)), Err(NotTaken::Ended));
        assert_eq!(drain.next().await.unwrap().unwrap().message, Some(ping(1)));
        let goodbye = drain.next().await.unwrap().unwrap().message.unwrap();
        assert!(matches!(goodbye, Message::Goodbye(g) if g.reason == "replaced"));
        assert_eq!(
            drain.next().await.unwrap().unwrap_err().code(),
            tonic::Code::Aborted
        );
        assert!(drain.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_does_not_drain_is_cut_off_and_its_memory_freed() {
        let (outgoing, mut drain) = queue();
        let big = || {
            Message::RoomUpdate(RoomUpdate {
                reason: "x".repeat(100_000),
                ..Default::default()
            })
        };
        let taken = (0..1000).take_while(|_| outgoing.push(big()).is_ok()).count();
        assert_eq!(taken, MAX_BYTES / 100_000);
        assert!(lock(&outgoing.0).waiting.len() == 1, "only the goodbye is left");
        drain.next().await.unwrap().unwrap();
        let status = drain.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_reader_that_drains_may_take_any_amount_over_time() {
        let (outgoing, mut drain) = queue();
        for nonce in 0..100_000 {
            outgoing.push(ping(nonce)).unwrap();
            assert!(drain.next().await.is_some());
        }
    }
}
