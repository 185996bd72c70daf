//! Three-phase sync on the stream: who is asked, what goes out to whom, and which answers count. What is decided is the
//! core's.

use super::*;
use crate::telemetry::Counter;
use voice_room::{
    EventType,
    sync::{Attempt, Proposal, Rollback},
};

const EPOCH: Epoch = Epoch { era: 1, revision: 7 };

/// A gateway that serves `r` and speaks this version.
async fn gateway(agent: &Agent, id: &str, version: u32) -> PeerClient {
    let metadata = [("peer-role", "gateway"), ("peer-id", id), ("room-id", "r")];
    agent.call(&metadata, version).await.unwrap().without_acks()
}

fn proposal(to: &[&str], number: u64) -> Proposal {
    Proposal {
        to: to.iter().map(|id| PeerId::new(id).unwrap()).collect(),
        room: room("r"),
        incarnation: Incarnation(1),
        event: EventType::StartLive,
        state: State::Liveing,
        version: Version(2),
        attempt: attempt(number),
        reason: "host went live".into(),
        trace_id: None,
        within: Duration::from_secs(2),
    }
}

fn attempt(number: u64) -> Attempt {
    Attempt { epoch: EPOCH, number }
}

fn vote(name: &str, number: u64, refused: &str) -> FromPeer {
    FromPeer::PrepareAck(v1::PrepareAck {
        room: name.into(),
        epoch: Some(v1::Epoch { era: 1, revision: 7 }),
        attempt: number,
        refused: refused.into(),
    })
}

async fn says(peer: &PeerClient, message: FromPeer) {
    peer.sender().send(message).await.unwrap();
}

/// A message that the driver is told of, to know that those before it were taken.
async fn mark(agent: &mut Agent, peer: &PeerClient, name: &str) -> Vec<Told> {
    says(peer, FromPeer::RoomEvent(room_event(name, 99))).await;
    let mut before = Vec::new();
    loop {
        match agent.told().await {
            Told::Request(request) if request.room == room(name) => return before,
            other => before.push(other),
        }
    }
}

#[tokio::test]
async fn those_who_must_agree_are_the_peers_of_version_2_that_serve_the_room_without_the_one_who_asks() {
    let mut agent = Agent::start().await;
    let asks = gateway(&agent, "gw-asks", 2).await;
    let (_second, _old) = (
        gateway(&agent, "gw-2", 2).await,
        gateway(&agent, "gw-old", 1).await,
    );
    let _elsewhere = agent
        .call(&[("peer-role", "gateway"), ("peer-id", "gw-else")], 2)
        .await;
    let close = v1::RoomEvent {
        event: v1::EventType::Close.into(),
        version: Some(1),
        ..room_event("r", 1)
    };
    says(&asks, FromPeer::RoomEvent(close)).await;
    let Told::Request(request) = agent.told().await else {
        panic!("not a request");
    };
    assert_eq!(request.participants, ["gw-2".parse().unwrap()]);
    says(&asks, FromPeer::RoomEvent(room_event("r", 2))).await;
    assert!(
        matches!(agent.told().await, Told::Request(r) if r.participants.is_empty()),
        "CREATE asks nobody"
    );
}

#[tokio::test]
async fn a_prepare_reaches_those_asked_and_their_answers_the_driver_and_who_is_gone_is_said() {
    let mut agent = Agent::start().await;
    let (mut one, mut two) = (gateway(&agent, "one", 2).await, gateway(&agent, "two", 2).await);
    let mut old = gateway(&agent, "old", 1).await;
    let missed = agent
        .sessions
        .prepare(&proposal(&["one", "two", "old", "gone"], 5));
    assert_eq!(missed, ["old".parse().unwrap(), "gone".parse().unwrap()]);
    for peer in [&mut one, &mut two] {
        let FromAgent::Prepare(prepare) = next(peer).await else {
            panic!("not a prepare");
        };
        let named = (
            prepare.room.as_str(),
            prepare.version,
            prepare.attempt,
            prepare.answer_within_ms,
        );
        assert_eq!(named, ("r", 2, 5, 2000));
        assert_eq!(
            (prepare.event(), prepare.state()),
            (v1::EventType::StartLive, v1::RoomState::Liveing)
        );
    }
    assert_eq!(agent.view("one").unwrap().prepared, 1);
    for (peer, refused, expected) in [(&one, "", Ok(())), (&two, "full", Err("full".to_owned()))] {
        says(peer, vote("r", 5, refused)).await;
        let Told::Fact(Input::Vote {
            room,
            attempt: of,
            vote,
            ..
        }) = agent.told().await
        else {
            panic!("not a vote");
        };
        assert_eq!((room.as_str(), of, vote), ("r", attempt(5), expected));
    }
    agent.sessions.rollback(&Rollback {
        to: proposal(&["one", "two", "old"], 5).to,
        room: room("r"),
        attempt: attempt(5),
        reason: "two refused".into(),
    });
    for peer in [&mut one, &mut two] {
        assert!(matches!(next(peer).await, FromAgent::Rollback(r) if r.attempt == 5));
    }
    assert_eq!(agent.view("one").unwrap().prepared, 0);
    agent.sessions.update(&update("r", State::Liveing));
    assert!(
        matches!(next(&mut old).await, FromAgent::RoomUpdate(_)),
        "it hears of changes only"
    );
}

#[tokio::test]
async fn votes_that_nobody_asked_for_change_nothing_and_are_counted_or_refused() {
    let mut agent = Agent::start().await;
    let (mut bad, good) = (gateway(&agent, "bad", 2).await, gateway(&agent, "good", 2).await);
    let before = Counter::SessionStrayVotes.value();
    agent.sessions.prepare(&proposal(&["good"], 5));
    // Never asked; then asked, but of another attempt, under another epoch.
    says(&bad, vote("r", 5, "")).await;
    agent.sessions.prepare(&proposal(&["bad"], 6));
    says(&bad, vote("r", 7, "")).await;
    let FromPeer::PrepareAck(mut forged) = vote("r", 6, "") else {
        panic!("a vote");
    };
    forged.epoch = Some(v1::Epoch { era: 9, revision: 9 });
    says(&bad, FromPeer::PrepareAck(forged.clone())).await;
    assert_eq!(mark(&mut agent, &bad, "mark-1").await, []);
    assert!(Counter::SessionStrayVotes.value() >= before + 3);
    assert!(matches!(next(&mut bad).await, FromAgent::Prepare(_)));
    assert!(matches!(next(&mut bad).await, FromAgent::EventResult(_)));
    for (wrong, code) in [
        (vote("not-mine", 1, ""), "not_your_room"),
        (vote("a b", 1, ""), "malformed"),
        (vote("r", 6, &"x".repeat(257)), "malformed"),
        (
            FromPeer::PrepareAck(v1::PrepareAck {
                epoch: None,
                ..forged
            }),
            "malformed",
        ),
    ] {
        assert_eq!(refusal(ask(&mut bad, wrong).await).code, code);
    }
    let mut old = gateway(&agent, "old", 1).await;
    let refused = refusal(ask(&mut old, vote("r", 5, "")).await);
    assert!(
        refused.message.contains("this stream speaks 1"),
        "{}",
        refused.message
    );
    // The others' sync goes on.
    says(&good, vote("r", 5, "")).await;
    assert!(matches!(agent.told().await, Told::Fact(Input::Vote { peer, .. }) if peer.as_str() == "good"));
}

#[tokio::test]
async fn a_change_is_told_as_commit_to_version_2_and_as_room_update_to_version_1_and_ends_what_was_asked() {
    let mut agent = Agent::start().await;
    let (mut new, mut old) = (gateway(&agent, "new", 2).await, gateway(&agent, "old", 1).await);
    agent.sessions.prepare(&proposal(&["new"], 5));
    let mut told = update("r", State::Liveing);
    told.over = 5;
    agent.sessions.update(&told);
    assert!(matches!(next(&mut new).await, FromAgent::Prepare(_)));
    let FromAgent::Commit(commit) = next(&mut new).await else {
        panic!("not a commit");
    };
    let FromAgent::RoomUpdate(plain) = next(&mut old).await else {
        panic!("not an update");
    };
    assert_eq!((commit.over, commit.update), (5, Some(plain)));
    assert_eq!(agent.view("new").unwrap().prepared, 0);
    let note = v1::CommitAck {
        room: "r".into(),
        epoch: Some(v1::Epoch { era: 1, revision: 7 }),
        version: 4,
    };
    says(&new, FromPeer::CommitAck(note)).await;
    let noted = Input::CommitAcked {
        room: room("r"),
        peer: "new".parse().unwrap(),
        epoch: EPOCH,
        version: Version(4),
    };
    assert_eq!(agent.told().await, Told::Fact(noted));
}

#[tokio::test]
async fn a_trip_ends_what_was_asked_of_its_room() {
    let agent = Agent::start().await;
    let mut peer = gateway(&agent, "gw", 2).await;
    agent.sessions.prepare(&proposal(&["gw"], 5));
    assert_eq!(agent.view("gw").unwrap().prepared, 1);
    agent.sessions.expired(&expired("r")).unwrap();
    assert_eq!(agent.view("gw").unwrap().prepared, 0);
    assert!(matches!(next(&mut peer).await, FromAgent::Prepare(_)));
    assert!(matches!(next(&mut peer).await, FromAgent::StateExpired(_)));
}

#[tokio::test]
async fn a_peer_that_comes_back_says_what_it_knows_and_is_told_alone() {
    let mut agent = Agent::start().await;
    let mut peer = agent
        .call(&[("peer-role", "gateway"), ("peer-id", "gw")], 2)
        .await
        .unwrap();
    let known = |name: &str| v1::KnownRoom {
        room: name.into(),
        epoch: Some(v1::Epoch { era: 1, revision: 6 }),
        incarnation: 1,
        version: 3,
        prepared: true,
    };
    let rooms = |rooms: &[&str]| {
        let rooms = rooms.iter().map(|name| known(name)).collect();
        FromPeer::KnownRooms(v1::KnownRooms { rooms })
    };
    assert_eq!(
        refusal(ask(&mut peer, rooms(&["a", "a"])).await).code,
        "malformed"
    );
    says(&peer, rooms(&["a", "b"])).await;
    let (who, rooms) = agent.known().await;
    let first = Known {
        room: room("a"),
        epoch: Epoch { era: 1, revision: 6 },
        incarnation: Incarnation(1),
        version: Version(3),
        prepared: true,
    };
    assert_eq!((who.as_str(), rooms.len(), &rooms[0]), ("gw", 2, &first));
    assert_eq!(agent.view("gw").unwrap().rooms, 2);
    agent.sessions.tell(&who, &update("a", State::Liveing));
    assert!(matches!(next(&mut peer).await, FromAgent::Commit(_)));
}

#[tokio::test]
async fn of_a_room_that_a_peer_begins_to_serve_it_knows_nothing_and_is_told_once() {
    let mut agent = Agent::start().await;
    let mut media = agent
        .call(&[("peer-role", "media"), ("peer-id", "sfu")], 2)
        .await
        .unwrap();
    for _ in 0..2 {
        says(
            &media,
            FromPeer::MediaHeartbeat(heartbeat(&[("a", &[50_000]), ("b", &[50_002])])),
        )
        .await;
    }
    assert!(matches!(agent.told().await, Told::Fact(Input::Heartbeat(_))));
    let (_, rooms) = agent.known().await;
    let named: Vec<(&str, Version)> = rooms.iter().map(|k| (k.room.as_str(), k.version)).collect();
    assert_eq!(named, [("a", Version(0)), ("b", Version(0))]);
    assert!(matches!(agent.told().await, Told::Fact(Input::Heartbeat(_))));
    ask(
        &mut media,
        FromPeer::ClientEvent(client_event("c", "x", v1::ClientEventKind::Join)),
    )
    .await;
    assert!(matches!(agent.told().await, Told::Client(_)));
    assert_eq!(agent.known().await.1, [Known::nothing(room("c"))]);
}

#[tokio::test]
async fn a_peer_of_version_1_is_told_the_state_of_a_room_when_it_begins_to_serve_it_and_when_it_comes_back() {
    let mut agent = Agent::start().await;
    let mut old = gateway(&agent, "old", 1).await;
    // It named one in the metadata.
    let (peer, rooms) = agent.known().await;
    assert_eq!(
        (peer.as_str(), &rooms[..]),
        ("old", &[Known::nothing(room("r"))][..])
    );
    agent.sessions.tell(&peer, &update("r", State::Liveing));
    assert!(matches!(next(&mut old).await, FromAgent::RoomUpdate(told) if told.room == "r"));
    ask(
        &mut old,
        FromPeer::ClientEvent(client_event("c", "x", v1::ClientEventKind::Join)),
    )
    .await;
    assert!(matches!(agent.told().await, Told::Client(_)));
    assert_eq!(agent.known().await.1, [Known::nothing(room("c"))]);
}
