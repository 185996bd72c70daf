//! The pinned maps as the CLI sees them when the agent is dead: read, release, kill switch, detach; nothing else.

use super::{
    InterfaceStatus, KernelError, KernelStatus, adopt, attach, drops, error,
    hooks::Hooks,
    interfaces, load,
    marks::Marks,
    shape,
    shared::{self, Mark},
    tables::{self, Tables},
    versions,
};
use crate::config::KernelConfig;
use aya::maps::{Array, Map, MapData, PerCpuArray};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};
use voice_common::{
    ABI_VERSION, Owner, RoomCounts, RoomInfo,
    abi::{MODE_SHADOW, MUX, UNBOUND},
};
use voice_room::{Binding, Incarnation, Mono, Port, RoomId};

/// A blocked room found in the pinned maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedBlock {
    /// The room.
    pub room: RoomId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Count only.
    pub shadow: bool,
    /// CLOCK_MONOTONIC, absolute.
    pub deadline: Mono,
    /// How long that is from now.
    pub left: Duration,
    /// Its ports, those of its RTCP included, and its flows and SSRCs on shared ports.
    pub binding: Binding,
    /// Packets dropped since binding.
    pub dropped: u64,
}

/// A slot that was used, as it lies in the pinned maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedSlot {
    /// Which.
    pub slot: u32,
    /// Its room and life; `None`: none now.
    pub room: Option<(RoomId, Incarnation)>,
    /// How often it was used.
    pub generation: u32,
    /// CLOCK_MONOTONIC, ns; 0: not armed.
    pub deadline: u64,
    /// CLOCK_MONOTONIC, ns.
    pub armed_at: u64,
    /// Count only.
    pub shadow: bool,
    /// The generation that the CLI released.
    pub released: u32,
    /// Its ports, those of its RTCP included, and its flows and SSRCs on shared ports.
    pub binding: Binding,
    /// Packets since binding.
    pub passed: u64,
    /// Packets since binding.
    pub dropped: u64,
    /// Packets since binding; they passed.
    pub would_drop: u64,
}

/// The pinned maps, opened.
pub struct Pinned {
    dir: PathBuf,
    tables: Tables,
    info: Array<MapData, RoomInfo>,
    counts: PerCpuArray<MapData, RoomCounts>,
    hooks: Hooks,
    marks: Marks,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// What a start would find pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// How many maps, each of the right shape.
    pub maps: usize,
    /// Pins under the names of our links that are something else, in words.
    pub wrong_links: Vec<String>,
}

/// Looks at what a start with this configuration would adopt, and changes nothing.
///
/// # Errors
/// Those that the start would be refused with.
pub fn survey(config: &KernelConfig, pin_dir: &Path) -> Result<Survey, KernelError> {
    let mut survey = Survey {
        maps: 0,
        wrong_links: Vec::new(),
    };
    let there = load::check_dir(pin_dir)?;
    versions::refuse_newer(pin_dir)?;
    if there {
        survey.maps = shape::check_all(config.max_slots.saturating_add(1), pin_dir)?;
        survey.wrong_links = attach::wrong_links(pin_dir)?;
    }
    Ok(survey)
}

impl Pinned {
    /// Opens the pins under `pin_dir` (see `Paths::pin_dir`), checking their shape.
    pub fn open(pin_dir: &Path) -> Result<Pinned, KernelError> {
        let tables = tables(pin_dir)?;
        let info = Map::Array(data(pin_dir, "ROOM_INFO")?);
        let counts = Map::PerCpuArray(data(pin_dir, "COUNTS")?);
        let flows = Map::HashMap(data(pin_dir, "FLOWS")?);
        let ssrcs = Map::HashMap(data(pin_dir, "SSRCS")?);
        Ok(Pinned {
            dir: pin_dir.to_owned(),
            tables,
            info: info.try_into().map_err(|e| KernelError::map("ROOM_INFO", &e))?,
            counts: counts.try_into().map_err(|e| KernelError::map("COUNTS", &e))?,
            hooks: Hooks::new(Map::Array(data(pin_dir, "HOOKS")?))?,
            marks: Marks::new(
                flows.try_into().map_err(|e| KernelError::map("FLOWS", &e))?,
                ssrcs.try_into().map_err(|e| KernelError::map("SSRCS", &e))?,
            ),
        })
    }

    /// Rooms whose verdict is armed and not past its deadline.
    pub fn blocked(&self) -> Result<Vec<PinnedBlock>, KernelError> {
        let now = tables::now();
        let ports = self.ports();
        let marks = self.marks()?;
        let mut blocks = Vec::new();
        for (slot, room, incarnation) in self.rooms()? {
            let entry = self.tables.room(slot);
            if entry.deadline <= now.0 {
                continue;
            }
            let deadline = Mono(entry.deadline);
            let generation = entry.generation;
            let marks = marks.get(&Owner { slot, generation }).into_iter().flatten();
            let ports = ports.get(&slot).cloned().unwrap_or_default();
            blocks.push(PinnedBlock {
                room,
                incarnation,
                shadow: entry.mode == MODE_SHADOW,
                deadline,
                left: deadline.since(now),
                binding: shared::binding(ports, marks.copied()),
                dropped: drops::summary(&drops::counts(&self.counts, slot)?).dropped,
            });
        }
        Ok(blocks)
    }

    /// Lifts one room's verdict and leaves a release generation that the agent honours afterwards. False: not blocked.
    pub fn release(&self, room: &RoomId) -> Result<bool, KernelError> {
        let now = tables::now();
        let mut released = false;
        for (slot, found, _) in self.rooms()? {
            if found == *room && self.tables.room(slot).deadline > now.0 {
                self.tables.release(slot);
                released = true;
            }
        }
        Ok(released)
    }

    /// Reads the kill-switch word.
    pub fn kill_switch(&self) -> Result<bool, KernelError> {
        Ok(self.tables.kill_switch())
    }

    /// Writes the kill-switch word.
    pub fn set_kill_switch(&self, on: bool) -> Result<(), KernelError> {
        self.tables.set_kill_switch(on);
        Ok(())
    }

    /// As far as the pins tell.
    pub fn status(&self) -> Result<KernelStatus, KernelError> {
        let (passed_by_reason, lost_events) = self.hooks.by_reason()?;
        let ports = self.ports();
        let of_rooms = ports.iter().filter(|(slot, _)| **slot != MUX);
        let ports: usize = of_rooms.map(|(_, ports)| ports.len()).sum();
        let marks = self.marks()?;
        let marks = || marks.values().flatten();
        let flows = marks().filter(|m| matches!(m, Mark::Flow(_))).count();
        Ok(KernelStatus {
            pin_dir: self.dir.display().to_string(),
            abi_version: ABI_VERSION,
            kill_switch: self.tables.kill_switch(),
            interfaces: self.interfaces()?,
            slots_used: count(self.rooms()?.len()),
            slots_max: self.tables.slots() - 1,
            ports_bound: count(ports),
            flows_bound: count(flows),
            ssrcs_bound: count(marks().count() - flows),
            armed: count(self.blocked()?.len()),
            passed_by_reason,
            lost_events,
            repairs: 0,
        })
    }

    /// Detaches every link and removes every pin of every ABI version below the instance's directory; says what went.
    pub fn detach(instance_dir: &Path) -> Result<Vec<String>, KernelError> {
        versions::remove_all(instance_dir)
    }

    /// Every slot that was used, for a person who looks for what is wrong.
    pub fn slots(&self) -> Result<Vec<PinnedSlot>, KernelError> {
        let (ports, marks) = (self.ports(), self.marks()?);
        let mut rooms: BTreeMap<u32, (RoomId, Incarnation)> = BTreeMap::new();
        rooms.extend(
            self.rooms()?
                .into_iter()
                .map(|(slot, room, life)| (slot, (room, life))),
        );
        let mut slots = Vec::new();
        for slot in 1..self.tables.slots() {
            let entry = self.tables.room(slot);
            if entry.generation == 0 {
                continue;
            }
            let counts = drops::summary(&drops::counts(&self.counts, slot)?);
            let generation = entry.generation;
            let marks = marks.get(&Owner { slot, generation }).into_iter().flatten();
            let ports = ports.get(&slot).cloned().unwrap_or_default();
            slots.push(PinnedSlot {
                slot,
                room: rooms.remove(&slot),
                generation,
                deadline: entry.deadline,
                armed_at: entry.armed_at,
                shadow: entry.mode == MODE_SHADOW,
                released: entry.released,
                binding: shared::binding(ports, marks.copied()),
                passed: counts.passed,
                dropped: counts.dropped,
                would_drop: counts.would_drop,
            });
        }
        Ok(slots)
    }

    /// Every slot with a room.
    fn rooms(&self) -> Result<Vec<(u32, RoomId, Incarnation)>, KernelError> {
        let mut rooms = Vec::new();
        for slot in 1..self.tables.slots() {
            let entry = self.tables.room(slot);
            if entry.generation == 0 {
                continue;
            }
            let info = self
                .info
                .get(&slot, 0)
                .map_err(|e| KernelError::map("ROOM_INFO", &e))?;
            rooms.extend(adopt::owner(&info, &entry).map(|(room, life)| (slot, room, life)));
        }
        Ok(rooms)
    }

    /// The flows and SSRCs, by the use of a slot they are for.
    fn marks(&self) -> Result<BTreeMap<Owner, BTreeSet<Mark>>, KernelError> {
        self.marks.by_owner()
    }

    /// The ports that several rooms share.
    pub fn shared_ports(&self) -> Vec<Port> {
        self.ports().remove(&MUX).unwrap_or_default()
    }

    /// The bound ports, by slot; the shared ones under [`MUX`].
    pub fn ports(&self) -> BTreeMap<u32, Vec<Port>> {
        let mut ports: BTreeMap<u32, Vec<Port>> = BTreeMap::new();
        for port in 0..=u16::MAX {
            let slot = self.tables.port(port);
            if slot != UNBOUND {
                ports.entry(slot).or_default().push(Port(port));
            }
        }
        ports
    }

    fn interfaces(&self) -> Result<Vec<InterfaceStatus>, KernelError> {
        let mut found: BTreeMap<u32, InterfaceStatus> = BTreeMap::new();
        for link in attach::link_pins(&self.dir)? {
            let status = found.entry(link.index).or_insert_with(|| InterfaceStatus {
                name: interfaces::name(link.index).unwrap_or_else(|| "gone".into()),
                index: link.index,
                xdp: "not attached".into(),
                tc_ingress: "not attached".into(),
                tc_egress: "not attached".into(),
            });
            match link.kind.as_str() {
                "link-xdp" => status.xdp = "native".into(),
                "link-tc-ingress" => status.tc_ingress = "tcx".into(),
                "link-tc-egress" => status.tc_egress = "tcx".into(),
                "clsact-tc-ingress" => status.tc_ingress = "clsact".into(),
                "clsact-tc-egress" => status.tc_egress = "clsact".into(),
                _ => {}
            }
        }
        Ok(found.into_values().collect())
    }
}

/// The memory-mapped tables under `pin_dir`, if every map there has its shape.
///
/// # Errors
/// There are no pins, or not ours.
pub fn tables(pin_dir: &Path) -> Result<Tables, KernelError> {
    let no_pins = || KernelError::NoPins {
        dir: pin_dir.to_owned(),
    };
    let slots = shape::slots(pin_dir)?.ok_or_else(no_pins)?;
    for shape in shape::shapes(slots) {
        if !shape.check(pin_dir)? {
            return Err(no_pins());
        }
    }
    let [control, ports, rooms] = ["CONTROL", "PORT_SLOT", "ROOMS"].map(|name| data(pin_dir, name));
    Tables::new(&control?, &ports?, &rooms?, slots)
}

/// Opens a map's pin.
pub(super) fn data(pin_dir: &Path, name: &'static str) -> Result<MapData, KernelError> {
    MapData::from_pin(pin_dir.join(name)).map_err(|e| match error::errno(&e) {
        Some(libc::EPERM | libc::EACCES) => KernelError::Permission {
            what: format!("opening the pin {}", pin_dir.join(name).display()),
        },
        _ => KernelError::map(name, &e),
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
