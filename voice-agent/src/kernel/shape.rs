//! The shape each pinned map must have. A loader reuses whatever it finds at the path without looking, so we look.

use super::{KernelError, error};
use aya::maps::{MapInfo, MapType};
use std::path::{Path, PathBuf};
use voice_common::{
    FlowKey, HookCounts, Owner, RoomCounts, RoomEntry, RoomInfo, SsrcKey,
    abi::{CONTROL_WORDS, EVENT_BYTES, MAX_FLOWS, MAX_SSRCS, PORTS},
};

/// One pinned map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Its name in the object, and of its pin.
    pub(super) name: &'static str,
    kind: MapType,
    key: u32,
    value: u32,
    entries: u32,
}

/// Every pinned map, with `slots` entries in those that are by slot.
pub(super) fn shapes(slots: u32) -> [Shape; 9] {
    [
        array::<u64>("CONTROL", MapType::Array, CONTROL_WORDS),
        array::<u32>("PORT_SLOT", MapType::Array, PORTS),
        hash::<FlowKey>("FLOWS", MAX_FLOWS),
        hash::<SsrcKey>("SSRCS", MAX_SSRCS),
        array::<RoomEntry>("ROOMS", MapType::Array, slots),
        array::<RoomInfo>("ROOM_INFO", MapType::Array, slots),
        array::<RoomCounts>("COUNTS", MapType::PerCpuArray, slots),
        array::<HookCounts>("HOOKS", MapType::PerCpuArray, 3),
        Shape {
            name: "EVENTS",
            kind: MapType::RingBuf,
            key: 0,
            value: 0,
            entries: EVENT_BYTES,
        },
    ]
}

/// Of [`Owner`]s by `K`.
fn hash<K>(name: &'static str, entries: u32) -> Shape {
    Shape {
        key: size(size_of::<K>()),
        ..array::<Owner>(name, MapType::Hash, entries)
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
        if !pin.exists() {
            return Ok(false);
        }
        let info = match MapInfo::from_pin(&pin) {
            Ok(info) => info,
            Err(e) if error::errno(&e) == Some(libc::EPERM) => {
                let what = format!("opening the pin {}", pin.display());
                return Err(KernelError::Permission { what });
            }
            Err(e) => return Err(self.wrong(pin, format!("no map ({})", error::chain(&e)))),
        };
        let found = (
            info.map_type().ok(),
            info.key_size(),
            info.value_size(),
            info.max_entries(),
        );
        if found == (Some(self.kind), self.key, self.value, self.entries) {
            return Ok(true);
        }
        let kind = found.0.map_or("unknown".to_owned(), |k| format!("{k:?}"));
        Err(self.wrong(pin, words(&kind, found.1, found.2, found.3)))
    }

    fn wrong(&self, pin: PathBuf, found: String) -> KernelError {
        KernelError::PinShape {
            pin,
            found,
            expected: words(&format!("{:?}", self.kind), self.key, self.value, self.entries),
        }
    }
}

fn words(kind: &str, key: u32, value: u32, entries: u32) -> String {
    format!("a {kind} map with key size {key}, value size {value}, max entries {entries}")
}
