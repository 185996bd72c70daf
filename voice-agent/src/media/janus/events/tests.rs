//! The listener on a real loopback socket: what it takes, what it refuses, and that a full queue does not hold it up.

use super::*;
use crate::media::posts::{BODY_BOUND, accept};
use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use voice_room::{ClientId, RoomId};

const DETACHED: &str = r#"{"type":2,"handle_id":5,"event":{"name":"detached"}}"#;

struct Listening {
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    counters: Arc<Counters>,
    list_now: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listening(bound: usize) -> Listening {
    let (queue, events) = mpsc::channel(bound);
    let counters = Arc::new(Counters::default());
    let list_now = Arc::new(Notify::new());
    let sink = Sink {
        queue,
        list_now: list_now.clone(),
        counters: counters.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { accept(listener, &sink).await });
    Listening {
        address,
        events,
        counters,
        list_now,
        task,
    }
}

async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn post(address: SocketAddr, body: &str) -> String {
    let len = body.len();
    let request =
        format!("POST /any HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}");
    send(address, request.as_bytes()).await
}

#[tokio::test]
async fn one_event_and_an_array_of_events_are_queued_in_order() {
    let mut l = listening(8).await;
    let left = r#"{"type":64,"event":{"plugin":"janus.plugin.audiobridge","data":{"event":"left","room":1,"id":2}}}"#;
    assert!(post(l.address, DETACHED).await.starts_with("HTTP/1.1 200 "));
    assert!(
        post(l.address, &format!("[{left},{DETACHED}]"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let left = Event::Left {
        room: RoomId::new("1").unwrap(),
        id: ClientId::new("2").unwrap(),
        handle: None,
        why: "it left the room, or its session timed out".into(),
    };
    let detached = Event::Detached { handle: 5 };
    for expected in [detached.clone(), left, detached] {
        assert_eq!(l.events.recv().await.unwrap(), expected);
    }
    assert_eq!(l.counters.bad_requests.load(Relaxed), 0);
}

#[tokio::test]
async fn malformed_json_is_answered_400_with_the_reason_counted_and_queues_nothing() {
    let mut l = listening(8).await;
    let answer = post(l.address, &format!("[{DETACHED},{{}}]")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("missing field `type`"), "{answer}");
    assert_eq!(l.counters.bad_requests.load(Relaxed), 1);
    assert!(l.events.try_recv().is_err());
}

#[tokio::test]
async fn a_body_above_the_bound_is_answered_413_and_queues_nothing() {
    let mut l = listening(8).await;
    let body = format!("[{DETACHED}{}]", " ".repeat(BODY_BOUND));
    let answer = post(l.address, &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(l.counters.bad_requests.load(Relaxed), 1);
    assert!(l.events.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_posted_is_answered_405() {
    let l = listening(8).await;
    let answer = send(
        l.address,
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(l.counters.bad_requests.load(Relaxed), 1);
}

#[tokio::test]
async fn what_is_not_http_ends_its_own_connection_and_no_other() {
    let mut l = listening(8).await;
    send(l.address, b"\x16\x03\x01 not http\r\n\r\n").await;
    assert!(post(l.address, DETACHED).await.starts_with("HTTP/1.1 200 "));
    assert!(l.events.recv().await.is_some());
}

#[tokio::test]
async fn with_the_queue_full_janus_is_still_answered_the_loss_is_counted_and_a_listing_asked_for() {
    let l = listening(1).await;
    let answer = post(l.address, &format!("[{DETACHED},{DETACHED},{DETACHED}]")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(l.counters.events_dropped.load(Relaxed), 2);
    l.list_now.notified().await;
}
