//! What a peer remembers of rooms: isolations, epochs and versions, and which it serves.

use super::*;
use std::time::Instant;
use voice_room::RoomId;

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

#[tokio::test]
async fn an_isolation_refuses_by_the_peers_own_clock_also_with_the_agent_away() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).start().unwrap();
    let mut call = agent.call().await;
    call.isolations.push(v1::Isolation {
        room: "old".into(),
        reason: "stuck".into(),
        isolated_until_ms: 1, // A clock that is off.
        retry_after_ms: 3000,
    });
    let until = Instant::now() + Duration::from_millis(3000);
    call.welcome(2);
    let Event::Connected(connected) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(connected.isolated, [room("old")]);
    call.say(FromAgent::StateExpired(expired("new", 3, 7)));
    assert!(matches!(next(&mut peer).await, Event::Expired(_)));
    let handle = peer.handle();
    let join = handle.may_join(&room("new")).await;
    assert_eq!(
        (join.allowed, join.authoritative, join.reason.as_str()),
        (false, true, "stuck for 90 s")
    );
    assert!(join.retry_after > Duration::from_secs(290));
    drop((call, agent));
    disconnected(&mut peer).await;
    let join = handle.may_join(&room("new")).await;
    assert_eq!((join.allowed, join.authoritative), (false, false));
    let (join, asked) = (handle.may_join(&room("old")).await, Instant::now());
    assert!(!join.allowed || asked >= until);
    within("the isolation's end", async {
        while !handle.may_join(&room("old")).await.allowed {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(Instant::now() >= until - Duration::from_millis(100));
    let other = handle.may_join(&room("other")).await;
    assert_eq!((other.allowed, other.authoritative), (true, false));
}

#[tokio::test]
async fn the_agents_own_word_decides_where_nothing_is_remembered_and_its_refusal_is_remembered() {
    let mut agent = Agent::start().await;
    let (peer, _call) = connected(gateway(&agent), &mut agent).await;
    let handle = peer.handle();
    let join = handle.may_join(&room("r")).await;
    assert_eq!((join.allowed, join.authoritative), (true, true));
    agent.answers_joins(Ok(v1::CheckJoinResponse {
        allowed: false,
        reason: "stuck".into(),
        retry_after_ms: 60_000,
        authoritative: true,
    }));
    assert!(!handle.may_join(&room("r")).await.allowed);
    agent.answers_joins(Err(Status::unavailable("away")));
    assert!(!handle.may_join(&room("r")).await.allowed, "remembered");
    let other = handle.may_join(&room("other")).await;
    assert_eq!((other.allowed, other.authoritative), (true, false));
}

#[tokio::test]
async fn a_state_expired_is_acknowledged_when_the_application_has_dealt_with_it_and_once_more_when_told_again()
 {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent), &mut agent).await;
    call.say(FromAgent::StateExpired(expired("r", 3, 7)));
    let Event::Expired(told) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(
        (told.room.as_str(), told.isolated_for),
        ("r", Duration::from_secs(300))
    );
    assert!(call.peek().await.is_none(), "the application has it in hand");
    // Told again meanwhile: still in hand, and no second event.
    call.say(FromAgent::StateExpired(expired("r", 3, 7)));
    assert!(call.peek().await.is_none());
    let ack = FromPeer::ExpiredAck(v1::ExpiredAck {
        room: "r".into(),
        version: 3,
        epoch: Some(epoch(7)),
    });
    let again = tokio::time::timeout(Duration::from_millis(100), peer.next()).await;
    assert!(again.is_err(), "{again:?}");
    assert_eq!(call.hear().await, ack);
    // Our word was lost: it comes again on the next stream.
    call.end(Status::internal("broke"));
    disconnected(&mut peer).await;
    let mut call = agent.call().await;
    call.welcome(2);
    call.say(FromAgent::StateExpired(expired("r", 3, 7)));
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    assert_eq!(call.hear().await, ack);
}

#[tokio::test]
async fn what_an_old_owner_says_is_ignored_and_what_is_older_too() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent), &mut agent).await;
    call.say(commit("r", v1::RoomState::Liveing, 5, 7));
    let Event::Changed(changed) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!((changed.version.0, changed.epoch.revision), (5, 7));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(ack) if ack.version == 5));
    // An old owner's: neither applied nor acknowledged as a commit; a STATE_EXPIRED is acknowledged, and ignored.
    call.say(commit("r", v1::RoomState::Destroyed, 9, 6));
    call.say(FromAgent::StateExpired(expired("r", 9, 6)));
    assert!(matches!(call.hear().await, FromPeer::ExpiredAck(ack) if ack.version == 9));
    // What is known is acknowledged and not told twice.
    call.say(commit("r", v1::RoomState::Liveing, 5, 7));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(ack) if ack.version == 5));
    let handle = peer.handle();
    assert!(handle.known_join(&room("r")).allowed);
    assert_eq!(handle.committed(&room("r")).unwrap().version.0, 5);
    call.say(commit("r", v1::RoomState::GraceClosing, 6, 7));
    let Event::Changed(changed) = next(&mut peer).await else {
        panic!("only the news")
    };
    assert_eq!(changed.version.0, 6);
}

#[tokio::test]
async fn a_release_lets_clients_in_again() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    call.say(FromAgent::StateExpired(expired("r", 3, 7)));
    assert!(matches!(next(&mut peer).await, Event::Expired(_)));
    assert!(!peer.handle().known_join(&room("r")).allowed);
    call.say(FromAgent::StateRestored(v1::StateRestored {
        room: "r".into(),
        state: v1::RoomState::Liveing.into(),
        version: 4,
        epoch: Some(epoch(7)),
        incarnation: 1,
        reason: "operator".into(),
    }));
    assert!(matches!(next(&mut peer).await, Event::Restored(_)));
    assert!(peer.handle().known_join(&room("r")).allowed);
}

#[tokio::test]
async fn after_a_reconnect_it_says_which_rooms_it_serves_and_what_it_holds_of_them() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent).room("named"), &mut agent).await;
    let handle = peer.handle();
    for (name, kind) in [
        ("joined", v1::ClientEventKind::Join),
        ("left", v1::ClientEventKind::Join),
        ("left", v1::ClientEventKind::Leave),
    ] {
        let handle = handle.clone();
        let event = v1::ClientEvent {
            room: name.into(),
            client_id: "c".into(),
            kind: kind.into(),
            ..Default::default()
        };
        let asking = tokio::spawn(async move { handle.client_event(event).await });
        let FromPeer::ClientEvent(event) = call.hear().await else {
            panic!()
        };
        call.accept(event.request_id);
        within("the answer", asking).await.unwrap().unwrap();
    }
    call.say(commit("joined", v1::RoomState::Liveing, 5, 7));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
    call.end(Status::internal("broke"));
    disconnected(&mut peer).await;
    let mut call = agent.call().await;
    call.welcome(2);
    let FromPeer::KnownRooms(known) = call.hear().await else {
        panic!()
    };
    let mut rooms: Vec<_> = known.rooms.iter().map(|r| (r.room.as_str(), r.version)).collect();
    rooms.sort_unstable();
    assert_eq!(rooms, [("joined", 5), ("named", 0)]);
    let named: Vec<_> = call.metadata.get_all("room-id").iter().collect();
    assert_eq!(named, ["named", "joined"]);
}

#[tokio::test]
async fn a_media_server_lists_its_rooms_at_once_and_then_every_heartbeat() {
    let mut agent = Agent::start().await;
    let listing = || v1::MediaHeartbeat {
        rooms: vec![v1::ServedRoom {
            room: "r".into(),
            ports: vec![50_000],
            participants: 2,
            ..Default::default()
        }],
        capacity: None,
    };
    let peer = Peer::builder(Role::Media, "sfu")
        .endpoint(agent.url())
        .heartbeat(listing);
    let _peer = peer.heartbeat_every(Duration::from_millis(100)).start().unwrap();
    let mut call = agent.call().await;
    call.welcome(2);
    assert_eq!(call.hear().await, FromPeer::MediaHeartbeat(listing()));
    let FromPeer::KnownRooms(known) = call.hear().await else {
        panic!()
    };
    assert_eq!((known.rooms[0].room.as_str(), known.rooms[0].version), ("r", 0));
    for _ in 0..3 {
        assert_eq!(call.hear().await, FromPeer::MediaHeartbeat(listing()));
    }
    // It goes on whatever else waits, and on the next stream.
    call.end(Status::internal("broke"));
    let mut call = agent.call().await;
    call.welcome(2);
    assert_eq!(call.hear().await, FromPeer::MediaHeartbeat(listing()));
}
