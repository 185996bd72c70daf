//! The life of a stream: Hello, requests, broken and replaced streams, the end.

use super::*;

#[tokio::test]
async fn a_hello_is_answered_with_node_epoch_isolations_and_the_keepalive_times() {
    let agent = Agent::start().await;
    let peer = agent
        .call(
            &[
                ("peer-role", "gateway"),
                ("peer-id", "gw"),
                ("node-tag", "rack-1"),
                ("load-weight", "10"),
                ("room-id", "r1"),
            ],
            1,
        )
        .await
        .unwrap();
    let welcome = peer.welcome();
    assert_eq!((welcome.protocol_version, welcome.node.as_str()), (1, "node-1"));
    assert_eq!(welcome.epoch, Some(v1::Epoch { era: 1, revision: 7 }));
    assert_eq!((welcome.ping_every_ms, welcome.pong_within_ms), (30_000, 15_000));
    assert_eq!(welcome.isolations[0].room, "isolated");
    assert!(welcome.isolations[0].retry_after_ms > 50_000);
    let view = agent.view("gw").unwrap();
    assert_eq!(
        (view.role, view.tag.as_str(), view.weight, view.rooms),
        (Role::Gateway, "rack-1", Some(10), 1)
    );
}

#[tokio::test]
async fn a_protocol_version_that_is_not_spoken_is_refused_and_those_that_are_named() {
    let agent = Agent::start().await;
    let peer = [("peer-role", "gateway"), ("peer-id", "gw")];
    let e = agent.call(&peer, 0).await.unwrap_err();
    assert_eq!(code(&e), Code::FailedPrecondition);
    assert!(e.to_string().contains("supported are 1 to 2"), "{e}");
    assert_eq!(agent.sessions.topology(None), []);
    for (theirs, spoken) in [(1, 1), (2, 2), (3, 2)] {
        let peer = agent.call(&peer, theirs).await.unwrap();
        assert_eq!(peer.welcome().protocol_version, spoken);
    }
}

#[tokio::test]
async fn a_call_with_bad_metadata_is_refused_with_the_key() {
    let agent = Agent::start().await;
    let e = agent
        .call(&[("peer-role", "boss"), ("peer-id", "x")], 1)
        .await
        .unwrap_err();
    assert_eq!(code(&e), Code::InvalidArgument);
    assert!(e.to_string().contains("peer-role"), "{e}");
}

#[tokio::test]
async fn requests_and_facts_reach_the_driver_in_the_order_they_were_sent() {
    let mut agent = Agent::start().await;
    let mut media = agent.peer(Role::Media, "sfu").await;
    let sender = media.sender();
    for n in 0..200 {
        sender.room_event(room_event("r", n)).await.unwrap();
        sender.heartbeat(heartbeat(&[("r", &[50_000])])).await.unwrap();
    }
    for n in 0..200 {
        let told = agent.told().await;
        assert!(matches!(told, Told::Request(_)), "{n}: {told:?}");
        let told = agent.told().await;
        assert!(matches!(told, Told::Fact(Input::Heartbeat(_))), "{n}: {told:?}");
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 200 {
        let FromAgent::EventResult(result) = next(&mut media).await else {
            panic!("not a result");
        };
        assert!(answered.insert(result.request_id), "answered twice");
    }
}

#[tokio::test]
async fn a_refused_message_leaves_the_stream_and_the_other_peers_alone() {
    let mut agent = Agent::start().await;
    let mut bad = agent.peer(Role::Gateway, "bad").await;
    let mut good = agent.peer(Role::Gateway, "good").await;
    let refused = refusal(ask(&mut bad, FromPeer::MediaHeartbeat(heartbeat(&[]))).await);
    assert_eq!(refused.code, "not_allowed");
    let refused = refusal(ask(&mut bad, FromPeer::RoomEvent(room_event("a b", 5))).await);
    assert_eq!(refused.code, "malformed");
    let mut media = agent.peer(Role::Media, "sfu").await;
    let refused = refusal(ask(&mut media, FromPeer::MediaHeartbeat(heartbeat(&[("r", &[1])]))).await);
    assert!(
        refused
            .message
            .contains("port 1 is outside the media range 50000-60000")
    );
    let source = SourceId::new("peer/sfu").unwrap();
    assert_eq!(agent.told().await, Told::Fact(Input::HeartbeatRefused(source)));
    let refused = refusal(ask(&mut media, FromPeer::Hello(v1::Hello::default())).await);
    assert_eq!(refused.code, "malformed");
    assert!(
        agent.told.try_recv().is_err(),
        "nothing else of it reached the driver"
    );
    for peer in [&mut bad, &mut good] {
        let result = ask(peer, FromPeer::RoomEvent(room_event("r", 6))).await;
        assert!(matches!(
            result.result,
            Some(v1::event_result::Result::Accepted(_))
        ));
    }
}

#[tokio::test]
async fn a_ping_of_the_peer_is_answered_with_its_nonce() {
    let agent = Agent::start().await;
    let mut peer = agent.peer(Role::Gateway, "gw").await;
    let ping = v1::Keepalive { kind: 1, nonce: 42 };
    peer.sender().send(FromPeer::Keepalive(ping)).await.unwrap();
    assert_eq!(
        next(&mut peer).await,
        FromAgent::Keepalive(v1::Keepalive { kind: 2, nonce: 42 })
    );
}

#[tokio::test]
async fn a_media_server_whose_connection_breaks_is_a_lost_source_and_leaves_the_topology() {
    let mut agent = Agent::start().await;
    drop(agent.peer(Role::Media, "sfu").await);
    let gone = Input::PeerGone("sfu".parse().unwrap());
    assert_eq!(agent.told().await, Told::Fact(gone));
    let lost = Input::SourceLost(SourceId::new("peer/sfu").unwrap());
    assert_eq!(agent.told().await, Told::Fact(lost));
    assert_eq!(agent.sessions.topology(None), []);
    drop(agent.peer(Role::Gateway, "gw").await);
    eventually("no task is left", || agent.sessions.0.tasks.is_empty()).await;
    let gone = Input::PeerGone("gw".parse().unwrap());
    assert_eq!(agent.told().await, Told::Fact(gone));
    assert!(agent.told.try_recv().is_err(), "a gateway is no source");
}

#[tokio::test]
async fn a_reconnect_replaces_the_old_stream_with_goodbye_and_aborted_and_the_source_is_not_lost() {
    let mut agent = Agent::start().await;
    let mut old = agent.peer(Role::Media, "sfu").await;
    let new = agent.peer(Role::Media, "sfu").await;
    let (goodbye, status) = end_of(&mut old).await;
    assert!(goodbye.unwrap().contains("replaces this one"));
    assert_eq!(status, Some(Code::Aborted));
    eventually("the old task ended", || agent.sessions.0.tasks.len() == 1).await;
    assert_eq!(agent.sessions.topology(None).len(), 1);
    new.sender().heartbeat(heartbeat(&[])).await.unwrap();
    assert!(matches!(agent.told().await, Told::Fact(Input::PeerGone(_))));
    let told = agent.told().await;
    assert!(matches!(told, Told::Fact(Input::Heartbeat(_))), "{told:?}");
}

#[tokio::test]
async fn a_shutdown_says_goodbye_to_everybody_and_ends_every_task() {
    let mut agent = Agent::start().await;
    let mut peer = agent.peer(Role::Gateway, "gw").await;
    agent.stop.cancel();
    let FromAgent::Goodbye(goodbye) = next(&mut peer).await else {
        panic!("not a goodbye");
    };
    assert!(
        goodbye
            .reason
            .starts_with("the agent is shutting down; come again"),
        "{}",
        goodbye.reason
    );
    assert!(
        (1000..=1250).contains(&goodbye.retry_after_ms),
        "{}",
        goodbye.retry_after_ms
    );
    let (_, status) = end_of(&mut peer).await;
    assert_eq!(status, Some(Code::Unavailable));
    drop(peer);
    let served = timeout(PATIENCE, &mut agent.serving).await.unwrap().unwrap();
    assert!(served.is_ok());
    assert!(agent.sessions.0.tasks.is_empty());
}

#[tokio::test]
async fn check_join_answers_reason_and_a_retry_after_that_is_never_zero() {
    let agent = Agent::start().await;
    let free = voice_client::check_join(&agent.url(), &room("free"))
        .await
        .unwrap();
    assert!(free.allowed && free.authoritative && free.retry_after_ms == 0);
    let refused = voice_client::check_join(&agent.url(), &room("isolated"))
        .await
        .unwrap();
    assert_eq!(
        (refused.allowed, refused.reason.as_str(), refused.retry_after_ms),
        (false, "stuck", 1)
    );
    let channel = Endpoint::from_shared(agent.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let bad = v1::CheckJoinRequest { room: "a b".into() };
    let mut client = v1::admission_client::AdmissionClient::new(channel);
    assert_eq!(
        client.check_join(bad).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn health_answers_without_the_driver_and_reflection_lists_what_is_served_here() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let agent = Agent::start().await;
    agent.driver.abort();
    let channel = Endpoint::from_shared(agent.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    for service in ["", "voice.agent.v1.Session", "voice.agent.v1.Admission"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{service:?} is serving");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list");
    };
    let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    names.retain(|name| name.starts_with("voice."));
    names.sort();
    assert_eq!(names, ["voice.agent.v1.Admission", "voice.agent.v1.Session"]);
}
