//! Who owns a room, and under which epoch.

pub mod etcd;
pub mod local;

pub use local::LocalRegistry;

use crate::config::{Config, RegistryKind};
use etcd::{About, Etcd, SettingsError};
use voice_room::{Epoch, RoomId, command::Meta, patrol::RegistrySight};

/// The registry this agent uses. Nothing here blocks; answers come as inputs to the driver.
#[derive(Debug, Clone)]
pub enum Registry {
    /// This node owns what it serves, from the start on: nothing is asked and nothing answered.
    Local,
    /// Rooms are claimed in etcd.
    Etcd(etcd::Handle),
}

/// The configured registry, and what has to run for it. Reads files, so it is made before privileges are given up.
///
/// # Errors
/// A file that the configuration names cannot be used.
pub fn prepare(config: &Config) -> Result<(Registry, Option<Etcd>), SettingsError> {
    if config.registry.kind == RegistryKind::Local {
        return Ok((Registry::Local, None));
    }
    let about = About {
        node: config.node.clone(),
        identity: etcd::identity(&config.paths.state),
        address: config.session.listen.to_string(),
        capacity: config.rules.quota,
    };
    let etcd = Etcd::prepare(&config.registry.etcd, about)?;
    Ok((Registry::Etcd(etcd.handle()), Some(etcd)))
}

impl Registry {
    /// Whether this agent may act in the name of what it holds, by the clock. False also before `LeaseLost` is told.
    pub fn authority(&self) -> bool {
        match self {
            Registry::Local => true,
            Registry::Etcd(etcd) => etcd.authority().holds(),
        }
    }

    /// An epoch that was used before this start.
    pub fn known(&self, epoch: Epoch) {
        match self {
            Registry::Local => {}
            Registry::Etcd(etcd) => etcd.known(epoch),
        }
    }

    /// Owns these rooms. Answers `Claimed` or `NotClaimed` for each.
    pub fn claim(&self, rooms: Vec<Meta>) {
        match self {
            Registry::Local => {}
            Registry::Etcd(etcd) => etcd.claim(rooms),
        }
    }

    /// The room is not owned any more.
    pub fn cede(&self, room: RoomId) {
        match self {
            Registry::Local => {}
            Registry::Etcd(etcd) => etcd.cede(room),
        }
    }

    /// Tells others that an owned room is served less well, for a while.
    pub fn degraded(&self, room: RoomId, reason: String) {
        match self {
            Registry::Local => {}
            Registry::Etcd(etcd) => etcd.degraded(room, reason),
        }
    }

    /// What is held of these rooms, in their order; `None` where there is nothing but this node.
    ///
    /// # Errors
    /// In words: it is not known now.
    pub async fn look(&self, rooms: Vec<RoomId>) -> Result<Option<Vec<RegistrySight>>, String> {
        match self {
            Registry::Local => Ok(None),
            Registry::Etcd(etcd) => etcd.look(rooms).await.map(Some),
        }
    }

    /// Tells others of an owned room.
    pub fn describe(&self, meta: Meta) {
        match self {
            Registry::Local => {}
            Registry::Etcd(etcd) => etcd.describe(meta),
        }
    }
}
