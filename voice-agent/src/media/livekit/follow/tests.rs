//! What the driver is told, against an API that a test answers for.

use super::*;
use crate::{driver::Message, media::livekit::Credentials};
use hyper::StatusCode;
use std::net::SocketAddr;
use tokio::time::timeout;

const HEARTBEAT: Duration = Duration::from_secs(5);

fn follower() -> (Follower, mpsc::Receiver<Message>) {
    let (handle, messages) = Handle::new(64);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let api = Api::new(nowhere, Arc::new(Credentials::new("APIkey", b"x")));
    let mut follower = Follower::new(api, handle, HEARTBEAT);
    follower.answered = true;
    (follower, messages)
}

async fn fact(messages: &mut mpsc::Receiver<Message>) -> Option<Input> {
    match timeout(Duration::ZERO, messages.recv()).await {
        Ok(Some(Message::Fact(input))) => Some(input),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

fn silence() -> ApiError {
    ApiError::Deadline {
        question: "ListRooms",
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_is_lost_two_and_a_half_heartbeats_after_its_last_listing_and_told_once() {
    let (mut follower, mut messages) = follower();
    follower.not_listed(&silence()).await.unwrap();
    assert!(follower.due() - follower.listed_at == HEARTBEAT * 5 / 2);
    tokio::time::advance(HEARTBEAT * 5 / 2 - Duration::from_millis(1)).await;
    follower.tell_lost().await.unwrap();
    assert_eq!(fact(&mut messages).await, None);
    tokio::time::advance(Duration::from_millis(1)).await;
    follower.tell_lost().await.unwrap();
    assert_eq!(fact(&mut messages).await, Some(Input::SourceLost(source())));
    follower.tell_lost().await.unwrap();
    assert_eq!(fact(&mut messages).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_agent_that_wakes_up_asks_before_it_calls_the_source_lost() {
    let (mut follower, mut messages) = follower();
    tokio::time::advance(Duration::from_secs(600)).await;
    follower.tell_lost().await.unwrap();
    assert_eq!(fact(&mut messages).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_we_cannot_use_is_told_as_refused_and_silence_is_not_told() {
    let (mut follower, mut messages) = follower();
    follower.not_listed(&silence()).await.unwrap();
    assert_eq!(fact(&mut messages).await, None);
    let refused = ApiError::Refused {
        question: "ListRooms",
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "busy".into(),
    };
    follower.not_listed(&refused).await.unwrap();
    assert_eq!(fact(&mut messages).await, Some(Input::HeartbeatRefused(source())));
}

#[tokio::test(start_paused = true)]
async fn while_listings_fail_a_webhook_asks_for_a_listing_and_for_nothing_else() {
    let (mut follower, mut messages) = follower();
    follower.not_listed(&silence()).await.unwrap();
    let list_now = Notify::new();
    let event = Event {
        room: RoomId::new("alpha").unwrap(),
        left: None,
    };
    follower.look(event, &list_now).await.unwrap();
    list_now.notified().await;
    assert_eq!(fact(&mut messages).await, None);
}
