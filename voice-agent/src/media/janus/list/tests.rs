//! When the source counts as lost, on a paused clock.

use super::*;
use crate::{
    driver::{Handle, Message},
    media::janus::{Shared, counters::Counters, source},
};
use std::sync::Arc;
use tokio::{sync::mpsc, time::timeout};
use voice_room::{RoomId, input::Heartbeat, input::Served};

const HEARTBEAT: Duration = Duration::from_secs(5);

/// As after its first listing.
fn shared() -> (Shared, mpsc::Receiver<Message>) {
    let (handle, messages) = Handle::new(64);
    let counters = Arc::new(Counters::default());
    let shared = Shared::new(handle, counters);
    shared.known.try_lock().unwrap().answered = true;
    (shared, messages)
}

fn failure() -> Result<Listing, ListingError> {
    let question = "list_sessions";
    Err(ListingError::Admin(AdminError::Deadline { question }))
}

async fn fact(messages: &mut mpsc::Receiver<Message>, within: Duration) -> Option<Input> {
    match timeout(within, messages.recv()).await {
        Ok(Some(Message::Fact(input))) => Some(input),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_is_lost_two_and_a_half_heartbeats_after_its_last_listing_and_told_once() {
    let (shared, mut messages) = shared();
    let watching = tokio::spawn(watch(shared.clone(), HEARTBEAT));
    take(&shared, failure()).await.unwrap();
    assert_eq!(fact(&mut messages, Duration::from_millis(12_400)).await, None);
    let lost = fact(&mut messages, Duration::from_millis(200)).await;
    assert_eq!(lost, Some(Input::SourceLost(source())));
    take(&shared, failure()).await.unwrap();
    assert_eq!(fact(&mut messages, Duration::from_secs(3600)).await, None);
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn an_answered_listing_brings_the_source_back_and_it_can_be_lost_again() {
    let (shared, mut messages) = shared();
    let watching = tokio::spawn(watch(shared.clone(), HEARTBEAT));
    for _ in 0..2 {
        take(&shared, failure()).await.unwrap();
        let lost = fact(&mut messages, Duration::from_secs(20)).await;
        assert_eq!(lost, Some(Input::SourceLost(source())));
        let room = RoomId::new("1001").unwrap();
        let rooms = vec![room.clone()];
        take(
            &shared,
            Ok(Listing {
                rooms,
                ..Listing::default()
            }),
        )
        .await
        .unwrap();
        let back = fact(&mut messages, Duration::ZERO).await;
        let served = Served {
            room,
            ports: Vec::new(),
            flows: vec![],
            ssrcs: vec![],
            participants: 0,
            host: None,
        };
        let heartbeat = Heartbeat {
            source: source(),
            rooms: vec![served],
            capacity: None,
        };
        assert_eq!(back, Some(Input::Heartbeat(heartbeat)));
    }
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_agent_that_wakes_up_asks_before_it_calls_the_source_lost() {
    let (shared, mut messages) = shared();
    let watching = tokio::spawn(watch(shared.clone(), HEARTBEAT));
    // Nothing was asked in all this time, so nothing failed.
    assert_eq!(fact(&mut messages, Duration::from_secs(600)).await, None);
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_listing_tells_nothing_and_is_counted() {
    let (shared, mut messages) = shared();
    take(&shared, failure()).await.unwrap();
    assert!(messages.try_recv().is_err());
    assert_eq!(
        shared
            .counters
            .listings_failed
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_failed_although_janus_answered_is_told_so_that_no_room_is_cut_for_it() {
    let (shared, mut messages) = shared();
    let refused = AdminError::Refused {
        question: "list_sessions",
        code: 403,
        reason: "unauthorized".into(),
    };
    let slow = |answers| ListingError::TooLong {
        within: HEARTBEAT,
        answers,
    };
    for error in [slow(1), ListingError::Admin(refused)] {
        take(&shared, Err(error)).await.unwrap();
        let told = fact(&mut messages, Duration::from_millis(1)).await;
        assert_eq!(told, Some(Input::HeartbeatRefused(source())));
    }
    for silence in [failure(), Err(slow(0))] {
        take(&shared, silence).await.unwrap();
        assert_eq!(fact(&mut messages, Duration::from_secs(1)).await, None);
    }
}
