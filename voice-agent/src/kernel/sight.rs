//! What the maps hold of a room, read back for patrol. Nothing is written here.

use super::{Kernel, KernelError, adopt, shared, shared::Mark};
use std::collections::BTreeSet;
use voice_common::{Owner, abi::MODE_SHADOW};
use voice_room::{
    Binding, Mono, Port, RoomId,
    patrol::{KernelSight, Worth},
};

/// A port that leads where it should not: of the room that has it wrongly, or should have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The room.
    pub room: RoomId,
    /// The port.
    pub port: Port,
    /// Where it should lead.
    pub wanted: Worth,
    /// Where it leads.
    pub found: Worth,
}

impl Kernel {
    /// What the maps hold of a room that should be bound by `binding`; `None`: it has no slot. A system call for its name and
    /// for each flow and SSRC.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn sight(&self, room: &RoomId, binding: &Binding) -> Result<Option<KernelSight>, KernelError> {
        let Some(slot) = self.slots.find(room) else {
            return Ok(None);
        };
        let Some(given) = self.slots.get(slot) else {
            return Ok(None);
        };
        let entry = self.tables.room(slot);
        let info = self.maps.info.get(&slot, 0);
        let info = info.map_err(|e| KernelError::map("ROOM_INFO", &e))?;
        let owner = Owner {
            slot,
            generation: given.generation,
        };
        let marks = Mark::of(binding).into_iter().filter(|mark| {
            let found = match mark {
                Mark::Flow(key) => self.maps.marks.flow(key),
                Mark::Ssrc(key) => self.maps.marks.ssrc(key),
            };
            found == Some(owner)
        });
        let wanted = binding.ports.iter().map(|port| port.0);
        let ports: BTreeSet<u16> = self.slots.ports(slot).into_iter().chain(wanted).collect();
        let (bound, elsewhere): (Vec<u16>, Vec<u16>) = ports
            .into_iter()
            .partition(|port| self.tables.port(*port) == slot);
        let led = |port: u16| Some((Port(port), self.room_of(self.tables.port(port))?));
        Ok(Some(KernelSight {
            name: adopt::named(&info, given.generation),
            generation: (entry.generation, given.generation),
            deadline: Mono(entry.deadline),
            shadow: entry.mode == MODE_SHADOW,
            released: entry.released != 0 && entry.released == entry.generation,
            bound: shared::binding(bound.into_iter().map(Port).collect(), marks),
            elsewhere: elsewhere.into_iter().filter_map(led).collect(),
        }))
    }

    /// Ports that lead to another slot than they were given to.
    pub fn strays(&self) -> Vec<Stray> {
        let stray = |(port, wanted, found): (u16, u32, u32)| {
            let room = self.room_of(wanted).or_else(|| self.room_of(found))?;
            Some(Stray {
                room,
                port: Port(port),
                wanted: self.led_to(wanted),
                found: self.led_to(found),
            })
        };
        self.wrong_ports().into_iter().filter_map(stray).collect()
    }

    /// Flows and SSRCs are compared again with the next heartbeat, however many there are.
    pub fn look_at_marks(&mut self) {
        self.marks_rest = 0;
    }
}
