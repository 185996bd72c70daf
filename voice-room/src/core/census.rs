//! How many rooms are how, counted in one walk that copies none of them.

use super::{Authority, Core};
use crate::{Now, State};

/// The rooms that are not destroyed, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them.
    pub total: u32,
    /// By state, in the order of [`State::ALL`].
    pub states: [u32; State::ALL.len()],
    /// Under a cut.
    pub blocked: u32,
    /// Stuck, yet not tripped.
    pub held: u32,
    /// Shadow mode would have tripped them.
    pub would_trip: u32,
    /// With at least one heartbeat missed.
    pub missing_heartbeats: u32,
    /// Changes the store has not taken yet.
    pub unstored_changes: u32,
    /// Asked for in the registry, and not answered or not given yet.
    pub claiming: u32,
    /// Served here, and owned by another agent.
    pub ceded: u32,
    /// Packets that passed, since each room's binding.
    pub passed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets shadow mode would have dropped.
    pub would_drop: u64,
}

impl Core {
    /// Counts every room that is not destroyed.
    pub fn census(&self, now: Now) -> Census {
        let mut census = Census::default();
        for glance in self.glances(now) {
            census.total += 1;
            census.states[glance.record.state as usize] += 1;
            census.blocked += u32::from(glance.blocked_until.is_some());
            census.held += u32::from(glance.held.is_some());
            census.would_trip += u32::from(glance.would_trip);
            census.missing_heartbeats += u32::from(glance.misses > 0);
            census.unstored_changes += glance.unstored;
            census.claiming += u32::from(matches!(glance.authority, Authority::Claiming { .. }));
            census.ceded += u32::from(glance.authority.ceded_to().is_some());
            if let Some(counts) = glance.counts {
                census.passed = census.passed.saturating_add(counts.passed);
                census.dropped = census.dropped.saturating_add(counts.dropped);
                census.would_drop = census.would_drop.saturating_add(counts.would_drop);
            }
        }
        census
    }
}
