//! The peers of the bench: participants that agree to everything at once, and askers that change their own rooms to and fro.

use anyhow::{Context, bail};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use voice_agent::proto::v1::{
    AgentMessage, CommitAck, EventResult, EventType, Hello, Keepalive, KeepaliveKind, KnownRoom, KnownRooms,
    PeerMessage, PrepareAck, RoomEvent, agent_message::Message as FromAgent, event_result::Result as Outcome,
    peer_message::Message as ToAgent, session_client::SessionClient,
};

const QUEUE: usize = 4096;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<EventResult>>>>;

/// Agrees to every PREPARE and takes note of every COMMIT. Gone when dropped.
pub(super) struct Participant {
    _task: AbortOnDropHandle<()>,
}

/// Changes rooms of its own: live, closing, live… Gone when dropped.
pub(super) struct Asker {
    to: mpsc::Sender<ToAgent>,
    waiting: Waiting,
    rooms: Arc<Vec<Mutex<Room>>>,
    _task: AbortOnDropHandle<()>,
}

struct Room {
    name: String,
    live: bool,
    asked: u64,
}

impl Participant {
    /// Connects and says that it serves all of `rooms`.
    pub(super) async fn start(
        url: &str,
        role: &str,
        id: &str,
        rooms: &[String],
    ) -> anyhow::Result<Participant> {
        let (to, answers) = connect(url, role, id).await?;
        let known = |room: &String| KnownRoom {
            room: room.clone(),
            ..KnownRoom::default()
        };
        let rooms = rooms.iter().map(known).collect();
        to.send(ToAgent::KnownRooms(KnownRooms { rooms })).await?;
        let task = tokio::spawn(hear(answers, to, Waiting::default()));
        Ok(Participant {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

impl Asker {
    /// Connects as a media server, so that it needs no tokens, and brings its rooms to LIVEING.
    pub(super) async fn start(url: &str, id: &str, rooms: &[String]) -> anyhow::Result<Asker> {
        let (to, answers) = connect(url, "media", id).await?;
        let waiting = Waiting::default();
        let task = tokio::spawn(hear(answers, to.clone(), waiting.clone()));
        let room = |name: &String| {
            Mutex::new(Room {
                name: name.clone(),
                live: true,
                asked: 0,
            })
        };
        let asker = Asker {
            to,
            waiting,
            rooms: Arc::new(rooms.iter().map(room).collect()),
            _task: AbortOnDropHandle::new(task),
        };
        for (n, name) in (0..).zip(rooms) {
            for (event, id) in [(EventType::Create, 2 * n), (EventType::StartLive, 2 * n + 1)] {
                let id = (1 << 40) + id;
                ask(&asker.to, &asker.waiting, id, name.clone(), event).await?;
            }
        }
        Ok(asker)
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Changes the next of its rooms. Milliseconds until the answer.
    pub(super) fn change(&self, n: usize) -> impl Future<Output = anyhow::Result<f64>> + Send + 'static {
        let (to, waiting, rooms) = (self.to.clone(), self.waiting.clone(), self.rooms.clone());
        let begin = Instant::now();
        async move {
            let at = n % rooms.len();
            let (name, event, id) = {
                let mut room = rooms[at].lock().unwrap_or_else(PoisonError::into_inner);
                let event = match room.live {
                    true => EventType::HostDisconnect,
                    false => EventType::HostReturn,
                };
                room.live = !room.live;
                room.asked += 1;
                (room.name.clone(), event, (at as u64) << 20 | room.asked)
            };
            ask(&to, &waiting, id, name, event).await?;
            Ok(begin.elapsed().as_secs_f64() * 1000.0)
        }
    }
}

async fn ask(
    to: &mpsc::Sender<ToAgent>,
    waiting: &Waiting,
    request_id: u64,
    room: String,
    event: EventType,
) -> anyhow::Result<()> {
    let (tell, told) = oneshot::channel();
    lock(waiting).insert(request_id, tell);
    let asked = RoomEvent {
        request_id,
        room,
        event: event.into(),
        host: matches!(event, EventType::StartLive | EventType::HostReturn).then(|| "host".into()),
        ..RoomEvent::default()
    };
    to.send(ToAgent::RoomEvent(asked)).await?;
    match told.await.context("the stream ended")?.result {
        Some(Outcome::Accepted(_)) => Ok(()),
        other => bail!("{event:?} was not accepted: {other:?}"),
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<EventResult>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A welcomed stream of protocol version 2.
async fn connect(
    url: &str,
    role: &str,
    id: &str,
) -> anyhow::Result<(mpsc::Sender<ToAgent>, Streaming<AgentMessage>)> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let mut client = SessionClient::new(endpoint.connect().await?);
    let (to, mut messages) = mpsc::channel(QUEUE);
    let (wrapped, outgoing) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let message = PeerMessage {
                message: Some(message),
            };
            if wrapped.send(message).await.is_err() {
                break;
            }
        }
    });
    to.send(ToAgent::Hello(Hello {
        protocol_version: 2,
        software: "bench".into(),
        software_version: env!("CARGO_PKG_VERSION").into(),
    }))
    .await?;
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert("peer-role", role.parse()?);
    request.metadata_mut().insert("peer-id", id.parse()?);
    let mut answers = client.stream(request).await?.into_inner();
    match answers.message().await?.and_then(|m| m.message) {
        Some(FromAgent::Welcome(_)) => Ok((to, answers)),
        other => bail!("{id} was not welcomed: {other:?}"),
    }
}

async fn hear(mut answers: Streaming<AgentMessage>, to: mpsc::Sender<ToAgent>, waiting: Waiting) {
    while let Ok(Some(answer)) = answers.message().await {
        let said = match answer.message {
            Some(FromAgent::Prepare(p)) => ToAgent::PrepareAck(PrepareAck {
                room: p.room,
                epoch: p.epoch,
                attempt: p.attempt,
                refused: String::new(),
            }),
            Some(FromAgent::Commit(commit)) => {
                let update = commit.update.unwrap_or_default();
                ToAgent::CommitAck(CommitAck {
                    room: update.room,
                    epoch: update.epoch,
                    version: update.version,
                })
            }
            Some(FromAgent::Keepalive(k)) if k.kind == KeepaliveKind::Ping as i32 => {
                ToAgent::Keepalive(Keepalive {
                    kind: KeepaliveKind::Pong as i32,
                    nonce: k.nonce,
                })
            }
            Some(FromAgent::EventResult(result)) => {
                if let Some(tell) = lock(&waiting).remove(&result.request_id) {
                    drop(tell.send(result));
                }
                continue;
            }
            _ => continue,
        };
        if to.send(said).await.is_err() {
            return;
        }
    }
}
