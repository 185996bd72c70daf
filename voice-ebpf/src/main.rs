//! The XDP and TC programs. Each is its hook's name for one shared piece of code, [`run::run`].
//!
//! What a packet is and what becomes of it is decided in `voice-common`; here are maps, counters and return codes.
//! Built for bpfel-unknown-none by `cargo xtask build-ebpf`; on the host it only compiles.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(dead_code, reason = "the host only type-checks this crate")
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the macros around the entries give the context by value"
)]

mod maps;
mod packet;
mod run;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use run::{Action, At, run};
use voice_common::Hook;

struct Xdp;

impl At for Xdp {
    const HOOK: Hook = Hook::Xdp;
}

struct Ingress;

impl At for Ingress {
    const HOOK: Hook = Hook::TcIngress;
}

struct Egress;

impl At for Egress {
    const HOOK: Hook = Hook::TcEgress;
}

/// Linux 5.18 and later: also takes frames in several buffers (large MTU).
#[xdp(frags)]
fn voice_xdp_frags(ctx: XdpContext) -> u32 {
    xdp_ingress(ctx)
}

/// Older kernels, which do not know `frags`.
#[xdp]
fn voice_xdp(ctx: XdpContext) -> u32 {
    xdp_ingress(ctx)
}

/// Witness of what comes in, and dropper where XDP is not attached.
#[classifier]
fn voice_tc_ingress(ctx: TcContext) -> i32 {
    tc::<Ingress>(ctx)
}

/// Witness and dropper of what goes out.
#[classifier]
fn voice_tc_egress(ctx: TcContext) -> i32 {
    tc::<Egress>(ctx)
}

#[inline(always)]
fn xdp_ingress(ctx: XdpContext) -> u32 {
    match run::<Xdp, _>(ctx) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

/// `TC_ACT_UNSPEC`: the next program, or the stack, has its say. The bindings lack it.
const TC_ACT_UNSPEC: i32 = -1;

#[inline(always)]
fn tc<A: At>(ctx: TcContext) -> i32 {
    match run::<A, _>(ctx) {
        Action::Pass => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel that these programs may call its GPL helpers.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
