//! The kernel side: load, attach, maps, counters, pins. The one writer of the maps.
//!
//! [`Kernel`] keeps the desired state (`slots`) and writes it to the maps (`tables`); `reconcile` compares the two.

mod adopt;
mod attach;
pub mod attached;
mod direct;
mod drops;
mod error;
mod ethtool;
pub mod facts;
pub mod hooks;
mod interfaces;
pub mod load;
mod log;
mod mapped;
pub mod marks;
mod netlink;
mod object;
pub mod pinned;
mod reconcile;
mod shape;
mod shared;
pub mod sight;
mod slots;
pub mod status;
pub mod tables;
mod tcx;
mod totals;
mod versions;
mod worker;

pub use error::KernelError;
pub use load::Features;
pub use reconcile::Mended;
pub use status::{InterfaceStatus, KernelStatus};
pub use totals::{Armings, Totals};

use crate::config::{KernelConfig, Paths};
use aya::maps::PerCpuValues;
use load::{Loaded, Maps};
use shared::Mark;
use slots::{Desired, Slot, Slots};
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};
use tables::Tables;
use tokio::io::unix::AsyncFd;
use voice_common::{Owner, RoomCounts, RoomInfo};
use voice_room::{
    Binding, Incarnation, Mono, Port, RoomId,
    input::{FoundBinding, FoundBlock, Traffic},
};

/// The loaded programs and their maps. Owned by the driver; every method is quick (no attach, no netlink on the
/// caller's thread but the socket listing) except `start`. Dropping it leaves maps and links pinned: blocks stay in
/// force, and the next start takes everything over.
#[derive(Debug)]
pub struct Kernel {
    tables: Tables,
    maps: Maps,
    slots: Slots,
    /// Slots in force for rooms that cannot be told.
    orphans: BTreeSet<u32>,
    pin_dir: PathBuf,
    /// What other ABI versions left is still there.
    others: bool,
    sockets: netlink::Netlink,
    worker: worker::Worker,
    repairs: u64,
    /// Set right and not told yet.
    mended: Vec<Mended>,
    /// Heartbeats until flows and SSRCs are compared again.
    marks_rest: u32,
    totals: Totals,
    _log: Option<log::KernelLog>,
}

/// What takes more than CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: learns the names of the programs that are loaded now, to
/// name those that are in the way; raises the memlock limit, which kernels before 5.11 need.
pub fn before_dropping_privileges() {
    attach::learn_names();
    mapped::raise_memlock();
}

/// What a start found.
#[derive(Debug, Default)]
pub struct Found {
    /// Blocks in force in adopted maps; they stay in force. With `released`: the CLI lifted it.
    pub blocks: Vec<FoundBlock>,
    /// Ports bound in adopted maps, of every room with a slot.
    pub bindings: Vec<FoundBinding>,
    /// In words, for the log: pins adopted, replaced, repaired.
    pub report: Vec<String>,
}

/// The outcome of arming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// Ports bound to the room alone.
    pub ports: usize,
    /// Flows bound to it on shared ports.
    pub flows: usize,
    /// SSRCs bound to it on shared ports.
    pub ssrcs: usize,
    /// CLOCK_MONOTONIC, right after the deadline word was written.
    pub at: Mono,
}

impl Armed {
    /// What the cut reaches: `3 ports`, `2 flows, 1 SSRC`, `cut: nothing bound`.
    pub fn reach(&self) -> String {
        let parts = [(self.ports, "port"), (self.flows, "flow"), (self.ssrcs, "SSRC")];
        let some = parts.into_iter().filter(|(n, _)| *n > 0);
        let words: Vec<String> = some
            .map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
            .collect();
        if words.is_empty() {
            return "cut: nothing bound".into();
        }
        words.join(", ")
    }
}

/// The kernel dropped the first packet of a trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDrop {
    /// The room.
    pub room: RoomId,
    /// Of its trip with this deadline.
    pub deadline: Mono,
    /// Towards the node, or from it.
    pub ingress: bool,
    /// When, by the kernel's clock.
    pub at: Mono,
}

impl Kernel {
    /// Loads and verifies the programs, adopts pins of the right shape, attaches TC (and XDP by policy). What an older ABI
    /// version left attached stays, until [`Kernel::let_others_go`].
    pub fn start(config: &KernelConfig, paths: &Paths) -> Result<(Kernel, Found), KernelError> {
        Self::start_with(config, &paths.pin_dir(), Features::detect())
    }

    /// The same, as on a kernel that has only these features.
    pub fn start_with(
        config: &KernelConfig,
        pin_dir: &Path,
        features: Features,
    ) -> Result<(Kernel, Found), KernelError> {
        let loaded = load::load(config, pin_dir, features)?;
        let Loaded {
            mut ebpf,
            tables,
            maps,
            adopted,
        } = loaded;
        let log = config.log.then(|| log::KernelLog::start(&mut ebpf)).transpose()?;
        let others = versions::are_others(pin_dir)?;
        let mut attacher = attach::Attacher::new(ebpf, config, pin_dir, features)?;
        let mut found = Found::default();
        if adopted {
            found
                .report
                .push(format!("maps adopted from {}", pin_dir.display()));
        }
        let attached = attacher.check()?;
        found
            .report
            .extend(attached.news.into_iter().chain(attached.wrong));
        if let Some(problems) = attacher.problems() {
            return Err(KernelError::NothingAttached { problems });
        }
        let list = |what| move |source| KernelError::List { what, source };
        let mut kernel = Kernel {
            tables,
            maps,
            slots: Slots::new(config.ports.clone()),
            orphans: BTreeSet::new(),
            pin_dir: pin_dir.to_owned(),
            others,
            sockets: netlink::Netlink::sock_diag().map_err(list("UDP sockets"))?,
            worker: worker::Worker::spawn(attacher).map_err(list("network interfaces: no thread"))?,
            repairs: 0,
            mended: Vec::new(),
            marks_rest: 0,
            totals: Totals::default(),
            _log: log,
        };
        kernel.orphans = adopt::adopt(&kernel.tables, &kernel.maps, &mut kernel.slots, &mut found)?;
        found.report.extend(kernel.repair());
        Ok((kernel, found))
    }

    /// Makes `binding`, and only this, what the room is bound by, taking a slot when it has none. An odd RTCP port
    /// (even + 1) belongs to its room unless another room claims it. A port, flow or SSRC bound to another room moves.
    /// A port with a flow or SSRC of any room is shared: nobody is cut by it, and the odd one above is nobody's.
    /// Another incarnation than the bound one is a new life: the old one's verdict ends and its slot is given up.
    pub fn bind(
        &mut self,
        room: &RoomId,
        incarnation: Incarnation,
        binding: impl Into<Binding>,
    ) -> Result<(), KernelError> {
        let binding = binding.into();
        let (first, last) = (*self.slots.range().start(), *self.slots.range().end());
        let ports: BTreeSet<u16> = binding.ports.iter().map(|p| p.0).collect();
        let mut marks = Mark::of(&binding);
        let mut all = ports.iter().copied().chain(marks.iter().map(Mark::port));
        if let Some(port) = all.find(|p| !self.slots.range().contains(p)) {
            let room = room.clone();
            return Err(KernelError::PortOutsideRange {
                room,
                port,
                first,
                last,
            });
        }
        let slot = match self.slots.find(room) {
            Some(slot) if self.slots.get(slot).is_some_and(|s| s.incarnation == incarnation) => {
                self.name_again(slot, room, incarnation)?;
                slot
            }
            Some(_) => {
                self.unbind(room);
                self.take_slot(room, incarnation)?
            }
            None => self.take_slot(room, incarnation)?,
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.adopted = false;
        }
        let full = self.slots.shared.too_many(slot, &marks);
        if full.is_some() {
            marks.clear();
        }
        // The ports also when the rest does not fit: one that is shared now may be this room's alone no longer.
        self.claim(slot, &ports, &marks)?;
        full.map_or(Ok(()), |(map, wanted, max)| {
            let room = room.clone();
            Err(KernelError::MarksFull {
                room,
                map,
                wanted,
                max,
            })
        })
    }

    /// Frees the room's slot: deadline 0, ports unbound, then the slot may be reused under a new generation.
    pub fn unbind(&mut self, room: &RoomId) {
        let Some(slot) = self.slots.find(room) else {
            return;
        };
        self.tables.disarm(slot);
        if let Err(e) = self.claim(slot, &BTreeSet::new(), &BTreeSet::new()) {
            // Harmless: they are of a use of the slot that is over, and reconciliation removes them.
            tracing::warn!(%room, error = %e, "flows or SSRCs of a freed slot could not be removed");
        }
        self.count_up(slot);
        self.slots.vacate(slot);
        let nobody = RoomInfo {
            id: [0; 64],
            incarnation: 0,
            generation: 0,
            len: 0,
        };
        if let Err(e) = self.maps.info.set(slot, nobody, 0) {
            // Harmless: an unarmed slot without ports counts as free, whoever's name it bears.
            tracing::warn!(slot, error = %e, "the name of a freed slot could not be removed");
        }
    }

    /// Arms the verdict. XDP by policy `on-trip` is attached by a thread of its own, never waited for.
    pub fn arm(
        &mut self,
        room: &RoomId,
        incarnation: Incarnation,
        shadow: bool,
        deadline: Mono,
    ) -> Result<Armed, KernelError> {
        let slot = match self.slots.find(room) {
            Some(slot) => slot,
            None => self.take_slot(room, incarnation)?,
        };
        let bound = self.slots.get(slot).map_or(incarnation, |s| s.incarnation);
        if bound != incarnation {
            let (room, asked) = (room.clone(), incarnation);
            return Err(KernelError::OtherLife { room, bound, asked });
        }
        self.tables.arm(slot, deadline, shadow);
        let at = tables::now();
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.verdict = Some(Desired { deadline, shadow });
        }
        if !shadow {
            self.worker.want_xdp();
        }
        let ports = self.slots.ports(slot).len();
        let of_slot = || self.slots.shared.of(slot);
        let flows = of_slot().filter(|m| matches!(m, Mark::Flow(_))).count();
        let ssrcs = of_slot().count() - flows;
        Ok(Armed {
            ports,
            flows,
            ssrcs,
            at,
        })
    }

    /// Lifts the verdict.
    pub fn disarm(&mut self, room: &RoomId) {
        if let Some(slot) = self.slots.find(room) {
            self.tables.disarm(slot);
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.verdict = None;
            }
        }
    }

    /// The counters of every room with a slot since its binding (what passes is counted by TC only, drops by whoever
    /// drops). Includes rooms taken over from pins that nobody has bound since the start.
    pub fn traffic(&mut self) -> Result<Vec<Traffic>, KernelError> {
        let (maps, totals) = (&self.maps, &mut self.totals);
        let slots = self.slots.iter_mut();
        slots
            .map(|(slot, s)| {
                let counts = drops::counts(&maps.counts, slot)?;
                totals.take(&mut s.counted, &counts);
                Ok(Traffic {
                    room: s.room.clone(),
                    incarnation: s.incarnation,
                    counts: drops::summary(&counts),
                })
            })
            .collect()
    }

    /// What a room's packets came to since its ports were bound, as of the last [`Kernel::traffic`]; `None`: not a packet.
    pub fn counted(&self, room: &RoomId) -> Option<&RoomCounts> {
        let slot = self.slots.get(self.slots.find(room)?)?;
        slot.counted.as_deref()
    }

    /// Detaches what agents of other ABI versions left, and says what went: to be called when their cuts are armed here.
    /// Until then theirs hold, as their programs run beside ours.
    pub fn let_others_go(&mut self) -> Result<Vec<String>, KernelError> {
        if !self.others {
            return Ok(Vec::new());
        }
        let gone = versions::remove_others(&self.pin_dir)?;
        self.others = false;
        // There is room for one XDP program, which may have been theirs.
        self.worker.check();
        Ok(gone)
    }

    /// Turns the pinned kill-switch word.
    pub fn set_kill_switch(&mut self, on: bool) -> Result<(), KernelError> {
        self.tables.set_kill_switch(on);
        Ok(())
    }

    /// The pinned kill-switch word, also when the CLI wrote it.
    pub fn kill_switch(&self) -> bool {
        self.tables.kill_switch()
    }

    /// Rooms the CLI released through the pinned maps since last asked. They are not armed again.
    pub fn released(&mut self) -> Vec<RoomId> {
        let armed = self.slots.iter().filter(|(_, s)| s.verdict.is_some());
        let released = armed.filter(|(slot, s)| self.tables.room(*slot).released == s.generation);
        let rooms: Vec<RoomId> = released.map(|(_, s)| s.room.clone()).collect();
        for room in &rooms {
            self.disarm(room);
        }
        rooms
    }

    /// First-drop events since last asked, deduplicated; [`Kernel::drops_fd`] says when to ask.
    pub fn first_drops(&mut self) -> Vec<FirstDrop> {
        drops::take(&mut self.maps, &mut self.slots)
    }

    /// Readable when there are first drops. Take them with [`Kernel::first_drops`], then clear the readiness. Call it
    /// inside a tokio runtime.
    pub fn drops_fd(&self) -> io::Result<AsyncFd<OwnedFd>> {
        mapped::readable(self.maps.events.as_fd().try_clone_to_owned()?)
    }

    /// UDP ports of the media range with a socket on this host (sock_diag), sorted.
    pub fn sockets(&self) -> Result<Vec<Port>, KernelError> {
        let all = self.sockets.udp_ports().map_err(|source| KernelError::List {
            what: "UDP sockets",
            source,
        })?;
        let range = self.slots.range();
        let ours: BTreeSet<Port> = all.into_iter().filter(|p| range.contains(&p.0)).collect();
        Ok(ours.into_iter().collect())
    }

    /// A slot for a room that has none. The order makes reuse safe: not armed, no ports, then the new generation with
    /// fresh counters and its name; only then ports.
    fn take_slot(&mut self, room: &RoomId, incarnation: Incarnation) -> Result<u32, KernelError> {
        let slot = match self.slots.next_free() {
            Some(slot) => slot,
            None => self.evict(room)?,
        };
        self.tables.disarm(slot);
        let generation = self.tables.next_generation(slot);
        let written = self.name_slot(slot, &adopt::info(room, incarnation, generation));
        if let Err(e) = written {
            self.slots.vacate(slot);
            return Err(e);
        }
        self.slots.occupy(slot, Slot::new(room, incarnation, generation));
        Ok(slot)
    }

    /// The slot of a room that was taken over from pins and that nobody wanted since.
    fn evict(&mut self, room: &RoomId) -> Result<u32, KernelError> {
        let full = || KernelError::SlotsFull {
            room: room.clone(),
            max: self.tables.slots() - 1,
        };
        let unwanted = self.slots.evictable().ok_or_else(full)?;
        tracing::info!(room = %unwanted, "its slot, taken over at start and not bound since, is needed for {room}");
        self.unbind(&unwanted);
        let max = self.tables.slots() - 1;
        let room = room.clone();
        self.slots.next_free().ok_or(KernelError::SlotsFull { room, max })
    }

    /// Costs a microsecond, and repairs what only the CLI and a start would see.
    fn name_again(&mut self, slot: u32, room: &RoomId, life: Incarnation) -> Result<(), KernelError> {
        let generation = self.slots.get(slot).map_or(0, |s| s.generation);
        let info = adopt::info(room, life, generation);
        let named = self.maps.info.set(slot, info, 0);
        named.map_err(|e| KernelError::map("ROOM_INFO", &e))
    }

    fn name_slot(&mut self, slot: u32, info: &RoomInfo) -> Result<(), KernelError> {
        let cpus = aya::util::nr_cpus().map_err(|(what, e)| KernelError::Map {
            map: "COUNTS",
            problem: format!("{what}: {e}"),
        })?;
        let zero =
            PerCpuValues::try_from(vec![RoomCounts::default(); cpus]).map_err(|e| KernelError::Map {
                map: "COUNTS",
                problem: e.to_string(),
            })?;
        let counts = self.maps.counts.set(slot, zero, 0);
        counts.map_err(|e| KernelError::map("COUNTS", &e))?;
        let info = self.maps.info.set(slot, info, 0);
        info.map_err(|e| KernelError::map("ROOM_INFO", &e))
    }

    /// Makes `ports` and `marks` the claims of a slot, in the table and in the maps. Ports first: the cut of the room
    /// that had a port alone ends before another room's packets are told apart on it. What fails is repaired later.
    fn claim(&mut self, slot: u32, ports: &BTreeSet<u16>, marks: &BTreeSet<Mark>) -> Result<(), KernelError> {
        let changed = self.slots.claim(slot, ports, marks);
        for port in changed.ports {
            self.tables.set_port(port, self.slots.owner(port));
        }
        let mut result = Ok(());
        for mark in changed.gone {
            result = result.and(self.maps.marks.remove(&mark));
        }
        let generation = self.slots.get(slot).map_or(0, |s| s.generation);
        for mark in changed.new {
            result = result.and(self.maps.marks.set(mark, Owner { slot, generation }));
        }
        result
    }
}
