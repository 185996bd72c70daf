//! The verdict on a packet: one table, run by the kernel programs and by the host's tests.

use crate::{
    Class, Direction, FlowKey, Frame, Owner, Reason, SsrcKey,
    abi::{MODE_SHADOW, MUX, UNBOUND},
    mux,
    packet::{self, Plain},
};
use core::hint::cold_path;

/// What becomes of a packet of a bound room. The order is that of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// It goes on.
    Pass = 0,
    /// It ends here.
    Drop = 1,
    /// It goes on, and is counted as one that would have ended here.
    WouldDrop = 2,
}

impl Verdict {
    /// Every verdict, in the order of the counters.
    pub const ALL: [Verdict; 3] = [Verdict::Pass, Verdict::Drop, Verdict::WouldDrop];
}

/// The words of a `RoomEntry` that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// See [`crate::RoomEntry::deadline`].
    pub deadline: u64,
    /// See [`crate::RoomEntry::generation`].
    pub generation: u32,
    /// See [`crate::RoomEntry::mode`].
    pub mode: u32,
}

/// What a judgement looks up.
pub trait Tables {
    /// Whether the kill switch is on.
    fn kill_switch(&self) -> bool;
    /// Whether a port is of the media range.
    fn in_range(&self, port: u16) -> bool;
    /// The slot of a port; [`UNBOUND`] for none, [`MUX`] for a shared one.
    fn slot(&self, port: u16) -> u32;
    /// The room in a slot; `None` for a slot that does not exist, such as [`MUX`].
    fn room(&self, slot: u32) -> Option<Room>;
    /// The first of its words alone: most rooms are not armed, and then it says all.
    fn deadline(&self, slot: u32) -> Option<u64>;
    /// Whose flow it is, on a shared port.
    fn flow(&self, key: &FlowKey) -> Option<Owner>;
    /// Whose stream it is, on a shared port.
    fn ssrc(&self, key: &SsrcKey) -> Option<Owner>;
    /// Whether the room's deadline has come. Asked only when the room is armed: a clock costs more than all the rest.
    fn is_over(&self, slot: u32, deadline: u64) -> bool;
}

/// A packet of a bound room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The room's slot.
    pub slot: u32,
    /// What kind of packet it is.
    pub class: Class,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The room as it was judged; all zero when the packet passes.
    pub room: Room,
}

impl Bound {
    /// Of a room that lets it pass.
    #[inline(always)]
    fn open(slot: u32, class: Class) -> Bound {
        Bound {
            slot,
            class,
            verdict: Verdict::Pass,
            room: Room::default(),
        }
    }
}

/// What a look at a [`Plain`] frame tells, before any clock is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance {
    /// No packet of a bound room. It passes.
    Off(Reason),
    /// A packet of the room in this slot, which is not armed. It passes.
    Open(u32, Class),
    /// A packet of the room in this slot, for [`judge_slot`].
    Armed(u32, Class),
    /// A frame, or a port, for [`judge_any`].
    Other,
}

/// Judges a frame going in `direction`. `Err`: it is no packet of a bound room, and passes.
#[inline(always)]
pub fn judge<F, T>(frame: &F, direction: Direction, tables: &T) -> Result<Bound, Reason>
where
    F: Frame + ?Sized,
    T: Tables,
{
    match glance(frame, direction, tables) {
        Glance::Off(reason) => Err(reason),
        Glance::Open(slot, class) => Ok(Bound::open(slot, class)),
        Glance::Armed(slot, class) => judge_slot(slot, class, tables),
        Glance::Other => judge_any(frame, direction, tables),
    }
}

/// The short way, which nearly every packet takes to its end.
#[inline(always)]
pub fn glance<F, T>(frame: &F, direction: Direction, tables: &T) -> Glance
where
    F: Frame + ?Sized,
    T: Tables,
{
    let Some(plain) = Plain::of(frame) else {
        cold_path();
        return Glance::Other;
    };
    if let Some(reason) = plain.off() {
        return Glance::Off(reason);
    }
    let local = plain.local(direction);
    if !tables.in_range(local) {
        return Glance::Off(Reason::OutOfRange);
    }
    let slot = tables.slot(local);
    if slot == UNBOUND {
        return Glance::Off(Reason::Unbound);
    }
    // The sentinel is looked for only where no room is found, so that ports of one room do not pay for it.
    match tables.deadline(slot) {
        Some(0) => Glance::Open(slot, plain.class()),
        Some(_) => {
            cold_path();
            Glance::Armed(slot, plain.class())
        }
        None => {
            cold_path();
            Glance::Other
        }
    }
}

/// The whole way of a frame.
#[inline(always)]
pub fn judge_any<F, T>(frame: &F, direction: Direction, tables: &T) -> Result<Bound, Reason>
where
    F: Frame + ?Sized,
    T: Tables,
{
    let udp = packet::parse(frame)?;
    let slot = slot(udp.local(direction), tables)?;
    let class = packet::class(frame, &udp);
    if slot == MUX {
        let (slot, room) = mux::room(frame, &udp, class, direction, tables)?;
        return verdict(slot, class, room, tables);
    }
    judge_slot(slot, class, tables)
}

/// The end of the way: a packet of this class, of the room in this slot.
#[inline(always)]
pub fn judge_slot<T: Tables>(slot: u32, class: Class, tables: &T) -> Result<Bound, Reason> {
    let room = tables.room(slot).ok_or(Reason::NoSlot)?;
    verdict(slot, class, room, tables)
}

/// The slot of a local port.
#[inline(always)]
fn slot<T: Tables>(local: u16, tables: &T) -> Result<u32, Reason> {
    if !tables.in_range(local) {
        return Err(Reason::OutOfRange);
    }
    match tables.slot(local) {
        UNBOUND => Err(Reason::Unbound),
        slot => Ok(slot),
    }
}

#[inline(always)]
fn verdict<T: Tables>(slot: u32, class: Class, room: Room, tables: &T) -> Result<Bound, Reason> {
    if room.deadline == 0 || tables.is_over(slot, room.deadline) {
        return Ok(Bound::open(slot, class));
    }
    // Before every drop, and not before: what passes anyway need not pay for the switch.
    if tables.kill_switch() {
        return Err(Reason::KillSwitch);
    }
    let verdict = if room.mode == MODE_SHADOW {
        Verdict::WouldDrop
    } else {
        Verdict::Drop
    };
    Ok(Bound {
        slot,
        class,
        verdict,
        room,
    })
}
