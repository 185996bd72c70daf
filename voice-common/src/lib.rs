//! What the kernel programs and userspace share: map layouts, the packet parser and the verdict.
//!
//! Everything that decides about a packet is here and runs unchanged on both sides, so the host's tests test the
//! kernel's code. Nothing here touches a map, a clock or a socket.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod bounded;
pub mod class;
pub mod judge;
pub mod mux;
pub mod packet;
pub mod reason;

pub use abi::{
    ABI_VERSION, Count, Direction, DropEvent, FlowKey, Hook, HookCounts, Owner, RoomCounts, RoomEntry,
    RoomInfo, SsrcKey,
};
pub use class::Class;
pub use judge::{Bound, Glance, Room, Tables, Verdict, glance, judge, judge_any, judge_slot};
pub use packet::{Frame, Plain, Udp, parse};
pub use reason::Reason;
