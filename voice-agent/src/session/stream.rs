//! One peer's stream from Hello to the end: its task, its loop and the cleanup that always runs. What the messages mean
//! is in `talk`.

mod talk;

use crate::{
    driver::{Handle, handle::Stopped},
    proto::v1::{PeerMessage, Welcome, peer_message::Message},
    session::{
        PROTOCOL_VERSION, Role, Sessions,
        hub::{Newcomer, StreamId},
        open::{NoPlace, Place},
        outgoing::{self, Drain, Outgoing},
        peer::PeerInfo,
        translate, wall_now, wire,
    },
    telemetry::Counter,
};
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
    // Twice `max_peers`, so that every peer may reconnect while its old stream is not known to be dead.
    let most = sessions.0.limits.peers.saturating_mul(2);
    let place = match sessions.0.open.take(&info.id, most) {
        Ok(place) => place,
        Err(NoPlace::All) => {
            Counter::SessionTooManyPeers.count();
            return Err(no_room_for(&sessions, &handle, info.role).await);
        }
        Err(NoPlace::OfThisPeer) => return Err(too_many_streams(&handle, info).await),
    };
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
    hello(&mut inbound).await?;
    let welcome = welcome(&sessions, &cleanup.handle).await?;
    let newcomer = Newcomer {
        info: cleanup.info.clone(),
        outgoing: cleanup.outgoing.clone(),
        cut,
        welcome,
    };
    let joined = sessions.hub().join(newcomer, sessions.0.limits, wall_now());
    let Some(stream) = joined else {
        return Err(no_room_for(&sessions, &cleanup.handle, cleanup.info.role).await);
    };
    cleanup.stream = Some(stream);
    tracing::info!(peer = %cleanup.info.id, role = %cleanup.info.role, "peer connected");
    Talk::new(
        &sessions,
        &cleanup.handle,
        &cleanup.info,
        &cleanup.outgoing,
        stream,
    )
    .run(inbound)
    .await
}

/// The first message must be a Hello of our protocol.
async fn hello<S>(inbound: &mut S) -> Result<(), Status>
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
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(malformed(Status::failed_precondition(format!(
            "protocol_version {} is not spoken here: supported is {PROTOCOL_VERSION}",
            hello.protocol_version
        ))));
    }
    translate::hello(&hello).map_err(|refusal| malformed(Status::invalid_argument(refusal.message)))
}

async fn welcome(sessions: &Sessions, handle: &Handle) -> Result<Welcome, Status> {
    let isolations = handle.isolations().await.map_err(stopping)?;
    let now = wall_now();
    Ok(Welcome {
        protocol_version: PROTOCOL_VERSION,
        node: sessions.0.node.to_string(),
        epoch: Some(wire::epoch(sessions.0.epoch)),
        isolations: isolations.iter().map(|i| wire::isolation(i, now)).collect(),
        ping_every_ms: millis(sessions.0.ping_every),
        pong_within_ms: millis(sessions.0.pong_within),
    })
}

/// Refuses a stream for want of room. A media server's absence is then ours, so no room may be judged for it.
async fn no_room_for(sessions: &Sessions, handle: &Handle, role: Role) -> Status {
    if role == Role::Media && handle.fact(Input::MediaRefused).await.is_err() {
        return stopping(Stopped);
    }
    Status::resource_exhausted(format!(
        "session.max_peers ({}) peers are connected already; raise it or use another agent",
        sessions.0.limits.peers
    ))
}

/// Refuses a stream because its peer has too many. It lives, and its rooms are not judged for what it cannot say.
async fn too_many_streams(handle: &Handle, info: PeerInfo) -> Status {
    Counter::SessionTooManyStreams.count();
    if info.role == Role::Media && handle.fact(Input::HeartbeatRefused(info.source)).await.is_err() {
        return stopping(Stopped);
    }
    Status::resource_exhausted(format!(
        "too many streams of peer-id {} are open: one is enough; close the others, or give each process its own peer-id",
        info.id
    ))
}

pub(super) fn stopping(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
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

/// Leaves nothing behind, whatever way the task ends: by return, by panic, by being dropped.
struct Cleanup {
    sessions: Sessions,
    handle: Handle,
    info: PeerInfo,
    outgoing: Outgoing,
    /// Set once the peer joined the topology.
    stream: Option<StreamId>,
    end: Result<(), Status>,
    _place: Place,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, Ok(()));
        let reason = match &end {
            Ok(()) => "the peer closed its side".to_owned(),
            Err(status) => status.message().to_owned(),
        };
        self.outgoing.end(&reason, end.err());
        let Some(stream) = self.stream else { return };
        let gone = self.sessions.hub().leave(&self.info.id, stream);
        tracing::info!(peer = %self.info.id, role = %self.info.role, replaced = !gone, reason, "stream ended");
        if gone && self.info.role == Role::Media {
            self.tell_source_lost();
        }
    }
}

impl Cleanup {
    fn ended(&mut self, end: Result<(), Status>) {
        self.end = end;
    }

    /// The driver's queue may be full, and a drop cannot wait: a task of its own tells. It ends with the driver.
    fn tell_source_lost(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // No runtime: the agent is going down, and the driver with it.
        };
        let (handle, source) = (self.handle.clone(), self.info.source.clone());
        self.sessions.0.tasks.spawn_on(
            async move {
                if handle.fact(Input::SourceLost(source)).await.is_err() {
                    tracing::debug!("a media peer's end was not told: {Stopped}");
                }
            },
            &runtime,
        );
    }
}
