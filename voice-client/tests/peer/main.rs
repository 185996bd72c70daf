//! A peer against an agent that the test plays: every message, every end of a stream, on loopback TCP. What the real agent
//! does with a peer is tested in `voice-agent` and `tests`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's own mistakes may panic"
)]

mod agent;
mod reconnect;
mod requests;
mod rooms;
mod sync;
mod tiers;

use agent::{Agent, Call};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};
use voice_client::{
    Event, Peer, Role, Why,
    proto::v1::{self, agent_message::Message as FromAgent, peer_message::Message as FromPeer},
};

/// Nothing that is expected takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

fn gateway(agent: &Agent) -> voice_client::Builder {
    Peer::builder(Role::Gateway, "gw").endpoint(agent.url())
}

/// A started peer and its first stream, welcomed in version 2, with its first event taken.
async fn connected(builder: voice_client::Builder, agent: &mut Agent) -> (Peer, Call) {
    let mut peer = builder.start().unwrap();
    let mut call = agent.call().await;
    call.welcome(2);
    assert!(matches!(next(&mut peer).await, Event::Connected(_)));
    // The rooms it serves come first, in version 2.
    if call.metadata.contains_key("room-id") {
        assert!(matches!(call.hear().await, FromPeer::KnownRooms(_)));
    }
    (peer, call)
}

async fn next(peer: &mut Peer) -> Event {
    within("an event", peer.next()).await.expect("the peer has ended")
}

/// The next event that is not about health.
async fn disconnected(peer: &mut Peer) -> voice_client::Disconnected {
    loop {
        match next(peer).await {
            Event::Disconnected(end) => return end,
            Event::Health { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn epoch(revision: u64) -> v1::Epoch {
    v1::Epoch { era: 1, revision }
}

fn update(room: &str, state: v1::RoomState, version: u64, revision: u64) -> v1::RoomUpdate {
    v1::RoomUpdate {
        room: room.into(),
        state: state.into(),
        version,
        epoch: Some(epoch(revision)),
        incarnation: 1,
        reason: "said so".into(),
        trace_id: String::new(),
    }
}

fn commit(room: &str, state: v1::RoomState, version: u64, revision: u64) -> FromAgent {
    FromAgent::Commit(v1::Commit {
        update: Some(update(room, state, version, revision)),
        over: 0,
    })
}

fn expired(room: &str, version: u64, revision: u64) -> v1::StateExpired {
    v1::StateExpired {
        room: room.into(),
        reason: "stuck for 90 s".into(),
        version,
        epoch: Some(epoch(revision)),
        incarnation: 1,
        isolated_until_ms: 1, // Long ago: a clock that is off must not matter.
        retry_after_ms: 300_000,
    }
}
