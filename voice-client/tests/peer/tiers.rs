//! The tiers, with the agent as the dependency: on a paused clock, and nobody listens.

use super::*;
use voice_client::{NotSent, RequestError};
use voice_room::tier::Tier;

fn event(event: v1::EventType) -> v1::RoomEvent {
    v1::RoomEvent {
        room: "r".into(),
        event: event.into(),
        ..Default::default()
    }
}

async fn tier(peer: &mut Peer) -> Tier {
    loop {
        if let Event::Health { to, .. } = next_of(peer).await {
            return to;
        }
    }
}

/// Without a time limit: the clock stands still while something is to do.
async fn next_of(peer: &mut Peer) -> Event {
    peer.next().await.expect("the peer has ended")
}

fn refused_by(error: &RequestError) -> Option<Tier> {
    match error {
        RequestError::NotSent {
            why: NotSent::Tier(tier),
            ..
        } => Some(*tier),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stays_away_becomes_degraded_and_then_broken_and_is_left_to_cool_down() {
    let start = tokio::time::Instant::now();
    let mut peer = Peer::builder(Role::Gateway, "gw")
        .endpoint("http://127.0.0.1:1")
        .start()
        .unwrap();
    let handle = peer.handle();
    assert_eq!(tier(&mut peer).await, Tier::Degraded);
    assert_eq!(handle.tier(), Tier::Degraded);
    // Nothing new begins; what runs waits for the stream.
    let error = handle.room_event(event(v1::EventType::Create)).await.unwrap_err();
    assert_eq!(refused_by(&error), Some(Tier::Degraded), "{error}");
    let running = handle.clone();
    let running = tokio::spawn(async move { running.room_event(event(v1::EventType::HostDisconnect)).await });
    assert_eq!(tier(&mut peer).await, Tier::Broken);
    let broken_after = start.elapsed();
    assert!((10..60).contains(&broken_after.as_secs()), "{broken_after:?}");
    assert!(running.await.unwrap().is_err());
    let error = handle
        .room_event(event(v1::EventType::HostDisconnect))
        .await
        .unwrap_err();
    assert_eq!(refused_by(&error), Some(Tier::Broken), "{error}");
    // The cool-down is waited for before the next attempt.
    let end = loop {
        if let Event::Disconnected(end) = next_of(&mut peer).await
            && end.again_in.unwrap() > Duration::from_secs(15)
        {
            break end;
        }
    };
    assert!(end.again_in.unwrap() <= Duration::from_secs(30), "{end:?}");
}

#[tokio::test]
async fn an_agent_that_refuses_is_there_and_one_that_answers_is_healthy_again() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).endpoint("http://127.0.0.1:1").start().unwrap();
    for _ in 0..2 {
        agent
            .call()
            .await
            .end(Status::resource_exhausted("session.max_peers"));
    }
    let mut ends = 0;
    while ends < 3 {
        match next(&mut peer).await {
            Event::Disconnected(_) => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(peer.handle().tier(), Tier::Healthy);
}
