//! The kernel side: load, attach, maps, counters, pins. The one writer of the maps.

pub mod pinned;
pub mod status;

pub use status::{InterfaceStatus, KernelStatus};

use voice_room::{
    Incarnation, Mono, Port, RoomId,
    input::{FoundBlock, Traffic},
};

/// Why the kernel side could not do something. Says what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Placeholder, replaced by the kernel adapter's real variants.
    #[error("{0}")]
    Other(String),
}

/// The loaded programs and their maps. Owned by the driver; every method is quick (no attach, no netlink on the
/// caller's thread) except `start`.
#[derive(Debug)]
pub struct Kernel {}

/// What a start found.
#[derive(Debug, Default)]
pub struct Found {
    /// Blocks armed in adopted maps; they stay armed.
    pub blocks: Vec<FoundBlock>,
    /// In words, for the log: pins adopted, replaced, repaired.
    pub report: Vec<String>,
}

/// The outcome of arming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// Ports bound to the room now; zero means `cut: nothing bound`.
    pub ports: usize,
    /// CLOCK_MONOTONIC, right after the deadline word was written.
    pub at: Mono,
}

impl Kernel {
    /// Loads and verifies the programs, adopts pins of the right shape, attaches TC (and XDP by policy).
    pub fn start(
        _config: &crate::config::KernelConfig,
        _paths: &crate::config::Paths,
    ) -> Result<(Kernel, Found), KernelError> {
        Err(KernelError::Other("stub".into()))
    }
    /// Makes `ports` the room's media ports, taking a slot when it has none. An odd RTCP port (even + 1) belongs to its
    /// room unless another room claims it. A port bound to another room moves.
    pub fn bind(
        &mut self,
        _room: &RoomId,
        _incarnation: Incarnation,
        _ports: &[Port],
    ) -> Result<(), KernelError> {
        Err(KernelError::Other("stub".into()))
    }
    /// Frees the room's slot: deadline 0, ports unbound, then the slot may be reused under a new generation.
    pub fn unbind(&mut self, _room: &RoomId) {}
    /// Arms the verdict. XDP by policy `on-trip` is attached by a thread of its own, never waited for.
    pub fn arm(
        &mut self,
        _room: &RoomId,
        _incarnation: Incarnation,
        _shadow: bool,
        _deadline: Mono,
    ) -> Result<Armed, KernelError> {
        Err(KernelError::Other("stub".into()))
    }
    /// Lifts the verdict.
    pub fn disarm(&mut self, _room: &RoomId) {}
    /// The counters of every bound room since its binding (passed RTP is counted by TC only, drops by whoever drops).
    pub fn traffic(&self) -> Result<Vec<Traffic>, KernelError> {
        Ok(Vec::new())
    }
    /// Turns the pinned kill-switch word.
    pub fn set_kill_switch(&mut self, _on: bool) -> Result<(), KernelError> {
        Ok(())
    }
    /// The pinned kill-switch word, also when the CLI wrote it.
    pub fn kill_switch(&self) -> bool {
        false
    }
    /// Rooms the CLI released through the pinned maps since last asked.
    pub fn released(&mut self) -> Vec<RoomId> {
        Vec::new()
    }
    /// Compares desired with actual (verdict words, port slots, attachments, new and re-created interfaces), repairs, and
    /// says in words what it repaired. Called every heartbeat.
    pub fn reconcile(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// First-drop events since last asked, deduplicated; wait for readiness with `first_drops_ready`.
    pub fn first_drops(&mut self) -> Vec<FirstDrop> {
        Vec::new()
    }
    /// UDP ports of the media range with a socket on this host (sock_diag), sorted.
    pub fn sockets(&self) -> Result<Vec<Port>, KernelError> {
        Ok(Vec::new())
    }
    /// For `kernel status`.
    pub fn status(&self) -> KernelStatus {
        KernelStatus::default()
    }
}

/// The kernel dropped the first packet of a trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDrop {
    /// The room.
    pub room: RoomId,
    /// Of its trip with this deadline.
    pub deadline: Mono,
    /// Towards the node, or from it.
    pub ingress: bool,
    /// When, by the kernel's clock.
    pub at: Mono,
}
