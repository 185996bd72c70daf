//! The shape each pinned map must have. A loader reuses whatever it finds at the path without looking, so we look.

use super::{
    KernelError, error,
    object::{self, Object, Unknown},
};
use aya::maps::{MapInfo, MapType};
use std::path::{Path, PathBuf};
use voice_common::{
    FlowKey, Owner, RoomCounts, RoomEntry, RoomInfo, SsrcKey,
    abi::{CONTROL_WORDS, CpuHooks, EVENT_BYTES, MAX_CPUS, MAX_FLOWS, MAX_SLOTS, MAX_SSRCS, PORTS},
};

/// linux/bpf.h: an entry costs memory only while it is there.
const NO_PREALLOC: u32 = 1;
/// linux/bpf.h: can be mapped into memory.
const MMAPABLE: u32 = 1 << 10;

const ROOM_INFO: &str = "ROOM_INFO";
/// The maps with an entry for each slot. `ROOMS` has one for each that could be, so that its size is known to the programs.
pub(super) const BY_SLOT: [&str; 2] = [ROOM_INFO, "COUNTS"];

/// One pinned map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Its name in the object, and of its pin.
    pub(super) name: &'static str,
    pub(super) kind: MapType,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

/// Every pinned map, with `slots` entries in those that are by slot.
pub(super) fn shapes(slots: u32) -> [Shape; 9] {
    [
        mapped::<u64>("CONTROL", CONTROL_WORDS),
        direct::<u32>("PORT_SLOT", PORTS),
        hash::<FlowKey>("FLOWS", MAX_FLOWS),
        hash::<SsrcKey>("SSRCS", MAX_SSRCS),
        direct::<RoomEntry>("ROOMS", MAX_SLOTS),
        array::<RoomInfo>(ROOM_INFO, MapType::Array, slots),
        array::<RoomCounts>("COUNTS", MapType::PerCpuArray, slots),
        array::<[CpuHooks; MAX_CPUS]>("HOOKS", MapType::Array, 1),
        Shape {
            name: "EVENTS",
            kind: MapType::RingBuf,
            key: 0,
            value: 0,
            entries: EVENT_BYTES,
            flags: 0,
        },
    ]
}

/// Of [`Owner`]s by `K`.
fn hash<K>(name: &'static str, entries: u32) -> Shape {
    Shape {
        key: size(size_of::<K>()),
        flags: NO_PREALLOC,
        ..array::<Owner>(name, MapType::Hash, entries)
    }
}

/// An array that the agent writes through memory.
fn mapped<T>(name: &'static str, entries: u32) -> Shape {
    Shape {
        flags: MMAPABLE,
        ..array::<T>(name, MapType::Array, entries)
    }
}

/// The same with all `of` of them in one value, so that programs know where it lies.
fn direct<T>(name: &'static str, of: u32) -> Shape {
    Shape {
        value: size(size_of::<T>()).saturating_mul(of),
        ..mapped::<T>(name, 1)
    }
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn array<T>(name: &'static str, kind: MapType, entries: u32) -> Shape {
    Shape {
        name,
        kind,
        key: 4,
        value: size(size_of::<T>()),
        entries,
        flags: 0,
    }
}

impl Shape {
    /// Where it is pinned.
    pub(super) fn pin(&self, pin_dir: &Path) -> PathBuf {
        pin_dir.join(self.name)
    }

    /// Checks an existing pin. False: there is none.
    pub(super) fn check(&self, pin_dir: &Path) -> Result<bool, KernelError> {
        let pin = self.pin(pin_dir);
        let Some(found) = open(&pin).map_err(|e| e.or_wrong(|what| self.wrong(&pin, &what)))? else {
            return Ok(false);
        };
        let like = Shape {
            name: self.name,
            kind: found.map_type().unwrap_or(MapType::Unspecified),
            key: found.key_size(),
            value: found.value_size(),
            entries: found.max_entries(),
            flags: found.map_flags(),
        };
        if like.words() == self.words() {
            return Ok(true);
        }
        let mut wrong = self.wrong(&pin, &like.words());
        let only_slots = Shape {
            entries: self.entries,
            ..like
        };
        if let (true, KernelError::PinShape { expected, .. }) =
            (only_slots.words() == self.words(), &mut wrong)
            && BY_SLOT.contains(&self.name)
            && like.entries > 1
        {
            let (asked, made_for) = (self.entries - 1, like.entries - 1);
            *expected += &format!(" (kernel.max_slots is {asked}; with {made_for} it fits)");
        }
        Err(wrong)
    }

    fn wrong(&self, pin: &Path, found: &str) -> KernelError {
        KernelError::PinShape {
            pin: pin.to_owned(),
            found: found.to_owned(),
            expected: self.words(),
        }
    }

    fn words(&self) -> String {
        let Shape {
            kind,
            key,
            value,
            entries,
            flags,
            ..
        } = self;
        format!(
            "a {kind:?} map with key size {key}, value size {value}, max entries {entries}, flags {flags:#x}"
        )
    }
}

/// Checks every pin there is against what a start with so many slots expects; how many there are.
pub(super) fn check_all(slots: u32, pin_dir: &Path) -> Result<usize, KernelError> {
    let mut found = 0;
    for shape in &shapes(slots) {
        found += usize::from(shape.check(pin_dir)?);
    }
    Ok(found)
}

/// With how many slots the pinned maps were made. `None`: there are none.
pub(super) fn slots(pin_dir: &Path) -> Result<Option<u32>, KernelError> {
    let pin = pin_dir.join(ROOM_INFO);
    // What is expected of the others does not depend on it; of this one only the number is not known.
    let any = array::<RoomInfo>(ROOM_INFO, MapType::Array, 0);
    let found = open(&pin).map_err(|e| e.or_wrong(|what| any.wrong(&pin, &what)))?;
    Ok(found.map(|map| map.max_entries()))
}

/// The map pinned there, if there is one.
fn open(pin: &Path) -> Result<Option<MapInfo>, Unknown> {
    match object::look(pin)? {
        None => Ok(None),
        Some(Object::Map) => MapInfo::from_pin(pin)
            .map(Some)
            .map_err(|e| Unknown::NoPin(format!("a map that cannot be looked at ({})", error::chain(&e)))),
        Some(other) => Err(Unknown::NoPin(other.words())),
    }
}
