//! Who is told what: STATE_EXPIRED, STATE_RESTORED, updates.

use super::*;

async fn serving(agent: &Agent, id: &str, name: &str) -> PeerClient {
    let mut peer = agent.peer(Role::Gateway, id).await;
    ask(&mut peer, FromPeer::RoomEvent(room_event(name, 1))).await;
    eventually("the room is served", || {
        agent.view(id).is_some_and(|v| v.rooms == 1)
    })
    .await;
    peer
}

fn expired_room(message: &FromAgent) -> &str {
    match message {
        FromAgent::StateExpired(expired) => &expired.room,
        other => panic!("{other:?}"),
    }
}

/// Whatever was pushed before has arrived when this is answered.
async fn nothing_was_pushed(peer: &mut PeerClient) {
    let result = ask(peer, FromPeer::RoomEvent(room_event("not valid", 99))).await;
    assert_eq!(result.request_id, 99);
}

#[tokio::test]
async fn state_expired_goes_to_the_gateway_that_serves_the_room_and_its_ack_reaches_the_driver() {
    let mut agent = Agent::start().await;
    let mut gateway = serving(&agent, "gw-1", "r").await;
    let mut other = serving(&agent, "gw-2", "another").await;
    let (Told::Request(_), Told::Request(_)) = (agent.told().await, agent.told().await) else {
        panic!("not two requests");
    };

    let pushed = expired("r");
    assert_eq!(agent.sessions.expired(&pushed).unwrap(), "1 session: gw-1");
    let FromAgent::StateExpired(got) = next(&mut gateway).await else {
        panic!("not STATE_EXPIRED");
    };
    assert_eq!((got.room.as_str(), got.version, got.incarnation), ("r", 3, 1));
    assert_eq!(got.epoch, Some(v1::Epoch { era: 1, revision: 7 }));
    assert_eq!(got.isolated_until_ms, pushed.isolated_until.0);
    assert!((290_000..=300_000).contains(&got.retry_after_ms));
    assert_eq!(
        agent.told().await,
        Told::Fact(Input::Acked {
            room: room("r"),
            peer: PeerId::new("gw-1").unwrap(),
            version: Version(3)
        })
    );
    assert_eq!(agent.view("gw-1").unwrap().pending, 0);
    nothing_was_pushed(&mut other).await;
}

#[tokio::test]
async fn a_room_that_no_gateway_is_known_to_serve_is_told_to_all_and_to_the_media_server_that_has_it() {
    let mut agent = Agent::start().await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    let mut signalling = agent.peer(Role::Signalling, "sig").await;
    let mut media = agent.peer(Role::Media, "sfu").await;
    let mut idle = agent.peer(Role::Media, "idle").await;
    media.sender().heartbeat(heartbeat(&[("r", &[])])).await.unwrap();
    agent.told().await;
    assert_eq!(
        agent.sessions.expired(&expired("r")).unwrap(),
        "3 sessions: gw, sfu, sig"
    );
    for peer in [&mut gateway, &mut signalling, &mut media] {
        assert_eq!(expired_room(&next(peer).await), "r");
    }
    nothing_was_pushed(&mut idle).await;
}

#[tokio::test]
async fn what_is_not_acknowledged_is_told_again_after_a_reconnect_and_what_is_acknowledged_is_not() {
    let agent = Agent::start().await;
    let mut silent = serving(&agent, "gw", "r").await.without_acks();
    agent.sessions.expired(&expired("r")).unwrap();
    assert_eq!(expired_room(&next(&mut silent).await), "r");
    assert_eq!(agent.view("gw").unwrap().pending, 1);

    let mut again = agent.peer(Role::Gateway, "gw").await;
    assert_eq!(expired_room(&next(&mut again).await), "r");
    eventually("the ack is taken", || agent.view("gw").unwrap().pending == 0).await;
    let mut third = agent.peer(Role::Gateway, "gw").await;
    nothing_was_pushed(&mut third).await;
}

#[tokio::test]
async fn with_nobody_connected_it_is_kept_for_gateways_that_connect_later() {
    let agent = Agent::start().await;
    let said = agent.sessions.expired(&expired("r")).unwrap();
    assert_eq!(said, "no session connected; kept for reconnects");
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    assert_eq!(expired_room(&next(&mut gateway).await), "r");
}

#[tokio::test]
async fn a_gateway_that_asks_for_an_expired_room_later_is_told_once() {
    let agent = Agent::start().await;
    let _first = serving(&agent, "gw-1", "isolated-later").await;
    let mut late = agent.peer(Role::Gateway, "gw-2").await;
    agent.sessions.expired(&expired("isolated-later")).unwrap();
    let join = client_event("isolated-later", "c", v1::ClientEventKind::Join);
    ask(&mut late, FromPeer::ClientEvent(join.clone())).await;
    assert_eq!(expired_room(&next(&mut late).await), "isolated-later");
    ask(&mut late, FromPeer::ClientEvent(join)).await;
    nothing_was_pushed(&mut late).await;
}

#[tokio::test]
async fn a_refused_join_to_an_isolated_room_says_when_to_ask_again_and_then_tells_state_expired() {
    let agent = Agent::start().await;
    let _serves = serving(&agent, "gw-1", "x").await;
    let mut gateway = agent.peer(Role::Gateway, "gw-2").await;
    let named = [
        ("peer-role", "gateway"),
        ("peer-id", "gw-3"),
        ("room-id", "isolated"),
    ];
    let _named = agent.call(&named, 1).await.unwrap();
    agent.sessions.expired(&expired("isolated")).unwrap();
    let join = client_event("isolated", "c", v1::ClientEventKind::Join);
    let refused = refusal(ask(&mut gateway, FromPeer::ClientEvent(join)).await);
    assert_eq!(
        (refused.code.as_str(), refused.retry_after_ms),
        ("isolated", 60_000)
    );
    assert_eq!(expired_room(&next(&mut gateway).await), "isolated");
    assert_eq!(
        agent.view("gw-2").unwrap().rooms,
        0,
        "a refused join is no serving"
    );
}

#[tokio::test]
async fn a_release_tells_those_who_were_told_and_withdraws_what_is_pending() {
    let agent = Agent::start().await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await.without_acks();
    agent.sessions.expired(&expired("r")).unwrap();
    next(&mut gateway).await;
    agent.sessions.restored(&update("r", State::Liveing));
    let FromAgent::StateRestored(restored) = next(&mut gateway).await else {
        panic!("not STATE_RESTORED");
    };
    assert_eq!((restored.room.as_str(), restored.version), ("r", 4));
    assert_eq!(restored.state(), v1::RoomState::Liveing);
    let mut again = agent.peer(Role::Gateway, "gw").await;
    nothing_was_pushed(&mut again).await;
}

#[tokio::test]
async fn a_gateway_serves_a_room_until_its_last_client_left_and_gets_its_updates_until_then() {
    use v1::ClientEventKind::{Join, Leave};
    let agent = Agent::start().await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await;
    for client in ["a", "b"] {
        ask(
            &mut gateway,
            FromPeer::ClientEvent(client_event("r", client, Join)),
        )
        .await;
    }
    ask(&mut gateway, FromPeer::ClientEvent(client_event("r", "a", Leave))).await;
    agent.sessions.update(&update("r", State::GraceClosing));
    let FromAgent::RoomUpdate(told) = next(&mut gateway).await else {
        panic!("not an update");
    };
    assert_eq!(told.state(), v1::RoomState::GraceClosing);
    ask(&mut gateway, FromPeer::ClientEvent(client_event("r", "b", Leave))).await;
    assert_eq!(agent.view("gw").unwrap().rooms, 0);
    agent.sessions.update(&update("r", State::Destroyed));
    nothing_was_pushed(&mut gateway).await;
}

#[tokio::test]
async fn a_destroyed_room_is_served_by_nobody() {
    let agent = Agent::start().await;
    let mut gateway = serving(&agent, "gw", "r").await;
    agent.sessions.update(&update("r", State::Destroyed));
    assert!(matches!(next(&mut gateway).await, FromAgent::RoomUpdate(_)));
    assert_eq!(agent.view("gw").unwrap().rooms, 0);
}

#[tokio::test]
async fn an_ack_of_another_version_is_not_taken() {
    let mut agent = Agent::start().await;
    let mut gateway = agent.peer(Role::Gateway, "gw").await.without_acks();
    agent.sessions.expired(&expired("r")).unwrap();
    let FromAgent::StateExpired(got) = next(&mut gateway).await else {
        panic!("not STATE_EXPIRED");
    };
    let right = voice_client::ack_of(&got);
    let wrong = v1::ExpiredAck {
        version: 2,
        ..right.clone()
    };
    gateway.sender().send(FromPeer::ExpiredAck(wrong)).await.unwrap();
    nothing_was_pushed(&mut gateway).await;
    assert_eq!(agent.view("gw").unwrap().pending, 1);
    gateway.sender().send(FromPeer::ExpiredAck(right)).await.unwrap();
    assert!(matches!(agent.told().await, Told::Fact(Input::Acked { .. })));
}
