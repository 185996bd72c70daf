//! How adapters and the admin service speak to the driver.

use super::{
    Figures, NotMaintained,
    top::{Page, Top},
};
use crate::{
    config::reload::Changed,
    kernel::KernelStatus,
    patrol::Diffs,
    session::PeerView,
    store::{Cursor, Position, StoreError},
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use voice_room::{
    Entry, Input, Isolation, Maintenance, Rejected, RoomId, Rules, StateChangeEvent,
    command::Accepted,
    core::{Census, RoomView},
    input::{ClientFact, Request},
    patrol::{Difference, Repair},
    timeline::Actor,
};

/// What the driver's queue carries.
#[derive(Debug)]
pub enum Message {
    /// A fact; nobody waits.
    Fact(Input),
    /// A wish; somebody waits. The driver gives it its reply id.
    Request(Request, oneshot::Sender<Result<Accepted, Rejected>>),
    /// A fact about a client; somebody waits.
    Client(ClientFact, oneshot::Sender<Result<Accepted, Rejected>>),
    /// A question.
    Query(Query),
}

/// What can be asked.
#[derive(Debug)]
#[expect(missing_docs, reason = "each stands beside the `Handle` method of its name")]
pub enum Query {
    Rooms(oneshot::Sender<Vec<RoomView>>),
    Census(oneshot::Sender<Census>),
    Top(Page, oneshot::Sender<Box<Top>>),
    Room(RoomId, oneshot::Sender<Option<RoomView>>),
    CheckJoin(RoomId, oneshot::Sender<JoinAnswer>),
    Isolations(oneshot::Sender<Vec<Isolation>>),
    Events {
        after: Cursor,
        limit: usize,
        to: oneshot::Sender<Result<Vec<(Position, StateChangeEvent)>, StoreError>>,
    },
    Explain(RoomId, oneshot::Sender<Result<Vec<Entry>, StoreError>>),
    Kernel(oneshot::Sender<KernelStatus>),
    Topology(Option<RoomId>, oneshot::Sender<Vec<PeerView>>),
    Figures(oneshot::Sender<Box<Figures>>),
    KillSwitch(bool, Actor, oneshot::Sender<Result<(), String>>),
    Reload(Box<Rules>, Vec<Changed>, oneshot::Sender<()>),
    Diff(Option<RoomId>, oneshot::Sender<Diffs>),
    Repair(Repair, oneshot::Sender<Result<Accepted, Rejected>>),
    Repaired {
        fields: Vec<Difference>,
        actor: Actor,
        result: Result<String, String>,
    },
    Maintenance(oneshot::Sender<Vec<Maintenance>>),
    Maintain {
        room: Option<RoomId>,
        lasts: Option<Duration>,
        reason: String,
        actor: Actor,
        to: oneshot::Sender<Result<(), NotMaintained>>,
    },
}

/// Whether a client may join a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// Why not, and when it is worth asking again.
    pub refused: Option<(String, Duration)>,
    /// Whether the shared store stands behind this answer.
    pub authoritative: bool,
}

/// An answer that is yet to come. An error says that the driver has ended.
pub type Answer = oneshot::Receiver<Result<Accepted, Rejected>>;

/// The driver has ended; the agent is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is shutting down")]
pub struct Stopped;

/// A way to the driver. Cheap to clone. The queue is bounded: when it is full, the sender waits.
#[derive(Debug, Clone)]
pub struct Handle {
    queue: mpsc::Sender<Message>,
}

impl Handle {
    /// A handle and the queue's other end, for the driver (and for tests, which play the driver).
    pub fn new(bound: usize) -> (Handle, mpsc::Receiver<Message>) {
        let (queue, messages) = mpsc::channel(bound);
        (Handle { queue }, messages)
    }

    /// Tells a fact.
    pub async fn fact(&self, input: Input) -> Result<(), Stopped> {
        self.queue.send(Message::Fact(input)).await.map_err(|_| Stopped)
    }

    /// Asks for a transition and waits for the answer, which comes once it is stored. `request.reply` is set by the
    /// driver.
    pub async fn request(&self, request: Request) -> Result<Result<Accepted, Rejected>, Stopped> {
        self.ask(|tx| Message::Request(request, tx)).await
    }

    /// As [`Handle::request`], but returns once the request is in the queue: whoever has more to say in order need not
    /// wait for the store.
    pub async fn send_request(&self, request: Request) -> Result<Answer, Stopped> {
        self.send(|tx| Message::Request(request, tx)).await
    }

    /// As [`Handle::client`], but returns once the fact is in the queue.
    pub async fn send_client(&self, fact: ClientFact) -> Result<Answer, Stopped> {
        self.send(|tx| Message::Client(fact, tx)).await
    }

    /// Tells a fact about a client and waits for the answer.
    pub async fn client(&self, fact: ClientFact) -> Result<Result<Accepted, Rejected>, Stopped> {
        self.ask(|tx| Message::Client(fact, tx)).await
    }

    /// Every room.
    pub async fn rooms(&self) -> Result<Vec<RoomView>, Stopped> {
        self.ask(|tx| Message::Query(Query::Rooms(tx))).await
    }

    /// How many rooms are how.
    pub async fn census(&self) -> Result<Census, Stopped> {
        self.ask(|tx| Message::Query(Query::Census(tx))).await
    }

    /// A page of rooms, and what stands around it.
    pub async fn top(&self, page: Page) -> Result<Box<Top>, Stopped> {
        self.ask(|tx| Message::Query(Query::Top(page, tx))).await
    }

    /// One room.
    pub async fn room(&self, room: RoomId) -> Result<Option<RoomView>, Stopped> {
        self.ask(|tx| Message::Query(Query::Room(room, tx))).await
    }

    /// Whether a client may join.
    pub async fn check_join(&self, room: RoomId) -> Result<JoinAnswer, Stopped> {
        self.ask(|tx| Message::Query(Query::CheckJoin(room, tx))).await
    }

    /// Every isolation that lasts.
    pub async fn isolations(&self) -> Result<Vec<Isolation>, Stopped> {
        self.ask(|tx| Message::Query(Query::Isolations(tx))).await
    }

    /// The recorded evidence of a room, oldest first.
    pub async fn explain(&self, room: RoomId) -> Result<Result<Vec<Entry>, StoreError>, Stopped> {
        self.ask(|tx| Message::Query(Query::Explain(room, tx))).await
    }

    /// Stored changes of state after this position, in order, at most `limit`, each with its position.
    pub async fn events(
        &self,
        after: Cursor,
        limit: usize,
    ) -> Result<Result<Vec<(Position, StateChangeEvent)>, StoreError>, Stopped> {
        self.ask(|to| Message::Query(Query::Events { after, limit, to }))
            .await
    }

    /// The state of the kernel side.
    pub async fn kernel(&self) -> Result<KernelStatus, Stopped> {
        self.ask(|tx| Message::Query(Query::Kernel(tx))).await
    }

    /// Every connected peer, or those that serve `room`, by id.
    pub async fn topology(&self, room: Option<RoomId>) -> Result<Vec<PeerView>, Stopped> {
        self.ask(|tx| Message::Query(Query::Topology(room, tx))).await
    }

    /// The numbers for metrics.
    pub async fn figures(&self) -> Result<Box<Figures>, Stopped> {
        self.ask(|tx| Message::Query(Query::Figures(tx))).await
    }

    /// Messages that wait in the queue, and how many may.
    pub fn queued(&self) -> (usize, usize) {
        let max = self.queue.max_capacity();
        (max - self.queue.capacity(), max)
    }

    /// How every room, or one, compares with what store, registry and kernel hold of it now.
    pub async fn diff(&self, room: Option<RoomId>) -> Result<Diffs, Stopped> {
        self.ask(|tx| Message::Query(Query::Diff(room, tx))).await
    }

    /// Repairs a room in one place; `repair.reply` is set by the driver. Of the store, answered once it is stored.
    pub async fn repair(&self, repair: Repair) -> Result<Result<Accepted, Rejected>, Stopped> {
        self.ask(|tx| Message::Query(Query::Repair(repair, tx))).await
    }

    /// Tells what became of repairs.
    pub async fn repaired(
        &self,
        fields: Vec<Difference>,
        actor: Actor,
        result: Result<String, String>,
    ) -> Result<(), Stopped> {
        let told = Query::Repaired {
            fields,
            actor,
            result,
        };
        self.queue.send(Message::Query(told)).await.map_err(|_| Stopped)
    }

    /// Turns the kill switch.
    pub async fn kill_switch(&self, on: bool, actor: Actor) -> Result<Result<(), String>, Stopped> {
        self.ask(|tx| Message::Query(Query::KillSwitch(on, actor, tx)))
            .await
    }

    /// Goes on under other rules; which keys they come from is for the audit log. Answered once they hold.
    pub async fn reload(&self, rules: Rules, changed: Vec<Changed>) -> Result<(), Stopped> {
        let rules = Box::new(rules);
        self.ask(|tx| Message::Query(Query::Reload(rules, changed, tx)))
            .await
    }

    /// What is under maintenance, that of every room first.
    pub async fn maintenance(&self) -> Result<Vec<Maintenance>, Stopped> {
        self.ask(|tx| Message::Query(Query::Maintenance(tx))).await
    }

    /// Puts a room, or every room (`None`), under maintenance for so long, or ends it (`lasts` is `None`). Answered
    /// once the journal has it.
    pub async fn maintain(
        &self,
        room: Option<RoomId>,
        lasts: Option<Duration>,
        reason: String,
        actor: Actor,
    ) -> Result<Result<(), NotMaintained>, Stopped> {
        let query = |to| Query::Maintain {
            room,
            lasts,
            reason,
            actor,
            to,
        };
        self.ask(|to| Message::Query(query(to))).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Stopped> {
        self.send(message).await?.await.map_err(|_| Stopped)
    }

    async fn send<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let (tx, rx) = oneshot::channel();
        self.queue.send(message(tx)).await.map_err(|_| Stopped)?;
        Ok(rx)
    }
}
