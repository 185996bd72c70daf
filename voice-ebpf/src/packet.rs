//! A packet as the parser reads it, from either kind of program. The one place that makes pointers into packets.

use aya_ebpf::programs::{TcContext, XdpContext};
use voice_common::Frame;

/// The linear part of a packet.
pub(crate) struct Packet {
    data: usize,
    end: usize,
}

/// What a packet counts as. Asked only of packets that are counted: for TC it takes reads far from the headers.
pub(crate) trait Size {
    /// Segments of a GSO packet, else 1; and the bytes of the frame.
    fn size(&self) -> (u64, u64);
}

impl Size for XdpContext {
    /// Only the first buffer.
    #[inline(always)]
    fn size(&self) -> (u64, u64) {
        (1, (self.data_end() - self.data()) as u64)
    }
}

impl Size for TcContext {
    #[inline(always)]
    fn size(&self) -> (u64, u64) {
        // SAFETY: the context is valid while the program runs.
        let segments = unsafe { (*self.skb.skb).gso_segs };
        (
            if segments == 0 { 1 } else { u64::from(segments) },
            u64::from(self.len()),
        )
    }
}

/// Headers are looked for in this many bytes; a sender's payload may start in another buffer.
const PULL: u32 = 128;

/// Of a driver's frame: its first buffer.
#[inline(always)]
pub(crate) fn of_xdp(ctx: &XdpContext) -> Packet {
    Packet {
        data: ctx.data(),
        end: ctx.data_end(),
    }
}

/// Of a socket buffer; makes its headers linear first.
#[inline(always)]
pub(crate) fn of_tc(ctx: &TcContext) -> Packet {
    if ctx.data_end() - ctx.data() < PULL as usize {
        let len = ctx.len();
        let wanted = if len < PULL { len } else { PULL };
        if ctx.data_end() - ctx.data() < wanted as usize {
            // A failure leaves what was linear before; the parser counts what it misses as truncated.
            let _ = ctx.pull_data(wanted);
        }
    }
    Packet {
        data: ctx.data(),
        end: ctx.data_end(),
    }
}

impl Frame for Packet {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.data + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: start..start + N lies inside the packet, as just checked; bytes need no alignment.
        Some(unsafe { &*(start as *const [u8; N]) })
    }
}
