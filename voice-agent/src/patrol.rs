//! Patrol as the rest of the agent sees it: the answer to `diff`, a repair by command from its first look to its last, and the
//! figures. The comparing is in `voice_room::patrol`, the collecting in `driver/patrol.rs`.

pub mod repair;

use std::{collections::BTreeMap, time::Duration};
use voice_room::{
    RoomId, Wall,
    patrol::{Class, Difference, Place},
};

/// What a look found.
#[derive(Debug, Clone, Default)]
pub struct Diffs {
    /// Every difference, by room.
    pub found: Vec<Found>,
    /// Rooms that were compared.
    pub rooms: usize,
    /// Of these, those that are not held or were changing: compared with the kernel only.
    pub unsettled: usize,
    /// Differences beyond [`voice_room::patrol::rounds::MOST`].
    pub left_out: usize,
    /// Places that could not be read, and why.
    pub unknown: BTreeMap<Place, String>,
    /// From the first room to the last.
    pub took: Duration,
    /// `None`: none has ended yet.
    pub last: Option<LastRound>,
}

/// A difference, and what the rounds know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub difference: Difference,
    /// How many rounds in a row have found the same; it counts from two on.
    pub rounds: u32,
    /// When the first of them ended.
    pub since: Option<Wall>,
}

/// The last round of all rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRound {
    /// When.
    pub ended: Wall,
    /// From the first room to the last.
    pub took: Duration,
    /// How many.
    pub rooms: usize,
    /// The longest that the driver was busy with one slice.
    pub longest_slice: Duration,
    /// Places that could not be read.
    pub unknown: BTreeMap<Place, String>,
    /// Differences that were only counted.
    pub left_out: usize,
}

/// For metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatrolFigures {
    /// Differences that stood in the last two rounds.
    pub differences: BTreeMap<(Place, Class), usize>,
    /// Repairs of a room in a place since the start; `true`: the difference was gone afterwards.
    pub repairs: BTreeMap<(Place, bool), u64>,
    /// `None`: none has ended yet.
    pub last: Option<LastRound>,
    /// Since it ended.
    pub age: Option<Duration>,
}

/// Differences by room and place: these are recorded and repaired together.
pub fn grouped(differences: Vec<Difference>) -> BTreeMap<(RoomId, Place), Vec<Difference>> {
    let mut groups: BTreeMap<(RoomId, Place), Vec<Difference>> = BTreeMap::new();
    for difference in differences {
        let key = (difference.room.clone(), difference.place);
        groups.entry(key).or_default().push(difference);
    }
    groups
}
