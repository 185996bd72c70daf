//! Rooms, and the figures over all of them.

use super::{maintenance, millis, name, time, witness};
use crate::proto::admin::{self as pb, BlockInfo, BlockStep, Room, RoomCounts};
use voice_room::{
    NodeName, State, Wall,
    core::{Authority, BlockView, RoomView, StepState},
    timeline::Step,
};

/// One room, as `node` sees it.
pub fn room(v: &RoomView, node: &NodeName, now: Wall) -> Room {
    Room {
        room: v.room.to_string(),
        state: v.state.name().into(),
        since: Some(time(v.since)),
        state_age_ms: millis(now.since(v.since)),
        version: v.version.0,
        epoch: v.epoch.to_string(),
        incarnation: v.incarnation.0,
        host: v.host.as_ref().map(ToString::to_string),
        clients: v.clients,
        degraded: v.degraded.clone(),
        source: v.source.as_ref().map(ToString::to_string),
        ports: v.ports.iter().map(|p| p.0.into()).collect(),
        flows: v.flows.iter().map(ToString::to_string).collect(),
        ssrcs: v.ssrcs.iter().map(ToString::to_string).collect(),
        heartbeat_age_ms: v.heartbeat_age.map(millis),
        misses: v.misses,
        progress_age_ms: millis(v.progress_age),
        progress: name(&v.progress),
        held: v.held.as_ref().map(name),
        would_trip: v.would_trip,
        witness: v.witness.as_ref().map(witness),
        passed_packets: v.passed,
        dropped_packets: v.dropped,
        would_drop_packets: v.would_drop,
        block: v.block.as_ref().map(block),
        unstored_changes: v.unstored,
        maintenance: v.maintenance.as_ref().map(|m| maintenance(m, now)),
        authority: Some(authority(&v.authority, node)),
    }
}

fn authority(authority: &Authority, node: &NodeName) -> pb::Authority {
    let is = |state: &str| pb::Authority {
        state: state.into(),
        ..pb::Authority::default()
    };
    match authority {
        Authority::Unclaimed => is("unclaimed"),
        Authority::Claiming { problem } => pb::Authority {
            problem: problem.clone(),
            ..is("claiming")
        },
        Authority::Held(epoch) => pb::Authority {
            epoch: Some(epoch.to_string()),
            owner: Some(node.to_string()),
            ..is("held")
        },
        Authority::Ceded(owner) => pb::Authority {
            owner: Some(owner.to_string()),
            ..is("ceded")
        },
    }
}

fn block(b: &BlockView) -> BlockInfo {
    BlockInfo {
        reason: b.reason.clone(),
        until: Some(time(b.until)),
        left_ms: millis(b.left),
        steps: b.steps.iter().map(step).collect(),
        acknowledged_by: b.acked.iter().map(ToString::to_string).collect(),
        armed_monotonic_ns: b.armed_at.0,
        deadline_monotonic_ns: b.deadline.0,
    }
}

fn step((step, state): &(Step, StepState)) -> BlockStep {
    let (state, detail) = match state {
        StepState::Pending => ("pending", ""),
        StepState::Done(detail) => ("done", detail.as_str()),
        StepState::Failed(detail) => ("failed", detail.as_str()),
    };
    BlockStep {
        step: step.name().into(),
        state: state.into(),
        detail: detail.into(),
    }
}

/// The figures over all rooms.
pub fn counts(rooms: &[RoomView]) -> RoomCounts {
    let count = |is: fn(&RoomView) -> bool| number(rooms.iter().filter(|v| is(v)).count());
    let sum = |of: fn(&RoomView) -> u64| rooms.iter().map(of).fold(0, u64::saturating_add);
    RoomCounts {
        total: number(rooms.len()),
        created: count(|v| v.state == State::Created),
        liveing: count(|v| v.state == State::Liveing),
        grace_closing: count(|v| v.state == State::GraceClosing),
        expired: count(|v| v.state == State::Expired),
        destroyed: count(|v| v.state == State::Destroyed),
        blocked: count(|v| v.block.is_some()),
        held: count(|v| v.held.is_some()),
        would_trip: count(|v| v.would_trip),
        missing_heartbeats: count(|v| v.misses > 0),
        unstored_changes: rooms.iter().map(|v| v.unstored).fold(0, u32::saturating_add),
        passed_packets: sum(|v| v.passed),
        dropped_packets: sum(|v| v.dropped),
        would_drop_packets: sum(|v| v.would_drop),
        claiming: count(|v| matches!(v.authority, Authority::Claiming { .. })),
        ceded: count(|v| v.authority.ceded_to().is_some()),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
