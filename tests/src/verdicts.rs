//! The packet tables: rooms in every state, every kind of frame, and what each program has to do with it. The tests run them on
//! this kernel, `guest` on others.

pub mod cases;

use crate::{
    frame::{Extension, Frame},
    programs::{Counted, Outcome, Programs, SLOTS},
};
use std::time::Duration;
use voice_agent::kernel::{Features, tables};
use voice_common::{Class, Hook, Reason, Verdict};

/// The peer's port, outside the range.
pub const PEER: u16 = 40_000;
/// A port in the range that is nobody's.
pub const UNBOUND: u16 = 50_000;
/// The port of a room that is not cut.
pub const OPEN: u16 = 50_010;
/// The port of a room that is cut.
pub const BLOCKED: u16 = 50_020;
/// The port of a room that would be cut.
pub const SHADOW: u16 = 50_030;
/// The port of a room whose cut is over.
pub const EXPIRED: u16 = 50_040;
/// A port whose slot does not exist.
pub const NO_SLOT: u16 = 50_050;

/// The slot of [`OPEN`].
pub const OPEN_SLOT: u32 = 1;
const BLOCKED_SLOT: u32 = 2;
const SHADOW_SLOT: u32 = 3;
const EXPIRED_SLOT: u32 = 4;

/// The programs, with a room in each of these states.
pub fn programs(features: Features) -> Programs {
    let programs = Programs::load(features).unwrap_or_else(|e| panic!("{e:#}"));
    let tables = programs.tables();
    let now = tables::now();
    let hour = Duration::from_secs(3600);
    for (port, slot) in [
        (OPEN, OPEN_SLOT),
        (BLOCKED, BLOCKED_SLOT),
        (SHADOW, SHADOW_SLOT),
        (EXPIRED, EXPIRED_SLOT),
        (NO_SLOT, SLOTS + 1),
    ] {
        tables.set_port(port, slot);
    }
    tables.arm(BLOCKED_SLOT, now + hour, false);
    tables.arm(SHADOW_SLOT, now + hour, true);
    tables.arm(EXPIRED_SLOT, now, false);
    programs
}

/// Builds a frame from one port to another.
pub type Build<'a> = &'a dyn Fn(u16, u16) -> Frame;

/// The frame as `hook` sees it: with `port` on this node's side.
pub fn at(hook: Hook, port: u16, build: Build<'_>) -> Vec<u8> {
    let frame = match hook {
        Hook::Xdp | Hook::TcIngress => build(PEER, port),
        Hook::TcEgress => build(port, PEER),
    };
    frame.bytes
}

/// At every hook, the program over this frame does and counts what is wanted, and what the host makes of it.
pub fn check(
    programs: &mut Programs,
    what: &str,
    port: u16,
    build: Build<'_>,
    wanted: Result<Class, Reason>,
) {
    for hook in Hook::ALL {
        let frame = at(hook, port, build);
        let seen = programs
            .outcome(hook, &frame)
            .unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let context = format!("{what}, port {port}, at {}", hook.name());
        assert_eq!(
            seen,
            programs.expected(hook, &frame),
            "kernel and host: {context}"
        );
        assert_eq!(seen, outcome(hook, port, wanted), "{context}");
    }
}

/// What a datagram of this class on this port must do; with a reason, what everything else must do.
pub fn outcome(hook: Hook, port: u16, wanted: Result<Class, Reason>) -> Outcome {
    let (slot, class, verdict) = match (wanted, port) {
        (Err(reason), _) => return passed(hook, reason),
        (Ok(_), UNBOUND) => return passed(hook, Reason::Unbound),
        (Ok(_), NO_SLOT) => return passed(hook, Reason::NoSlot),
        (Ok(class), OPEN) => (OPEN_SLOT, class, Verdict::Pass),
        (Ok(class), BLOCKED) => (BLOCKED_SLOT, class, Verdict::Drop),
        (Ok(class), SHADOW) => (SHADOW_SLOT, class, Verdict::WouldDrop),
        (Ok(class), EXPIRED) => (EXPIRED_SLOT, class, Verdict::Pass),
        (Ok(_), _) => return passed(hook, Reason::OutOfRange),
    };
    let dropped = verdict == Verdict::Drop;
    let counted = (dropped || hook != Hook::Xdp).then_some(Counted::Room(slot, class, verdict));
    Outcome { dropped, counted }
}

/// XDP leaves the counting of what passes to TC, which sees it next.
fn passed(hook: Hook, reason: Reason) -> Outcome {
    let counted = (hook != Hook::Xdp).then_some(Counted::Reason(reason));
    Outcome {
        dropped: false,
        counted,
    }
}

/// All of them, and the ports beside the range.
pub const PORTS: [u16; 8] = [UNBOUND, OPEN, BLOCKED, SHADOW, EXPIRED, NO_SLOT, 49_999, 60_001];

/// Builds a frame around a payload, between two ports.
pub type Wrap = Box<dyn Fn(u16, u16, &[u8]) -> Frame>;

/// Every way a datagram can be wrapped that must be understood.
pub fn wrappings() -> Vec<(String, Wrap)> {
    let mut all: Vec<(String, Wrap)> = Vec::new();
    for tags in [
        &[][..],
        &[0x8100],
        &[0x88a8],
        &[0x88a8, 0x8100],
        &[0x8100, 0x8100],
    ] {
        for options in [0, 1, 5, 10] {
            let build = move |s, d, p: &[u8]| Frame::tagged(tags, 0x0800).ipv4(17, options, 0).udp(s, d, p);
            all.push((
                format!("tags {tags:x?}, {options} words of options"),
                Box::new(build),
            ));
        }
        let build = move |s, d, p: &[u8]| Frame::tagged(tags, 0x86dd).ipv6(&[], 17).udp(s, d, p);
        all.push((format!("tags {tags:x?}, IPv6"), Box::new(build)));
    }
    let first = |s, d, p: &[u8]| Frame::ethernet(0x0800).ipv4(17, 0, 0x2000).udp(s, d, p);
    all.push(("first IPv4 fragment".into(), Box::new(first)));
    for (name, extensions) in extension_chains() {
        let build = move |s, d, p: &[u8]| Frame::ethernet(0x86dd).ipv6(&extensions, 17).udp(s, d, p);
        all.push((name, Box::new(build)));
    }
    all
}

fn extension_chains() -> Vec<(String, Vec<Extension>)> {
    let mut chains: Vec<(String, Vec<Extension>)> = [0, 43, 60, 135, 139, 140, 51]
        .map(|number| (format!("extension {number}"), vec![Extension::new(number, 0)]))
        .into();
    chains.push(("first IPv6 fragment".into(), vec![Extension::fragment(1)]));
    chains.push(("extension of 64 bytes".into(), vec![Extension::new(60, 7)]));
    chains.push(("authentication of 24 bytes".into(), vec![Extension::new(51, 4)]));
    for n in 1..=6 {
        chains.push((format!("{n} extensions"), vec![Extension::new(60, 0); n]));
    }
    chains
}
