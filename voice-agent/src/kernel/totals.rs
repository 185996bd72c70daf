//! What all rooms together passed and dropped since the agent started, also those whose slots are free again.

use super::{Kernel, drops, tables};
use voice_common::{Count, RoomCounts};

/// Packets and bytes by direction, class and verdict, over all rooms. Never goes down while the process lives. Drops of
/// slots whose room cannot be told are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals(pub RoomCounts);

/// Verdicts in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Armings {
    /// That drop.
    pub enforced: u32,
    /// That only count.
    pub shadow: u32,
}

impl Totals {
    /// Adds what a slot counted since `counted`, and moves that up.
    pub(super) fn take(&mut self, counted: &mut Option<Box<RoomCounts>>, counts: &RoomCounts) {
        // Nothing is kept for a room without a packet.
        if counted.is_none() && counts.counts.iter().all(|count| count.packets == 0) {
            return;
        }
        let counted = counted.get_or_insert_default();
        for ((total, was), is) in self
            .0
            .counts
            .iter_mut()
            .zip(&mut counted.counts)
            .zip(&counts.counts)
        {
            total.packets += is.packets.saturating_sub(was.packets);
            total.bytes += is.bytes.saturating_sub(was.bytes);
            *was = Count { ..*is };
        }
    }
}

impl Kernel {
    /// The totals, as of the last [`Kernel::traffic`] or the freeing of a slot since.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many verdicts are in force.
    pub fn armings(&self) -> Armings {
        let now = tables::now();
        let mut armings = Armings::default();
        let entries = (1..self.tables.slots()).map(|slot| self.tables.room(slot));
        for entry in entries.filter(|entry| entry.deadline > now.0) {
            if entry.mode == tables::mode(true) {
                armings.shadow += 1;
            } else {
                armings.enforced += 1;
            }
        }
        armings
    }

    /// Brings a slot's counters into the totals. Called before the slot is free: its next use begins at zero.
    pub(super) fn count_up(&mut self, slot: u32) {
        let Some(owner) = self.slots.get_mut(slot) else {
            return;
        };
        match drops::counts(&self.maps.counts, slot) {
            Ok(counts) => self.totals.take(&mut owner.counted, &counts),
            Err(error) => {
                tracing::warn!(slot, %error, "the last packets of a freed slot are not in the totals");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(packets: u64) -> RoomCounts {
        let mut counts = RoomCounts::default();
        counts.counts[4] = Count {
            packets,
            bytes: packets * 100,
        };
        counts
    }

    #[test]
    fn totals_go_on_rising_when_a_slot_begins_anew() {
        let mut totals = Totals::default();
        let mut counted = None;
        for packets in [0, 3, 10, 10] {
            totals.take(&mut counted, &counts(packets));
        }
        totals.take(&mut None, &counts(5));
        assert_eq!((totals.0.counts[4].packets, totals.0.counts[4].bytes), (15, 1500));
    }
}
