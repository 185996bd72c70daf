//! Streams that come and go.

use super::*;
use std::time::Instant;

#[tokio::test]
async fn a_peer_says_who_it_is_and_which_rooms_it_serves() {
    let mut agent = Agent::start().await;
    let builder = gateway(&agent)
        .node_tag("rack-7")
        .weight(10)
        .room("r1")
        .room("r2");
    let _peer = builder.software("gw", "1.2").start().unwrap();
    let call = agent.call().await;
    let said = |key: &str| -> Vec<String> {
        let values = call.metadata.get_all(key).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (said("peer-role"), said("peer-id")),
        (vec!["gateway".into()], vec!["gw".into()])
    );
    assert_eq!(
        (said("node-tag"), said("load-weight"), said("room-id")),
        (
            vec!["rack-7".into()],
            vec!["10".into()],
            vec!["r1".to_owned(), "r2".into()]
        )
    );
    assert_eq!(
        (call.hello.protocol_version, call.hello.software.as_str()),
        (2, "gw")
    );
}

#[tokio::test]
async fn a_broken_stream_is_told_and_opened_again_after_a_backoff() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    assert!(peer.handle().is_connected());
    call.end(Status::internal("broke"));
    let end = disconnected(&mut peer).await;
    assert!(
        matches!(
            end.why,
            Why::Status {
                code: Code::Internal,
                ..
            }
        ),
        "{:?}",
        end.why
    );
    let wait = end.again_in.unwrap();
    assert!(
        (Duration::from_millis(250)..=Duration::from_millis(500)).contains(&wait),
        "{wait:?}"
    );
    assert!(!peer.handle().is_connected());
    agent.call().await.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
}

#[tokio::test]
async fn a_peer_comes_back_no_sooner_than_the_agent_asks_by_goodbye_or_by_status() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    call.say(FromAgent::Goodbye(v1::Goodbye {
        reason: "shutting down".into(),
        retry_after_ms: 1500,
    }));
    call.end(Status::unavailable("shutting down"));
    let start = Instant::now();
    let end = disconnected(&mut peer).await;
    assert!(
        end.again_in.unwrap() >= Duration::from_millis(1500),
        "{:?}",
        end.again_in
    );
    let call = agent.call().await;
    assert!(
        start.elapsed() >= Duration::from_millis(1400),
        "{:?}",
        start.elapsed()
    );
    let mut status = Status::unavailable("too many at once");
    status
        .metadata_mut()
        .insert("retry-after-ms", "2500".parse().unwrap());
    call.end(status);
    let end = disconnected(&mut peer).await;
    assert!(
        end.again_in.unwrap() >= Duration::from_millis(2500),
        "{:?}",
        end.again_in
    );
}

#[tokio::test]
async fn a_replaced_peer_does_not_come_back_and_says_why() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    call.end(Status::aborted("replaced"));
    let end = disconnected(&mut peer).await;
    assert_eq!((end.why, end.again_in), (Why::Replaced, None));
    assert!(within("the end", peer.next()).await.is_none());
    let handle = peer.handle();
    let asked = handle.room_event(v1::RoomEvent {
        room: "r".into(),
        ..Default::default()
    });
    assert_eq!(asked.await.unwrap_err(), voice_client::RequestError::Ended);
}

#[tokio::test]
async fn what_is_wrong_with_the_metadata_is_not_tried_for_ever() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).start().unwrap();
    agent
        .call()
        .await
        .end(Status::invalid_argument("metadata peer-id: taken"));
    let end = disconnected(&mut peer).await;
    assert!(end.why.to_string().contains("peer-id: taken"), "{}", end.why);
    assert_eq!(end.again_in, None);
}

#[tokio::test]
async fn a_half_open_stream_is_found_by_pings_that_nobody_answers() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).start().unwrap();
    let mut call = agent.call().await;
    call.ping_every_ms = 200;
    call.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    for nonce in [1, 2] {
        let ping = v1::Keepalive { kind: 1, nonce };
        assert_eq!(call.hear().await, FromPeer::Keepalive(ping));
    }
    assert_eq!(disconnected(&mut peer).await.why, Why::Silent);
    agent.call().await.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
}

#[tokio::test]
async fn any_frame_of_the_agent_counts_as_life_and_its_pings_are_answered() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).start().unwrap();
    let mut call = agent.call().await;
    call.ping_every_ms = 1000;
    call.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    // Its own pings are never answered; ours are life enough.
    let mut pongs = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        call.say(FromAgent::Keepalive(v1::Keepalive { kind: 1, nonce: 99 }));
        loop {
            if call.hear().await == FromPeer::Keepalive(v1::Keepalive { kind: 2, nonce: 99 }) {
                pongs += 1;
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(pongs > 1 && peer.handle().is_connected());
}

#[tokio::test]
async fn an_agent_of_version_1_is_spoken_to_in_version_1() {
    let mut agent = Agent::speaking(1).await;
    let mut peer = gateway(&agent).room("r").start().unwrap();
    let mut call = agent.call().await;
    assert_eq!(call.hello.protocol_version, 1);
    call.welcome(1);
    let Event::Connected(connected) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(
        (connected.protocol_version, connected.node.as_str()),
        (1, "node-1")
    );
    assert!(call.peek().await.is_none(), "no word of version 2");
    call.say(FromAgent::RoomUpdate(update("r", v1::RoomState::Liveing, 2, 7)));
    assert!(matches!(next(&mut peer).await, Event::Changed(_)));
    assert!(call.peek().await.is_none(), "no COMMIT_ACK");
}

#[tokio::test]
async fn a_peer_of_version_1_speaks_it_to_an_agent_of_version_2() {
    let mut agent = Agent::start().await;
    let mut peer = gateway(&agent).protocol_version(1).room("r").start().unwrap();
    let mut call = agent.call().await;
    assert_eq!(call.hello.protocol_version, 1);
    call.welcome(1);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    assert!(call.peek().await.is_none());
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_cannot_be_reached() {
    let mut agent = Agent::start().await;
    let nobody = Peer::builder(Role::Gateway, "gw").endpoint("http://127.0.0.1:1");
    let mut peer = nobody.endpoint(agent.url()).start().unwrap();
    let end = disconnected(&mut peer).await;
    assert!(matches!(end.why, Why::Unreachable { .. }), "{:?}", end.why);
    agent.call().await.welcome(2);
    let Event::Connected(connected) = next(&mut peer).await else {
        panic!()
    };
    assert_eq!(connected.endpoint, agent.url());
}

#[tokio::test]
async fn a_dropped_peer_hangs_up_and_leaves_no_task_behind() {
    let mut agent = Agent::start().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (peer, mut call) = connected(gateway(&agent), &mut agent).await;
    let handle = peer.handle();
    drop(peer);
    while call.try_hear().await.is_some() {}
    drop(call);
    within("its tasks end", async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!handle.is_connected());
}

#[tokio::test]
async fn an_application_that_takes_no_events_is_not_buffered_for_ever_and_loses_nothing() {
    let mut agent = Agent::start().await;
    let (mut peer, call) = connected(gateway(&agent), &mut agent).await;
    for n in 0..5000 {
        call.say(commit(&format!("r{n}"), v1::RoomState::Liveing, 2, 7));
    }
    let mut last = None;
    for n in 0..5000 {
        match next(&mut peer).await {
            Event::Changed(update) => {
                assert_eq!(update.room.as_str(), format!("r{n}"));
                last = Some(update.room);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last.unwrap().as_str(), "r4999");
}

#[tokio::test]
async fn a_stream_whose_events_nobody_takes_is_given_up_and_opened_again_once_they_are_taken() {
    let mut agent = Agent::start().await;
    let (mut peer, mut call) = connected(gateway(&agent), &mut agent).await;
    for n in 0..3000 {
        call.say(commit(&format!("r{n}"), v1::RoomState::Liveing, 2, 7));
    }
    while call.try_hear().await.is_some() {}
    let end = loop {
        match next(&mut peer).await {
            Event::Disconnected(end) => break end,
            Event::Changed(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(end.why, Why::SlowApplication(_)), "{:?}", end.why);
    agent.call().await.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
}
