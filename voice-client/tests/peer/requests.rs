//! Requests: their answers, and what becomes of them when the stream breaks.

use super::*;
use voice_client::{NotSent, RequestError};

fn create(room: &str) -> v1::RoomEvent {
    v1::RoomEvent {
        room: room.into(),
        event: v1::EventType::Create.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_request_whose_stream_broke_is_sent_again_with_the_same_op_id_and_answered_once() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent), &mut agent).await;
    let handle = peer.handle();
    let asking = tokio::spawn(async move { handle.room_event(create("r")).await });
    let first = call.request().await;
    call.end(Status::internal("broke"));
    assert_eq!(disconnected(&mut peer).await.unanswered, 1);
    let mut call = agent.call().await;
    call.welcome(2);
    let again = call.request().await;
    assert_eq!(again, first);
    assert!(again.op_id.is_some_and(|id| id.starts_with("peer/")));
    call.accept(again.request_id);
    let accepted = within("the answer", asking).await.unwrap().unwrap();
    assert_eq!(accepted.version, 2);
}

#[tokio::test]
async fn an_op_id_of_the_application_is_kept_and_two_requests_have_different_ones() {
    let mut agent = Agent::start().await;
    let (peer, mut call) = connected(gateway(&agent), &mut agent).await;
    let handle = peer.handle();
    let own = v1::RoomEvent {
        op_id: Some("mine".into()),
        ..create("r")
    };
    for event in [own, create("r"), create("r")] {
        let handle = handle.clone();
        tokio::spawn(async move { handle.room_event(event).await });
    }
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        ids.insert(call.request().await.op_id.unwrap());
    }
    assert!(ids.contains("mine") && ids.len() == 3, "{ids:?}");
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_unknown_and_one_that_was_not_sent_is_not() {
    let mut agent = Agent::start().await;
    let builder = gateway(&agent).request_within(Duration::from_millis(300));
    let (peer, mut call) = connected(builder, &mut agent).await;
    let error = peer.handle().room_event(create("r")).await.unwrap_err();
    let sent = call.request().await;
    assert!(
        matches!(&error, RequestError::Unknown { op_id, .. } if Some(op_id) == sent.op_id.as_ref()),
        "{error}"
    );
    // Never welcomed: nothing can be sent.
    let mut silent = Agent::start().await;
    let peer = gateway(&silent)
        .request_within(Duration::from_millis(300))
        .start()
        .unwrap();
    let error = peer.handle().room_event(create("r")).await.unwrap_err();
    assert!(
        matches!(
            error,
            RequestError::NotSent {
                why: NotSent::NotConnected,
                ..
            }
        ),
        "{error}"
    );
    drop(silent.call().await);
}

#[tokio::test]
async fn a_refusal_comes_with_its_code_its_words_and_when_to_ask_again() {
    let mut agent = Agent::start().await;
    let (peer, mut call) = connected(gateway(&agent), &mut agent).await;
    let handle = peer.handle();
    let asking = tokio::spawn(async move { handle.room_event(create("r")).await });
    let request_id = call.request().await.request_id;
    call.say(FromAgent::EventResult(v1::EventResult {
        request_id,
        result: Some(v1::event_result::Result::Rejected(v1::Refused {
            code: "isolated".into(),
            message: "stuck".into(),
            retry_after_ms: 60_000,
        })),
    }));
    let refused = RequestError::Refused {
        code: "isolated".into(),
        message: "stuck".into(),
        retry_after: Some(Duration::from_secs(60)),
    };
    assert_eq!(within("the answer", asking).await.unwrap().unwrap_err(), refused);
}

#[tokio::test]
async fn what_can_never_be_valid_is_not_sent() {
    let mut agent = Agent::start().await;
    let (peer, mut call) = connected(gateway(&agent), &mut agent).await;
    let error = peer.handle().room_event(create("a b")).await.unwrap_err();
    assert!(error.to_string().contains("A-Z a-z 0-9"), "{error}");
    assert!(call.peek().await.is_none());
}

#[tokio::test]
async fn a_refused_heartbeat_is_told_to_the_application() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    call.say(FromAgent::EventResult(v1::EventResult {
        request_id: 0,
        result: Some(v1::event_result::Result::Rejected(v1::Refused {
            code: "malformed".into(),
            message: "port 1 is outside the media range".into(),
            retry_after_ms: 0,
        })),
    }));
    let Event::Refused { code, message } = next(&mut peer).await else {
        panic!()
    };
    assert_eq!((code.as_str(), message.contains("port 1")), ("malformed", true));
}
