//! Somebody else's XDP program: passes everything, attached natively by a link of its own, as another tool would.

use crate::netns::Netns;
use anyhow::{Context, bail};
use std::{
    io::Error,
    os::fd::{FromRawFd, OwnedFd},
};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_PASS: i32 = 2;

/// The name the kernel shows for it.
pub const NAME: &str = "someone_else";

/// An attached program; detached on drop.
#[derive(Debug)]
pub struct Occupant {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// `bpf_attr` of BPF_PROG_LOAD, as far as it is used (linux/bpf.h).
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `bpf_attr` of BPF_LINK_CREATE, as far as it is used.
#[repr(C)]
struct Link {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl Occupant {
    /// Attaches to `dev` in `ns`. Needs root.
    pub fn attach(ns: &Netns, dev: &str) -> anyhow::Result<Occupant> {
        let program = load()?;
        let link = Link {
            prog_fd: u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&program))?,
            target_ifindex: ns.index(dev)?,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        let link = ns
            .run(|| bpf(BPF_LINK_CREATE, &link))?
            .with_context(|| format!("attach an XDP program to {dev} in {}", ns.name()))?;
        Ok(Occupant {
            _program: program,
            _link: link,
        })
    }
}

/// The id of the XDP program on `dev`, if any, as `ip` shows it.
pub fn xdp_program(ns: &Netns, dev: &str) -> anyhow::Result<Option<u32>> {
    let shown = ns.ip(&format!("-d link show dev {dev}"))?;
    let id = shown
        .split_once("prog/xdp id ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    id.map(|id| id.parse().context("read the id of the XDP program"))
        .transpose()
}

fn load() -> anyhow::Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let code: [u64; 2] = [0xb7 | (u64::from(XDP_PASS.cast_unsigned()) << 32), 0x95];
    let mut prog_name = [0; 16];
    for (to, from) in prog_name.iter_mut().zip(NAME.bytes()) {
        *to = from;
    }
    let attr = Load {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    bpf(BPF_PROG_LOAD, &attr).context("load an XDP program (needs root)")
}

/// The bpf system call, for commands that answer with a descriptor.
fn bpf<T>(command: libc::c_int, attr: &T) -> anyhow::Result<OwnedFd> {
    // SAFETY: `attr` is a prefix of the command's bpf_attr, passed with its size; what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        bail!("bpf({command}): {}", Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::{NODE_DEV, Pair};

    #[test]
    fn the_occupant_is_seen_on_the_interface_and_gone_after_drop() {
        let pair = Pair::new().unwrap();
        assert_eq!(xdp_program(&pair.node, NODE_DEV).unwrap(), None);
        let occupant = Occupant::attach(&pair.node, NODE_DEV).unwrap();
        assert!(xdp_program(&pair.node, NODE_DEV).unwrap().is_some());
        drop(occupant);
        assert_eq!(xdp_program(&pair.node, NODE_DEV).unwrap(), None);
    }
}
