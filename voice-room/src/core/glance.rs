//! What a snapshot takes from each room: borrowed, so that ten thousand cost nothing but the walk.

use super::Core;
use crate::{Now, RoomId, RoomRecord, Wall};
use core::time::Duration;

/// One room at a glance.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'c> {
    /// The room.
    pub room: &'c RoomId,
    /// Its record.
    pub record: &'c RoomRecord,
    /// Heartbeats missed in a row.
    pub misses: u32,
    /// Since the last media heartbeat.
    pub heartbeat_age: Option<Duration>,
    /// Clients whose signalling is alive.
    pub clients: u32,
    /// The end of its cut.
    pub blocked_until: Option<Wall>,
}

impl Core {
    /// Every room that is not destroyed, sorted by id.
    pub fn glances(&self, now: Now) -> impl Iterator<Item = Glance<'_>> {
        let present = self.rooms.iter().filter(|(_, room)| room.state().is_some());
        present.map(move |(id, room)| Glance {
            room: id,
            record: &room.record,
            misses: self.misses(room, now),
            heartbeat_age: room.heartbeat.map(|t| now.mono.since(t)),
            clients: u32::try_from(room.clients.len()).unwrap_or(u32::MAX),
            blocked_until: room.trip.as_ref().map(|trip| trip.until),
        })
    }

    /// Heartbeats a room missed in a row; none while nothing is expected of it.
    pub(super) fn misses(&self, room: &super::room::Room, now: Now) -> u32 {
        if room.is_judged() {
            room.misses(now.mono, self.progress, self.rules.heartbeat)
        } else {
            0
        }
    }
}
