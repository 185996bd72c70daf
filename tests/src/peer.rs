//! Peers of the session stream as simulators, written on the bare protocol so that they can also misbehave. What each
//! role does is in `media` and `gateway`; the connection they share is here.

pub mod gateway;
pub mod media;

pub use gateway::Gateway;
pub use media::{MediaRoom, MediaServer};

use crate::{clock, netns::Netns, rtp::lock};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::metadata::AsciiMetadataValue;
use voice_agent::proto::v1::{
    AgentMessage, ExpiredAck, Hello, Keepalive, KeepaliveKind, PeerMessage, PrepareAck,
    agent_message::Message as FromAgent, peer_message::Message as ToAgent, session_client::SessionClient,
};
use voice_room::Mono;

/// Where agents under test listen, inside their namespace.
pub const AGENT_URL: &str = "http://127.0.0.1:7400";
/// A stuck peer does not answer the application keepalive either, so a stream may end; it is opened again.
const RECONNECT: Duration = Duration::from_millis(100);
/// Messages to the agent that wait for the connection. When full, the newest is dropped: heartbeats repeat.
const QUEUE: usize = 64;

/// Who a peer says to be.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `gateway`, `signalling` or `media`.
    pub role: &'static str,
    /// `peer-id`
    pub id: String,
    /// Rooms served from the start.
    pub rooms: Vec<String>,
}

/// How a peer speaks.
#[derive(Debug, Clone)]
pub struct Speech {
    /// The protocol version it says. From 2 on it is asked to agree to changes, and agrees.
    pub protocol: u32,
    /// `traceparent`
    pub traceparent: Option<String>,
}

impl Default for Speech {
    fn default() -> Speech {
        Speech {
            protocol: 1,
            traceparent: None,
        }
    }
}

/// One message of the agent, and when it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// CLOCK_MONOTONIC.
    pub at: Mono,
    /// What came.
    pub message: FromAgent,
}

/// A session stream that is opened again whenever it ends, on a thread inside the agent's namespace. Closed on drop.
#[derive(Debug)]
pub struct Connection {
    out: Option<mpsc::Sender<ToAgent>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    mute: AtomicBool,
    welcomed: AtomicBool,
}

impl Connection {
    /// Connects from inside `ns` and waits until the agent said welcome.
    pub fn open(ns: &Netns, who: Identity) -> anyhow::Result<Connection> {
        Connection::open_as(ns, who, Speech::default())
    }

    /// The same, speaking in another way.
    pub fn open_as(ns: &Netns, who: Identity, how: Speech) -> anyhow::Result<Connection> {
        let (out, outgoing) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let inside = shared.clone();
        let name = who.id.clone();
        let thread = ns.spawn(move || keep_open((&who, &how), &inside, outgoing));
        let connection = Connection {
            out: Some(out),
            shared,
            thread: Some(thread),
        };
        let welcomed = clock::poll(Duration::from_secs(10), || connection.is_up().then_some(()));
        anyhow::ensure!(
            welcomed.is_some(),
            "the agent at {AGENT_URL} did not welcome {name} within 10 s"
        );
        Ok(connection)
    }

    /// Whether the present stream was welcomed.
    pub fn is_up(&self) -> bool {
        self.shared.welcomed.load(Ordering::Relaxed)
    }

    /// Sends; dropped when the queue is full.
    pub fn send(&self, message: ToAgent) {
        if let Some(out) = &self.out {
            // Full means that there is no stream; the agent then hears nothing, as from a real peer.
            let _ = out.try_send(message);
        }
    }

    /// Muted, it reads but answers nothing: no PONG, no acknowledgement.
    pub fn set_mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::Relaxed);
    }

    /// Everything received so far that `pick` takes, in order.
    pub fn received<T>(&self, pick: impl Fn(&FromAgent) -> Option<T>) -> Vec<(Mono, T)> {
        let received = lock(&self.shared.received);
        received
            .iter()
            .filter_map(|r| Some((r.at, pick(&r.message)?)))
            .collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.out = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs until the connection's owner drops its end of `outgoing`.
fn keep_open((who, how): (&Identity, &Speech), shared: &Shared, outgoing: mpsc::Receiver<ToAgent>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|e| panic!("make a runtime: {e}"));
    runtime.block_on(async {
        let mut outgoing = outgoing;
        while !outgoing.is_closed() {
            if let Err(status) = one_stream((who, how), shared, &mut outgoing).await {
                tracing::debug!(peer = who.id, %status, "session stream ended");
            }
            shared.welcomed.store(false, Ordering::Relaxed);
            tokio::time::sleep(RECONNECT).await;
        }
    });
}

async fn one_stream(
    (who, how): (&Identity, &Speech),
    shared: &Shared,
    outgoing: &mut mpsc::Receiver<ToAgent>,
) -> Result<(), tonic::Status> {
    let unavailable = |e: tonic::transport::Error| tonic::Status::unavailable(e.to_string());
    let mut client = SessionClient::connect(AGENT_URL).await.map_err(unavailable)?;
    let (to_stream, stream) = mpsc::channel(QUEUE);
    let say = |message: ToAgent| {
        let _ = to_stream.try_send(PeerMessage {
            message: Some(message),
        });
    };
    say(ToAgent::Hello(Hello {
        protocol_version: how.protocol,
        software: "voice-tests".into(),
        software_version: env!("CARGO_PKG_VERSION").into(),
    }));
    let mut answers = client
        .stream(request((who, how), ReceiverStream::new(stream))?)
        .await?
        .into_inner();
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => say(message),
                None => return Ok(()),
            },
            answer = answers.next() => match answer {
                Some(answer) => take(shared, answer?, &say),
                None => return Ok(()),
            },
        }
    }
}

fn request<S>((who, how): (&Identity, &Speech), stream: S) -> Result<tonic::Request<S>, tonic::Status> {
    let ascii = |text: &str| {
        AsciiMetadataValue::try_from(text).map_err(|e| tonic::Status::invalid_argument(e.to_string()))
    };
    let mut request = tonic::Request::new(stream);
    let metadata = request.metadata_mut();
    metadata.insert("peer-role", ascii(who.role)?);
    metadata.insert("peer-id", ascii(&who.id)?);
    if let Some(traceparent) = &how.traceparent {
        metadata.insert("traceparent", ascii(traceparent)?);
    }
    for room in &who.rooms {
        metadata.append("room-id", ascii(room)?);
    }
    Ok(request)
}

fn take(shared: &Shared, answer: AgentMessage, say: &impl Fn(ToAgent)) {
    let at = clock::now();
    let Some(message) = answer.message else { return };
    if let FromAgent::Welcome(_) = message {
        shared.welcomed.store(true, Ordering::Relaxed);
    }
    if !shared.mute.load(Ordering::Relaxed) {
        answer_to(&message).map(say);
    }
    lock(&shared.received).push(Received { at, message });
}

fn answer_to(message: &FromAgent) -> Option<ToAgent> {
    match message {
        FromAgent::Keepalive(k) if k.kind == KeepaliveKind::Ping as i32 => {
            Some(ToAgent::Keepalive(Keepalive {
                kind: KeepaliveKind::Pong as i32,
                nonce: k.nonce,
            }))
        }
        FromAgent::StateExpired(expired) => Some(ToAgent::ExpiredAck(ExpiredAck {
            room: expired.room.clone(),
            version: expired.version,
            epoch: expired.epoch,
        })),
        FromAgent::Prepare(prepare) => Some(ToAgent::PrepareAck(PrepareAck {
            room: prepare.room.clone(),
            epoch: prepare.epoch,
            attempt: prepare.attempt,
            refused: String::new(),
        })),
        _ => None,
    }
}
