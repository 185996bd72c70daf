//! The listener on a real loopback socket: what it takes, what it refuses and with which status, and what is counted.

use super::*;
use crate::media::posts::{BODY_BOUND, accept};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{digest, hmac};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SECRET: &str = "a-secret-of-more-than-thirty-two-characters";
const JOINED: &str =
    r#"{"event":"participant_joined","room":{"name":"alpha"},"participant":{"identity":"ann"}}"#;

struct Listening {
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
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
    let list_now = Arc::new(Notify::new());
    let sink = Sink {
        credentials: Arc::new(Credentials::new("APIkey", SECRET.as_bytes())),
        queue,
        list_now: list_now.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { accept(listener, &sink).await });
    Listening {
        address,
        events,
        list_now,
        task,
    }
}

/// A token as LiveKit makes it for `body`.
fn token(key: &str, secret: &str, body: &str, lasts: i64) -> String {
    let now = i64::try_from(now().0 / 1000).unwrap();
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
    let claims = format!(
        r#"{{"iss":"{key}","nbf":{},"exp":{},"sha256":"{hash}"}}"#,
        now - 600,
        now + lasts
    );
    let signed = [r#"{"alg":"HS256","typ":"JWT"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = signed.join(".");
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&secret, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn good(body: &str) -> String {
    token("APIkey", SECRET, body, 300)
}

/// The status of the answer.
async fn post(address: SocketAddr, authorization: &str, body: &str) -> String {
    let len = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/webhook+json\r\n{authorization}\
         Content-Length: {len}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A body that is too long is not read to its end: then the connection may break after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn authorization(token: &str) -> String {
    format!("Authorization: {token}\r\n")
}

#[tokio::test]
async fn a_webhook_that_livekit_signed_is_queued_with_or_without_the_word_bearer() {
    let mut l = listening(8).await;
    let alpha = Event {
        room: voice_room::RoomId::new("alpha").unwrap(),
        left: None,
    };
    for header in [good(JOINED), format!("Bearer {}", good(JOINED))] {
        assert_eq!(post(l.address, &authorization(&header), JOINED).await, "200");
        assert_eq!(l.events.recv().await.unwrap(), alpha);
    }
}

#[tokio::test]
async fn what_livekit_did_not_sign_is_answered_401_counted_and_queues_nothing() {
    let mut l = listening(8).await;
    let other = "another-secret-of-more-than-thirty-two-chars";
    let before = Counter::LivekitBadTokens.value();
    for header in [
        String::new(),
        authorization("nonsense"),
        authorization(&token("APIkey", other, JOINED, 300)),
        authorization(&token("APIother", SECRET, JOINED, 300)),
        authorization(&token("APIkey", SECRET, JOINED, -61)),
    ] {
        assert_eq!(post(l.address, &header, JOINED).await, "401", "{header}");
    }
    assert!(Counter::LivekitBadTokens.value() >= before + 5);
    let before = Counter::LivekitBadHashes.value();
    let forged = JOINED.replace("alpha", "omega");
    assert_eq!(
        post(l.address, &authorization(&good(JOINED)), &forged).await,
        "401"
    );
    assert!(Counter::LivekitBadHashes.value() > before);
    assert!(l.events.try_recv().is_err());
}

#[tokio::test]
async fn garbage_that_livekit_signed_is_answered_400_and_what_is_too_long_413() {
    let mut l = listening(8).await;
    let before = Counter::LivekitBadRequests.value();
    for body in ["not json", "{}", r#"{"event":"room_started"}"#] {
        assert_eq!(
            post(l.address, &authorization(&good(body)), body).await,
            "400",
            "{body}"
        );
    }
    let long = format!("{JOINED}{}", " ".repeat(BODY_BOUND));
    assert_eq!(post(l.address, &authorization(&good(&long)), &long).await, "413");
    assert!(Counter::LivekitBadRequests.value() >= before + 4);
    assert!(l.events.try_recv().is_err());
}

#[tokio::test]
async fn with_the_queue_full_livekit_is_still_answered_and_a_listing_asked_for() {
    let l = listening(1).await;
    let before = Counter::LivekitEventsDropped.value();
    for _ in 0..3 {
        assert_eq!(
            post(l.address, &authorization(&good(JOINED)), JOINED).await,
            "200"
        );
    }
    assert!(Counter::LivekitEventsDropped.value() >= before + 2);
    l.list_now.notified().await;
}
