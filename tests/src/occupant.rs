//! Somebody else's XDP program: passes everything, attached natively by a link of its own, as another tool would.

use crate::{
    bytecode::{self, Kind, Program, XDP_PASS},
    netns::Netns,
};
use anyhow::Context;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The name the kernel shows for it.
pub const NAME: &str = "someone_else";

/// An attached program; detached on drop.
#[derive(Debug)]
pub struct Occupant {
    _program: Program,
    link: OwnedFd,
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
        let program = Program::load(Kind::Xdp, NAME, &bytecode::answer(XDP_PASS))?;
        let mut link = Link {
            prog_fd: u32::try_from(program.as_fd().as_raw_fd())?,
            target_ifindex: ns.index(dev)?,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        let link = ns
            .run(|| bytecode::bpf(BPF_LINK_CREATE, &mut link))?
            .with_context(|| format!("attach an XDP program to {dev} in {}", ns.name()))?;
        // SAFETY: the kernel made this descriptor for us just now.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
        Ok(Occupant {
            _program: program,
            link,
        })
    }
}

impl AsFd for Occupant {
    /// Its link.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
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
