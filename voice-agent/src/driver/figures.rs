//! What the driver tells for metrics: numbers only, never a room. How they are named is in `telemetry/metrics`.

use super::{Driver, clock::now};
use crate::{
    kernel::{Armings, KernelStatus, Totals},
    patrol::PatrolFigures,
    tiers::TierView,
};
use std::collections::BTreeMap;
use voice_room::{
    Entry, State,
    timeline::{Hold, Rule, What},
};

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rooms by state.
    pub rooms: Vec<(State, usize)>,
    /// Isolations that last.
    pub isolations: usize,
    /// Decisions since the start.
    pub tally: Tally,
    /// The kernel side.
    pub kernel: KernelStatus,
    /// Verdicts in force.
    pub armings: Armings,
    /// Traffic of all rooms, as of the last heartbeat.
    pub totals: Totals,
    /// Whether the store answered when last asked.
    pub store_answers: bool,
    /// How well what is depended on does.
    pub tiers: Vec<TierView>,
    /// What patrol found and did.
    pub patrol: PatrolFigures,
}

/// Decisions since the start, counted as they are recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Trips by rule.
    pub trips: BTreeMap<Rule, u64>,
    /// Trips that shadow mode would have made, by rule.
    pub would_trips: BTreeMap<Rule, u64>,
    /// Episodes in which a stuck room was held, by kind.
    pub holds: BTreeMap<Hold, u64>,
}

impl Tally {
    pub(super) fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Trip { rule, .. } => *self.trips.entry(*rule).or_default() += 1,
            What::WouldTrip { rule, .. } => *self.would_trips.entry(*rule).or_default() += 1,
            What::Held { hold, .. } => *self.holds.entry(*hold).or_default() += 1,
            _ => {}
        }
    }
}

impl Driver {
    pub(super) fn figures(&self) -> Figures {
        Figures {
            rooms: State::ALL.map(|state| (state, self.core.count(state))).to_vec(),
            isolations: self.core.isolations(now()).len(),
            tally: self.tally.clone(),
            kernel: self.kernel.status(),
            armings: self.kernel.armings(),
            totals: self.kernel.totals().clone(),
            store_answers: self.store_answers,
            tiers: self.tiers.views(),
            patrol: self.patrol.figures(),
        }
    }
}
