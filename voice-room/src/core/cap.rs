//! The blast cap: how many rooms may trip without a witness.
//!
//! The small-number rule: of n rooms (live now, or tripped within the window) at most `percent` may have tripped,
//! rounded down, but always at least one. So of 1, 2 or 3 rooms one; of 4 two; of 100 fifty.

use crate::{Mono, RoomId};
use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Cap {
    trips: VecDeque<(Mono, RoomId)>,
}

impl Cap {
    /// Trips within the window that ends now.
    pub(crate) fn used(&mut self, now: Mono, window: Duration) -> u32 {
        while self.trips.front().is_some_and(|(t, _)| now.since(*t) >= window) {
            self.trips.pop_front();
        }
        u32::try_from(self.trips.len()).unwrap_or(u32::MAX)
    }

    /// Rooms tripped within the window, each once, that are not `live` (again) now.
    pub(crate) fn gone(&self, live: impl Fn(&RoomId) -> bool) -> u32 {
        let rooms: BTreeSet<&RoomId> = self.trips.iter().map(|(_, room)| room).collect();
        u32::try_from(rooms.into_iter().filter(|r| !live(r)).count()).unwrap_or(u32::MAX)
    }

    /// How many are allowed on a node of so many rooms.
    pub(crate) fn allowed(rooms: u32, percent: u32) -> u32 {
        u32::try_from(u64::from(rooms) * u64::from(percent) / 100)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// Counts a trip by rule, with a witness or without.
    pub(crate) fn count(&mut self, now: Mono, room: RoomId) {
        self.trips.push_back((now, room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_room_may_trip_of_one_to_three_two_of_four_fifty_of_a_hundred() {
        let allowed = [1, 2, 3, 4, 5, 100].map(|n| Cap::allowed(n, 50));
        assert_eq!(allowed, [1, 1, 1, 2, 2, 50]);
    }

    #[test]
    fn a_room_that_tripped_twice_or_is_live_again_does_not_make_the_node_larger() {
        let room = |name| RoomId::new(name).unwrap();
        let mut cap = Cap::default();
        for name in ["a", "a", "b", "c"] {
            cap.count(Mono(0), room(name));
        }
        assert_eq!(cap.gone(|_| false), 3);
        assert_eq!(cap.gone(|r| *r == room("b")), 2);
    }

    #[test]
    fn a_trip_is_forgotten_after_the_window() {
        let mut cap = Cap::default();
        cap.count(Mono(0), RoomId::new("a").unwrap());
        assert_eq!(cap.used(Mono(999), Duration::from_nanos(1000)), 1);
        assert_eq!(cap.used(Mono(1000), Duration::from_nanos(1000)), 0);
    }
}
