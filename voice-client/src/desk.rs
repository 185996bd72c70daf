//! Requests that wait for their answers: what was sent and what was not, and what to send again after a broken stream.

use crate::proto::v1::{self, event_result, peer_message::Message};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use voice_room::{ClientId, RoomId, tier::Tier};

/// Requests that wait, those not sent yet included.
const MAX_WAITING: usize = 1024;
/// Requests that are sent and not answered: as many as an agent lets wait (docs/PROTOCOL.md).
const IN_FLIGHT: usize = 64;

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The agent refused: nothing changed. The codes stand in docs/PROTOCOL.md.
    #[error("refused ({code}): {message}")]
    Refused {
        /// A stable name.
        code: String,
        /// In words.
        message: String,
        /// When it is worth asking again; `None`: waiting does not help.
        retry_after: Option<Duration>,
    },
    /// It was sent and no answer came in time: it may have been applied or not. Asking again with the same `op_id` is safe.
    #[error("no answer within {} ms; it may have been applied. Ask again with op_id {op_id:?}", .waited.as_millis())]
    Unknown {
        /// The request's; empty for a client event, which may simply be said again.
        op_id: String,
        /// How long it waited.
        waited: Duration,
    },
    /// It was not sent: nothing changed.
    #[error("not sent: {why}")]
    NotSent {
        /// Why.
        why: NotSent,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// It cannot be sent as it is.
    #[error("not sent: {0}")]
    Invalid(String),
    /// The peer has ended.
    #[error("the peer has ended")]
    Ended,
}

/// Why a request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The agent does badly (DESIGN 6): Degraded begins nothing new, Broken does nothing.
    #[error("the agent is {0}")]
    Tier(Tier),
    /// No stream was up in time.
    #[error("no stream to the agent was up in time")]
    NotConnected,
    /// Too many wait already.
    #[error("{MAX_WAITING} requests wait already, the most")]
    Full,
}

/// What an accepted request means for the rooms served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meant {
    Name,
    Join(ClientId),
    Leave(ClientId),
}

/// A request, checked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) room: RoomId,
    pub(crate) meant: Meant,
    /// Whether it would begin something (a room, a client's stay), which a Degraded agent is not asked for.
    pub(crate) begins: bool,
    pub(crate) since: Instant,
    pub(crate) by: Instant,
    pub(crate) reply: oneshot::Sender<Result<v1::Accepted, RequestError>>,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    /// On the present stream.
    sent: bool,
    /// On any stream: its outcome is unknown until it is answered.
    ever_sent: bool,
}

/// All of them, in the order they were asked.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    last_id: u64,
    waiting: BTreeMap<u64, Waiting>,
    in_flight: usize,
}

impl Desk {
    /// Takes a request; refuses it when too many wait.
    pub(crate) fn take(&mut self, asked: Asked) {
        if self.waiting.len() >= MAX_WAITING {
            let retry_after = Duration::from_secs(1);
            let why = NotSent::Full;
            reply(asked, Err(RequestError::NotSent { why, retry_after }));
            return;
        }
        self.last_id += 1;
        let waiting = Waiting {
            asked,
            sent: false,
            ever_sent: false,
        };
        self.waiting.insert(self.last_id, waiting);
    }

    /// The next to send, unless enough are under way.
    pub(crate) fn next(&mut self) -> Option<Message> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let (id, waiting) = self.waiting.iter_mut().find(|(_, w)| !w.sent)?;
        (waiting.sent, waiting.ever_sent) = (true, true);
        self.in_flight += 1;
        let mut message = waiting.asked.message.clone();
        match &mut message {
            Message::RoomEvent(event) => event.request_id = *id,
            Message::ClientEvent(event) => event.request_id = *id,
            _ => {} // No other message is a request.
        }
        Some(message)
    }

    /// An answer came. What it means, if it was accepted; `None` also for an answer nobody waits for any more.
    pub(crate) fn answered(&mut self, result: v1::EventResult) -> Option<(RoomId, Meant, v1::Accepted)> {
        let waiting = self.waiting.remove(&result.request_id)?;
        self.in_flight -= usize::from(waiting.sent);
        let (room, meant) = (waiting.asked.room.clone(), waiting.asked.meant.clone());
        match result.result {
            Some(event_result::Result::Accepted(accepted)) => {
                reply(waiting.asked, Ok(accepted));
                Some((room, meant, accepted))
            }
            Some(event_result::Result::Rejected(refused)) => {
                reply(waiting.asked, Err(RequestError::from(refused)));
                None
            }
            None => {
                let said = "the agent's answer says neither yes nor no: it is of a later protocol";
                reply(waiting.asked, Err(RequestError::Invalid(said.into())));
                None
            }
        }
    }

    /// The stream ended: what was sent is to be sent again. How many of them have an unknown outcome now.
    pub(crate) fn broken(&mut self) -> usize {
        self.in_flight = 0;
        self.waiting
            .retain(|_, w| w.ever_sent || !w.asked.reply.is_closed());
        for waiting in self.waiting.values_mut() {
            waiting.sent = false;
        }
        self.waiting.values().filter(|w| w.ever_sent).count()
    }

    /// Answers those whose time is up.
    pub(crate) fn overdue(&mut self, now: Instant) {
        self.give_up(
            |asked| asked.by <= now,
            now,
            NotSent::NotConnected,
            Duration::from_secs(1),
        );
    }

    /// Answers all of them.
    pub(crate) fn clear(&mut self, now: Instant, why: NotSent, retry_after: Duration) {
        self.give_up(|_| true, now, why, retry_after);
    }

    fn give_up(&mut self, which: impl Fn(&Asked) -> bool, now: Instant, why: NotSent, retry_after: Duration) {
        for (_, waiting) in self.waiting.extract_if(.., |_, w| which(&w.asked)) {
            self.in_flight -= usize::from(waiting.sent);
            let error = match waiting.ever_sent {
                true => RequestError::Unknown {
                    op_id: op_id(&waiting.asked.message),
                    waited: now.saturating_duration_since(waiting.asked.since),
                },
                false => RequestError::NotSent { why, retry_after },
            };
            reply(waiting.asked, Err(error));
        }
    }
}

impl From<v1::Refused> for RequestError {
    fn from(refused: v1::Refused) -> RequestError {
        let after = Duration::from_millis(refused.retry_after_ms);
        RequestError::Refused {
            code: refused.code,
            message: refused.message,
            retry_after: (!after.is_zero()).then_some(after),
        }
    }
}

fn op_id(message: &Message) -> String {
    match message {
        Message::RoomEvent(event) => event.op_id.clone().unwrap_or_default(),
        _ => String::new(),
    }
}

/// Whoever asked may have gone; then nobody wants to know.
fn reply(asked: Asked, result: Result<v1::Accepted, RequestError>) {
    drop(asked.reply.send(result));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<v1::Accepted, RequestError>>;

    fn ask(desk: &mut Desk, op_id: &str) -> Answer {
        let (reply, answer) = oneshot::channel();
        let event = v1::RoomEvent {
            op_id: Some(op_id.into()),
            ..Default::default()
        };
        desk.take(Asked {
            message: Message::RoomEvent(event),
            room: RoomId::new("r").unwrap(),
            meant: Meant::Name,
            begins: false,
            since: Instant::now(),
            by: Instant::now() + Duration::from_secs(10),
            reply,
        });
        answer
    }

    fn sent(desk: &mut Desk) -> Vec<(u64, String)> {
        std::iter::from_fn(|| desk.next())
            .map(|message| match message {
                Message::RoomEvent(event) => (event.request_id, event.op_id.unwrap()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn accepted(request_id: u64) -> v1::EventResult {
        v1::EventResult {
            request_id,
            result: Some(event_result::Result::Accepted(v1::Accepted::default())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_when_the_stream_ends_is_sent_again_with_the_same_ids() {
        let mut desk = Desk::default();
        let (mut a, _b) = (ask(&mut desk, "a"), ask(&mut desk, "b"));
        assert_eq!(sent(&mut desk), [(1, "a".into()), (2, "b".into())]);
        desk.answered(accepted(1)).unwrap();
        assert!(a.try_recv().unwrap().is_ok());
        assert_eq!(desk.broken(), 1);
        assert_eq!(sent(&mut desk), [(2, "b".into())]);
        assert!(desk.answered(accepted(2)).is_some());
        assert!(desk.answered(accepted(2)).is_none(), "twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_time_is_up_is_unknown_if_it_was_ever_sent_and_else_not_sent() {
        let mut desk = Desk::default();
        let mut a = ask(&mut desk, "a");
        sent(&mut desk);
        desk.broken();
        let mut b = ask(&mut desk, "b");
        tokio::time::advance(Duration::from_secs(11)).await;
        desk.overdue(Instant::now());
        let waited = Duration::from_secs(11);
        let unknown = RequestError::Unknown {
            op_id: "a".into(),
            waited,
        };
        assert_eq!(a.try_recv().unwrap(), Err(unknown));
        assert!(matches!(
            b.try_recv().unwrap(),
            Err(RequestError::NotSent {
                why: NotSent::NotConnected,
                ..
            })
        ));
        assert_eq!(desk.in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_the_agent_lets_wait_and_too_many_are_refused() {
        let mut desk = Desk::default();
        let mut answers: Vec<Answer> = (0..=MAX_WAITING)
            .map(|n| ask(&mut desk, &n.to_string()))
            .collect();
        assert_eq!(sent(&mut desk).len(), IN_FLIGHT);
        assert!(matches!(
            answers.pop().unwrap().try_recv().unwrap(),
            Err(RequestError::NotSent {
                why: NotSent::Full,
                ..
            })
        ));
        desk.answered(accepted(1));
        assert_eq!(sent(&mut desk), [(IN_FLIGHT as u64 + 1, IN_FLIGHT.to_string())]);
    }
}
