//! Loads the programs and their maps: pins checked and adopted, settings written in, everything verified by the kernel.

use super::{
    KernelError,
    direct::{self, DIRECT},
    hooks::Hooks,
    mapped,
    marks::Marks,
    object, shape,
    tables::Tables,
    versions,
};
use crate::config::KernelConfig;
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::{SchedClassifier, Xdp},
    util::KernelVersion,
};
use nix::{
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::{AccessFlags, access},
};
use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path};
use voice_common::{RoomCounts, RoomInfo, abi::MAX_SLOTS};

/// The compiled programs (`cargo xtask build-ebpf`).
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("VOICE_BPF_OBJECT"));

/// TC, ingress.
pub const TC_INGRESS: &str = "voice_tc_ingress";
/// TC, egress.
pub const TC_EGRESS: &str = "voice_tc_egress";

/// What the running kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// TCX links (6.6); else clsact.
    pub tcx: bool,
    /// XDP on frames of several buffers (5.18).
    pub frags: bool,
}

impl Features {
    /// By the kernel's version.
    pub fn detect() -> Self {
        let code = KernelVersion::current().map_or(0, KernelVersion::code);
        let at_least = |major: u32, minor: u32| code >= (major << 16) + (minor << 8);
        Features {
            tcx: at_least(6, 6),
            frags: at_least(5, 18),
        }
    }

    /// The XDP program for this kernel.
    pub fn xdp(self) -> &'static str {
        if self.frags {
            "voice_xdp_frags"
        } else {
            "voice_xdp"
        }
    }
}

/// Loaded programs and opened maps.
#[derive(Debug)]
pub struct Loaded {
    /// The programs; the maps below are taken out of it.
    pub ebpf: Ebpf,
    /// The memory-mapped ones.
    pub tables: Tables,
    /// The others.
    pub maps: Maps,
    /// Whether the maps were there before.
    pub adopted: bool,
}

/// The maps that are read and written by syscalls.
pub struct Maps {
    /// Whose slot it is.
    pub info: Array<MapData, RoomInfo>,
    /// Counters by slot.
    pub counts: PerCpuArray<MapData, RoomCounts>,
    /// Counters by hook.
    pub hooks: Hooks,
    /// First drops.
    pub events: RingBuf<MapData>,
    /// Flows and SSRCs of shared ports.
    pub marks: Marks,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maps")
    }
}

/// Loads and verifies the programs; creates their maps under `pin_dir`, or adopts them there. Attaches nothing.
pub fn load(config: &KernelConfig, pin_dir: &Path, features: Features) -> Result<Loaded, KernelError> {
    if config.max_slots == 0 || config.max_slots >= MAX_SLOTS {
        let (asked, max) = (config.max_slots, MAX_SLOTS - 1);
        return Err(KernelError::MaxSlots { asked, max });
    }
    let slots = config.max_slots + 1;
    prepare(pin_dir)?;
    let shapes = shape::shapes(slots);
    let found = shape::check_all(slots, pin_dir)?;
    mapped::raise_memlock();
    let mut ebpf = loader(config, pin_dir, &shapes, slots).load(OBJECT)?;
    let [ports, rooms] = DIRECT.map(|name| {
        let shape = shapes.iter().find(|shape| shape.name == name);
        let map = direct::open(shape.ok_or_else(|| missing(name))?, pin_dir)?;
        direct::put(&map, name, &ebpf)?;
        Ok::<_, KernelError>(map)
    });
    let (ports, rooms) = (ports?, rooms?);
    verify(&mut ebpf, features)?;
    let tables = Tables::new(&data(&mut ebpf, "CONTROL")?, &ports, &rooms, slots)?;
    let maps = maps(&mut ebpf)?;
    Ok(Loaded {
        ebpf,
        tables,
        maps,
        adopted: found == shapes.len(),
    })
}

/// The section that is the map `HOOKS`; a pin's name has no dot. Loading a section zeroes it, so these counters begin anew
/// with each start.
const HOOKS: &str = ".bss.HOOKS";

fn loader<'a>(config: &KernelConfig, pin_dir: &Path, shapes: &[shape::Shape], slots: u32) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    for shape in shapes.iter().filter(|shape| !DIRECT.contains(&shape.name)) {
        let name = if shape.name == "HOOKS" { HOOKS } else { shape.name };
        loader.map_pin_path(name, shape.pin(pin_dir));
    }
    for by_slot in shape::BY_SLOT {
        loader.map_max_entries(by_slot, slots);
    }
    let (first, last) = (u32::from(*config.ports.start()), u32::from(*config.ports.end()));
    let level: &'static u8 = if config.log { &u8::MAX } else { &0 };
    loader
        .override_global("RANGE", leak([first, last.saturating_sub(first)]), true)
        .override_global("AYA_LOG_LEVEL", level, true)
        // Asked for only when a load has failed: its reason in a line or two. Without any, aya would hide even the error's number.
        .verifier_log_level(VerifierLogLevel::STATS);
    loader
}

/// Whether the pin directory is, or can be, on a bpf filesystem that is there already. False: it is not there yet.
pub(super) fn check_dir(pin_dir: &Path) -> Result<bool, KernelError> {
    let there = |p: &&Path| p.symlink_metadata().is_ok();
    let existing = pin_dir.ancestors().find(there).unwrap_or(Path::new("/"));
    let kind = statfs(existing).map_err(|e| object::refused(existing, e.into()))?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        return Err(KernelError::NotBpffs {
            dir: pin_dir.to_owned(),
            found: existing.to_owned(),
        });
    }
    if !existing.is_dir() {
        return Err(KernelError::NoPinDirectory {
            dir: pin_dir.to_owned(),
            at: existing.to_owned(),
            found: object::words_at(existing),
        });
    }
    let wanted = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    access(existing, wanted).map_err(|e| object::refused(existing, e.into()))?;
    Ok(existing == pin_dir)
}

fn prepare(pin_dir: &Path) -> Result<(), KernelError> {
    let there = check_dir(pin_dir)?;
    versions::refuse_newer(pin_dir)?;
    if there {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(pin_dir)
        .map_err(|e| object::refused(pin_dir, e))
}

/// Gives every program this kernel can use to the verifier.
fn verify(ebpf: &mut Ebpf, features: Features) -> Result<(), KernelError> {
    for name in [TC_INGRESS, TC_EGRESS] {
        let loaded = tc(ebpf, name)?.load();
        loaded.map_err(|e| KernelError::load(format!("loading the program {name}"), &e))?;
    }
    let name = features.xdp();
    let loaded = xdp(ebpf, name)?.load();
    loaded.map_err(|e| KernelError::load(format!("loading the program {name}"), &e))
}

/// A TC program of the object.
pub fn tc<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, KernelError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program
        .try_into()
        .map_err(|e| KernelError::load(format!("the program {name}"), &e))
}

/// An XDP program of the object.
pub fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, KernelError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program
        .try_into()
        .map_err(|e| KernelError::load(format!("the program {name}"), &e))
}

fn maps(ebpf: &mut Ebpf) -> Result<Maps, KernelError> {
    let by = |name, e: &_| KernelError::map(name, e);
    Ok(Maps {
        info: take(ebpf, "ROOM_INFO")?
            .try_into()
            .map_err(|e| by("ROOM_INFO", &e))?,
        counts: take(ebpf, "COUNTS")?.try_into().map_err(|e| by("COUNTS", &e))?,
        hooks: Hooks::new(take(ebpf, HOOKS)?)?,
        events: take(ebpf, "EVENTS")?.try_into().map_err(|e| by("EVENTS", &e))?,
        marks: Marks::new(
            take(ebpf, "FLOWS")?.try_into().map_err(|e| by("FLOWS", &e))?,
            take(ebpf, "SSRCS")?.try_into().map_err(|e| by("SSRCS", &e))?,
        ),
    })
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn data(ebpf: &mut Ebpf, name: &str) -> Result<MapData, KernelError> {
    match take(ebpf, name)? {
        Map::Array(data) => Ok(data),
        _ => Err(missing(name)),
    }
}

/// The object has no such map or program.
pub(super) fn missing(name: &str) -> KernelError {
    KernelError::Load {
        what: format!("looking for {name} in the embedded object"),
        problem: "it is not there; rebuild with `cargo xtask build-ebpf`".into(),
    }
}

/// The loader borrows its settings; a few bytes are kept for the life of the process.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
