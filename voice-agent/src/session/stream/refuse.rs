//! Streams that are not let in: what their peer is told, and what that means for the rooms of a media server.

use super::millis;
use crate::{
    driver::{Handle, handle::Stopped},
    session::{
        Role, Sessions,
        gate::jittered,
        open::{NoPlace, Place},
        peer::PeerInfo,
    },
    telemetry::Counter,
};
use std::time::Duration;
use tonic::{Status, metadata::MetadataValue};
use voice_room::Input;

/// In the metadata of a refusal: when to come again, in milliseconds.
pub(in crate::session) const RETRY_AFTER: &str = "retry-after-ms";
/// About how long a restart takes.
const RESTART: Duration = Duration::from_secs(1);

/// A place for a new stream, or its refusal.
pub(super) async fn place(sessions: &Sessions, handle: &Handle, info: &PeerInfo) -> Result<Place, Status> {
    // First, so that one that has no place counts among those that come.
    if let Err(wait) = sessions.0.gate.pass(info.role) {
        Counter::SessionTooManyAtOnce.count();
        return Err(too_many_at_once(handle, info.role, wait).await);
    }
    not_now(sessions, info)?;
    // Twice `max_peers`, so that every peer may reconnect while its old stream is not known to be dead.
    let most = sessions.0.limits.peers.saturating_mul(2);
    match sessions.0.open.take(&info.id, most) {
        Ok(place) => Ok(place),
        Err(NoPlace::All) => {
            Counter::SessionTooManyPeers.count();
            Err(no_room_for(sessions, handle, info.role).await)
        }
        Err(NoPlace::OfThisPeer) => Err(too_many_streams(handle, info).await),
    }
}

/// Refuses a stream for want of room.
pub(super) async fn no_room_for(sessions: &Sessions, handle: &Handle, role: Role) -> Status {
    let refusal = Status::resource_exhausted(format!(
        "session.max_peers ({}) peers are connected already; raise it or use another agent",
        sessions.0.limits.peers
    ));
    ours(handle, role, refusal).await
}

/// While what is shared is Broken, nobody new is let in (DESIGN 6). Who was here lately is not new, and must hear of trips; a
/// media server is never kept out, as its rooms would be judged for it.
fn not_now(sessions: &Sessions, info: &PeerInfo) -> Result<(), Status> {
    if info.role == Role::Media {
        return Ok(());
    }
    let Some((dependency, wait)) = sessions.0.tiers.refuses_new() else {
        return Ok(());
    };
    if sessions.hub().knows(&info.id) {
        return Ok(());
    }
    Counter::SessionNotNow.count();
    let why =
        format!("{dependency} is Broken, and this agent lets nobody new in; use another one, or come again");
    Err(come_again(&why, jittered(wait)))
}

async fn too_many_at_once(handle: &Handle, role: Role, wait: Duration) -> Status {
    let why = "more streams begin than session.admit_per_second; come again";
    ours(handle, role, come_again(why, wait)).await
}

/// The agent ends. Peers that are told the same come again at different times.
pub(in crate::session) fn stopping(stopped: Stopped) -> Status {
    come_again(&format!("{stopped}; come again"), jittered(RESTART))
}

/// When a status says to come again, in milliseconds; 0: it does not say.
pub(in crate::session) fn retry_after(status: &Status) -> u64 {
    let said = status.metadata().get(RETRY_AFTER).and_then(|ms| ms.to_str().ok());
    said.and_then(|ms| ms.parse().ok()).unwrap_or_default()
}

fn come_again(why: &str, wait: Duration) -> Status {
    // Never 0: that would be at once.
    let wait = millis(wait).max(1);
    let mut refusal = Status::unavailable(format!("{why} after {wait} ms"));
    refusal
        .metadata_mut()
        .insert(RETRY_AFTER, MetadataValue::from(wait));
    refusal
}

/// A refusal by our own limits: a media server's absence is then ours, so no room may be judged for it.
async fn ours(handle: &Handle, role: Role, refusal: Status) -> Status {
    if role == Role::Media && handle.fact(Input::MediaRefused).await.is_err() {
        return stopping(Stopped);
    }
    refusal
}

/// Refuses a stream because its peer has too many. It lives, and its rooms are not judged for what it cannot say.
async fn too_many_streams(handle: &Handle, info: &PeerInfo) -> Status {
    Counter::SessionTooManyStreams.count();
    let refused = Input::HeartbeatRefused(info.source.clone());
    if info.role == Role::Media && handle.fact(refused).await.is_err() {
        return stopping(Stopped);
    }
    Status::resource_exhausted(format!(
        "too many streams of peer-id {} are open: one is enough; close the others, or give each process its own peer-id",
        info.id
    ))
}
