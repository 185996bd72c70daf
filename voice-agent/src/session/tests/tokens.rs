//! What a gateway shows for a host, from the stream to the driver.

use super::*;
use crate::{
    telemetry::Counter,
    tokens::tests::{hs256, token_lasting},
};
use voice_room::input::{Ask, Credential};

/// START_LIVE of a gateway with this token, as the driver gets it.
async fn shown(agent: &mut Agent, gateway: &mut PeerClient, name: &str, token: Option<String>) -> Credential {
    let event = v1::RoomEvent {
        event: v1::EventType::StartLive.into(),
        token,
        ..room_event(name, 1)
    };
    ask(gateway, FromPeer::RoomEvent(event)).await;
    match agent.told().await {
        Told::Request(Request {
            ask: Ask::StartLive { credential, .. },
            ..
        }) => credential,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_that_holds_names_the_host_and_the_same_for_another_room_does_not() {
    let mut agent = Agent::with_tokens(hs256()).await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    let token = token_lasting("r-1", "alice", Duration::from_secs(600));
    let host = voice_room::ClientId::new("alice").unwrap();
    let credential = shown(&mut agent, &mut gateway, "r-1", Some(token.clone())).await;
    assert_eq!(credential, Credential::Token { host });
    let before = Counter::TokenWrongRoom.value();
    let replayed = shown(&mut agent, &mut gateway, "r-2", Some(token)).await;
    assert_eq!(
        replayed,
        Credential::Invalid("it was issued for another room than r-2".into())
    );
    assert!(Counter::TokenWrongRoom.value() > before);
}

#[tokio::test]
async fn a_token_that_is_missing_expired_or_garbage_is_invalid_counted_and_the_stream_goes_on() {
    let mut agent = Agent::with_tokens(hs256()).await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    let counters = [
        Counter::TokenNotGiven,
        Counter::TokenExpired,
        Counter::TokenMalformed,
    ];
    let before = counters.map(Counter::value);
    let expired = token_lasting("r-1", "alice", Duration::ZERO);
    for (token, said) in [
        (None, "none was given"),
        (Some(expired), "it expired"),
        (Some("x.y.z".into()), "not a token"),
    ] {
        match shown(&mut agent, &mut gateway, "r-1", token).await {
            Credential::Invalid(why) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    for (counter, before) in counters.into_iter().zip(before) {
        assert!(counter.value() > before, "{}", counter.name());
    }
    let long = v1::RoomEvent {
        token: Some("x".repeat(8193)),
        event: v1::EventType::StartLive.into(),
        ..room_event("r-1", 2)
    };
    let refused = refusal(ask(&mut gateway, FromPeer::RoomEvent(long)).await);
    assert_eq!(refused.code, "malformed");
    assert!(agent.told.try_recv().is_err(), "it did not reach the driver");
}

#[tokio::test]
async fn other_keys_count_from_the_next_request_on_and_the_stream_goes_on() {
    let mut agent = Agent::with_tokens(Tokens::default()).await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    let token = token_lasting("r-1", "alice", Duration::from_secs(600));
    let host = voice_room::ClientId::new("alice").unwrap();
    for (keys, holds) in [
        (Tokens::default(), false),
        (hs256(), true),
        (Tokens::default(), false),
    ] {
        agent.sessions.set_tokens(keys);
        let credential = shown(&mut agent, &mut gateway, "r-1", Some(token.clone())).await;
        assert_eq!(
            credential == Credential::Token { host: host.clone() },
            holds,
            "{credential:?}"
        );
    }
}

#[tokio::test]
async fn a_media_server_needs_no_token() {
    let mut agent = Agent::with_tokens(hs256()).await;
    let mut media = agent.peer(Role::Media, "sfu").await;
    let credential = shown(&mut agent, &mut media, "r-1", None).await;
    assert_eq!(credential, Credential::Trusted);
}
