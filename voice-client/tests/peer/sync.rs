//! Three-phase sync, as a participant sees it.

use super::*;
use voice_room::RoomId;

fn prepare(room: &str, version: u64, attempt: u64) -> v1::Prepare {
    v1::Prepare {
        room: room.into(),
        incarnation: 1,
        event: v1::EventType::HostDisconnect.into(),
        state: v1::RoomState::GraceClosing.into(),
        version,
        epoch: Some(epoch(7)),
        attempt,
        answer_within_ms: 10_000,
        reason: "the host is gone".into(),
        trace_id: String::new(),
    }
}

fn rollback(room: &str, attempt: u64) -> FromAgent {
    FromAgent::Rollback(v1::Rollback {
        room: room.into(),
        epoch: Some(epoch(7)),
        attempt,
        reason: "another refused".into(),
    })
}

async fn vote(call: &mut Call) -> v1::PrepareAck {
    match call.hear().await {
        FromPeer::PrepareAck(ack) => ack,
        other => panic!("{other:?}"),
    }
}

fn agreed(attempt: u64) -> v1::PrepareAck {
    v1::PrepareAck {
        room: "r".into(),
        epoch: Some(epoch(7)),
        attempt,
        refused: String::new(),
    }
}

/// A peer whose application decides, with room `r` live at version 5.
async fn deciding(agent: &mut Agent) -> (Peer, Call) {
    let (mut peer, mut call) = connected(gateway(agent).room("r").decides(), agent).await;
    call.say(commit("r", v1::RoomState::Liveing, 5, 7));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(_)));
    (peer, call)
}

async fn question(peer: &mut Peer) -> voice_client::Prepare {
    match next(peer).await {
        Event::Prepare(prepare) => prepare,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_prepare_that_the_application_agrees_to_is_committed_acknowledged_and_told() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    let asked = question(&mut peer).await;
    assert_eq!(asked.proposal().version.0, 6);
    assert!(call.peek().await.is_none(), "nothing is said for it");
    asked.agree();
    assert_eq!(vote(&mut call).await, agreed(1));
    // The agent's word was lost: asked again, it answers the same without asking twice.
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    assert_eq!(vote(&mut call).await, agreed(1));
    call.say(commit("r", v1::RoomState::GraceClosing, 6, 7));
    let Event::Changed(changed) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(changed.version.0, 6);
    assert!(
        matches!(call.hear().await, FromPeer::CommitAck(ack) if (ack.version, ack.room.as_str()) == (6, "r"))
    );
}

#[tokio::test]
async fn without_deciding_a_peer_agrees_at_once_and_is_told_of_the_commit_only() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent), &mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    assert_eq!(vote(&mut call).await, agreed(1));
    call.say(commit("r", v1::RoomState::GraceClosing, 6, 7));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
}

#[tokio::test]
async fn an_application_may_refuse_with_its_reason_and_one_that_says_nothing_refuses_too() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    question(&mut peer).await.refuse(&"é".repeat(1000));
    let ack = vote(&mut call).await;
    assert_eq!((ack.attempt, ack.refused.len()), (1, 256));
    call.say(FromAgent::Prepare(prepare("r", 6, 2)));
    drop(question(&mut peer).await);
    let ack = vote(&mut call).await;
    assert_eq!(
        (ack.attempt, ack.refused.as_str()),
        (2, "the application gave no answer")
    );
    let mut late = prepare("r", 6, 3);
    late.answer_within_ms = 500;
    call.say(FromAgent::Prepare(late));
    let asked = question(&mut peer).await;
    let ack = vote(&mut call).await;
    assert_eq!(
        (ack.attempt, ack.refused.as_str()),
        (3, "the application did not answer in time")
    );
    asked.agree();
    assert!(call.peek().await.is_none(), "too late");
    // None of it changed anything.
    assert_eq!(
        peer.handle()
            .committed(&RoomId::new("r").unwrap())
            .unwrap()
            .version
            .0,
        5
    );
}

#[tokio::test]
async fn a_question_that_is_later_than_a_state_told_after_it_stays_and_one_that_is_not_is_void() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    // A new owner asks, and then answers what the peer said that it knows.
    let by_another = |attempt| v1::Prepare {
        epoch: Some(epoch(8)),
        ..prepare("r", 6, attempt)
    };
    call.say(FromAgent::Prepare(by_another(3)));
    let asked = question(&mut peer).await;
    call.say(commit("r", v1::RoomState::Liveing, 5, 8));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(_)));
    asked.agree();
    let ack = vote(&mut call).await;
    assert_eq!((ack.attempt, ack.refused.as_str()), (3, ""));
    call.say(FromAgent::Prepare(by_another(4)));
    let asked = question(&mut peer).await;
    call.say(commit("r", v1::RoomState::GraceClosing, 6, 8));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(_)));
    asked.agree();
    assert!(call.peek().await.is_none(), "nobody waits for its answer");
}

#[tokio::test]
async fn a_rollback_voids_what_was_agreed_to_and_a_later_attempt_is_asked_about_anew() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    question(&mut peer).await.agree();
    assert_eq!(vote(&mut call).await, agreed(1));
    call.say(rollback("r", 1));
    let Event::RolledBack { reason, .. } = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(reason, "another refused");
    // The attempt is over: late words of it are refused without a question.
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    assert!(vote(&mut call).await.refused.contains("is over"));
    call.say(FromAgent::Prepare(prepare("r", 6, 2)));
    let asked = question(&mut peer).await;
    // Rolled back while the application thinks.
    call.say(rollback("r", 2));
    assert!(matches!(next(&mut peer).await, Event::RolledBack { .. }));
    asked.agree();
    assert!(call.peek().await.is_none());
}

#[tokio::test]
async fn a_trip_in_the_middle_voids_the_prepare_and_refuses_a_new_one() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    let asked = question(&mut peer).await;
    call.say(FromAgent::StateExpired(expired("r", 6, 7)));
    assert!(matches!(next(&mut peer).await, Event::Expired(_)));
    asked.agree();
    assert!(call.peek().await.is_none());
    call.say(FromAgent::Prepare(prepare("r", 7, 2)));
    assert!(vote(&mut call).await.refused.contains("isolated"));
}

#[tokio::test]
async fn an_old_epoch_asks_and_commits_in_vain() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    let mut old = prepare("r", 6, 9);
    old.epoch = Some(epoch(6));
    call.say(FromAgent::Prepare(old));
    let ack = vote(&mut call).await;
    assert!(ack.refused.contains("below"), "{}", ack.refused);
    call.say(FromAgent::Prepare(prepare("r", 5, 1)));
    assert!(vote(&mut call).await.refused.contains("not above"));
    call.say(commit("r", v1::RoomState::Destroyed, 6, 6));
    call.say(FromAgent::Prepare(prepare("r", 6, 2)));
    question(&mut peer).await.agree();
    assert_eq!(vote(&mut call).await, agreed(2));
}

#[tokio::test]
async fn what_was_agreed_to_stays_so_over_a_broken_stream_until_the_next_one_tells_its_end() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    question(&mut peer).await.agree();
    assert_eq!(vote(&mut call).await, agreed(1));
    call.end(Status::internal("broke"));
    let end = disconnected(&mut peer).await;
    assert_eq!(end.prepared, [RoomId::new("r").unwrap()]);
    let mut call = agent.call().await;
    call.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    let FromPeer::KnownRooms(known) = call.hear().await else {
        panic!()
    };
    assert_eq!((known.rooms[0].version, known.rooms[0].prepared), (5, true));
    // The same version once more, and that the attempt is over: it was not done.
    call.say(FromAgent::Commit(v1::Commit {
        update: Some(update("r", v1::RoomState::Liveing, 5, 7)),
        over: 1,
    }));
    assert!(matches!(call.hear().await, FromPeer::CommitAck(_)));
    call.end(Status::internal("broke"));
    assert_eq!(disconnected(&mut peer).await.prepared, []);
}

#[tokio::test]
async fn what_cannot_be_understood_is_ignored_and_the_stream_goes_on() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = deciding(&mut agent).await;
    let mut bad = prepare("a b", 6, 1);
    call.say(FromAgent::Prepare(bad.clone()));
    bad.room = "r".into();
    bad.event = 99;
    call.say(FromAgent::Prepare(bad));
    call.say(FromAgent::Commit(v1::Commit::default()));
    call.say(FromAgent::RoomUpdate(v1::RoomUpdate::default()));
    call.say(FromAgent::Prepare(prepare("r", 6, 1)));
    question(&mut peer).await.agree();
    assert_eq!(vote(&mut call).await, agreed(1));
}
