//! Rooms and ticks for tests.

use crate::{
    Transition,
    snapshot::{Counters, Health, NodeHealth, Snapshot, Tick},
};
use voice_common::Count;
use voice_room::{
    Epoch, EventType, Incarnation, OpId, RoomId, State, TraceId, Version, Wall, timeline::Actor,
};

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

/// A change of state, of incarnation 1.
pub(crate) fn change(name: &str, at: u64, from: Option<State>, to: State, version: u64) -> Transition {
    Transition {
        room: room(name),
        incarnation: Incarnation(1),
        event_type: EventType::Stuck,
        old_state: from,
        new_state: to,
        version: Version(version),
        epoch: Epoch { era: 0, revision: 3 },
        op_id: OpId::new(&format!("op-{version}")).unwrap(),
        actor: Actor::Agent,
        reason: "5 heartbeats missed".into(),
        trace_id: Some(TraceId::new("0af7651916cd43dd8448eb211c80319c").unwrap()),
        timestamp: Wall(at),
    }
}

/// A live room without media.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        state: State::Liveing,
        since: Wall(1_763_849_000_000),
        incarnation: Incarnation(1),
        version: Version(2),
        epoch: Epoch { era: 0, revision: 3 },
        misses: 0,
        heartbeat_age: Some(7),
        members: 4,
        blocked_until: None,
        media: Counters::default(),
    }
}

/// The same with so many RTP packets in.
pub(crate) fn with_packets(packets: u64) -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.media.0[0] = Count {
        packets,
        bytes: packets * 172,
    };
    snapshot
}

pub(crate) fn tick(at: u64, rooms: Vec<(&str, Snapshot)>) -> Tick {
    Tick {
        at: Wall(at),
        rooms: rooms
            .into_iter()
            .map(|(name, snapshot)| (room(name), snapshot))
            .collect(),
        health: NodeHealth::from([("etcd".into(), Health::Healthy)]),
        transitions: Vec::new(),
    }
}
