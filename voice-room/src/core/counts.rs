//! How many rooms stand against the bounds of the node. Kept with each change, not counted when asked: a heartbeat of 10,000
//! new rooms asks 10,000 times.

use super::{Core, room::Room};

/// Of the whole node, or of one room (0 or 1 each).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// LIVEING or GRACE_CLOSING: these take media quota.
    pub(super) live: u32,
    /// Announced, live or expired, or over and waiting for the store.
    pub(super) held: u32,
}

impl Counts {
    /// What one room counts.
    pub(super) fn of(room: Option<&Room>) -> Counts {
        let holds = |r: &Room| r.state().is_some() || !r.unstored.is_empty();
        Counts {
            live: room.is_some_and(Room::is_judged).into(),
            held: room.is_some_and(holds).into(),
        }
    }

    /// One room changed what it counts.
    pub(super) fn change(&mut self, before: Counts, after: Counts) {
        self.live = (self.live + after.live).saturating_sub(before.live);
        self.held = (self.held + after.held).saturating_sub(before.held);
    }
}

impl Core {
    /// Counted room by room.
    pub(super) fn recount(&self) -> Counts {
        let mut counts = Counts::default();
        for room in self.rooms.values() {
            counts.change(Counts::default(), Counts::of(Some(room)));
        }
        counts
    }
}
