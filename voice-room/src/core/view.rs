//! A room as people and programs see it. Read only.

use super::{Authority, Core};
use crate::{
    Epoch, Flow, Incarnation, Mono, Now, PeerId, Port, RoomId, SourceId, Ssrc, State, Version, Wall,
    id::ClientId,
    record::Maintenance,
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
    /// Why its status is `degraded`, for a while.
    pub degraded: Option<String>,
    /// Who serves its media.
    pub source: Option<SourceId>,
    /// Its media ports.
    pub ports: Vec<Port>,
    /// Its flows on shared ports.
    pub flows: Vec<Flow>,
    /// Its SSRCs on shared ports.
    pub ssrcs: Vec<Ssrc>,
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
    /// The maintenance it is under: its own, else that of every room.
    pub maintenance: Option<Maintenance>,
    /// Shadow mode would have tripped it.
    pub would_trip: bool,
    /// The kernel's testimony; `None`: no counters.
    pub witness: Option<Testimony>,
    /// RTP and other packets that passed since binding.
    pub passed: u64,
    /// Packets dropped since binding.
    pub dropped: u64,
    /// Packets dropped in a second, between the last two readings; `None`: not known.
    pub drop_rate: Option<u32>,
    /// Packets shadow mode would have dropped.
    pub would_drop: u64,
    /// The trip it is under.
    pub block: Option<BlockView>,
    /// Changes the store has not taken yet.
    pub unstored: u32,
    /// Whether it may be written to.
    pub authority: Authority,
}

/// The trip a room is under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockView {
    /// In words.
    pub reason: String,
    /// When its verdict was armed, on CLOCK_MONOTONIC; when the trip was decided, until the kernel answered.
    pub armed_at: Mono,
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

impl Core {
    /// One room, as people see it.
    pub fn view(&self, id: &RoomId, now: Now) -> Option<RoomView> {
        let room = self.rooms.get(id)?;
        let record = &room.record;
        let (progress_at, progress) = room.progress(self.progress);
        let counts = room.witness.counts().cloned().unwrap_or_default();
        let misses = self.misses(room, now);
        let binding = self.binding(id);
        Some(RoomView {
            room: id.clone(),
            state: record.state,
            version: record.version,
            epoch: record.epoch,
            incarnation: record.incarnation,
            since: record.since,
            host: record.host.clone(),
            clients: u32::try_from(room.clients.len()).unwrap_or(u32::MAX),
            degraded: room.degraded(now.mono).map(Into::into),
            source: room.record.source.clone(),
            ports: record.ports.clone(),
            flows: binding.flows,
            ssrcs: binding.ssrcs,
            heartbeat_age: room.heartbeat.map(|t| now.mono.since(t)),
            misses,
            progress_age: now.mono.since(progress_at),
            progress,
            held: room.watch.held,
            maintenance: self.maintained(now, id).cloned(),
            would_trip: room.watch.would_trip,
            witness: self.testimony(now, room),
            passed: counts.passed,
            dropped: counts.dropped,
            drop_rate: self.drop_rate(room, now),
            would_drop: counts.would_drop,
            block: room.trip.as_ref().map(|trip| BlockView {
                reason: trip.reason.clone(),
                armed_at: trip.armed_at,
                until: trip.until,
                deadline: trip.deadline,
                left: trip.deadline.since(now.mono),
                steps: trip
                    .steps
                    .iter()
                    .map(|(step, state)| (*step, state.clone()))
                    .collect(),
                acked: trip.acked.iter().cloned().collect(),
            }),
            unstored: u32::try_from(room.unstored.len()).unwrap_or(u32::MAX),
            authority: room.authority.clone(),
        })
    }

    /// Every room that is not destroyed, sorted by id.
    pub fn views(&self, now: Now) -> Vec<RoomView> {
        let present = self.rooms.iter().filter(|(_, r)| r.state().is_some());
        present.filter_map(|(id, _)| self.view(id, now)).collect()
    }
}
