//! Who owns a room, and under which epoch.

pub mod local;

pub use local::LocalRegistry;

use crate::config::{RegistryConfig, RegistryKind};
use voice_room::{Incarnation, RoomId, command::Meta};

/// The registry this agent uses. Nothing here blocks; answers come as inputs to the driver.
#[derive(Debug, Clone)]
pub enum Registry {
    /// This node owns what it serves, from the start on: nothing is asked and nothing answered.
    Local,
}

impl Registry {
    /// The configured one.
    pub fn start(config: &RegistryConfig) -> Registry {
        match config.kind {
            RegistryKind::Local => Registry::Local,
        }
    }

    /// Owns these rooms. Answers `Claimed` or `NotClaimed` for each.
    pub fn claim(&self, _rooms: Vec<(RoomId, Incarnation)>) {
        match self {
            Registry::Local => {}
        }
    }

    /// The room is not owned any more.
    pub fn cede(&self, _room: RoomId) {
        match self {
            Registry::Local => {}
        }
    }

    /// Tells others of an owned room.
    pub fn describe(&self, _meta: Meta) {
        match self {
            Registry::Local => {}
        }
    }
}
