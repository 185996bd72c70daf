//! The pinned maps as the CLI sees them when the agent is dead: read, release, kill switch, detach; nothing else.

use super::{KernelError, KernelStatus};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use voice_room::{Incarnation, Mono, Port, RoomId};

/// A blocked room found in the pinned maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedBlock {
    /// The room.
    pub room: RoomId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Count only.
    pub shadow: bool,
    /// CLOCK_MONOTONIC, absolute.
    pub deadline: Mono,
    /// How long that is from now.
    pub left: Duration,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Packets dropped since binding.
    pub dropped: u64,
}

/// The pinned maps, opened.
#[derive(Debug)]
pub struct Pinned {}

impl Pinned {
    /// Opens the pins under `pin_dir` (see `Paths::pin_dir`), checking their shape.
    pub fn open(_pin_dir: &Path) -> Result<Pinned, KernelError> {
        Err(KernelError::Other("stub".into()))
    }
    /// Rooms whose verdict is armed and not past its deadline.
    pub fn blocked(&self) -> Result<Vec<PinnedBlock>, KernelError> {
        Ok(Vec::new())
    }
    /// Lifts one room's verdict and leaves a release generation that the agent honours afterwards. False: not blocked.
    pub fn release(&self, _room: &RoomId) -> Result<bool, KernelError> {
        Ok(false)
    }
    /// Reads the kill-switch word.
    pub fn kill_switch(&self) -> Result<bool, KernelError> {
        Ok(false)
    }
    /// Writes the kill-switch word.
    pub fn set_kill_switch(&self, _on: bool) -> Result<(), KernelError> {
        Ok(())
    }
    /// As far as the pins tell.
    pub fn status(&self) -> Result<KernelStatus, KernelError> {
        Ok(KernelStatus::default())
    }
    /// Detaches every link and removes every pin of every ABI version below the instance's directory; says what went.
    pub fn detach(_instance_dir: &Path) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }
}
