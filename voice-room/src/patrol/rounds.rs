//! Which differences count: those that two rounds in a row found, each the same. What a place that could not be read held
//! before is still taken for standing: nothing is known of it.

use super::{Class, Difference, Place};
use crate::{RoomId, Wall};
use alloc::{collections::BTreeMap, string::String, vec::Vec};

/// Differences that are kept of one round; more are only counted.
pub const MOST: usize = 4096;
/// It counts when so many rounds have found it.
const COUNTS: u32 = 2;

/// What one round finds.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Rooms that were looked at.
    pub rooms: usize,
    /// Of these, those that are not held or were changing: store and registry were not compared.
    pub unsettled: usize,
    /// In the order of their rooms.
    pub found: Vec<Difference>,
    /// Beyond [`MOST`].
    pub left_out: usize,
    /// Places that could not be read, and why.
    pub unknown: BTreeMap<Place, String>,
}

/// A difference that was found before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What.
    pub difference: Difference,
    /// How many rounds have found it in a row.
    pub rounds: u32,
    /// When the first of them ended.
    pub since: Wall,
    /// A repair was tried after the last round.
    tried: bool,
}

/// What the end of a round brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// These count from now on.
    pub new: Vec<Difference>,
    /// These are repaired by this agent itself: what it holds, in registry and kernel.
    pub repair: Vec<Difference>,
    /// These were repaired since the last round, and are gone; `false`: they still stand.
    pub repaired: Vec<(Difference, bool)>,
}

/// The rounds so far.
#[derive(Debug, Clone, Default)]
pub struct Rounds(BTreeMap<(RoomId, String), Standing>);

impl Round {
    /// Takes the differences of a room.
    pub fn take(&mut self, found: Vec<Difference>) {
        let room = MOST.saturating_sub(self.found.len());
        self.left_out += found.len().saturating_sub(room);
        self.found.extend(found.into_iter().take(room));
    }

    /// A place could not be read.
    pub fn unknown(&mut self, place: Place, problem: impl Into<String>) {
        self.unknown.entry(place).or_insert_with(|| problem.into());
    }
}

impl Standing {
    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.rounds >= COUNTS
    }
}

impl Rounds {
    /// Ends a round of every room.
    pub fn end(&mut self, now: Wall, round: &Round) -> Ended {
        let mut before = core::mem::take(&mut self.0);
        let mut ended = Ended::default();
        for difference in &round.found {
            let key = (difference.room.clone(), difference.path.clone());
            let same = before
                .remove(&key)
                .filter(|standing| standing.difference.is(difference));
            let standing = found_again(now, difference, same, &mut ended);
            self.0.insert(key, standing);
        }
        for (key, standing) in before {
            if round.unknown.contains_key(&standing.difference.place) {
                self.0.insert(key, standing);
            } else if standing.tried {
                ended.repaired.push((standing.difference, true));
            }
        }
        ended
    }

    /// Since when it stands, if a round has found it.
    pub fn standing(&self, difference: &Difference) -> Option<&Standing> {
        let key = (difference.room.clone(), difference.path.clone());
        self.0
            .get(&key)
            .filter(|standing| standing.difference.is(difference))
    }

    /// Those that count, by place and class.
    pub fn counts(&self) -> BTreeMap<(Place, Class), usize> {
        let mut counts = BTreeMap::new();
        for standing in self.0.values().filter(|standing| standing.counts()) {
            let Difference { place, class, .. } = standing.difference;
            *counts.entry((place, class)).or_default() += 1;
        }
        counts
    }
}

fn found_again(now: Wall, difference: &Difference, before: Option<Standing>, ended: &mut Ended) -> Standing {
    let mut standing = Standing {
        difference: difference.clone(),
        rounds: before.as_ref().map_or(1, |b| b.rounds.saturating_add(1)),
        since: before.as_ref().map_or(now, |b| b.since),
        tried: false,
    };
    if standing.rounds == COUNTS && difference.class != Class::Transient {
        ended.new.push(difference.clone());
    }
    if before.is_some_and(|b| b.tried) {
        ended.repaired.push((difference.clone(), false));
    }
    let by_itself = difference.class == Class::Repairable && difference.place != Place::Store;
    if standing.counts() && by_itself {
        standing.tried = true;
        ended.repair.push(difference.clone());
    }
    standing
}
