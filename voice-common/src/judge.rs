//! The verdict on a packet: one table, run by the kernel programs and by the host's tests.

use crate::{
    Class, Direction, FlowKey, Frame, Owner, Reason, SsrcKey,
    abi::{MODE_SHADOW, MUX, UNBOUND},
    mux, packet,
};

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
    /// The media range, both ends included.
    fn range(&self) -> (u16, u16);
    /// The slot of a port; [`UNBOUND`] for none, [`MUX`] for a shared one.
    fn slot(&self, port: u16) -> u32;
    /// The room in a slot; `None` for a slot that does not exist, such as [`MUX`].
    fn room(&self, slot: u32) -> Option<Room>;
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
    /// The room as it was judged.
    pub room: Room,
}

/// Judges a frame going in `direction`. `Err`: it is no packet of a bound room, and passes.
#[inline(always)]
pub fn judge<F, T>(frame: &F, direction: Direction, tables: &T) -> Result<Bound, Reason>
where
    F: Frame + ?Sized,
    T: Tables,
{
    let udp = packet::parse(frame)?;
    let local = match direction {
        Direction::Ingress => udp.dst(),
        Direction::Egress => udp.src(),
    };
    let (first, last) = tables.range();
    if local < first || local > last {
        return Err(Reason::OutOfRange);
    }
    let slot = tables.slot(local);
    if slot == UNBOUND {
        return Err(Reason::Unbound);
    }
    // The sentinel is looked for only where no room was found, so that ports of one room do not pay for it.
    let (slot, class, room) = match tables.room(slot) {
        Some(room) => (slot, packet::class(frame, &udp), room),
        None if slot == MUX => mux::room(frame, &udp, direction, tables)?,
        None => return Err(Reason::NoSlot),
    };
    let verdict = verdict(&room, || tables.is_over(slot, room.deadline));
    // Last, and before every drop: what passes anyway need not pay for the switch.
    if !matches!(verdict, Verdict::Pass) && tables.kill_switch() {
        return Err(Reason::KillSwitch);
    }
    Ok(Bound {
        slot,
        class,
        verdict,
        room,
    })
}

/// The verdict of a room; `is_over` tells whether its deadline has come. The deadline itself is already free.
#[inline(always)]
pub fn verdict(room: &Room, is_over: impl FnOnce() -> bool) -> Verdict {
    if room.deadline == 0 || is_over() {
        Verdict::Pass
    } else if room.mode == MODE_SHADOW {
        Verdict::WouldDrop
    } else {
        Verdict::Drop
    }
}
