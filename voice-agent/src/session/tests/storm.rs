//! Everybody comes at once: how many are let in, what the others are told, and who does not feel it.

use super::*;
use crate::{session::stream::refuse::RETRY_AFTER, telemetry::Counter};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Status;

const CROWD: usize = 2000;
const RATE: u32 = 200;
const BURST: u32 = 100;

fn gated(rate: u32, burst: u32) -> Sessions {
    let config = SessionConfig {
        admit_per_second: rate,
        admit_burst: burst,
        ..config(4096)
    };
    sessions_of(&config, Tokens::default())
}

fn retry_after(status: &Status) -> Duration {
    let said = status.metadata().get(RETRY_AFTER).unwrap().to_str().unwrap();
    Duration::from_millis(said.parse().unwrap())
}

/// Comes until it is let in: the stream, when that was, and how often it was sent away.
async fn comes(channel: tonic::transport::Channel, id: String) -> (PeerClient, Instant, u32) {
    let mut metadata = MetadataMap::new();
    metadata.insert("peer-role", "gateway".parse().unwrap());
    metadata.insert("peer-id", id.parse().unwrap());
    let hello = v1::Hello {
        protocol_version: 1,
        ..Default::default()
    };
    let mut sent_away = 0;
    loop {
        match PeerClient::open(channel.clone(), metadata.clone(), hello.clone()).await {
            Ok(peer) => return (peer, Instant::now(), sent_away),
            Err(ClientError::Status(status)) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                let wait = retry_after(&status);
                assert!(wait >= Duration::from_millis(1) && wait <= Duration::from_secs(60));
                sent_away += 1;
                sleep(wait).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_peers_that_come_at_once_are_let_in_at_the_rate_and_media_servers_do_not_feel_it() {
    let mut agent = Agent::with(gated(RATE, BURST)).await;
    let before = Counter::SessionTooManyAtOnce.value();
    let media = agent.peer(Role::Media, "sfu").await;
    let enough = CancellationToken::new();
    let beating = {
        let (sender, enough) = (media.sender(), enough.clone());
        tokio::spawn(async move {
            let mut beats = 0;
            while !enough.is_cancelled() {
                let beat = heartbeat(&[("r", &[50_000])]);
                sender.heartbeat(beat).await.unwrap();
                beats += 1;
                sleep(Duration::from_millis(20)).await;
            }
            beats
        })
    };
    let start = Instant::now();
    let mut crowd = JoinSet::new();
    for n in 0..CROWD / 50 {
        let channel = Endpoint::from_shared(agent.url())
            .unwrap()
            .connect()
            .await
            .unwrap();
        for m in 0..50 {
            crowd.spawn(comes(channel.clone(), format!("gw-{n}-{m}")));
        }
    }
    // One that comes into the middle of it is let in at its first try.
    let _late = agent.peer(Role::Media, "sfu-2").await;
    let mut inside = timeout(PATIENCE * 3, crowd.join_all()).await.unwrap();
    inside.sort_by_key(|(_, at, _)| *at);
    for (n, (_, at, _)) in inside.iter().enumerate() {
        let most = f64::from(BURST) + (*at - start).as_secs_f64() * f64::from(RATE);
        assert!(n as f64 <= most, "{n} were let in after {:?}", *at - start);
    }
    let sent_away: u32 = inside.iter().map(|(.., sent_away)| sent_away).sum();
    // None only on a machine too busy for a storm.
    assert!(Counter::SessionTooManyAtOnce.value() >= before + u64::from(sent_away));
    let [(_, gateways), _, (_, servers)] = agent.sessions.by_role();
    assert_eq!((gateways, servers), (CROWD, 2));
    enough.cancel();
    let beats: usize = timeout(PATIENCE, beating).await.unwrap().unwrap();
    assert!(beats > 0);
    // Every one was heard.
    for _ in 0..beats {
        while !matches!(agent.told().await, Told::Fact(Input::Heartbeat(_))) {}
    }
    drop(media);
    drop(inside);
    eventually("all are gone", || agent.sessions.hub().counts().0 == 1).await;
}

#[tokio::test]
async fn a_media_server_that_is_sent_away_is_our_limit_and_no_room_is_judged_for_it() {
    let mut agent = Agent::with(gated(1, 1)).await;
    let _first = agent.peer(Role::Media, "sfu-1").await;
    let ClientError::Status(status) = agent.try_peer(Role::Media, "sfu-2").await.unwrap_err() else {
        panic!("not a status");
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("session.admit_per_second"), "{status}");
    assert!(retry_after(&status) <= Duration::from_millis(1250));
    assert_eq!(agent.told().await, Told::Fact(Input::MediaRefused));
}
