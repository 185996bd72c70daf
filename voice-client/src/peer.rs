//! The peer as the application holds it: events come out of [`Peer`], requests go in by [`Handle`]. The work is in `worker`.

use crate::{
    Builder, Event, Role,
    builder::Settings,
    clock::Clock,
    desk::{Asked, Meant, RequestError},
    memory::{Join, Memory},
    proto::v1::{
        Accepted, CheckJoinRequest, ClientEvent, ClientEventKind, EventType, RoomEvent,
        admission_client::AdmissionClient, peer_message::Message,
    },
    worker::{self, Taken},
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use voice_room::{ClientId, RoomId, sync::participant::Committed, tier::Tier};

/// Events that wait for the application. When they are as many, the agent's stream is not read until one was taken.
const EVENTS: usize = 1024;
/// Requests on their way to the peer's task; one more waits.
const REQUESTS: usize = 256;
/// How long the agent may take to answer whether a client may join.
const JOIN_WITHIN: Duration = Duration::from_secs(1);

/// A gateway, a signalling server or a media server on an agent's session stream. Connects, and stays connected, until it
/// is dropped; then all its tasks end.
#[derive(Debug)]
pub struct Peer {
    events: mpsc::Receiver<Event>,
    /// The STATE_EXPIRED that the application has in hand.
    in_hand: Option<Taken>,
    taken: mpsc::UnboundedSender<Taken>,
    handle: Handle,
    _stop: DropGuard,
}

/// Asks on behalf of a [`Peer`]. Cheap to clone; outlives it, but then every request ends with [`RequestError::Ended`].
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Asked>,
    memory: Memory,
    within: Duration,
    ids: Arc<OpIds>,
}

/// Makes op_ids: unique among all peers, as each start of one draws 64 random bits.
#[derive(Debug)]
struct OpIds {
    run: u64,
    last: AtomicU64,
}

impl Peer {
    /// Sets up a peer. `id` is 1 to 128 visible ASCII characters, this process' alone, and the same after a restart.
    pub fn builder(role: Role, id: &str) -> Builder {
        Builder::new(role, id)
    }

    pub(crate) fn run(settings: Settings) -> Peer {
        let (events_in, events) = mpsc::channel(EVENTS);
        let (requests, requests_out) = mpsc::channel(REQUESTS);
        // Unbounded: at most one for each event that was taken.
        let (taken, taken_out) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let clock = Clock::start();
        let memory = Memory::new(clock);
        let ids = OpIds {
            run: RandomState::new().hash_one(0_u8),
            last: AtomicU64::new(0),
        };
        let handle = Handle {
            requests,
            memory: memory.clone(),
            within: settings.request_within,
            ids: Arc::new(ids),
        };
        let inlets = worker::Inlets {
            requests: requests_out,
            taken: taken_out,
            events: events_in,
            stop: stop.clone(),
        };
        tokio::spawn(worker::run(settings, clock, memory, inlets));
        Peer {
            events,
            in_hand: None,
            taken,
            handle,
            _stop: stop.drop_guard(),
        }
    }

    /// The next event. Asking for it says that the one before was dealt with: a STATE_EXPIRED is acknowledged then. `None`: the
    /// peer has ended, and the last [`Event::Disconnected`] said why. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(taken) = self.in_hand.take() {
            // An ended task needs no acknowledgement: the agent tells the next one again.
            let _ = self.taken.send(taken);
        }
        let event = self.events.recv().await?;
        if let Event::Expired(expired) = &event {
            self.in_hand = Some(Taken::of(expired));
        }
        Some(event)
    }

    /// A way to ask while [`Peer::next`] waits.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    /// Asks for a change of a room's state, and waits for the answer. Without an `op_id` one is made, so that it is applied
    /// once however often the stream breaks; `request_id` is replaced.
    pub async fn room_event(&self, mut event: RoomEvent) -> Result<Accepted, RequestError> {
        let room = room(&event.room)?;
        let begins = matches!(event.event(), EventType::Create | EventType::StartLive);
        event.op_id.get_or_insert_with(|| self.ids.next());
        self.ask(Message::RoomEvent(event), room, Meant::Name, begins)
            .await
    }

    /// Tells a fact about a client, and waits until the agent took it. `request_id` is replaced.
    pub async fn client_event(&self, event: ClientEvent) -> Result<Accepted, RequestError> {
        let room = room(&event.room)?;
        let client = ClientId::new(&event.client_id).map_err(|e| RequestError::Invalid(e.to_string()))?;
        let meant = match event.kind() {
            ClientEventKind::Leave => Meant::Leave(client),
            _ => Meant::Join(client),
        };
        let begins = event.kind() == ClientEventKind::Join;
        self.ask(Message::ClientEvent(event), room, meant, begins).await
    }

    /// Whether a client may join a room. An isolation that is remembered refuses at once; else the agent is asked, and when it
    /// is away or does not answer within a second, the answer is what is known here, not authoritative.
    pub async fn may_join(&self, room: &RoomId) -> Join {
        let local = self.memory.join(room);
        let channel = self.memory.lock().channel.clone();
        let Some(channel) = channel.filter(|_| local.allowed) else {
            return local;
        };
        let mut client = AdmissionClient::new(channel);
        let request = CheckJoinRequest {
            room: room.to_string(),
        };
        let answer = match timeout(JOIN_WITHIN, client.check_join(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                tracing::debug!(%room, "admission was not answered: {status}");
                return local;
            }
            Err(_) => return local,
        };
        let retry_after = Duration::from_millis(answer.retry_after_ms);
        if !answer.allowed {
            self.memory.isolate(room, &answer.reason, retry_after);
        }
        Join {
            allowed: answer.allowed,
            reason: answer.reason,
            retry_after,
            authoritative: answer.authoritative,
        }
    }

    /// What was last heard of a room's isolation, without asking.
    pub fn known_join(&self, room: &RoomId) -> Join {
        self.memory.join(room)
    }

    /// The state of a room as it was last committed; `None` for a room nothing was heard of.
    pub fn committed(&self, room: &RoomId) -> Option<Committed> {
        self.memory.lock().rooms.committed(room)
    }

    /// How the agent does.
    pub fn tier(&self) -> Tier {
        self.memory.lock().tier
    }

    /// Whether a stream is up.
    pub fn is_connected(&self) -> bool {
        self.memory.lock().channel.is_some()
    }

    async fn ask(
        &self,
        message: Message,
        room: RoomId,
        meant: Meant,
        begins: bool,
    ) -> Result<Accepted, RequestError> {
        let (reply, answer) = oneshot::channel();
        let since = Instant::now();
        let asked = Asked {
            message,
            room,
            meant,
            begins,
            since,
            by: since + self.within,
            reply,
        };
        let ended = |_| RequestError::Ended;
        self.requests.send(asked).await.map_err(|_| RequestError::Ended)?;
        answer.await.map_err(ended)?
    }
}

impl OpIds {
    fn next(&self) -> String {
        let n = self.last.fetch_add(1, Ordering::Relaxed);
        format!("peer/{:016x}/{n}", self.run)
    }
}

fn room(given: &str) -> Result<RoomId, RequestError> {
    RoomId::new(given).map_err(|e| RequestError::Invalid(e.to_string()))
}
