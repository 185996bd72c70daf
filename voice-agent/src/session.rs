//! The gRPC stream to gateways, signalling and media servers: who serves which room, pushes, keepalive, admission.
//!
//! Everything a peer says is checked here and told to the driver as facts and requests; what becomes of them is the
//! core's to decide. docs/PROTOCOL.md is the same, from the peer's side.

mod bucket;
mod connections;
mod gate;
mod hub;
mod identity;
mod index;
mod ledger;
mod open;
mod outgoing;
mod peer;
mod served;
mod server;
mod stream;
pub mod tls;
mod translate;
mod wire;

pub use server::SessionError;
pub use voice_client::{PROTOCOL_VERSION, Role};

use crate::{config::SessionConfig, driver::Handle, telemetry::traces::Traces, tiers::Tiers, tokens::Tokens};
use gate::Gate;
use hub::{Hub, Limits};
use open::Open;
use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tls::Tls;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use voice_room::{
    Epoch, NodeName, PeerId, RoomId, Wall,
    command::{Expired, RoomUpdate},
    sync::{Proposal, Rollback},
};

/// The protocol versions that are spoken here.
const SPOKEN: RangeInclusive<u32> = 1..=2;

/// All sessions of this agent. Cheap to clone: the gRPC service and the driver share it.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeName,
    epoch: Epoch,
    ports: RangeInclusive<u16>,
    /// Another after a reload.
    tokens: Mutex<Arc<Tokens>>,
    /// `None`: peers speak plain HTTP/2.
    tls: Option<Tls>,
    ping_every: Duration,
    pong_within: Duration,
    limits: Limits,
    events_per_second: u32,
    event_burst: u32,
    hub: Mutex<Hub>,
    /// Every stream's task, and nothing else.
    tasks: TaskTracker,
    /// Streams open now, those without a Hello included.
    open: Open,
    /// How many may begin in a time.
    gate: Gate,
    tiers: Tiers,
    /// Where spans go; empty: nowhere.
    traces: OnceLock<Traces>,
}

/// One connected peer, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerView {
    /// Who.
    pub peer: PeerId,
    /// What it is.
    pub role: Role,
    /// Its node tag; may be empty.
    pub tag: String,
    /// Its load weight, if it told one.
    pub weight: Option<u32>,
    /// Its software and version, as it says; may be empty.
    pub software: String,
    /// The protocol version that is spoken with it.
    pub protocol: u32,
    /// Since when this stream is open.
    pub since: Wall,
    /// How many rooms it serves.
    pub rooms: usize,
    /// How many changes it was asked to agree to, without an end yet.
    pub prepared: usize,
    /// How many STATE_EXPIRED it has not acknowledged.
    pub pending: usize,
}

impl Sessions {
    /// Nobody connected yet. `ports` is the media range that heartbeats may name; `tokens` verifies what hosts show,
    /// `tiers` says whether somebody new may come. With `tls` they have to show a certificate.
    pub fn new(
        node: NodeName,
        epoch: Epoch,
        ports: RangeInclusive<u16>,
        config: &SessionConfig,
        tokens: Tokens,
        tiers: Tiers,
        tls: Option<Tls>,
    ) -> Sessions {
        Sessions(Arc::new(Inner {
            node,
            epoch,
            ports,
            tokens: Mutex::new(Arc::new(tokens)),
            tls,
            ping_every: config.ping_every,
            pong_within: config.pong_within,
            limits: Limits {
                peers: usize::try_from(config.max_peers).unwrap_or(usize::MAX),
                rooms: usize::try_from(config.max_rooms).unwrap_or(usize::MAX),
            },
            events_per_second: config.events_per_second,
            event_burst: config.event_burst,
            hub: Mutex::default(),
            tasks: TaskTracker::new(),
            open: Open::default(),
            gate: Gate::new(config.admit_per_second, config.admit_burst),
            tiers,
            traces: OnceLock::new(),
        }))
    }

    /// From now on what peers ask for is told here. Once.
    pub fn trace(&self, traces: Traces) {
        self.0.traces.get_or_init(|| traces);
    }

    /// From now on tokens are verified with these keys. A stream that is open goes on.
    pub fn set_tokens(&self, tokens: Tokens) {
        *self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    fn tokens(&self) -> Arc<Tokens> {
        self.0
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Serves until `shutdown`: then every stream ends with Goodbye and UNAVAILABLE, and no task is left.
    pub async fn serve(
        self,
        handle: Handle,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError> {
        server::serve(self, handle, listener, shutdown).await
    }

    /// When the listener's certificate ends; `None` without TLS.
    pub fn certificate_ends(&self) -> Option<SystemTime> {
        self.0.tls.as_ref().map(Tls::certificate_ends)
    }

    /// Pushes STATE_EXPIRED to the sessions that serve the room, and keeps it for each until it acknowledged or the
    /// isolation ended. With no gateway or signalling peer known to serve the room, all of them are told. The Ok says how
    /// many were; the Err that it is not kept, because too many are pending.
    pub fn expired(&self, expired: &Expired) -> Result<String, String> {
        self.hub().expired(expired, wall_now())
    }

    /// Pushes STATE_RESTORED to those who serve the room or were told that it expired. What is pending is withdrawn.
    pub fn restored(&self, update: &RoomUpdate) {
        self.hub().restored(update);
    }

    /// Tells the sessions that serve the room of a change. DESTROYED ends their serving it.
    pub fn update(&self, update: &RoomUpdate) {
        self.hub().update(update);
    }

    /// Asks those who must agree to a change. Those it did not reach, because their stream has ended since.
    pub fn prepare(&self, proposal: &Proposal) -> Vec<PeerId> {
        self.hub().prepare(proposal)
    }

    /// Tells those who were asked that nothing changes.
    pub fn rollback(&self, rollback: &Rollback) {
        self.hub().rollback(rollback);
    }

    /// Tells one peer what a room is now.
    pub fn tell(&self, to: &PeerId, update: &RoomUpdate) {
        self.hub().tell(to, update);
    }

    /// Connected peers by role.
    pub fn by_role(&self) -> [(Role, usize); 3] {
        self.hub().by_role()
    }

    /// Every connected peer, or those that serve `room`, by id.
    pub fn topology(&self, room: Option<&RoomId>) -> Vec<PeerView> {
        self.hub().views(room, wall_now())
    }

    /// Never held across an await or a slow call. A panic under it leaves a usable topology: one peer's view may be
    /// behind, which its reconnect mends.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.0.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
