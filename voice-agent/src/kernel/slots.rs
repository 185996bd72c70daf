//! Which room has which slot, and which slot each port belongs to. Pure bookkeeping: the desired state that the maps
//! must show.

use super::shared::{Changed, Mark, Shared};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::RangeInclusive,
};
use voice_common::{
    RoomCounts,
    abi::{MUX, UNBOUND},
};
use voice_room::{Incarnation, Mono, RoomId};

/// The verdict a slot should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) deadline: Mono,
    pub(super) shadow: bool,
}

/// One room with a slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) room: RoomId,
    pub(super) incarnation: Incarnation,
    pub(super) generation: u32,
    pub(super) verdict: Option<Desired>,
    /// Taken over from pins, and not bound since: gives way when slots run out, unless it is armed.
    pub(super) adopted: bool,
    /// By direction: the deadline whose first drop was told.
    pub(super) told: [Mono; 2],
    /// What of its counters is in the totals already; `None`: nothing.
    pub(super) counted: Option<Box<RoomCounts>>,
}

/// Rooms, slots and ports.
#[derive(Debug)]
pub(super) struct Slots {
    range: RangeInclusive<u16>,
    rooms: HashMap<RoomId, u32>,
    /// Boxed: a node of the tree holds eleven, and half of a growing tree is empty.
    slots: BTreeMap<u32, Box<Slot>>,
    /// Oldest first, so that a slot rests as long as possible before it is used again.
    free: VecDeque<u32>,
    /// Ports claimed by name. Their odd neighbours follow from these, see [`Slots::owner`].
    claims: BTreeMap<u16, u32>,
    /// The same by slot; a slot without claims is not in it.
    claimed: HashMap<u32, BTreeSet<u16>>,
    /// Flows and SSRCs; a port with one is shared, whoever claims it by name.
    pub(super) shared: Shared,
}

impl Slots {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Slots {
            range,
            rooms: HashMap::new(),
            slots: BTreeMap::new(),
            free: VecDeque::new(),
            claims: BTreeMap::new(),
            claimed: HashMap::new(),
            shared: Shared::default(),
        }
    }

    pub(super) fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    pub(super) fn find(&self, room: &RoomId) -> Option<u32> {
        self.rooms.get(room).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(&slot).map(|s| &**s)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(&slot).map(|s| &mut **s)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().map(|(slot, s)| (*slot, &**s))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot)> {
        self.slots.iter_mut().map(|(slot, s)| (*slot, &mut **s))
    }

    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// A slot nobody has; taken out of the free ones.
    pub(super) fn next_free(&mut self) -> Option<u32> {
        self.free.pop_front()
    }

    /// A slot that was taken over, is not armed, and that nobody bound since.
    pub(super) fn evictable(&self) -> Option<RoomId> {
        self.slots
            .values()
            .find(|s| s.adopted && s.verdict.is_none())
            .map(|s| s.room.clone())
    }

    /// Gives `slot` to a room.
    pub(super) fn occupy(&mut self, slot: u32, owner: Slot) {
        self.rooms.insert(owner.room.clone(), slot);
        self.slots.insert(slot, Box::new(owner));
    }

    /// Makes `slot` free. Its ports have been unbound.
    pub(super) fn vacate(&mut self, slot: u32) {
        if let Some(gone) = self.slots.remove(&slot) {
            self.rooms.remove(&gone.room);
        }
        self.free.push_back(slot);
    }

    /// Ports claimed by `slot`.
    pub(super) fn ports(&self, slot: u32) -> Vec<u16> {
        self.claimed.get(&slot).into_iter().flatten().copied().collect()
    }

    /// Every claimed port.
    pub(super) fn claimed(&self) -> usize {
        self.claims.len()
    }

    /// Makes `ports` and `marks`, and only these, the claims of `slot`. Returns what may have changed in the maps.
    pub(super) fn claim(&mut self, slot: u32, ports: &BTreeSet<u16>, marks: &BTreeSet<Mark>) -> Changed {
        let mut changed = self.shared.claim(slot, marks);
        let touched = &mut changed.ports;
        for port in self.claimed.remove(&slot).unwrap_or_default() {
            self.claims.remove(&port);
            touched.insert(port);
        }
        for &port in ports {
            if let Some(loser) = self.claims.insert(port, slot) {
                self.lose(loser, port);
            }
            touched.insert(port);
        }
        if !ports.is_empty() {
            self.claimed.insert(slot, ports.clone());
        }
        let neighbours: Vec<u16> = touched.iter().filter_map(|p| rtcp_port(*p)).collect();
        touched.extend(neighbours);
        changed
    }

    fn lose(&mut self, slot: u32, port: u16) {
        if let Some(ports) = self.claimed.get_mut(&slot) {
            ports.remove(&port);
            if ports.is_empty() {
                self.claimed.remove(&slot);
            }
        }
    }

    /// The slot of a port: the one that claims it; for an odd port nobody claims, the one that claims the even port
    /// below, whose RTCP it carries. [`MUX`] for a shared port: it is no room's, and neither is the odd one above.
    pub(super) fn owner(&self, port: u16) -> u32 {
        if !self.range.contains(&port) {
            return UNBOUND;
        }
        if self.shared.is_shared(port) {
            return MUX;
        }
        let claimed = self.claims.get(&port);
        let below = port & !1;
        let neighbour = || {
            let rtp = self.claims.get(&below);
            rtp.filter(|_| port != below && !self.shared.is_shared(below))
        };
        claimed.or_else(neighbour).copied().unwrap_or(UNBOUND)
    }
}

/// The RTCP port that goes with an RTP port.
fn rtcp_port(port: u16) -> Option<u16> {
    port.is_multiple_of(2).then(|| port + 1)
}

impl Slot {
    pub(super) fn new(room: &RoomId, incarnation: Incarnation, generation: u32) -> Self {
        Slot {
            room: room.clone(),
            incarnation,
            generation,
            verdict: None,
            adopted: false,
            told: [Mono(0); 2],
            counted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voice_room::{Binding, Flow, Port};

    fn claimed(slots: &mut Slots, slot: u32, ports: &[u16]) -> BTreeSet<u16> {
        let ports = ports.iter().copied().collect();
        slots.claim(slot, &ports, &BTreeSet::new()).ports
    }

    fn flow(port: u16) -> BTreeSet<Mark> {
        let flow = Flow::new(Port(port), [10, 0, 0, 1].into(), 7);
        let flows = vec![flow];
        Mark::of(&Binding {
            flows,
            ..Binding::default()
        })
    }

    #[test]
    fn a_port_with_a_flow_of_any_room_is_no_rooms_and_neither_is_the_one_above() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_002]);
        let changed = slots.claim(2, &BTreeSet::new(), &flow(50_002));
        assert_eq!(changed.ports, [50_002, 50_003].into());
        assert_eq!((slots.owner(50_002), slots.owner(50_003)), (MUX, UNBOUND));
        let changed = slots.claim(2, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(changed.ports, [50_002, 50_003].into());
        assert_eq!((slots.owner(50_002), slots.owner(50_003)), (1, 1));
    }

    #[test]
    fn an_odd_port_belongs_to_the_room_of_the_even_port_below() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_002]);
        assert_eq!((slots.owner(50_002), slots.owner(50_003)), (1, 1));
        assert_eq!(slots.owner(50_004), UNBOUND);
    }

    #[test]
    fn an_odd_port_another_room_claims_is_that_rooms_and_comes_back_when_given_up() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_002]);
        claimed(&mut slots, 2, &[50_003]);
        assert_eq!((slots.owner(50_002), slots.owner(50_003)), (1, 2));
        let touched = claimed(&mut slots, 2, &[]);
        assert!(touched.contains(&50_003));
        assert_eq!(slots.owner(50_003), 1);
    }

    #[test]
    fn an_odd_claim_does_not_reach_the_even_port_above() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_003]);
        assert_eq!((slots.owner(50_003), slots.owner(50_004)), (1, UNBOUND));
    }

    #[test]
    fn the_neighbour_of_the_last_port_stays_outside_the_range() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_010]);
        assert_eq!((slots.owner(50_010), slots.owner(50_011)), (1, UNBOUND));
        let mut top = Slots::new(65_534..=65_535);
        claimed(&mut top, 1, &[65_534]);
        assert_eq!(top.owner(65_535), 1);
    }

    #[test]
    fn a_port_moves_to_the_room_that_claims_it_last() {
        let mut slots = Slots::new(50_000..=50_010);
        claimed(&mut slots, 1, &[50_000, 50_002]);
        claimed(&mut slots, 2, &[50_002]);
        assert_eq!(
            (slots.owner(50_000), slots.owner(50_002), slots.owner(50_003)),
            (1, 2, 2)
        );
        assert_eq!(slots.ports(1), [50_000]);
    }

    #[test]
    fn a_freed_slot_rests_behind_all_other_free_ones() {
        let mut slots = Slots::new(50_000..=50_010);
        for slot in 1..=3 {
            slots.vacate(slot);
        }
        let first = slots.next_free().unwrap();
        slots.vacate(first);
        assert_ne!(slots.next_free(), Some(first));
    }
}
