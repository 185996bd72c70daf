//! What a media packet is, by the first bytes of its payload (RFC 7983; RTP and RTCP told apart by RFC 5761).

use core::hint::cold_path;

/// The class of a UDP payload on a media port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// RTP or SRTP.
    Rtp = 0,
    /// RTCP or SRTCP.
    Rtcp = 1,
    /// STUN, DTLS, TURN, ZRTP, too short, or unknown.
    Other = 2,
}

impl Class {
    /// Every class, in the order of the counters.
    pub const ALL: [Class; 3] = [Class::Rtp, Class::Rtcp, Class::Other];

    /// By the first two bytes: 128-191 is RTP or RTCP; of these, packet types 192-223 are RTCP.
    #[inline(always)]
    pub fn of(first: u8, second: u8) -> Class {
        if first & 0xc0 != 0x80 {
            cold_path();
            return Class::Other;
        }
        if second & 0xe0 == 0xc0 {
            cold_path();
            return Class::Rtcp;
        }
        Class::Rtp
    }
}
