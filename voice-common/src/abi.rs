//! The maps: names, sizes, value layouts. A change here is a change of [`ABI_VERSION`], which names the pin directory.

use crate::{Class, Reason, Verdict};

/// The version of everything in this file. Part of the pin directory's name (`Paths::pin_dir`).
pub const ABI_VERSION: u32 = 4;

/// Entries of `PORT_SLOT`: one per UDP port, whatever the configured range. All of them are one value of the map, as are all of
/// `ROOMS`: the address of a map's only value is known when the program is loaded, and a look-up costs more than the rest.
pub const PORTS: u32 = 65_536;
/// The slot of an unbound port. `ROOMS[0]` is never used.
pub const UNBOUND: u32 = 0;
/// The slot of a port that several rooms share: `FLOWS` and `SSRCS` tell whose packet it is. No room has this slot.
pub const MUX: u32 = u32::MAX;
/// Entries of `FLOWS`: more participants than one node serves. Userspace refuses a room before it is full.
pub const MAX_FLOWS: u32 = 65_536;
/// Entries of `SSRCS`, as [`MAX_FLOWS`].
pub const MAX_SSRCS: u32 = 65_536;
/// The most entries of the maps by slot; 336 bytes of counters each, on every CPU.
pub const MAX_SLOTS: u32 = 65_536;

/// Entries of `CONTROL`.
pub const CONTROL_WORDS: u32 = 8;
/// `CONTROL[KILL_SWITCH]`: anything but 0 lets every packet pass. Read before every drop.
pub const KILL_SWITCH: u32 = 0;

/// [`RoomEntry::mode`]: drop until the deadline.
pub const MODE_DROP: u32 = 0;
/// [`RoomEntry::mode`]: pass, and count what would have been dropped.
pub const MODE_SHADOW: u32 = 1;

/// Bytes of the ring buffer `EVENTS`: room for 3276 first drops of 40 bytes.
pub const EVENT_BYTES: u32 = 1 << 17;

/// Which way a packet goes, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Towards the node; its local port is the destination.
    Ingress = 0,
    /// From the node; its local port is the source.
    Egress = 1,
}

/// Where a program is attached. Indexes `HOOKS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// The driver, ingress.
    Xdp = 0,
    /// TC, ingress.
    TcIngress = 1,
    /// TC, egress.
    TcEgress = 2,
}

impl Hook {
    /// Every hook, in the order of `HOOKS`.
    pub const ALL: [Hook; 3] = [Hook::Xdp, Hook::TcIngress, Hook::TcEgress];

    /// The direction of the packets seen there.
    #[inline(always)]
    pub const fn direction(self) -> Direction {
        match self {
            Hook::Xdp | Hook::TcIngress => Direction::Ingress,
            Hook::TcEgress => Direction::Egress,
        }
    }

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::TcIngress => "tc-ingress",
            Hook::TcEgress => "tc-egress",
        }
    }
}

/// `ROOMS[slot]`, one cache line. `deadline` is the only commit point: every other word is written before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct RoomEntry {
    /// CLOCK_MONOTONIC, ns; the verdict is in force while now < deadline. 0: not armed.
    pub deadline: u64,
    /// Counts the uses of the slot; 0: never used.
    pub generation: u32,
    /// [`MODE_DROP`] or [`MODE_SHADOW`].
    pub mode: u32,
    /// CLOCK_MONOTONIC, ns: when it was armed last.
    pub armed_at: u64,
    /// The deadline given at the last arming; stays when the verdict is lifted.
    pub last_deadline: u64,
    /// The generation that the CLI released while the agent was dead; the agent honours it. 0: none.
    pub released: u32,
    /// To the end of the cache line.
    pub reserved: [u32; 7],
}

/// `ROOM_INFO[slot]`: whose slot it is, so that the CLI can name rooms when the agent is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RoomInfo {
    /// The room id; `len` bytes of it.
    pub id: [u8; 64],
    /// The room's life.
    pub incarnation: u64,
    /// The slot's generation when this was written; another one in `ROOMS` means that this is stale.
    pub generation: u32,
    /// Bytes of `id`; 0: free.
    pub len: u32,
}

/// A key of `FLOWS`: the remote end of a media session on a shared port, the same for both directions. The local address
/// is left out: media servers listen on all of theirs, and may know themselves by one that is not in the packets (NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The local port.
    pub port: u16,
    /// The remote port.
    pub remote_port: u16,
    /// The remote address; IPv4 as ::ffff:a.b.c.d.
    pub remote: [u8; 16],
}

/// A key of `SSRCS`: who sends an RTP stream on a shared port, whatever address it comes from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct SsrcKey {
    /// The synchronisation source.
    pub ssrc: u32,
    /// The local port.
    pub port: u32,
}

/// A value of `FLOWS` and `SSRCS`: the room, by slot. It counts only while the slot is in that use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Owner {
    /// The room's slot.
    pub slot: u32,
    /// The slot's generation when this was written.
    pub generation: u32,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Count {
    /// Packets (segments of a GSO packet count one by one).
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

/// Directions × classes × verdicts.
pub const COUNTS: usize = 2 * 3 * 3;

/// `COUNTS[slot]`, per CPU. TC counts what passes and what would be dropped; whoever drops counts the drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct RoomCounts {
    /// See [`RoomCounts::index`].
    pub counts: [Count; COUNTS],
    /// By direction: the trip whose first drop this CPU has told.
    pub told: [Told; 2],
    /// What this CPU knows of the deadline without looking at the clock.
    pub sure: Sure,
}

/// A trip of which the first drop was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Told {
    /// Its deadline.
    pub deadline: u64,
    /// Its slot's generation.
    pub generation: u64,
}

/// A deadline that surely has not come yet: the clock was looked at, and need not be again for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Sure {
    /// The deadline, CLOCK_MONOTONIC, ns.
    pub deadline: u64,
    /// It lies ahead while the kernel's count of ticks (jiffies) is below this.
    pub until: u64,
}

impl Sure {
    /// Ticks follow CLOCK_MONOTONIC, but late: by one of them (1-10 ms), and more when the CPU that keeps the time is held
    /// up. So close to a deadline the clock itself is asked: blocks end on time.
    pub const LAG_NS: u64 = 200_000_000;
    /// No kernel ticks slower than 100 times a second.
    const LONGEST_TICK_NS: u64 = 10_000_000;

    /// After a look at the clock: `ticks` were counted before it said `now`, which is before `deadline`.
    #[inline(always)]
    pub fn new(deadline: u64, now: u64, ticks: u64) -> Sure {
        let left = deadline.saturating_sub(now);
        Sure {
            deadline,
            until: ticks.saturating_add(left.saturating_sub(Self::LAG_NS) / Self::LONGEST_TICK_NS),
        }
    }

    /// Whether this still says, at so many ticks, that `deadline` lies ahead.
    #[inline(always)]
    pub fn holds(&self, deadline: u64, ticks: u64) -> bool {
        self.deadline == deadline && ticks < self.until
    }
}

impl RoomCounts {
    /// Where the count of these three lies in `counts`.
    #[inline(always)]
    pub fn index(direction: Direction, class: Class, verdict: Verdict) -> usize {
        direction as usize * 9 + class as usize * 3 + verdict as usize
    }

    /// The count of these three.
    pub fn get(&self, direction: Direction, class: Class, verdict: Verdict) -> Count {
        self.counts[Self::index(direction, class, verdict)]
    }
}

/// CPUs that `HOOKS` tells apart; the counts of more would be mixed.
pub const MAX_CPUS: usize = 512;

/// `HOOKS[cpu]`, by [`Hook`].
pub type CpuHooks = [HookCounts; 3];

/// What a hook counted on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct HookCounts {
    /// Packets that passed for each [`Reason`]. XDP counts none: what it lets pass goes on to TC, which counts it.
    pub reasons: [u64; Reason::ALL.len()],
    /// First drops that the ring buffer had no room for.
    pub lost_events: u64,
    /// Zero: fills two cache lines, so that no CPU writes into another's.
    pub reserved: [u64; 3],
}

impl HookCounts {
    /// Nothing counted.
    pub const ZERO: HookCounts = HookCounts {
        reasons: [0; Reason::ALL.len()],
        lost_events: 0,
        reserved: [0; 3],
    };
}

/// What the ring buffer `EVENTS` carries: a first drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct DropEvent {
    /// The deadline of the trip.
    pub deadline: u64,
    /// CLOCK_MONOTONIC, ns.
    pub at: u64,
    /// The room's slot.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// [`Direction`].
    pub direction: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<RoomEntry>() == 64 && size_of::<RoomInfo>() == 80);
const _: () = assert!(size_of::<HookCounts>() == 128);
const _: () = assert!(size_of::<RoomCounts>() == 336 && size_of::<DropEvent>() == 32);
const _: () = assert!(size_of::<FlowKey>() == 20 && size_of::<SsrcKey>() == 8 && size_of::<Owner>() == 8);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: plain integers, #[repr(C)], no padding (sizes asserted above or evident), any bit pattern is valid.
    unsafe impl aya::Pod for super::RoomEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::RoomInfo {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::RoomCounts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::HookCounts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::DropEvent {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SsrcKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Owner {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_deadline_is_sure_only_while_even_the_slowest_ticks_keep_it_ahead() {
        let (now, ticks) = (50 * SECOND, 7000);
        let sure = Sure::new(now + 300 * SECOND, now, ticks);
        assert_eq!(sure.until, ticks + 29_980, "299.8 s of 10 ms each");
        assert!(sure.holds(sure.deadline, ticks) && sure.holds(sure.deadline, sure.until - 1));
        assert!(!sure.holds(sure.deadline, sure.until));
        assert!(!sure.holds(sure.deadline + 1, ticks), "another deadline");
    }

    #[test]
    fn near_a_deadline_nothing_is_sure() {
        let now = 50 * SECOND;
        for left in [0, 1, Sure::LAG_NS, Sure::LAG_NS + Sure::LONGEST_TICK_NS - 1] {
            assert!(
                !Sure::new(now + left, now, 7000).holds(now + left, 7000),
                "{left}"
            );
        }
        assert!(!Sure::default().holds(now, 0));
    }
}
