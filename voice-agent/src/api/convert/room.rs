//! Rooms, and the figures over all of them.

use super::{maintenance, millis, name, time, witness};
use crate::proto::admin::{self as pb, BlockInfo, BlockStep, Room, RoomCounts};
use voice_room::{
    NodeName, Wall,
    core::{Authority, BlockView, Census, RoomView, StepState},
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
        dropped_per_second: v.drop_rate,
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
pub fn counts(c: &Census) -> RoomCounts {
    let [created, liveing, grace_closing, expired, destroyed] = c.states;
    RoomCounts {
        total: c.total,
        created,
        liveing,
        grace_closing,
        expired,
        destroyed,
        blocked: c.blocked,
        held: c.held,
        would_trip: c.would_trip,
        missing_heartbeats: c.missing_heartbeats,
        unstored_changes: c.unstored_changes,
        passed_packets: c.passed,
        dropped_packets: c.dropped,
        would_drop_packets: c.would_drop,
        claiming: c.claiming,
        ceded: c.ceded,
    }
}
