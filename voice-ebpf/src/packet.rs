//! A packet as the parser reads it, from either kind of program. The one place that makes pointers into packets.

use aya_ebpf::programs::{TcContext, XdpContext};
use voice_common::Frame;

/// The linear part of a packet, and what it counts as.
pub(crate) struct Packet {
    data: usize,
    end: usize,
    /// Segments of a GSO packet, else 1.
    pub(crate) packets: u64,
    /// Bytes of the frame.
    pub(crate) bytes: u64,
}

/// Headers are looked for in this many bytes; a sender's payload may start in another buffer.
const PULL: u32 = 128;

/// Of a driver's frame. Only its first buffer is read and counted.
#[inline(always)]
pub(crate) fn of_xdp(ctx: &XdpContext) -> Packet {
    let (data, end) = (ctx.data(), ctx.data_end());
    Packet {
        data,
        end,
        packets: 1,
        bytes: (end - data) as u64,
    }
}

/// Of a socket buffer; makes its headers linear first.
#[inline(always)]
pub(crate) fn of_tc(ctx: &TcContext) -> Packet {
    let len = ctx.len();
    let wanted = if len < PULL { len } else { PULL };
    if ctx.data_end() - ctx.data() < wanted as usize {
        // A failure leaves what was linear before; the parser counts what it misses as truncated.
        let _ = ctx.pull_data(wanted);
    }
    // SAFETY: the context is valid while the program runs.
    let segments = unsafe { (*ctx.skb.skb).gso_segs };
    Packet {
        data: ctx.data(),
        end: ctx.data_end(),
        packets: if segments == 0 { 1 } else { u64::from(segments) },
        bytes: u64::from(len),
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
