//! The maps, the settings given at load, and reading them as [`Tables`]. The programs write counters and events, and userspace all
//! else.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use voice_common::{
    FlowKey, Hook, HookCounts, Owner, Room, RoomCounts, RoomEntry, RoomInfo, SsrcKey, Tables,
    abi::{
        CONTROL_WORDS, CpuHooks, EVENT_BYTES, KILL_SWITCH, MAX_CPUS, MAX_FLOWS, MAX_SLOTS, MAX_SSRCS, Sure,
        UNBOUND,
    },
    bounded::bounded,
};

#[map]
static CONTROL: Array<u64> = Array::with_max_entries(CONTROL_WORDS, BPF_F_MMAPABLE);
// Without preallocation an entry is replaced as a whole, and costs memory only while it is there.
#[map]
static FLOWS: HashMap<FlowKey, Owner> = HashMap::with_max_entries(MAX_FLOWS, BPF_F_NO_PREALLOC);
#[map]
static SSRCS: HashMap<SsrcKey, Owner> = HashMap::with_max_entries(MAX_SSRCS, BPF_F_NO_PREALLOC);
#[map]
static ROOM_INFO: Array<RoomInfo> = Array::with_max_entries(MAX_SLOTS, 0);
#[map]
pub(crate) static COUNTS: PerCpuArray<RoomCounts> = PerCpuArray::with_max_entries(MAX_SLOTS, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// The media range: its first port, and how far from that its last one is. In one, and as wide as a register: so it takes
/// the fewest instructions.
#[unsafe(no_mangle)]
static RANGE: Global<[u32; 2]> = Global::new([50_000, 10_000]);

/// Stands in for the slots of all ports, which are one value of a map: its address is known, and there is nothing to look up.
/// The agent puts that map in the place of this section when it loads the programs (`kernel/direct.rs`).
#[unsafe(link_section = ".bss.PORT_SLOT")]
#[unsafe(no_mangle)]
static mut PORT_SLOT: [u32; 1] = [UNBOUND];
/// The same for the rooms of all slots.
#[unsafe(link_section = ".bss.ROOMS")]
#[unsafe(no_mangle)]
static mut ROOMS: [[u64; 8]; 1] = [[0; 8]; 1];

/// Where the value of the map begins that a static stands in for. By an instruction that the compiler does not look into: it
/// would hold the stand-in's size for the map's.
macro_rules! start_of {
    ($stand_in:ident) => {{
        #[cfg(target_arch = "bpf")]
        {
            let start;
            // SAFETY: loads an address, and nothing else.
            unsafe {
                core::arch::asm!("{} = {} ll", out(reg) start, sym $stand_in, options(pure, nomem, nostack));
            }
            start
        }
        #[cfg(not(target_arch = "bpf"))]
        (&raw mut $stand_in).cast()
    }};
}

/// Where the room in a slot lies; `None` for one that no node has. Of those that only this node lacks, `COUNTS` knows.
#[inline(always)]
fn room_at(slot: u32) -> Option<*const RoomEntry> {
    let rooms: *const RoomEntry = start_of!(ROOMS);
    (slot < MAX_SLOTS).then(|| rooms.wrapping_add(bounded::<SLOT_BITS>(slot as usize)))
}

/// Of a slot that a node may have. The verifier forgets the comparison of a number that was put on the stack before it.
const SLOT_BITS: i32 = MAX_SLOTS as i32 - 1;
const _: () = assert!(MAX_SLOTS.is_power_of_two());

/// What each hook passed without a room, by CPU: a plain array, since one for each CPU would be looked up by pointers that cost
/// more than all the rest of such a packet. In a section of its own, which makes it a map with one value.
#[unsafe(link_section = ".bss.HOOKS")]
#[unsafe(no_mangle)]
static mut HOOKS: [CpuHooks; MAX_CPUS] = [[HookCounts::ZERO; 3]; MAX_CPUS];

/// This CPU's counters of a hook; it alone writes them.
#[inline(always)]
pub(crate) fn hook_counts(hook: Hook) -> &'static mut HookCounts {
    // SAFETY: takes nothing, always there.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize % MAX_CPUS;
    // SAFETY: inside the map; packets of one CPU are judged one at a time at each hook, and userspace only reads.
    unsafe { &mut (*(&raw mut HOOKS).cast::<CpuHooks>().add(cpu))[hook as usize] }
}

/// The maps as the judgement reads them.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn kill_switch(&self) -> bool {
        match CONTROL.get_ptr(KILL_SWITCH) {
            // SAFETY: a lookup's result points at a live u64; userspace writes it at any time, hence volatile.
            Some(word) => unsafe { word.read_volatile() != 0 },
            None => false,
        }
    }

    #[inline(always)]
    fn in_range(&self, port: u16) -> bool {
        let [first, further] = RANGE.load();
        u32::from(port).wrapping_sub(first) <= further
    }

    #[inline(always)]
    fn slot(&self, port: u16) -> u32 {
        let slots: *const u32 = start_of!(PORT_SLOT);
        // SAFETY: there is one for every port; userspace writes it at any time, hence volatile.
        unsafe { slots.wrapping_add(bounded::<0xffff>(port.into())).read_volatile() }
    }

    #[inline(always)]
    fn room(&self, slot: u32) -> Option<Room> {
        let entry = room_at(slot)?;
        // SAFETY: points at a live RoomEntry; userspace writes it at any time, hence volatile. The deadline is read first:
        // it is the word that commits the others.
        unsafe {
            Some(Room {
                deadline: (&raw const (*entry).deadline).read_volatile(),
                generation: (&raw const (*entry).generation).read_volatile(),
                mode: (&raw const (*entry).mode).read_volatile(),
            })
        }
    }

    #[inline(always)]
    fn deadline(&self, slot: u32) -> Option<u64> {
        let entry = room_at(slot)?;
        // SAFETY: as above.
        Some(unsafe { (&raw const (*entry).deadline).read_volatile() })
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Owner> {
        // SAFETY: without preallocation an entry is never changed in place, and lives as long as the program runs.
        unsafe { FLOWS.get(key) }.copied()
    }

    #[inline(always)]
    fn ssrc(&self, key: &SsrcKey) -> Option<Owner> {
        // SAFETY: as above.
        unsafe { SSRCS.get(key) }.copied()
    }

    #[inline(always)]
    fn is_over(&self, slot: u32, deadline: u64) -> bool {
        // SAFETY: takes nothing; in every kernel since 5.5, and no more than a load there.
        let ticks = unsafe { bpf_jiffies64() };
        // A slot that this node lacks. What cannot be known passes.
        let Some(counts) = COUNTS.get_ptr_mut(slot) else {
            return true;
        };
        // SAFETY: points at this CPU's live counters; packets of one CPU are judged one at a time.
        let sure = unsafe { &mut (*counts).sure };
        if sure.holds(deadline, ticks) {
            return false;
        }
        ask_the_clock(sure, deadline, ticks)
    }
}

/// Apart: about once in the life of a verdict on each CPU.
#[cold]
#[inline(never)]
fn ask_the_clock(sure: &mut Sure, deadline: u64, ticks: u64) -> bool {
    let now = exact_now();
    if now >= deadline {
        return true;
    }
    *sure = Sure::new(deadline, now, ticks);
    false
}

/// CLOCK_MONOTONIC to the nanosecond.
#[inline(always)]
pub(crate) fn exact_now() -> u64 {
    // SAFETY: takes nothing, always there.
    unsafe { bpf_ktime_get_ns() }
}
