//! A packet as the parser reads it, from either kind of program. The one place that makes pointers into packets.

use aya_ebpf::{
    EbpfContext,
    programs::{TcContext, XdpContext},
};
use voice_common::Frame;

/// A part of a packet that lies in one piece.
pub(crate) struct Packet {
    data: usize,
    end: usize,
}

/// What a program is given.
pub(crate) trait Context: EbpfContext {
    /// The packet as far as it lies in one piece: that may be less than its headers.
    fn near(&self) -> Packet;

    /// The same with all headers, after making it so if need be.
    fn whole(&self) -> Packet;

    /// What the packet counts as: segments of a GSO packet, else 1; and the bytes of the frame. Asked only of packets that
    /// are counted: for TC it takes reads far from the headers.
    fn size(&self) -> (u64, u64);
}

impl Context for XdpContext {
    #[inline(always)]
    fn near(&self) -> Packet {
        Packet {
            data: self.data(),
            end: self.data_end(),
        }
    }

    /// A driver's first buffer holds the headers.
    #[inline(always)]
    fn whole(&self) -> Packet {
        self.near()
    }

    /// Only the first buffer.
    #[inline(always)]
    fn size(&self) -> (u64, u64) {
        (1, (self.data_end() - self.data()) as u64)
    }
}

/// Headers are looked for in this many bytes; a sender's payload may start in another buffer.
const PULL: u32 = 128;

impl Context for TcContext {
    #[inline(always)]
    fn near(&self) -> Packet {
        Packet {
            data: self.data(),
            end: self.data_end(),
        }
    }

    #[inline(always)]
    fn whole(&self) -> Packet {
        let len = self.len();
        let wanted = if len < PULL { len } else { PULL };
        if self.data_end() - self.data() < wanted as usize {
            // A failure leaves what was there before; the parser counts what it misses as truncated.
            let _ = self.pull_data(wanted);
        }
        self.near()
    }

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

impl Frame for Packet {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.data + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: no packet lies at address zero.
        unsafe { core::hint::assert_unchecked(start != 0) };
        // SAFETY: start..start + N lies inside the packet, as just checked; bytes need no alignment.
        Some(unsafe { &*(start as *const [u8; N]) })
    }
}
