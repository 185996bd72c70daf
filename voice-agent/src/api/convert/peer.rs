//! Connected peers, and what is depended on.

use super::{millis, time};
use crate::{
    proto::admin::{Dependency, Peer},
    session::PeerView,
    tiers::TierView,
};
use voice_room::Wall;

/// One dependency.
pub fn dependency(view: &TierView) -> Dependency {
    Dependency {
        name: view.dependency.to_string(),
        tier: view.tier.name().into(),
        lasts_ms: millis(view.lasts),
    }
}

/// One peer.
pub fn peer(p: &PeerView, now: Wall) -> Peer {
    Peer {
        peer: p.peer.to_string(),
        role: p.role.name().into(),
        tag: p.tag.clone(),
        weight: p.weight,
        software: p.software.clone(),
        protocol_version: p.protocol,
        since: Some(time(p.since)),
        connected_ms: millis(now.since(p.since)),
        rooms: u32::try_from(p.rooms).unwrap_or(u32::MAX),
        prepared: u32::try_from(p.prepared).unwrap_or(u32::MAX),
        unacknowledged: u32::try_from(p.pending).unwrap_or(u32::MAX),
    }
}
