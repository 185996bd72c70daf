//! A room as people and programs see it. Read only.

use crate::{
    Epoch, Incarnation, Mono, PeerId, Port, RoomId, SourceId, State, Version, Wall,
    id::ClientId,
    timeline::{Hold, Progress, Step, Testimony},
};
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use serde::Serialize;

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomView {
    /// The room.
    pub room: RoomId,
    /// Its state.
    pub state: State,
    /// The record's version.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Its life.
    pub incarnation: Incarnation,
    /// Since when it is in `state`.
    pub since: Wall,
    /// The host, once known.
    pub host: Option<ClientId>,
    /// Clients whose signalling is alive.
    pub clients: u32,
    /// Who serves its media.
    pub source: Option<SourceId>,
    /// Its media ports.
    pub ports: Vec<Port>,
    /// Since the last media heartbeat.
    pub heartbeat_age: Option<Duration>,
    /// Heartbeats missed in a row.
    pub misses: u32,
    /// Since the latest progress.
    pub progress_age: Duration,
    /// What that was.
    pub progress: Progress,
    /// Why it is not tripped although stuck.
    pub held: Option<Hold>,
    /// Shadow mode would have tripped it.
    pub would_trip: bool,
    /// The kernel's testimony; `None`: no counters.
    pub witness: Option<Testimony>,
    /// RTP and other packets that passed since binding.
    pub passed: u64,
    /// Packets dropped since binding.
    pub dropped: u64,
    /// Packets shadow mode would have dropped.
    pub would_drop: u64,
    /// The trip it is under.
    pub block: Option<BlockView>,
    /// Changes the store has not taken yet.
    pub unstored: u32,
}

/// The trip a room is under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockView {
    /// In words.
    pub reason: String,
    /// When it ends.
    pub until: Wall,
    /// The same on CLOCK_MONOTONIC.
    pub deadline: Mono,
    /// How long that is from now.
    pub left: Duration,
    /// Each step's outcome, in order.
    pub steps: Vec<(Step, StepState)>,
    /// The sessions that took note.
    pub acked: Vec<PeerId>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not answered yet.
    Pending,
    /// Done, with a detail.
    Done(String),
    /// Failed; it is tried again.
    Failed(String),
}
