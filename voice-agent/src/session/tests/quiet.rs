//! What is only about time, on a paused clock and without TCP.

use super::*;
use crate::session::{outgoing::Drain, peer::PeerInfo, stream};
use tokio::time::Instant;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Status;

pub(super) struct Quiet {
    to_agent: mpsc::Sender<Result<v1::PeerMessage, Status>>,
    from_agent: Drain,
    sessions: Sessions,
    _driver: Option<tokio_util::task::AbortOnDropHandle<()>>,
}

/// A stream without TCP. No Hello is said yet.
async fn open() -> Quiet {
    let (handle, queue) = Handle::new(8);
    let (told, _) = mpsc::unbounded_channel();
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(drive(queue, told)));
    Quiet {
        _driver: Some(driver),
        ..open_to("gateway", handle).await
    }
}

/// The same, with another driver.
async fn open_to(role: &'static str, handle: Handle) -> Quiet {
    open_at(sessions(10), role, handle).await
}

/// The same, at these sessions.
pub(super) async fn open_at(sessions: Sessions, role: &'static str, handle: Handle) -> Quiet {
    let mut metadata = MetadataMap::new();
    metadata.insert("peer-role", role.parse().unwrap());
    metadata.insert("peer-id", "gw".parse().unwrap());
    let info = PeerInfo::from_metadata(&metadata).unwrap();
    let (to_agent, inbound) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let from_agent = stream::open(sessions.clone(), handle, stop, info, ReceiverStream::new(inbound));
    Quiet {
        to_agent,
        from_agent: from_agent.await.unwrap(),
        sessions,
        _driver: None,
    }
}

impl Quiet {
    pub(super) async fn say(&self, message: FromPeer) {
        let message = v1::PeerMessage {
            message: Some(message),
        };
        self.to_agent.send(Ok(message)).await.unwrap();
    }

    pub(super) async fn hello(&mut self) {
        self.say(FromPeer::Hello(v1::Hello {
            protocol_version: 1,
            ..Default::default()
        }))
        .await;
        assert!(matches!(self.next().await, Ok(FromAgent::Welcome(_))));
    }

    pub(super) async fn next(&mut self) -> Result<FromAgent, Status> {
        let message = self.from_agent.next().await.unwrap();
        message.map(|message| message.message.unwrap())
    }

    async fn ping(&mut self) -> u64 {
        match self.next().await {
            Ok(FromAgent::Keepalive(beat)) if beat.kind == 1 => beat.nonce,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_every_30_s_and_ended_after_two_misses() {
    let mut quiet = open().await;
    let start = Instant::now();
    quiet.hello().await;
    for n in [1, 2] {
        assert_eq!(quiet.ping().await, n);
        assert_eq!(start.elapsed().as_secs(), 30 * n);
    }
    assert!(matches!(quiet.next().await, Ok(FromAgent::Goodbye(_))));
    assert_eq!(quiet.next().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 75);
    assert!(quiet.from_agent.next().await.is_none());
    assert_eq!(quiet.sessions.topology(None), []);
    assert!(quiet.sessions.0.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_anything_at_all_within_the_time_lives_on() {
    let mut quiet = open().await;
    quiet.hello().await;
    for n in 1..=20 {
        assert_eq!(quiet.ping().await, n);
        if n % 2 == 0 {
            quiet.say(FromPeer::RoomEvent(room_event("not valid", 1))).await;
            assert!(matches!(quiet.next().await, Ok(FromAgent::EventResult(_))));
        }
    }
    assert_eq!(quiet.sessions.topology(None).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_says_no_hello_ends_after_ten_seconds() {
    let mut quiet = open().await;
    let start = Instant::now();
    assert!(matches!(quiet.next().await, Ok(FromAgent::Goodbye(_))));
    assert_eq!(quiet.next().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_is_no_hello_ends_the_stream() {
    let mut quiet = open().await;
    quiet.say(FromPeer::RoomEvent(room_event("r", 1))).await;
    assert!(matches!(quiet.next().await, Ok(FromAgent::Goodbye(_))));
    let status = quiet.next().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "the first message must be Hello");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_its_side_gets_an_end_without_an_error() {
    let mut quiet = open().await;
    quiet.hello().await;
    let (closed, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut quiet.to_agent, closed));
    assert!(matches!(quiet.next().await, Ok(FromAgent::Goodbye(_))));
    assert!(quiet.from_agent.next().await.is_none());
    assert_eq!(quiet.sessions.topology(None), []);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_heard_behind_requests_that_the_store_does_not_answer() {
    let (handle, mut queue) = Handle::new(8);
    let (heard, mut beats) = mpsc::unbounded_channel();
    let driver = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(message) = queue.recv().await {
            match message {
                Message::Query(Query::Isolations(reply)) => drop(reply.send(vec![])),
                Message::Fact(Input::Heartbeat(_)) => drop(heard.send(Instant::now())),
                other => unanswered.push(other),
            }
        }
    });
    let _driver = tokio_util::task::AbortOnDropHandle::new(driver);
    let mut quiet = open_to("media", handle).await;
    quiet.hello().await;
    let start = Instant::now();
    for n in 0..100 {
        quiet
            .say(FromPeer::RoomEvent(room_event(&format!("r{n}"), n)))
            .await;
    }
    quiet
        .say(FromPeer::MediaHeartbeat(heartbeat(&[("r", &[50_000])])))
        .await;
    let at = timeout(Duration::from_secs(5), beats.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(at - start <= Duration::from_secs(2), "{:?}", at - start);
    for n in 64..100 {
        match quiet.next().await {
            Ok(FromAgent::EventResult(result)) => {
                assert_eq!(result.request_id, n);
                assert_eq!(refusal(result).code, "limit");
            }
            other => panic!("{other:?}"),
        }
    }
}
