//! The way of a packet through a program: judge, count, tell the first drop.
//!
//! What few packets need lies apart, in functions that are called: there it costs the others neither registers nor stack.

use crate::{
    maps::{COUNTS, EVENTS, Maps, exact_now, hook_counts},
    packet::Context,
};
use aya_ebpf::EbpfContext;
use aya_log_ebpf::{info, warn};
use core::hint::cold_path;
use voice_common::{
    Bound, Class, Direction, DropEvent, Glance, Hook, Reason, RoomCounts, Verdict, abi::Told, glance,
    judge_any, judge_slot,
};

/// What the program answers.
#[repr(u32)]
pub(crate) enum Action {
    Pass,
    Drop,
}

/// Where a program is attached: known where its code is made, so that none of it asks.
pub(crate) trait At {
    const HOOK: Hook;
    const DIRECTION: Direction = Self::HOOK.direction();
    /// Against counting twice: what XDP lets pass goes on to TC, which counts it.
    const COUNTS_PASSED: bool = !matches!(Self::HOOK, Hook::Xdp);
}

/// Judges one packet.
#[inline(always)]
pub(crate) fn run<A: At, C: Context>(ctx: C) -> Action {
    match glance(&ctx.near(), A::DIRECTION, &Maps) {
        Glance::Off(reason) => {
            count_reason::<A>(reason);
            Action::Pass
        }
        Glance::Open(slot, class) => {
            if A::COUNTS_PASSED {
                count::<A, C>(&ctx, slot, class, Verdict::Pass);
            }
            Action::Pass
        }
        Glance::Armed(slot, class) => act::<A, C>(ctx, judge_slot(slot, class, &Maps)),
        Glance::Other => other::<A, C>(ctx),
    }
}

#[cold]
#[inline(never)]
fn other<A: At, C: Context>(ctx: C) -> Action {
    let judged = judge_any(&ctx.whole(), A::DIRECTION, &Maps);
    act::<A, C>(ctx, judged)
}

#[inline(always)]
fn act<A: At, C: Context>(ctx: C, judged: Result<Bound, Reason>) -> Action {
    let bound = match judged {
        Ok(bound) => bound,
        Err(reason) => {
            count_reason::<A>(reason);
            return Action::Pass;
        }
    };
    // Each verdict by itself: the verifier has to know which cell of the counters is meant.
    match bound.verdict {
        Verdict::Drop => {
            if let Some(counts) = count::<A, C>(&ctx, bound.slot, bound.class, Verdict::Drop) {
                told::<A, C>(ctx, &bound, &mut counts.told[A::DIRECTION as usize]);
            }
            return Action::Drop;
        }
        Verdict::WouldDrop if A::COUNTS_PASSED => {
            count::<A, C>(&ctx, bound.slot, bound.class, Verdict::WouldDrop);
        }
        Verdict::Pass if A::COUNTS_PASSED => {
            count::<A, C>(&ctx, bound.slot, bound.class, Verdict::Pass);
        }
        Verdict::WouldDrop | Verdict::Pass => {}
    }
    Action::Pass
}

/// Counts a packet of a room, on this CPU.
#[inline(always)]
fn count<A: At, C: Context>(
    ctx: &C,
    slot: u32,
    class: Class,
    verdict: Verdict,
) -> Option<&'static mut RoomCounts> {
    let Some(counts) = COUNTS.get_ptr_mut(slot) else {
        cold_path();
        count_reason::<A>(Reason::NoSlot);
        return None;
    };
    // SAFETY: points at this CPU's live counters; packets of one CPU are judged one at a time, userspace only reads
    // (and zeroes a slot while no port leads to it).
    let counts = unsafe { &mut *counts };
    let cell = counts
        .counts
        .get_mut(RoomCounts::index(A::DIRECTION, class, verdict))?;
    let (packets, bytes) = ctx.size();
    cell.packets += packets;
    cell.bytes += bytes;
    Some(counts)
}

#[inline(always)]
fn count_reason<A: At>(reason: Reason) {
    let index = reason as usize;
    if A::COUNTS_PASSED && index < Reason::ALL.len() {
        hook_counts(A::HOOK).reasons[index] += 1;
    }
}

/// The first drop of a trip on this CPU and direction goes to userspace. Its generation and deadline name the trip.
#[inline(always)]
fn told<A: At, C: EbpfContext>(ctx: C, bound: &Bound, told: &mut Told) {
    let trip = Told {
        deadline: bound.room.deadline,
        generation: u64::from(bound.room.generation),
    };
    if *told != trip {
        *told = trip;
        tell::<A, C>(ctx, bound.slot, bound.room.generation, trip.deadline);
    }
}

#[cold]
#[inline(never)]
fn tell<A: At, C: EbpfContext>(ctx: C, slot: u32, generation: u32, deadline: u64) {
    let event = DropEvent {
        deadline,
        at: exact_now(),
        slot,
        generation,
        direction: A::DIRECTION as u32,
        reserved: 0,
    };
    info!(
        &ctx,
        "first drop: slot {}, generation {}, direction {}", event.slot, event.generation, event.direction
    );
    let Some(mut entry) = EVENTS.reserve::<DropEvent>(0) else {
        hook_counts(A::HOOK).lost_events += 1;
        warn!(
            &ctx,
            "first drop of slot {} lost: the ring buffer is full", event.slot
        );
        return;
    };
    entry.write(event);
    entry.submit(0);
}

const _: () = assert!(Direction::Egress as usize == 1, "indexes RoomCounts::told");
