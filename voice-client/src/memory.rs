//! What a peer remembers of rooms and of its agent, as its task writes it and its handles read it.

use crate::clock::Clock;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tonic::transport::Channel;
use voice_room::{
    RoomId,
    sync::{NotTaken, Participant},
    tier::Tier,
};

/// Rooms of which something is remembered: served ones and isolated ones. Twice what an agent lets one peer serve.
const MAX_ROOMS: usize = 32_768;

/// Shared by a peer's task and its handles. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rooms: Participant,
    /// To ask for admission; there while a stream is up.
    pub(crate) channel: Option<Channel>,
    pub(crate) tier: Tier,
}

/// Whether a client may join a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Whether it may, as far as is known.
    pub allowed: bool,
    /// Why not, in words; empty when it may.
    pub reason: String,
    /// When it is worth asking again; zero when it may.
    pub retry_after: Duration,
    /// Whether the agent's shared store stands behind this. False: the agent is away or knows its own node only; this is then
    /// what was heard last.
    pub authoritative: bool,
}

impl Memory {
    pub(crate) fn new(clock: Clock) -> Memory {
        let inner = Inner {
            rooms: Participant::new(MAX_ROOMS),
            channel: None,
            tier: Tier::Healthy,
        };
        Memory {
            clock,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Never held across an await. A panic under it leaves whole values behind: each is changed in one go.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known here. It refuses with authority, as an agent said so; it never allows with it.
    pub(crate) fn join(&self, room: &RoomId) -> Join {
        let inner = self.lock();
        match inner.rooms.admits(self.clock.now(), room) {
            Err(NotTaken::Isolated { reason, left }) => Join {
                allowed: false,
                reason,
                retry_after: left,
                authoritative: inner.channel.is_some(),
            },
            _ => Join {
                allowed: true,
                reason: String::new(),
                retry_after: Duration::ZERO,
                authoritative: false,
            },
        }
    }

    /// The agent refused a join: remembered until then.
    pub(crate) fn isolate(&self, room: &RoomId, reason: &str, lasts: Duration) {
        let now = self.clock.now();
        let kept = self.lock().rooms.isolated(now, room, reason, lasts);
        if let Err(full) = kept {
            tracing::warn!(%room, "its isolation is not remembered: {full}");
        }
    }
}
