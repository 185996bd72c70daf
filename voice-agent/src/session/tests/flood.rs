//! Peers that say too much: what they are told, and that others do not feel it.

use super::{
    quiet::{Quiet, open_at},
    *,
};
use crate::telemetry::Counter;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

fn slow(events_per_second: u32, event_burst: u32) -> Sessions {
    let config = SessionConfig {
        events_per_second,
        event_burst,
        ..config(10)
    };
    sessions_of(&config, Tokens::default())
}

/// A stream of a media server on a paused clock, and what reaches the driver.
async fn media(sessions: Sessions) -> (Quiet, mpsc::UnboundedReceiver<Told>, AbortOnDropHandle<()>) {
    let (handle, queue) = Handle::new(64);
    let (tell, told) = mpsc::unbounded_channel();
    let driver = AbortOnDropHandle::new(tokio::spawn(drive(queue, tell)));
    let mut quiet = open_at(sessions, "media", handle).await;
    quiet.hello().await;
    (quiet, told, driver)
}

async fn answer(quiet: &mut Quiet) -> v1::EventResult {
    match quiet.next().await {
        Ok(FromAgent::EventResult(result)) => result,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn more_events_than_allowed_are_refused_with_the_time_to_wait_and_taken_after_it() {
    let (mut quiet, mut told, _driver) = media(slow(10, 6)).await;
    let before = Counter::SessionTooFast.value();
    let mut wait = 0;
    for n in 0..8 {
        quiet.say(FromPeer::RoomEvent(room_event("r", n))).await;
        let result = answer(&mut quiet).await;
        assert_eq!(result.request_id, n);
        if n < 6 {
            assert!(matches!(told.recv().await, Some(Told::Request(_))));
            continue;
        }
        let refused = refusal(result);
        assert_eq!(refused.code, "limit");
        assert!(
            refused.message.contains("session.events_per_second (10)"),
            "{}",
            refused.message
        );
        wait = refused.retry_after_ms;
    }
    assert!((100..=102).contains(&wait), "{wait}");
    assert!(Counter::SessionTooFast.value() >= before + 2);
    assert!(
        told.try_recv().is_err(),
        "what was refused did not reach the driver"
    );
    sleep(Duration::from_millis(wait)).await;
    quiet.say(FromPeer::RoomEvent(room_event("r", 9))).await;
    let result = answer(&mut quiet).await.result;
    assert!(matches!(result, Some(v1::event_result::Result::Accepted(_))));
}

#[tokio::test(start_paused = true)]
async fn a_refused_heartbeat_is_told_to_the_driver_as_a_sign_of_life_but_a_flood_of_them_only_now_and_then() {
    let (mut quiet, mut told, _driver) = media(slow(10, 5)).await;
    let start = Instant::now();
    let five = [("a", &[][..]), ("b", &[]), ("c", &[]), ("d", &[]), ("e", &[])];
    quiet.say(FromPeer::MediaHeartbeat(heartbeat(&five))).await;
    assert!(matches!(told.recv().await, Some(Told::Fact(Input::Heartbeat(_)))));
    let refused = Told::Fact(Input::HeartbeatRefused(SourceId::new("peer/gw").unwrap()));
    let mut signs = 0;
    while start.elapsed() < Duration::from_secs(1) {
        quiet
            .say(FromPeer::MediaHeartbeat(heartbeat(&[("a", &[1])])))
            .await;
        quiet.say(FromPeer::MediaHeartbeat(heartbeat(&five))).await;
        for _ in 0..2 {
            let code = refusal(answer(&mut quiet).await).code;
            assert!(code == "limit" || code == "malformed", "{code}");
        }
        while let Ok(one) = told.try_recv() {
            assert_eq!(one, refused);
            signs += 1;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!((5..=11).contains(&signs), "{signs}");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_comes_too_fast_is_refused_and_the_stream_lives() {
    let (mut quiet, _told, _driver) = media(slow(10, 1)).await;
    let ping = |nonce| FromPeer::Keepalive(v1::Keepalive { kind: 1, nonce });
    quiet.say(ping(1)).await;
    assert!(matches!(quiet.next().await, Ok(FromAgent::Keepalive(_))));
    quiet.say(ping(2)).await;
    assert_eq!(refusal(answer(&mut quiet).await).code, "limit");
    sleep(Duration::from_millis(101)).await;
    quiet.say(ping(3)).await;
    assert!(matches!(quiet.next().await, Ok(FromAgent::Keepalive(beat)) if beat.nonce == 3));
}

#[tokio::test]
async fn one_peer_may_serve_so_many_rooms_and_no_more_and_those_it_has_go_on() {
    let config = SessionConfig {
        max_rooms: 64,
        ..config(10)
    };
    let mut agent = Agent::with(sessions_of(&config, Tokens::default())).await;
    let mut media = agent.peer(Role::Media, "sfu").await;
    let names: Vec<String> = (0..65).map(|n| format!("r{n}")).collect();
    let rooms: Vec<(&str, &[u32])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let refused = refusal(ask(&mut media, FromPeer::MediaHeartbeat(heartbeat(&rooms))).await);
    assert_eq!(refused.code, "limit");
    assert!(refused.message.contains("at most 64"), "{}", refused.message);
    assert!(matches!(
        agent.told().await,
        Told::Fact(Input::HeartbeatRefused(_))
    ));
    media.sender().heartbeat(heartbeat(&rooms[..64])).await.unwrap();
    assert!(matches!(agent.told().await, Told::Fact(Input::Heartbeat(beat)) if beat.rooms.len() == 64));
    let refused = refusal(ask(&mut media, FromPeer::RoomEvent(room_event("r64", 1))).await);
    assert!(
        refused.message.contains("session.max_rooms"),
        "{}",
        refused.message
    );
    let known = ask(&mut media, FromPeer::RoomEvent(room_event("r0", 2))).await;
    assert!(matches!(
        known.result,
        Some(v1::event_result::Result::Accepted(_))
    ));
}

#[tokio::test]
async fn the_streams_of_one_peer_id_that_say_no_hello_take_nobodys_place() {
    let mut agent = Agent::with_max_peers(100).await;
    let channel = Endpoint::from_shared(agent.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let before = Counter::SessionTooManyStreams.value();
    let mut open = Vec::new();
    for n in 0..17 {
        let (keep_open, says) = mpsc::channel::<v1::PeerMessage>(1);
        let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(says));
        call.metadata_mut().insert("peer-role", "media".parse().unwrap());
        call.metadata_mut().insert("peer-id", "sfu".parse().unwrap());
        let mut client = v1::session_client::SessionClient::new(channel.clone());
        let answer = client.stream(call).await;
        assert_eq!(answer.is_ok(), n < 16, "{n}");
        open.push((keep_open, answer));
    }
    let (_, last) = open.pop().unwrap();
    let status = last.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("peer-id sfu"), "{}", status.message());
    assert!(Counter::SessionTooManyStreams.value() > before);
    assert!(matches!(
        agent.told().await,
        Told::Fact(Input::HeartbeatRefused(_))
    ));
    let _other = agent.peer(Role::Gateway, "gw").await;
    drop(open);
    eventually("its places are free again", || agent.sessions.0.open.all() == 1).await;
    let _again = agent.peer(Role::Media, "sfu").await;
}

#[tokio::test]
async fn ten_thousand_rooms_on_one_stream_are_taken_and_other_peers_are_heard_meanwhile() {
    let mut agent = Agent::start().await;
    let mut huge = agent.peer(Role::Media, "huge").await;
    let mut healthy = agent.peer(Role::Media, "healthy").await;
    let names: Vec<String> = (0..10_000).map(|n| format!("r{n}")).collect();
    let port = [50_000];
    let rooms: Vec<(&str, &[u32])> = names.iter().map(|name| (name.as_str(), &port[..])).collect();
    let beat = heartbeat(&rooms);
    let sender = huge.sender();
    let flood = tokio::spawn(async move {
        sender.heartbeat(beat).await.unwrap();
        for (n, name) in (0..).zip(names) {
            sender.room_event(room_event(&name, n)).await.unwrap();
        }
    });
    let read = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut answered = vec![false; 10_000];
        for _ in 0..10_000 {
            let FromAgent::EventResult(result) = next(&mut huge).await else {
                panic!("not a result");
            };
            let at = usize::try_from(result.request_id).unwrap();
            assert!(!std::mem::replace(&mut answered[at], true), "{at} answered twice");
            if let Some(v1::event_result::Result::Rejected(refused)) = result.result {
                // On a machine so busy that no answer came for a second.
                assert_eq!(refused.code, "limit");
            }
        }
        huge
    }));
    let mut beats = 0;
    while !flood.is_finished() {
        healthy
            .sender()
            .heartbeat(heartbeat(&[("h", &port)]))
            .await
            .unwrap();
        let result = ask(&mut healthy, FromPeer::RoomEvent(room_event("h", beats))).await;
        assert!(matches!(
            result.result,
            Some(v1::event_result::Result::Accepted(_))
        ));
        beats += 1;
    }
    flood.await.unwrap();
    let _huge = timeout(PATIENCE * 3, read).await.unwrap().unwrap();
    let (mut listed, mut heard) = (0, 0);
    while heard < beats {
        match agent.told().await {
            Told::Fact(Input::Heartbeat(beat)) if beat.source.as_str() == "peer/healthy" => heard += 1,
            Told::Fact(Input::Heartbeat(beat)) => listed += beat.rooms.len(),
            _ => {}
        }
    }
    assert_eq!(listed, 10_000);
    assert_eq!(agent.view("huge").unwrap().rooms, 10_000);
}
