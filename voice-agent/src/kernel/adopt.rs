//! What a start makes of pinned maps: the slot table as they show it. Nothing armed is lifted here.

use super::{
    Found, KernelError, drops,
    load::Maps,
    shared,
    slots::{Desired, Slot, Slots},
    tables::{self, Tables},
};
use std::collections::{BTreeMap, BTreeSet};
use voice_common::{Owner, RoomEntry, RoomInfo, abi};
use voice_room::{
    Binding, Incarnation, Mono, Port, RoomId,
    input::{FoundBinding, FoundBlock},
};

/// Reads the slot table back. Slots whose verdict is in force but whose room cannot be told go to the second result:
/// they rest until their deadline.
pub(super) fn adopt(
    tables: &Tables,
    maps: &Maps,
    slots: &mut Slots,
    found: &mut Found,
) -> Result<BTreeSet<u32>, KernelError> {
    let now = tables::now();
    let ports = bound_ports(tables);
    let marks = maps.marks.by_owner()?;
    let none = BTreeSet::new();
    let mut orphans = BTreeSet::new();
    for slot in 1..tables.slots() {
        let entry = tables.room(slot);
        let info = maps
            .info
            .get(&slot, 0)
            .map_err(|e| KernelError::map("ROOM_INFO", &e))?;
        let bound = ports.get(&slot).cloned().unwrap_or_default();
        let generation = entry.generation;
        let marks = marks.get(&Owner { slot, generation }).unwrap_or(&none);
        match owner(&info, &entry).filter(|(room, _)| slots.find(room).is_none()) {
            Some((room, life)) => {
                let ports: Vec<Port> = bound.iter().copied().map(Port).collect();
                let binding = shared::binding(ports, marks.iter().copied());
                let verdict = block(&room, life, binding.clone(), &entry, now, found);
                if verdict.is_none() && binding.is_empty() {
                    slots.vacate(slot);
                    continue;
                }
                found.bindings.push(FoundBinding {
                    room: room.clone(),
                    incarnation: life,
                    binding,
                });
                let mut taken = Slot::new(&room, life, entry.generation);
                taken.verdict = verdict;
                taken.adopted = true;
                // An earlier agent has told these; telling them again would look like new traffic.
                taken.counted = Some(Box::new(drops::counts(&maps.counts, slot)?));
                slots.occupy(slot, taken);
                slots.claim(slot, &bound, marks);
            }
            None if entry.deadline > now.0 => {
                let line =
                    format!("slot {slot} is armed for a room that cannot be told; it ends at its deadline");
                found.report.push(line);
                orphans.insert(slot);
                slots.claim(slot, &bound, marks);
            }
            None => slots.vacate(slot),
        }
    }
    Ok(orphans)
}

/// Claimed ports by slot. An odd port beside an even one of the same slot follows from that one, and must follow it to
/// another room.
fn bound_ports(tables: &Tables) -> BTreeMap<u32, BTreeSet<u16>> {
    let mut ports: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    for port in 0..=u16::MAX {
        match tables.port(port) {
            abi::UNBOUND | abi::MUX => {}
            slot => {
                let of_slot = ports.entry(slot).or_default();
                if port.is_multiple_of(2) || !of_slot.contains(&(port - 1)) {
                    of_slot.insert(port);
                }
            }
        }
    }
    ports
}

/// Whose slot it is: only if the information belongs to the slot's present use.
pub(super) fn owner(info: &RoomInfo, entry: &RoomEntry) -> Option<(RoomId, Incarnation)> {
    named(info, entry.generation)
}

/// Whom the information names, if it is of this use of the slot.
pub(super) fn named(info: &RoomInfo, generation: u32) -> Option<(RoomId, Incarnation)> {
    if info.len == 0 || info.generation != generation {
        return None;
    }
    let id = info.id.get(..info.len as usize)?;
    let room = RoomId::new(std::str::from_utf8(id).ok()?).ok()?;
    Some((room, Incarnation(info.incarnation)))
}

/// The information as it is stored.
pub(super) fn info(room: &RoomId, incarnation: Incarnation, generation: u32) -> RoomInfo {
    let mut id = [0; 64];
    // A room id has at most 64 bytes (RoomId::MAX_LEN).
    for (to, from) in id.iter_mut().zip(room.as_str().bytes()) {
        *to = from;
    }
    RoomInfo {
        id,
        incarnation: incarnation.0,
        generation,
        len: u32::try_from(room.as_str().len()).unwrap_or(0),
    }
}

/// The block in force, reported; also one that the CLI released, which is none any more.
fn block(
    room: &RoomId,
    incarnation: Incarnation,
    binding: Binding,
    entry: &RoomEntry,
    now: Mono,
    found: &mut Found,
) -> Option<Desired> {
    let released = entry.released != 0 && entry.released == entry.generation;
    let armed = entry.deadline > now.0;
    if armed || (released && entry.last_deadline > now.0) {
        found.blocks.push(FoundBlock {
            room: room.clone(),
            incarnation,
            deadline: Mono(entry.last_deadline),
            binding,
            released: !armed,
        });
    }
    armed.then_some(Desired {
        deadline: Mono(entry.deadline),
        shadow: entry.mode == abi::MODE_SHADOW,
    })
}
