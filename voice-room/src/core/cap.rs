//! The blast cap: how many rooms may trip without a witness.
//!
//! The small-number rule: of n rooms (live now, or tripped within the window) at most `percent` may have tripped,
//! rounded down, but always at least one. So of 1, 2 or 3 rooms one; of 4 two; of 100 fifty.

use crate::Mono;
use alloc::collections::VecDeque;
use core::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Cap {
    trips: VecDeque<Mono>,
}

impl Cap {
    /// Trips within the window that ends now.
    pub(crate) fn used(&mut self, now: Mono, window: Duration) -> u32 {
        while self.trips.front().is_some_and(|t| now.since(*t) >= window) {
            self.trips.pop_front();
        }
        u32::try_from(self.trips.len()).unwrap_or(u32::MAX)
    }

    /// How many are allowed with `live` rooms live now and `used` tripped within the window.
    pub(crate) fn allowed(live: u32, used: u32, percent: u32) -> u32 {
        let rooms = u64::from(live) + u64::from(used);
        u32::try_from(rooms * u64::from(percent) / 100)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// Counts a trip by rule, with a witness or without.
    pub(crate) fn count(&mut self, now: Mono) {
        self.trips.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_room_may_trip_of_one_to_three_two_of_four_fifty_of_a_hundred() {
        let allowed = [1, 2, 3, 4, 5, 100].map(|n| Cap::allowed(n, 0, 50));
        assert_eq!(allowed, [1, 1, 1, 2, 2, 50]);
    }

    #[test]
    fn the_allowance_does_not_shrink_while_rooms_trip() {
        assert_eq!(Cap::allowed(100, 0, 50), Cap::allowed(60, 40, 50));
    }

    #[test]
    fn a_trip_is_forgotten_after_the_window() {
        let mut cap = Cap::default();
        cap.count(Mono(0));
        assert_eq!(cap.used(Mono(999), Duration::from_nanos(1000)), 1);
        assert_eq!(cap.used(Mono(1000), Duration::from_nanos(1000)), 0);
    }
}
