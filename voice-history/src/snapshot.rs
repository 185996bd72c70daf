//! What is kept of a room and of its node at one moment.

use crate::codec::row;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeMap;
use voice_common::{Class, Count, Direction, RoomCounts, Verdict, abi::COUNTS};
use voice_room::{Epoch, Incarnation, RoomId, State, StateChangeEvent, Version, Wall};

/// A change of state, as the store's event tells it.
pub type Transition = StateChangeEvent;

/// A room at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// Its life.
    pub incarnation: Incarnation,
    /// The record's version.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Media heartbeats missed in a row.
    pub misses: u32,
    /// Since the last media heartbeat, in tenths of a second; `None`: never one.
    pub heartbeat_age: Option<u32>,
    /// Clients whose signalling is alive.
    pub members: u32,
    /// Its media is cut until then.
    pub blocked_until: Option<Wall>,
    /// Packets and bytes since its ports were bound.
    pub media: Counters,
}

/// Everything that is kept of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// When.
    pub at: Wall,
    /// Each owned room.
    pub rooms: Rooms,
    /// What the node depends on.
    pub health: NodeHealth,
    /// What changed since the tick before.
    pub transitions: Vec<Transition>,
}

/// What rooms are like at one moment, packed: of 10,000 it takes one MiB rather than four, and several moments may wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rooms {
    ids: Vec<RoomId>,
    rows: Vec<u8>,
}

impl Rooms {
    /// One more.
    pub fn push(&mut self, room: RoomId, snapshot: &Snapshot) {
        self.ids.push(room);
        row::pack(&row::of(snapshot), &mut self.rows);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Their ids, in order.
    pub fn ids(&self) -> &[RoomId] {
        &self.ids
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RoomId, Snapshot)> {
        self.rows().map(|(room, row)| (room, row::snapshot(&row)))
    }

    /// Each as a row, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&RoomId, row::Row)> {
        let mut rest = self.rows.as_slice();
        // Only `push` packs, and each row that it packed can be unpacked.
        let unpacked = std::iter::from_fn(move || row::unpack(&mut rest).ok());
        self.ids.iter().zip(unpacked)
    }
}

impl FromIterator<(RoomId, Snapshot)> for Rooms {
    fn from_iter<T: IntoIterator<Item = (RoomId, Snapshot)>>(rooms: T) -> Rooms {
        let mut all = Rooms::default();
        for (room, snapshot) in rooms {
            all.push(room, &snapshot);
        }
        all
    }
}

/// How well each dependency and each configured probe is, by name.
pub type NodeHealth = BTreeMap<String, Health>;

/// How well a dependency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It answers.
    Healthy,
    /// It answers badly, or late.
    Degraded,
    /// It does not answer.
    Broken,
}

impl Health {
    /// Every level; its place here is its code on disk.
    pub const ALL: [Health; 3] = [Health::Healthy, Health::Degraded, Health::Broken];

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Broken => "broken",
        }
    }
}

/// Packets and bytes by direction, class and verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters(pub [Count; COUNTS]);

/// Directions in the order of the counters, with their names.
pub(crate) const DIRECTIONS: [(Direction, &str); 2] =
    [(Direction::Ingress, "in"), (Direction::Egress, "out")];

impl Counters {
    /// The count of these three.
    pub fn get(&self, direction: Direction, class: Class, verdict: Verdict) -> Count {
        // The index is below COUNTS for every value of the three.
        self.0
            .get(RoomCounts::index(direction, class, verdict))
            .copied()
            .unwrap_or_default()
    }

    /// Each count with its name, such as `in.rtp.pass`.
    pub fn named(&self) -> impl Iterator<Item = (String, Count)> + '_ {
        names().into_iter().zip(self.0)
    }
}

/// The names of the counts, in their order.
pub(crate) fn names() -> Vec<String> {
    let mut names = Vec::with_capacity(COUNTS);
    for (_, direction) in DIRECTIONS {
        for class in ["rtp", "rtcp", "other"] {
            for verdict in ["pass", "drop", "would_drop"] {
                names.push(format!("{direction}.{class}.{verdict}"));
            }
        }
    }
    names
}

#[derive(Serialize, Deserialize)]
struct Written {
    packets: u64,
    bytes: u64,
}

/// Counts of zero are left out.
impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in self.named().filter(|(_, c)| *c != Count::default()) {
            let Count { packets, bytes } = count;
            map.serialize_entry(&name, &Written { packets, bytes })?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Counters, D::Error> {
        let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
        let mut counters = Counters::default();
        for (name, count) in names().iter().zip(&mut counters.0) {
            if let Some(Written { packets, bytes }) = written.get(name) {
                (count.packets, count.bytes) = (*packets, *bytes);
            }
        }
        Ok(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_in_the_order_of_the_kernels() {
        let mut counters = Counters::default();
        let index = RoomCounts::index(Direction::Egress, Class::Rtcp, Verdict::WouldDrop);
        counters.0[index] = Count {
            packets: 7,
            bytes: 700,
        };
        let json = serde_json::to_string(&counters).unwrap();
        assert_eq!(json, r#"{"out.rtcp.would_drop":{"packets":7,"bytes":700}}"#);
        assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
        assert_eq!(
            counters
                .get(Direction::Egress, Class::Rtcp, Verdict::WouldDrop)
                .packets,
            7
        );
    }
}
