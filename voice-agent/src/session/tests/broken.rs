//! What a stream leaves behind, whatever way it ends: nothing here, and its members and rooms told to the driver.

use super::*;
use crate::session::{outgoing::Drain, peer::PeerInfo, stream};
use std::{collections::BTreeSet, pin::Pin, task};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use voice_room::input::BrokenStream;

/// What gRPC reads of a peer; a handler that panics is one whose next message does.
struct Inbound(ReceiverStream<Result<v1::PeerMessage, Status>>);

impl Stream for Inbound {
    type Item = Result<v1::PeerMessage, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.0).poll_next(cx);
        if let task::Poll::Ready(Some(Err(status))) = &next {
            assert!(
                status.code() != Code::DataLoss,
                "a handler panics: this is the test"
            );
        }
        next
    }
}

/// A stream in memory.
struct Line {
    to_agent: mpsc::Sender<Result<v1::PeerMessage, Status>>,
    from_agent: Drain,
}

/// Sessions in memory, and what the driver hears.
struct Node {
    sessions: Sessions,
    handle: Handle,
    told: mpsc::UnboundedReceiver<Told>,
    stop: CancellationToken,
    _driver: AbortOnDropHandle<()>,
}

impl Node {
    fn new() -> Node {
        let (handle, queue) = Handle::new(64);
        let (tell, told) = mpsc::unbounded_channel();
        Node {
            sessions: sessions(100),
            handle,
            told,
            stop: CancellationToken::new(),
            _driver: AbortOnDropHandle::new(tokio::spawn(drive(queue, tell))),
        }
    }

    /// A peer that said Hello, and of whose room `room` the client `client` is a member.
    async fn line(&self, role: &'static str, id: &str, room: &str, client: &str) -> Line {
        let mut metadata = MetadataMap::new();
        metadata.insert("peer-role", role.parse().unwrap());
        metadata.insert("peer-id", id.parse().unwrap());
        let info = PeerInfo::from_metadata(&metadata).unwrap();
        let (to_agent, inbound) = mpsc::channel(8);
        let inbound = Inbound(ReceiverStream::new(inbound));
        let (sessions, handle) = (self.sessions.clone(), self.handle.clone());
        let from_agent = stream::open(sessions, handle, self.stop.clone(), info, inbound);
        let mut line = Line {
            from_agent: from_agent.await.unwrap(),
            to_agent,
        };
        let hello = v1::Hello {
            protocol_version: 1,
            ..Default::default()
        };
        line.say(FromPeer::Hello(hello)).await;
        line.say(FromPeer::ClientEvent(client_event(
            room,
            client,
            v1::ClientEventKind::Join,
        )))
        .await;
        assert!(matches!(line.next().await, FromAgent::Welcome(_)));
        assert!(matches!(line.next().await, FromAgent::EventResult(_)));
        line
    }

    async fn broken(&mut self) -> BrokenStream {
        loop {
            if let Told::Fact(Input::StreamBroke(broken)) =
                timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
            {
                return broken;
            }
        }
    }

    fn is_empty(&self) -> bool {
        let nobody = self.sessions.hub().counts() == (0, 0);
        nobody && self.sessions.0.tasks.is_empty() && self.sessions.0.open.all() == 0
    }
}

impl Line {
    async fn say(&self, message: FromPeer) {
        let message = v1::PeerMessage {
            message: Some(message),
        };
        self.to_agent.send(Ok(message)).await.unwrap();
    }

    async fn next(&mut self) -> FromAgent {
        let message = timeout(PATIENCE, self.from_agent.next()).await.unwrap();
        message.unwrap().unwrap().message.unwrap()
    }

    async fn fails_with(&self, status: Status) {
        self.to_agent.send(Err(status)).await.unwrap();
    }
}

fn member(name: &str, client: &str) -> (RoomId, voice_room::ClientId) {
    (room(name), client.parse().unwrap())
}

#[tokio::test]
async fn the_members_and_rooms_of_a_stream_are_told_whatever_ended_it() {
    let mut node = Node::new();
    for (n, how) in ["closed", "reset", "panicked", "dropped by gRPC"]
        .into_iter()
        .enumerate()
    {
        let client = format!("c{n}");
        let line = node.line("gateway", "gw", "r", &client).await;
        match how {
            "reset" => line.fails_with(Status::unknown("h2 protocol error: reset")).await,
            "panicked" => line.fails_with(Status::data_loss("panic")).await,
            _ => {}
        }
        drop(line);
        let mut told = (node.broken().await, node.broken().await);
        if told.0.members.is_empty() {
            std::mem::swap(&mut told.0, &mut told.1);
        }
        assert_eq!(told.0.members, [member("r", &client)], "{how}");
        assert_eq!(told.1.rooms, [room("r")], "{how}");
        assert!(
            told.1.why.contains("stream of gateway gw ended"),
            "{}",
            told.1.why
        );
        eventually("nothing is left", || node.is_empty()).await;
    }
    let _line = node.line("gateway", "gw", "r", "last").await;
    node.stop.cancel();
    assert_eq!(
        node.broken().await.members,
        [member("r", "last")],
        "the agent's own end"
    );
    eventually("nothing is left", || node.is_empty()).await;
}

/// A peer that says nothing any more: half-open, as far as the agent can tell.
#[tokio::test(start_paused = true)]
async fn the_members_and_rooms_of_a_stream_that_fell_silent_are_told_when_two_pings_were_missed() {
    let mut node = Node::new();
    let line = node.line("media", "sfu", "r", "c").await;
    let begin = tokio::time::Instant::now();
    let mut lost = false;
    let mut told = Vec::new();
    while told.len() < 2 {
        match node.told.recv().await.unwrap() {
            Told::Fact(Input::SourceLost(_)) => lost = true,
            Told::Fact(Input::StreamBroke(broken)) => told.push(broken),
            _ => {}
        }
    }
    assert_eq!(begin.elapsed().as_secs(), 75, "30 s, twice, and 15 s");
    assert!(lost, "its media server is lost as a source");
    assert!(told.iter().any(|broken| broken.members == [member("r", "c")]));
    assert!(told.iter().any(|broken| broken.rooms == [room("r")]));
    assert!(told[0].why.contains("two pings"), "{}", told[0].why);
    drop(line);
    eventually("nothing is left", || node.is_empty()).await;
}

/// It does not read: what waits for it grows until it is cut off.
#[tokio::test]
async fn the_members_of_a_stream_that_is_not_read_are_told_when_it_is_cut_off() {
    let mut node = Node::new();
    let _line = node.line("gateway", "gw", "r", "c").await;
    let mut told = update("r", State::Liveing);
    told.reason = "x".repeat(256);
    for _ in 0..(crate::session::outgoing::MAX_BYTES / 256) {
        node.sessions.update(&told);
    }
    assert_eq!(node.broken().await.members, [member("r", "c")]);
    eventually("nothing is left", || node.is_empty()).await;
}

#[tokio::test]
async fn a_replaced_stream_leaves_its_members_before_the_new_one_is_heard_and_degrades_no_room() {
    let mut node = Node::new();
    let _old = node.line("gateway", "gw", "r", "a").await;
    let _new = node.line("gateway", "gw", "r", "b").await;
    let mut heard = Vec::new();
    while let Ok(told) = node.told.try_recv() {
        heard.push(match told {
            Told::Client(fact) => fact.client.to_string(),
            Told::Fact(Input::StreamBroke(broken)) => {
                assert_eq!((broken.members, broken.rooms), (vec![member("r", "a")], vec![]));
                "broken".into()
            }
            Told::Fact(Input::PeerGone(peer)) => format!("{peer} gone"),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(heard, ["a", "gw gone", "broken", "b"]);
    assert_eq!(node.sessions.hub().counts(), (1, 1));
}

#[tokio::test]
async fn a_client_that_is_there_through_another_gateway_too_stays_a_member() {
    let mut node = Node::new();
    let first = node.line("gateway", "gw-1", "r", "c").await;
    let second = node.line("gateway", "gw-2", "r", "c").await;
    drop(first);
    let broken = node.broken().await;
    assert_eq!((broken.members, broken.rooms), (vec![], vec![room("r")]));
    drop(second);
    assert_eq!(node.broken().await.members, [member("r", "c")]);
}

#[tokio::test]
async fn after_ten_thousand_reconnects_tasks_peers_rooms_and_members_are_as_before() {
    const TIMES: usize = 10_000;
    let mut node = Node::new();
    let strong = Arc::strong_count(&node.sessions.0);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (mut lines, mut told) = (VecDeque::new(), BTreeSet::new());
    for n in 0..TIMES {
        let role = if n % 3 == 0 { "media" } else { "gateway" };
        let id = format!("{role}-{}", n % 20);
        let line = node
            .line(role, &id, &format!("r{}", n % 50), &format!("c{n}"))
            .await;
        match n {
            _ if n % 1000 == 7 => line.fails_with(Status::data_loss("panic")).await,
            _ if n % 2 == 0 => line.fails_with(Status::unknown("reset")).await,
            _ => {}
        }
        // Some are replaced by the next of their name, and some end before.
        lines.push_back(line);
        lines.truncate(if n % 4 == 0 { 2 } else { 30 });
        assert!(node.sessions.hub().counts().0 <= 40);
        while let Ok(one) = node.told.try_recv() {
            collect(one, &mut told);
        }
    }
    drop(lines);
    eventually("nothing is left", || node.is_empty()).await;
    eventually("every task ended", || tasks() == before).await;
    assert_eq!(Arc::strong_count(&node.sessions.0), strong, "something holds on");
    while let Ok(one) = node.told.try_recv() {
        collect(one, &mut told);
    }
    assert_eq!(told.len(), TIMES, "each member was told gone");
}

/// Each member goes once.
fn collect(told: Told, gone: &mut BTreeSet<String>) {
    if let Told::Fact(Input::StreamBroke(broken)) = told {
        for (_, client) in broken.members {
            assert!(gone.insert(client.to_string()), "{client} went twice");
        }
    }
}
