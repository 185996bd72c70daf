//! What a peer tells its application.

use std::time::Duration;
use tokio::sync::mpsc;
use voice_room::{
    Epoch, Incarnation, RoomId, Version,
    command::RoomUpdate,
    sync::{Attempt, Proposal},
    tier::{Tier, Why as TierWhy},
};

/// One thing the application should know, in the order it came.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A stream is up. Every isolation that lasts is remembered already.
    Connected(Connected),
    /// The stream ended, or could not be opened. What is unknown until the next one is said.
    Disconnected(Disconnected),
    /// The agent does better or worse.
    Health {
        /// Before.
        from: Tier,
        /// Now.
        to: Tier,
        /// Why.
        why: TierWhy,
    },
    /// A room was tripped: stop its media, disconnect its clients, refuse rejoins. It is acknowledged when the application asks
    /// for the next event; until then the agent keeps it for us.
    Expired(Expired),
    /// A tripped room was released before its time.
    Restored(RoomUpdate),
    /// A room changed its state: it is stored.
    Changed(RoomUpdate),
    /// May this room change? Only with [`Builder::decides`](crate::Builder::decides).
    Prepare(Prepare),
    /// What was agreed to, or asked about, is not done.
    RolledBack {
        /// The room.
        room: RoomId,
        /// Which attempt.
        attempt: Attempt,
        /// In words.
        reason: String,
    },
    /// The agent refused a message that is no request, a heartbeat for example.
    Refused {
        /// A stable name.
        code: String,
        /// In words: what is wrong and what is allowed.
        message: String,
    },
}

/// A stream that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Where.
    pub endpoint: String,
    /// The agent's node.
    pub node: String,
    /// The protocol that is spoken: 1 or 2.
    pub protocol_version: u32,
    /// The agent's epoch.
    pub epoch: Epoch,
    /// Rooms that are isolated now, as the agent says.
    pub isolated: Vec<RoomId>,
}

/// The end of a stream, or of an attempt to open one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Why.
    pub why: Why,
    /// Requests that were sent and not answered. They are sent again with the same op_id.
    pub unanswered: usize,
    /// Rooms of which a change was agreed to, and whose end is not known yet. The next stream tells it.
    pub prepared: Vec<RoomId>,
    /// When the next attempt is made; `None`: never, this was the last event.
    pub again_in: Option<Duration>,
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// The agent cannot be reached.
    #[error("cannot connect to {endpoint}: {said}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// The error.
        said: String,
    },
    /// The agent ended the stream, or did not open it.
    #[error("the agent says {code}: {said}")]
    Status {
        /// The name of the gRPC status.
        code: tonic::Code,
        /// Its message, or the reason of the Goodbye before it.
        said: String,
    },
    /// The agent closed its side.
    #[error("the agent closed the stream: {0}")]
    Closed(String),
    /// Two pings in a row were not answered: half-open.
    #[error("two pings in a row were not answered in time")]
    Silent,
    /// The agent does not read what is sent to it.
    #[error("the agent does not read")]
    NotRead,
    /// The application does not take its events.
    #[error("the application did not take its events within {} s", .0.as_secs())]
    SlowApplication(Duration),
    /// A newer stream of the same peer id replaced this one: another process uses the id. There is no next attempt.
    #[error("a newer stream of this peer id replaced this one: does another process use the same id?")]
    Replaced,
    /// The agent does badly and cools down; the next attempt is the probe.
    #[error("the agent is {0}")]
    Tier(Tier),
}

/// A room that was tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The room.
    pub room: RoomId,
    /// Which life.
    pub incarnation: Incarnation,
    /// The record's version.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// In words, for those who are refused.
    pub reason: String,
    /// How long rejoins are refused from now on.
    pub isolated_for: Duration,
}

/// A change that waits for this peer's word. Dropped without one, it is refused.
#[derive(Debug)]
pub struct Prepare {
    proposal: Proposal,
    answer: Option<mpsc::UnboundedSender<Decision>>,
}

/// The application's word.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) room: RoomId,
    pub(crate) attempt: Attempt,
    pub(crate) agreed: Result<(), String>,
}

impl Prepare {
    /// `answer` is unbounded, as each question is answered once at most and the questions are bounded.
    pub(crate) fn new(proposal: Proposal, answer: mpsc::UnboundedSender<Decision>) -> Prepare {
        Prepare {
            proposal,
            answer: Some(answer),
        }
    }

    /// What is proposed. An answer after `within` comes too late: then it is refused.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// This peer agrees and will do it when it is committed.
    pub fn agree(mut self) {
        self.decide(Ok(()));
    }

    /// This peer cannot. The reason, up to 256 bytes, is told to whoever asked for the change.
    pub fn refuse(mut self, reason: &str) {
        self.decide(Err(reason.to_owned()));
    }

    fn decide(&mut self, agreed: Result<(), String>) {
        if let Some(answer) = self.answer.take() {
            // The peer may have ended: then nobody waits for it.
            let _ = answer.send(Decision {
                room: self.proposal.room.clone(),
                attempt: self.proposal.attempt,
                agreed,
            });
        }
    }
}

impl Drop for Prepare {
    fn drop(&mut self) {
        self.decide(Err("the application gave no answer".to_owned()));
    }
}
