//! `[history]`: what keeps snapshots of rooms.

use crate::history::probe::Probe;
use std::{path::PathBuf, time::Duration};
use voice_history::influx::Address;

/// Snapshots of rooms.
#[derive(Debug, Clone, Default)]
pub struct HistoryConfig {
    /// `history.kind`
    pub kind: HistoryKind,
    /// `history.every`, default 5 s.
    pub every: Duration,
    /// `history.max_age`, default 7 d.
    pub max_age: Duration,
    /// `history.max_mib`, default 2048.
    pub max_mib: u32,
    /// `history.reserve_mib`: so much of the file system is left to others, default 512.
    pub reserve_mib: u32,
    /// `history.probes`
    pub probes: Vec<Probe>,
    /// `[history.influx]`
    pub influx: InfluxConfig,
}

/// What keeps snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistoryKind {
    /// A database in the state directory.
    #[default]
    Embedded,
    /// An InfluxDB.
    Influx,
    /// None are taken.
    Off,
}

/// The InfluxDB.
#[derive(Debug, Clone, Default)]
pub struct InfluxConfig {
    /// `history.influx.address`; `None`: not set.
    pub address: Option<Address>,
    /// `history.influx.database`, default "voice".
    pub database: String,
    /// `history.influx.username`; `None`: no user.
    pub username: Option<String>,
    /// `history.influx.password_file`, with `username`.
    pub password_file: Option<PathBuf>,
    /// `history.influx.spool_mib`, default 512.
    pub spool_mib: u32,
}
