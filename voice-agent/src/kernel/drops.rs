//! First drops out of the ring buffer, and the counters out of their maps.

use super::{FirstDrop, KernelError, load::Maps, slots::Slots};
use aya::maps::{MapData, PerCpuArray};
use voice_common::{Class, Count, Direction, DropEvent, RoomCounts, Verdict};
use voice_room::{Mono, input::Counts};

/// Takes every event out of the ring buffer. Each CPU tells of its own first drop; the first one told counts.
pub(super) fn take(maps: &mut Maps, slots: &mut Slots) -> Vec<FirstDrop> {
    let mut drops = Vec::new();
    while let Some(item) = maps.events.next() {
        let Some(event) = read(&item) else {
            tracing::warn!(
                bytes = item.len(),
                "a first-drop event of unknown size was left out"
            );
            continue;
        };
        let Some(slot) = slots.get_mut(event.slot) else {
            continue;
        };
        let told = slot.told.get_mut(event.direction as usize);
        let Some(told) = told.filter(|t| t.0 != event.deadline && slot.generation == event.generation) else {
            continue;
        };
        *told = Mono(event.deadline);
        drops.push(FirstDrop {
            room: slot.room.clone(),
            deadline: Mono(event.deadline),
            ingress: event.direction == Direction::Ingress as u32,
            at: Mono(event.at),
        });
    }
    drops
}

fn read(bytes: &[u8]) -> Option<DropEvent> {
    let bytes: &[u8; size_of::<DropEvent>()] = bytes.try_into().ok()?;
    let long = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(DropEvent {
        deadline: long(0)?,
        at: long(8)?,
        slot: word(16)?,
        generation: word(20)?,
        direction: word(24)?,
        reserved: 0,
    })
}

/// The counters of a slot, over all CPUs.
pub(super) fn counts(map: &PerCpuArray<MapData, RoomCounts>, slot: u32) -> Result<RoomCounts, KernelError> {
    let per_cpu = map.get(&slot, 0).map_err(|e| KernelError::map("COUNTS", &e))?;
    let mut sum = RoomCounts::default();
    for cpu in per_cpu.iter() {
        for (total, one) in sum.counts.iter_mut().zip(&cpu.counts) {
            total.packets += one.packets;
            total.bytes += one.bytes;
        }
    }
    Ok(sum)
}

/// The counters as the core wants them. What shadow would have dropped has passed.
pub(super) fn summary(counts: &RoomCounts) -> Counts {
    let packets = |direction, class, verdict| {
        let Count { packets, .. } = counts.get(direction, class, verdict);
        packets
    };
    let all = |verdict| -> u64 {
        let directions = [Direction::Ingress, Direction::Egress].into_iter();
        directions
            .flat_map(|d| Class::ALL.map(|class| packets(d, class, verdict)))
            .sum()
    };
    let rtp = |d| packets(d, Class::Rtp, Verdict::Pass) + packets(d, Class::Rtp, Verdict::WouldDrop);
    Counts {
        rtp_in: rtp(Direction::Ingress),
        rtp_out: rtp(Direction::Egress),
        passed: all(Verdict::Pass) + all(Verdict::WouldDrop),
        dropped: all(Verdict::Drop),
        would_drop: all(Verdict::WouldDrop),
    }
}
