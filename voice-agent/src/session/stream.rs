//! One peer's stream from Hello to the end: its task and its loop. What the messages mean is in `talk`, what always runs at
//! the end in `cleanup`, who is not let in at all in `refuse`.

mod cleanup;
pub(super) mod refuse;
mod talk;

use crate::{
    driver::{Handle, handle::Stopped},
    proto::v1::{PeerMessage, Welcome, peer_message::Message},
    session::{
        SPOKEN, Sessions,
        hub::{Joined, Left, Newcomer},
        outgoing::{self, Drain},
        peer::PeerInfo,
        translate, wall_now, wire,
    },
    telemetry::Counter,
};
use cleanup::Cleanup;
pub(super) use refuse::stopping;
use std::time::Duration;
use talk::Talk;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use voice_room::Input;

/// A stream that says no Hello for so long is ended.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Starts the task of a new stream. The stream it gives is what gRPC sends to the peer.
pub(super) async fn open<S>(
    sessions: Sessions,
    handle: Handle,
    shutdown: CancellationToken,
    info: PeerInfo,
    inbound: S,
) -> Result<Drain, Status>
where
    S: Stream<Item = Result<PeerMessage, Status>> + Send + Unpin + 'static,
{
    let place = refuse::place(&sessions, &handle, &info).await?;
    let (outgoing, drain) = outgoing::queue();
    let tasks = sessions.0.tasks.clone();
    let mut cleanup = Cleanup {
        info,
        handle,
        outgoing,
        stream: None,
        end: Err(Status::internal("the agent's task for this stream broke off")),
        _place: place,
        sessions,
    };
    tasks.spawn(async move {
        let end = run(&mut cleanup, inbound, shutdown).await;
        cleanup.ended(end);
    });
    Ok(drain)
}

async fn run<S>(cleanup: &mut Cleanup, inbound: S, shutdown: CancellationToken) -> Result<(), Status>
where
    S: Stream<Item = Result<PeerMessage, Status>> + Unpin,
{
    let cut = CancellationToken::new();
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(stopping(Stopped)),
        // Whoever cut it has ended the queue with the reason; the first end counts.
        () = cut.cancelled() => Err(Status::aborted("a newer stream replaced it, or it did not read")),
        end = converse(cleanup, inbound, cut.clone()) => end,
    }
}

async fn converse<S>(cleanup: &mut Cleanup, mut inbound: S, cut: CancellationToken) -> Result<(), Status>
where
    S: Stream<Item = Result<PeerMessage, Status>> + Unpin,
{
    let sessions = cleanup.sessions.clone();
    let (protocol, software) = hello(&mut inbound).await?;
    let welcome = welcome(&sessions, &cleanup.handle, protocol).await?;
    let newcomer = Newcomer {
        info: cleanup.info.clone(),
        software,
        protocol,
        outgoing: cleanup.outgoing.clone(),
        cut,
        welcome,
    };
    let joined = sessions.hub().join(newcomer, sessions.0.limits, wall_now());
    let Some(Joined { stream, replaced }) = joined else {
        return Err(refuse::no_room_for(&sessions, &cleanup.handle, cleanup.info.role).await);
    };
    cleanup.stream = Some(stream);
    // Before anything that this stream says: members it tells of anew stay.
    for input in of_replaced(replaced, &cleanup.info) {
        cleanup.handle.fact(input).await.map_err(stopping)?;
    }
    tracing::info!(peer = %cleanup.info.id, role = %cleanup.info.role, "peer connected");
    Talk::new(
        &sessions,
        &cleanup.handle,
        &cleanup.info,
        &cleanup.outgoing,
        (stream, protocol),
    )
    .run(inbound)
    .await
}

/// The rooms are served on by this stream, or will be said to be.
fn of_replaced(left: Option<Left>, info: &PeerInfo) -> Vec<Input> {
    let Some(left) = left else { return Vec::new() };
    let why = format!("a new stream of {} {} replaced the old one", info.role, info.id);
    let left = Left {
        rooms: Vec::new(),
        ..left
    };
    let mut inputs = vec![Input::PeerGone(info.id.clone())];
    inputs.extend(cleanup::left_behind(&left, &why));
    inputs
}

/// The first message must be a Hello of a protocol that is spoken here. The version that is spoken then, and what it says of
/// the peer's software.
async fn hello<S>(inbound: &mut S) -> Result<(u32, String), Status>
where
    S: Stream<Item = Result<PeerMessage, Status>> + Unpin,
{
    let malformed = |status| {
        Counter::SessionMalformed.count();
        status
    };
    let first = timeout(HELLO_WITHIN, inbound.next())
        .await
        .map_err(|_| Status::deadline_exceeded(format!("no Hello within {} s", HELLO_WITHIN.as_secs())))?;
    let Some(message) = first else {
        return Err(Status::failed_precondition("the stream ended before its Hello"));
    };
    let message = message.inspect_err(|status| {
        count_unreadable(status);
    })?;
    let Some(Message::Hello(hello)) = message.message else {
        return Err(malformed(Status::failed_precondition(
            "the first message must be Hello",
        )));
    };
    if hello.protocol_version < *SPOKEN.start() {
        return Err(malformed(Status::failed_precondition(format!(
            "protocol_version {} is not spoken here: supported are {} to {}",
            hello.protocol_version,
            SPOKEN.start(),
            SPOKEN.end()
        ))));
    }
    let protocol = hello.protocol_version.min(*SPOKEN.end());
    translate::hello(&hello).map_err(|refusal| malformed(Status::invalid_argument(refusal.message)))?;
    let software = format!("{} {}", hello.software, hello.software_version);
    Ok((protocol, software.trim().to_owned()))
}

async fn welcome(sessions: &Sessions, handle: &Handle, protocol: u32) -> Result<Welcome, Status> {
    let isolations = handle.isolations().await.map_err(stopping)?;
    let now = wall_now();
    Ok(Welcome {
        protocol_version: protocol,
        node: sessions.0.node.to_string(),
        epoch: Some(wire::epoch(sessions.0.epoch)),
        isolations: isolations.iter().map(|i| wire::isolation(i, now)).collect(),
        ping_every_ms: millis(sessions.0.ping_every),
        pong_within_ms: millis(sessions.0.pong_within),
    })
}

/// A stream that broke is nobody's mistake; one that could not be decoded, or was too large, is the peer's: then `true`.
fn count_unreadable(status: &Status) -> bool {
    let unreadable = matches!(status.code(), Code::Internal | Code::OutOfRange);
    if unreadable {
        Counter::SessionMalformed.count();
    }
    unreadable
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
