//! Pins that are not as the agent left them: maps of any shape, and other things under the name of one. By bare system calls.

use crate::bytecode::bpf;
use anyhow::Context;
use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_OBJ_PIN: libc::c_int = 6;

/// The shape of a map, in the kernel's numbers; the first fields of BPF_MAP_CREATE's `bpf_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `BPF_MAP_TYPE_*`
    pub kind: u32,
    /// In bytes.
    pub key: u32,
    /// In bytes.
    pub value: u32,
    /// How many, or of a ring buffer bytes.
    pub entries: u32,
    /// `BPF_F_*`
    pub flags: u32,
}

/// A new map. Needs root.
pub fn map(mut shape: Shape) -> anyhow::Result<OwnedFd> {
    let fd = bpf(BPF_MAP_CREATE, &mut shape).with_context(|| format!("make a map like {shape:?}"))?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a map, program or link.
pub fn pin(object: impl AsFd, path: &Path) -> anyhow::Result<()> {
    #[repr(C)]
    struct Pin {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Pin {
        pathname: name.as_ptr() as u64,
        bpf_fd: u32::try_from(object.as_fd().as_raw_fd())?,
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr)
        .map(drop)
        .with_context(|| format!("pin at {}", path.display()))
}

/// A pin moved out of the way on its own file system; it goes back on drop, in place of what stands there then.
#[derive(Debug)]
pub struct Aside {
    pin: PathBuf,
    aside: PathBuf,
}

impl Aside {
    /// Moves `pin` to `aside`, which is on the same file system.
    pub fn new(pin: &Path, aside: &Path) -> anyhow::Result<Aside> {
        fs::rename(pin, aside).with_context(|| format!("move {} aside", pin.display()))?;
        Ok(Aside {
            pin: pin.to_owned(),
            aside: aside.to_owned(),
        })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Whichever of the two it is; the other fails.
        let _ = fs::remove_file(&self.pin);
        let _ = fs::remove_dir(&self.pin);
        if let Err(error) = fs::rename(&self.aside, &self.pin) {
            eprintln!("putting {} back: {error}", self.pin.display());
        }
    }
}
