//! The tables that the programs reach by address, without a look-up: each is the only value of its map. aya knows such maps only
//! as sections of the object, which it makes itself and overwrites at every load. So the object has stand-ins, and the pinned
//! maps take over their descriptors before the programs are loaded: these numbers are all that the code knows of a map.

use super::{KernelError, load, object, pinned, shape::Shape};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

/// `PORT_SLOT` and `ROOMS`.
pub(super) const DIRECT: [&str; 2] = ["PORT_SLOT", "ROOMS"];

/// Opens the pinned map of this shape, which was checked, or makes and pins it.
pub(super) fn open(shape: &Shape, pin_dir: &Path) -> Result<MapData, KernelError> {
    if shape.check(pin_dir)? {
        return pinned::data(pin_dir, shape.name);
    }
    let what = || format!("making the map {}", shape.name);
    let made = object::create_map(shape).map_err(|e| KernelError::load(what(), &e))?;
    let map = MapData::from_fd(made).map_err(|e| KernelError::load(what(), &e))?;
    let pinned = map.pin(shape.pin(pin_dir));
    pinned.map_err(|e| KernelError::load(format!("pinning the map {}", shape.name), &e))?;
    Ok(map)
}

/// Puts a map in the place of its stand-in: to be called before the programs are loaded.
pub(super) fn put(map: &MapData, name: &str, ebpf: &Ebpf) -> Result<(), KernelError> {
    let section = format!(".bss.{name}");
    let Some(Map::Array(stand_in)) = ebpf.map(&section) else {
        return Err(load::missing(&section));
    };
    let (ours, theirs) = (map.fd().as_fd(), stand_in.fd().as_fd());
    // SAFETY: both are open. The stand-in's owner goes on owning its number, which now means the other map; nobody else has it.
    let answer = unsafe { libc::dup3(ours.as_raw_fd(), theirs.as_raw_fd(), libc::O_CLOEXEC) };
    if answer < 0 {
        let e = io::Error::last_os_error();
        return Err(KernelError::load(
            format!("giving the programs the map {name}"),
            &e,
        ));
    }
    Ok(())
}
