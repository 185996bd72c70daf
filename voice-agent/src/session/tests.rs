//! The whole service over loopback TCP, with the tests playing the driver. What is only about time runs without TCP, on
//! a paused clock (`quiet`).

mod admission;
mod broken;
mod flood;
mod limits;
mod pushes;
mod quiet;
mod storm;
mod streams;
mod sync;
mod tokens;

use super::*;
use crate::{
    driver::handle::{JoinAnswer, Message, Query},
    proto::v1::{self, agent_message::Message as FromAgent, peer_message::Message as FromPeer},
};
use std::{collections::VecDeque, net::SocketAddr};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tonic::{Code, metadata::MetadataMap, transport::Endpoint};
use voice_client::{ClientError, PeerClient};
use voice_room::{
    Incarnation, Input, Isolation, Rejected, RoomId, SourceId, State, Version,
    command::Accepted,
    input::{ClientFact, Request},
    sync::Known,
};

/// Nothing that is expected takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What reached the driver, in order.
#[derive(Debug, PartialEq)]
enum Told {
    Fact(Input),
    Request(Request),
    Client(ClientFact),
}

/// A running service, and the driver's end of its queue. Ends with the test.
struct Agent {
    sessions: Sessions,
    addr: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), SessionError>>,
    driver: JoinHandle<()>,
    told: mpsc::UnboundedReceiver<Told>,
    known: mpsc::UnboundedReceiver<(PeerId, Vec<Known>)>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        self.driver.abort();
    }
}

fn config(max_peers: u32) -> SessionConfig {
    SessionConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        insecure: false,
        tls: None,
        ping_every: Duration::from_secs(30),
        pong_within: Duration::from_secs(15),
        max_peers,
        admit_per_second: 100_000,
        admit_burst: 100_000,
        max_rooms: 16_384,
        events_per_second: 10_000,
        event_burst: 20_000,
    }
}

fn sessions(max_peers: u32) -> Sessions {
    sessions_with(max_peers, Tokens::default())
}

fn sessions_with(max_peers: u32, tokens: Tokens) -> Sessions {
    sessions_of(&config(max_peers), tokens)
}

fn sessions_of(config: &SessionConfig, tokens: Tokens) -> Sessions {
    let epoch = Epoch { era: 1, revision: 7 };
    Sessions::new(
        NodeName::new("node-1").unwrap(),
        epoch,
        50_000..=60_000,
        config,
        tokens,
        Tiers::default(),
        None,
    )
}

fn isolated() -> Isolation {
    Isolation {
        room: room("isolated"),
        reason: "stuck".into(),
        until: Wall(wall_now().0 + 60_000),
    }
}

/// Plays the driver: accepts everything but what names the room `isolated`.
async fn drive(queue: mpsc::Receiver<Message>, told: mpsc::UnboundedSender<Told>) {
    drive_and_know(queue, told, mpsc::unbounded_channel().0).await;
}

/// The same, and tells what peers know of their rooms apart: it comes beside whatever they do.
async fn drive_and_know(
    mut queue: mpsc::Receiver<Message>,
    told: mpsc::UnboundedSender<Told>,
    known: mpsc::UnboundedSender<(PeerId, Vec<Known>)>,
) {
    let answer = |room: &RoomId| match room.as_str() {
        "isolated" => Err(Rejected::Isolated {
            reason: "stuck".into(),
            retry_after: Duration::from_secs(60),
        }),
        _ => Ok(Accepted {
            state: State::Liveing,
            version: Version(2),
            epoch: Epoch { era: 1, revision: 7 },
            incarnation: Incarnation(1),
        }),
    };
    while let Some(message) = queue.recv().await {
        match message {
            Message::Fact(Input::Known { peer, rooms }) => drop(known.send((peer, rooms))),
            Message::Fact(input) => drop(told.send(Told::Fact(input))),
            Message::Request(request, reply) => {
                drop(reply.send(answer(&request.room)));
                drop(told.send(Told::Request(request)));
            }
            Message::Client(fact, reply) => {
                drop(reply.send(answer(&fact.room)));
                drop(told.send(Told::Client(fact)));
            }
            Message::Query(Query::Isolations(reply)) => drop(reply.send(vec![isolated()])),
            Message::Query(Query::CheckJoin(room, reply)) => {
                let refused = (room == isolated().room).then(|| ("stuck".into(), Duration::from_micros(1)));
                drop(reply.send(JoinAnswer {
                    refused,
                    authoritative: true,
                }));
            }
            Message::Query(other) => panic!("not asked by sessions: {other:?}"),
        }
    }
}

impl Agent {
    async fn start() -> Agent {
        Agent::with_max_peers(100).await
    }

    async fn with_max_peers(max_peers: u32) -> Agent {
        Agent::with(sessions(max_peers)).await
    }

    async fn with_tokens(tokens: Tokens) -> Agent {
        Agent::with(sessions_with(100, tokens)).await
    }

    async fn with(sessions: Sessions) -> Agent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (handle, queue) = Handle::new(64);
        let (tx, told) = mpsc::unbounded_channel();
        let (knows, known) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        Agent {
            addr,
            driver: tokio::spawn(drive_and_know(queue, tx, knows)),
            serving: tokio::spawn(sessions.clone().serve(handle, listener, stop.clone())),
            sessions,
            stop,
            told,
            known,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    async fn peer(&self, role: Role, id: &str) -> PeerClient {
        self.try_peer(role, id).await.unwrap()
    }

    async fn try_peer(&self, role: Role, id: &str) -> Result<PeerClient, ClientError> {
        PeerClient::connect(&self.url(), role, &PeerId::new(id).unwrap()).await
    }

    /// A call with this metadata and this first message.
    async fn call(
        &self,
        pairs: &[(&'static str, &str)],
        protocol_version: u32,
    ) -> Result<PeerClient, ClientError> {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.append(*key, value.parse().unwrap());
        }
        let hello = v1::Hello {
            protocol_version,
            ..Default::default()
        };
        let channel = Endpoint::from_shared(self.url())
            .unwrap()
            .connect()
            .await
            .unwrap();
        PeerClient::open(channel, metadata, hello).await
    }

    async fn told(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn known(&mut self) -> (PeerId, Vec<Known>) {
        timeout(PATIENCE, self.known.recv()).await.unwrap().unwrap()
    }

    fn view(&self, id: &str) -> Option<PeerView> {
        let mut views = self.sessions.topology(None).into_iter();
        views.find(|view| view.peer.as_str() == id)
    }
}

/// Waits for what another task does.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

async fn next(peer: &mut PeerClient) -> FromAgent {
    timeout(PATIENCE, peer.next()).await.unwrap().unwrap().unwrap()
}

/// The status a stream ends with, and the reason of the Goodbye before it.
async fn end_of(peer: &mut PeerClient) -> (Option<String>, Option<Code>) {
    let mut goodbye = None;
    loop {
        match timeout(PATIENCE, peer.next()).await.unwrap() {
            Ok(Some(FromAgent::Goodbye(said))) => goodbye = Some(said.reason),
            Ok(Some(_)) => {}
            Ok(None) => return (goodbye, None),
            Err(e) => return (goodbye, Some(code(&e))),
        }
    }
}

fn code(e: &ClientError) -> Code {
    match e {
        ClientError::Status(status) => status.code(),
        other => panic!("{other}"),
    }
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn room_event(name: &str, request_id: u64) -> v1::RoomEvent {
    v1::RoomEvent {
        request_id,
        room: name.into(),
        event: v1::EventType::Create.into(),
        ..Default::default()
    }
}

fn client_event(name: &str, client: &str, kind: v1::ClientEventKind) -> v1::ClientEvent {
    v1::ClientEvent {
        request_id: 1,
        room: name.into(),
        client_id: client.into(),
        kind: kind.into(),
        ..Default::default()
    }
}

fn heartbeat(rooms: &[(&str, &[u32])]) -> v1::MediaHeartbeat {
    let served = |(room, ports): &(&str, &[u32])| v1::ServedRoom {
        room: (*room).into(),
        ports: ports.to_vec(),
        participants: 2,
        host: None,
        ..Default::default()
    };
    v1::MediaHeartbeat {
        rooms: rooms.iter().map(served).collect(),
        capacity: None,
    }
}

fn expired(name: &str) -> Expired {
    Expired {
        room: room(name),
        incarnation: Incarnation(1),
        version: Version(3),
        epoch: Epoch { era: 1, revision: 7 },
        reason: "stuck for 90 s".into(),
        isolated_until: Wall(wall_now().0 + 300_000),
    }
}

fn update(name: &str, state: State) -> RoomUpdate {
    RoomUpdate {
        room: room(name),
        incarnation: Incarnation(1),
        state,
        version: Version(4),
        epoch: Epoch { era: 1, revision: 7 },
        reason: "said so".into(),
        trace_id: None,
        over: 0,
    }
}

/// Sends and reads the answer.
async fn ask(peer: &mut PeerClient, message: FromPeer) -> v1::EventResult {
    peer.sender().send(message).await.unwrap();
    match next(peer).await {
        FromAgent::EventResult(result) => result,
        other => panic!("{other:?}"),
    }
}

fn refusal(result: v1::EventResult) -> v1::Refused {
    match result.result {
        Some(v1::event_result::Result::Rejected(refused)) => refused,
        other => panic!("{other:?}"),
    }
}
