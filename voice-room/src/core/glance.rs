//! What snapshots, counts and lists take from each room: borrowed, so that ten thousand cost nothing but the walk.

use super::{Authority, Core};
use crate::{Now, RoomId, RoomRecord, Wall, input::Counts, timeline::Hold};
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
    /// Why it is not tripped although stuck.
    pub held: Option<Hold>,
    /// Shadow mode would have tripped it.
    pub would_trip: bool,
    /// Changes the store has not taken yet.
    pub unstored: u32,
    /// Whose it is.
    pub authority: &'c Authority,
    /// The kernel's counters, when last read.
    pub counts: Option<&'c Counts>,
    /// Packets dropped in a second, between the last two readings; `None`: not known.
    pub drop_rate: Option<u32>,
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
            held: room.watch.held,
            would_trip: room.watch.would_trip,
            unstored: u32::try_from(room.unstored.len()).unwrap_or(u32::MAX),
            authority: &room.authority,
            counts: room.witness.counts(),
            drop_rate: self.drop_rate(room, now),
        })
    }

    /// Packets dropped in a second, as long as the counters are read.
    pub(super) fn drop_rate(&self, room: &super::room::Room, now: Now) -> Option<u32> {
        room.witness.drop_rate(now.mono, 2 * self.rules.heartbeat)
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
