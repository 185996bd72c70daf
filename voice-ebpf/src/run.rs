//! The way of a packet through a program: judge, count, tell the first drop.

use crate::{
    maps::{COUNTS, EVENTS, HOOKS, Maps, exact_now},
    packet::{Packet, Size},
};
use aya_ebpf::EbpfContext;
use aya_log_ebpf::{info, warn};
use voice_common::{
    Bound, Direction, DropEvent, Hook, HookCounts, Reason, RoomCounts, Verdict, abi::COUNTS as CELLS,
    abi::Told, judge,
};

/// What the program answers.
pub(crate) enum Action {
    Pass,
    Drop,
}

/// Judges one packet.
#[inline(always)]
pub(crate) fn run<C: EbpfContext + Size>(ctx: &C, packet: &Packet, hook: Hook) -> Action {
    match judge(packet, hook.direction(), &Maps) {
        Err(reason) => {
            count_reason(hook, reason);
            Action::Pass
        }
        Ok(bound) => {
            count(ctx, hook, &bound);
            match bound.verdict {
                Verdict::Drop => Action::Drop,
                Verdict::Pass | Verdict::WouldDrop => Action::Pass,
            }
        }
    }
}

/// Against counting twice: what XDP lets pass goes on to TC, which counts it.
#[inline(always)]
fn count<C: EbpfContext + Size>(ctx: &C, hook: Hook, bound: &Bound) {
    if matches!(hook, Hook::Xdp) && !matches!(bound.verdict, Verdict::Drop) {
        return;
    }
    let Some(counts) = COUNTS.get_ptr_mut(bound.slot) else {
        return;
    };
    // SAFETY: points at this CPU's live counters; packets of one CPU are judged one at a time, userspace only reads
    // (and zeroes a slot while no port leads to it).
    let counts: &mut RoomCounts = unsafe { &mut *counts };
    let cell = RoomCounts::index(hook.direction(), bound.class, bound.verdict);
    if cell < CELLS {
        let (packets, bytes) = ctx.size();
        counts.counts[cell].packets += packets;
        counts.counts[cell].bytes += bytes;
    }
    if matches!(bound.verdict, Verdict::Drop) {
        tell_first(ctx, hook, bound, &mut counts.told[hook.direction() as usize]);
    }
}

/// The first drop of a trip on this CPU and direction goes to userspace. Its generation and deadline name the trip.
#[inline(always)]
fn tell_first<C: EbpfContext>(ctx: &C, hook: Hook, bound: &Bound, told: &mut Told) {
    let generation = u64::from(bound.room.generation);
    if told.deadline == bound.room.deadline && told.generation == generation {
        return;
    }
    *told = Told {
        deadline: bound.room.deadline,
        generation,
    };
    let event = DropEvent {
        deadline: bound.room.deadline,
        at: exact_now(),
        slot: bound.slot,
        generation: bound.room.generation,
        direction: hook.direction() as u32,
        reserved: 0,
    };
    info!(
        ctx,
        "first drop: slot {}, generation {}, direction {}", event.slot, event.generation, event.direction
    );
    let Some(mut entry) = EVENTS.reserve::<DropEvent>(0) else {
        if let Some(counts) = hook_counts(hook) {
            counts.lost_events += 1;
        }
        warn!(
            ctx,
            "first drop of slot {} lost: the ring buffer is full", event.slot
        );
        return;
    };
    entry.write(event);
    entry.submit(0);
}

#[inline(always)]
fn count_reason(hook: Hook, reason: Reason) {
    let index = reason as usize;
    if let Some(counts) = hook_counts(hook)
        && index < Reason::ALL.len()
    {
        counts.reasons[index] += 1;
    }
}

#[inline(always)]
fn hook_counts(hook: Hook) -> Option<&'static mut HookCounts> {
    // SAFETY: points at this CPU's live counters; packets of one CPU are judged one at a time, userspace only reads.
    HOOKS
        .get_ptr_mut(hook as u32)
        .map(|counts| unsafe { &mut *counts })
}

const _: () = assert!(Direction::Egress as usize == 1, "indexes RoomCounts::told");
