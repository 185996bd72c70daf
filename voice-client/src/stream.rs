//! One stream, bare: connects, says Hello, answers pings, acknowledges if told to. It does not reconnect, and remembers
//! nothing; that is `Peer`'s.

use crate::{
    OLDEST_PROTOCOL_VERSION, Role,
    proto::v1::{
        AgentMessage, CheckJoinRequest, CheckJoinResponse, ClientEvent, ExpiredAck, Hello, Keepalive,
        KeepaliveKind, MediaHeartbeat, PeerMessage, RoomEvent, StateExpired, Welcome,
        admission_client::AdmissionClient, agent_message, peer_message::Message,
        session_client::SessionClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use voice_room::{PeerId, RoomId};

/// Messages that wait to be sent.
const OUTGOING: usize = 1024;

/// Why a stream could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent cannot be reached.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The agent refused or ended the call.
    #[error("the agent says {}: {}", .0.code(), .0.message())]
    Status(#[from] Box<Status>),
    /// The stream ended without a word.
    #[error("the stream to the agent has ended")]
    Ended,
}

impl From<Status> for ClientError {
    fn from(status: Status) -> ClientError {
        ClientError::Status(Box::new(status))
    }
}

/// One open stream.
#[derive(Debug)]
pub struct PeerClient {
    outgoing: PeerSender,
    incoming: Streaming<AgentMessage>,
    welcome: Welcome,
    acknowledges: bool,
}

/// Sends on a stream; cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerSender(mpsc::Sender<PeerMessage>);

impl PeerClient {
    /// Connects to an agent (`http://HOST:PORT`), says who is there and Hello, and waits for Welcome.
    pub async fn connect(endpoint: &str, role: Role, id: &PeerId) -> Result<PeerClient, ClientError> {
        let mut metadata = MetadataMap::new();
        metadata.insert(
            "peer-role",
            tonic::metadata::MetadataValue::from_static(role.name()),
        );
        let id = id
            .parse()
            .map_err(|_| Status::invalid_argument("peer id is not ASCII"))?;
        metadata.insert("peer-id", id);
        let hello = Hello {
            // What is bare takes no part in syncs.
            protocol_version: OLDEST_PROTOCOL_VERSION,
            software: env!("CARGO_PKG_NAME").into(),
            software_version: env!("CARGO_PKG_VERSION").into(),
        };
        PeerClient::open(channel(endpoint).await?, metadata, hello).await
    }

    /// The same over an open channel, with any metadata and any Hello.
    pub async fn open(
        channel: Channel,
        metadata: MetadataMap,
        hello: Hello,
    ) -> Result<PeerClient, ClientError> {
        let (tx, rx) = mpsc::channel(OUTGOING);
        let outgoing = PeerSender(tx);
        outgoing.send(Message::Hello(hello)).await?;
        let mut call = Request::new(ReceiverStream::new(rx));
        *call.metadata_mut() = metadata;
        let mut incoming = SessionClient::new(channel).stream(call).await?.into_inner();
        loop {
            let message = incoming.message().await?.ok_or(ClientError::Ended)?;
            if let Some(agent_message::Message::Welcome(welcome)) = message.message {
                return Ok(PeerClient {
                    outgoing,
                    incoming,
                    welcome,
                    acknowledges: true,
                });
            }
        }
    }

    /// Leaves STATE_EXPIRED unacknowledged: the caller acknowledges.
    #[must_use]
    pub fn without_acks(mut self) -> PeerClient {
        self.acknowledges = false;
        self
    }

    /// What it is made of, for `Peer`, which answers by itself.
    pub(crate) fn into_parts(self) -> (PeerSender, Streaming<AgentMessage>, Welcome) {
        (self.outgoing, self.incoming, self.welcome)
    }

    /// What the agent said first.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// A way to send while [`PeerClient::next`] waits.
    pub fn sender(&self) -> PeerSender {
        self.outgoing.clone()
    }

    /// The next message but pings, which it answers, and STATE_EXPIRED acknowledged. `None`: the agent ended the
    /// stream without an error. Keep calling it: pings are answered only here. Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Result<Option<agent_message::Message>, ClientError> {
        loop {
            let Some(message) = self.incoming.message().await? else {
                return Ok(None);
            };
            match message.message {
                Some(agent_message::Message::Keepalive(beat)) if beat.kind == KeepaliveKind::Ping as i32 => {
                    self.answer(Message::Keepalive(Keepalive {
                        kind: KeepaliveKind::Pong.into(),
                        nonce: beat.nonce,
                    }));
                }
                Some(message) => {
                    if let (true, agent_message::Message::StateExpired(expired)) =
                        (self.acknowledges, &message)
                    {
                        self.answer(Message::ExpiredAck(ack_of(expired)));
                    }
                    return Ok(Some(message));
                }
                None => {} // Of a later protocol.
            }
        }
    }

    /// Without waiting, so that `next` can be dropped anywhere. What finds no place is asked for again by the agent.
    fn answer(&self, message: Message) {
        if let Err(e) = self.outgoing.0.try_send(wrap(message)) {
            tracing::debug!("not answered: {e}");
        }
    }
}

impl PeerSender {
    /// Sends a message; waits while `OUTGOING` others wait.
    pub async fn send(&self, message: Message) -> Result<(), ClientError> {
        self.0.send(wrap(message)).await.map_err(|_| ClientError::Ended)
    }

    /// Sends without waiting. False: `OUTGOING` others wait, so the agent does not read. A stream that has ended takes all:
    /// its end is told by what is received.
    pub(crate) fn try_send(&self, message: PeerMessage) -> bool {
        !matches!(self.0.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Sends a room event.
    pub async fn room_event(&self, event: RoomEvent) -> Result<(), ClientError> {
        self.send(Message::RoomEvent(event)).await
    }

    /// Sends a client event.
    pub async fn client_event(&self, event: ClientEvent) -> Result<(), ClientError> {
        self.send(Message::ClientEvent(event)).await
    }

    /// Sends a media heartbeat.
    pub async fn heartbeat(&self, heartbeat: MediaHeartbeat) -> Result<(), ClientError> {
        self.send(Message::MediaHeartbeat(heartbeat)).await
    }
}

/// The acknowledgement of a STATE_EXPIRED.
pub fn ack_of(expired: &StateExpired) -> ExpiredAck {
    ExpiredAck {
        room: expired.room.clone(),
        version: expired.version,
        epoch: expired.epoch,
    }
}

/// Asks an agent whether a client may join a room.
pub async fn check_join(endpoint: &str, room: &RoomId) -> Result<CheckJoinResponse, ClientError> {
    let request = CheckJoinRequest {
        room: room.to_string(),
    };
    let answer = AdmissionClient::new(channel(endpoint).await?)
        .check_join(request)
        .await?;
    Ok(answer.into_inner())
}

async fn channel(endpoint: &str) -> Result<Channel, ClientError> {
    let failed = |source| ClientError::Connect {
        endpoint: endpoint.to_owned(),
        source,
    };
    let to = Endpoint::from_shared(endpoint.to_owned()).map_err(failed)?;
    to.connect().await.map_err(failed)
}

fn wrap(message: Message) -> PeerMessage {
    PeerMessage {
        message: Some(message),
    }
}
