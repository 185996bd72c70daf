//! The three memory-mapped tables and the order in which their words are written.

use super::{KernelError, mapped::Mapped};
use aya::maps::MapData;
use nix::time::{ClockId, clock_gettime};
use std::{
    mem::offset_of,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use voice_common::{
    Room, RoomEntry,
    abi::{CONTROL_WORDS, KILL_SWITCH, MODE_DROP, MODE_SHADOW, PORTS},
};
use voice_room::Mono;

/// `CONTROL`, `PORT_SLOT` and `ROOMS`. The agent is their writer; the CLI writes only when the agent is dead.
#[derive(Debug)]
pub struct Tables {
    control: Mapped<u64>,
    ports: Mapped<u32>,
    rooms: Mapped<RoomEntry>,
}

impl Tables {
    /// Maps the tables; `slots` is how many of `ROOMS` are used. Their shapes have been checked.
    pub(super) fn new(
        control: &MapData,
        ports: &MapData,
        rooms: &MapData,
        slots: u32,
    ) -> Result<Self, KernelError> {
        Ok(Tables {
            control: map("CONTROL", control, CONTROL_WORDS)?,
            ports: map("PORT_SLOT", ports, PORTS)?,
            rooms: map("ROOMS", rooms, slots)?,
        })
    }

    /// Used slots of `ROOMS`; slot 0 is none.
    pub fn slots(&self) -> u32 {
        self.rooms.entries()
    }

    /// The kill-switch word.
    pub fn kill_switch(&self) -> bool {
        load64(self.control.word64(KILL_SWITCH, 0)) != 0
    }

    /// Writes the kill-switch word.
    pub fn set_kill_switch(&self, on: bool) {
        store64(self.control.word64(KILL_SWITCH, 0), u64::from(on));
    }

    /// The slot of a port.
    pub fn port(&self, port: u16) -> u32 {
        load32(self.ports.word32(u32::from(port), 0))
    }

    /// Binds a port to a slot; 0 unbinds it.
    pub fn set_port(&self, port: u16, slot: u32) {
        store32(self.ports.word32(u32::from(port), 0), slot);
    }

    /// A room's words.
    pub fn room(&self, slot: u32) -> RoomEntry {
        RoomEntry {
            deadline: load64(self.deadline(slot)),
            generation: load32(self.rooms.word32(slot, offset_of!(RoomEntry, generation))),
            mode: load32(self.mode(slot)),
            armed_at: load64(self.rooms.word64(slot, offset_of!(RoomEntry, armed_at))),
            last_deadline: load64(self.rooms.word64(slot, offset_of!(RoomEntry, last_deadline))),
            released: load32(self.released(slot)),
            reserved: [0; 7],
        }
    }

    /// Arms the verdict. The deadline is stored last, with release: whoever sees it sees the rest.
    pub fn arm(&self, slot: u32, deadline: Mono, shadow: bool) {
        // A verdict that is already armed in the other mode ends first.
        if load32(self.mode(slot)) != mode(shadow) {
            self.disarm(slot);
        }
        store32(self.released(slot), 0);
        store32(self.mode(slot), mode(shadow));
        store64(self.rooms.word64(slot, offset_of!(RoomEntry, armed_at)), now().0);
        store64(
            self.rooms.word64(slot, offset_of!(RoomEntry, last_deadline)),
            deadline.0,
        );
        store64(self.deadline(slot), deadline.0);
    }

    /// Lifts the verdict.
    pub fn disarm(&self, slot: u32) {
        store64(self.deadline(slot), 0);
    }

    /// Lifts the verdict for the CLI, and tells the next agent.
    pub fn release(&self, slot: u32) {
        store32(self.released(slot), self.room(slot).generation);
        self.disarm(slot);
    }

    /// Starts a new use of a slot that no port leads to and that is not armed; returns its generation.
    pub(super) fn next_generation(&self, slot: u32) -> u32 {
        let next = self.room(slot).generation.wrapping_add(1).max(1);
        store32(self.released(slot), 0);
        store64(self.rooms.word64(slot, offset_of!(RoomEntry, last_deadline)), 0);
        store32(self.rooms.word32(slot, offset_of!(RoomEntry, generation)), next);
        next
    }

    /// Puts a slot's generation back to what it was given.
    pub(super) fn set_generation(&self, slot: u32, generation: u32) {
        let word = self.rooms.word32(slot, offset_of!(RoomEntry, generation));
        store32(word, generation);
    }

    fn deadline(&self, slot: u32) -> Option<&AtomicU64> {
        self.rooms.word64(slot, offset_of!(RoomEntry, deadline))
    }

    fn mode(&self, slot: u32) -> Option<&AtomicU32> {
        self.rooms.word32(slot, offset_of!(RoomEntry, mode))
    }

    fn released(&self, slot: u32) -> Option<&AtomicU32> {
        self.rooms.word32(slot, offset_of!(RoomEntry, released))
    }
}

/// The word of [`RoomEntry::mode`].
pub(super) fn mode(shadow: bool) -> u32 {
    if shadow { MODE_SHADOW } else { MODE_DROP }
}

/// What decides of an entry.
pub fn judged(entry: &RoomEntry) -> Room {
    Room {
        deadline: entry.deadline,
        generation: entry.generation,
        mode: entry.mode,
    }
}

/// CLOCK_MONOTONIC, the clock of the deadlines.
pub fn now() -> Mono {
    // The clock exists on every Linux; were it missing, zero would leave every verdict as it is.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, Into::into);
    Mono::default() + now
}

fn map<T>(name: &'static str, data: &MapData, entries: u32) -> Result<Mapped<T>, KernelError> {
    Mapped::new(data.fd().as_fd(), entries).map_err(|e| KernelError::Map {
        map: name,
        problem: format!("cannot be mapped into memory: {e}"),
    })
}

// A word beyond the end reads as zero and takes no write: slots and ports are checked where they come from.

fn load32(word: Option<&AtomicU32>) -> u32 {
    word.map_or(0, |w| w.load(Ordering::Acquire))
}

fn load64(word: Option<&AtomicU64>) -> u64 {
    word.map_or(0, |w| w.load(Ordering::Acquire))
}

fn store32(word: Option<&AtomicU32>, value: u32) {
    if let Some(w) = word {
        w.store(value, Ordering::Release);
    }
}

fn store64(word: Option<&AtomicU64>, value: u64) {
    if let Some(w) = word {
        w.store(value, Ordering::Release);
    }
}
