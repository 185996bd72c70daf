//! The one packet parser: Ethernet, VLAN tags, IPv4, IPv6, UDP. The kernel runs it over a packet, the host over a slice.
//!
//! Every header is checked as a whole before a byte of it is read: one bounds check each is what the verifier can follow.

use crate::{Class, Direction, Reason, bounded::bounded};
use core::hint::cold_path;

/// A frame that starts at its Ethernet header.
pub trait Frame {
    /// The `N` bytes at `offset`; `None` when the frame ends before.
    fn at<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;
}

impl Frame for [u8] {
    fn at<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }
}

/// A UDP datagram, or the first fragment of one. Its header is read field by field, when one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    header: &'a [u8; 8],
    /// Where the payload starts in the frame.
    pub payload: usize,
}

impl Udp<'_> {
    /// Source port.
    #[inline(always)]
    pub fn src(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[inline(always)]
    pub fn dst(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// The port of the end that is on this host.
    #[inline(always)]
    pub fn local(&self, direction: Direction) -> u16 {
        match direction {
            Direction::Ingress => self.dst(),
            Direction::Egress => self.src(),
        }
    }

    /// Length of header and payload, by the header.
    #[inline(always)]
    pub fn length(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q and 802.1ad.
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];
const MAX_VLANS: usize = 2;
const MAX_EXTENSIONS: usize = 6;

/// The offset of an IPv4 fragment; zero for the first.
const LATER_FRAGMENT: u16 = 0x1fff;

/// The length in the UDP header of the shortest datagram that has a class: two bytes of payload.
const CLASSED: u16 = 8 + 2;

const PROTO_UDP: u8 = 17;
const EXT_FRAGMENT: u8 = 44;
const EXT_AUTH: u8 = 51;

/// The start of nearly every frame: untagged IPv4 without options, far enough to tell what it carries. One check and no
/// search; what it says is what [`parse`] and [`class`] say.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(&'a [u8; PLAIN]);

/// Ethernet, IPv4, UDP, and the two bytes of the payload that tell its class.
const PLAIN: usize = PLAIN_UDP + 8 + 2;
const PLAIN_UDP: usize = 14 + 20;

const KIND: u32 = (ETHERTYPE_IPV4 as u32) << 16 | 0x45 << 8;
/// And the bits that tell.
const FIRST_OF_UDP: (u32, u32) = (PROTO_UDP as u32, (LATER_FRAGMENT as u32) << 16 | 0xff);

/// Four bytes as they lie.
#[inline(always)]
fn word(start: &[u8; PLAIN], at: usize) -> u32 {
    start[at..]
        .first_chunk()
        .map_or(0, |four| u32::from_ne_bytes(*four))
}

impl<'a> Plain<'a> {
    /// `None`: another kind of frame, or too short.
    #[inline(always)]
    pub fn of<F: Frame + ?Sized>(frame: &'a F) -> Option<Plain<'a>> {
        let start = frame.at::<PLAIN>(0)?;
        (word(start, 12) & !0xff_u32.to_be() == KIND.to_be()).then_some(Plain(start))
    }

    /// Why it is not the first of a UDP datagram; `None`: it is.
    #[inline(always)]
    pub fn off(&self) -> Option<Reason> {
        // In one look: the fragment's offset, the time to live, the protocol.
        if word(self.0, 20) & FIRST_OF_UDP.1.to_be() == FIRST_OF_UDP.0.to_be() {
            None
        } else if self.0[23] == PROTO_UDP {
            Some(Reason::LaterFragment)
        } else {
            Some(Reason::NotUdp)
        }
    }

    /// The UDP port of the end that is on this host. Meaningless when it is [`Plain::off`].
    #[inline(always)]
    pub fn local(&self, direction: Direction) -> u16 {
        let at = match direction {
            Direction::Ingress => PLAIN_UDP + 2,
            Direction::Egress => PLAIN_UDP,
        };
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Of the payload.
    #[inline(always)]
    pub fn class(&self) -> Class {
        let start = self.0;
        let length = u16::from_be_bytes([start[PLAIN_UDP + 4], start[PLAIN_UDP + 5]]);
        if length < CLASSED {
            cold_path();
            return Class::Other;
        }
        Class::of(start[PLAIN_UDP + 8], start[PLAIN_UDP + 9])
    }
}

/// Finds the UDP header of any frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Udp<'_>, Reason> {
    let (ethertype, ip) = ethernet(frame)?;
    let at = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, ip)?,
        ETHERTYPE_IPV6 => ipv6(frame, ip)?,
        _ => return Err(Reason::NotIp),
    };
    let at = any_of_these(at);
    Ok(Udp {
        header: frame.at(at).ok_or(Reason::Truncated)?,
        payload: at + 8,
    })
}

/// Headers end before: 22 bytes of Ethernet, 40 of IPv6 and six extension headers of at most 2048.
const MAX_OFFSET: i32 = 0x3fff;

/// The same offset, as one that the verifier knows nothing about. It has come here on dozens of ways with another one
/// each, and would follow every one of them to the end. What lies inside a word of the stack, not at its start, it does not
/// follow. (At an even place: older verifiers take no other.)
#[inline(always)]
pub(crate) fn any_of_these(offset: usize) -> usize {
    let hidden = core::hint::black_box([0_u16, offset as u16]);
    bounded::<MAX_OFFSET>(hidden[1].into())
}

/// The class of a datagram's payload. `Other` when it has fewer than two bytes; Ethernet padding is not payload.
#[inline(always)]
pub fn class<F: Frame + ?Sized>(frame: &F, udp: &Udp<'_>) -> Class {
    if udp.length() < CLASSED {
        return Class::Other;
    }
    match frame.at::<2>(udp.payload) {
        Some(&[first, second]) => Class::of(first, second),
        None => Class::Other,
    }
}

/// The ethertype behind at most two VLAN tags, and where its header starts.
#[inline(always)]
pub(crate) fn ethernet<F: Frame + ?Sized>(frame: &F) -> Result<(u16, usize), Reason> {
    let header = frame.at::<14>(0).ok_or(Reason::Truncated)?;
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut at = 14;
    for _ in 0..MAX_VLANS {
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            break;
        }
        let tag = frame.at::<4>(at).ok_or(Reason::Truncated)?;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        at += 4;
    }
    Ok((ethertype, at))
}

/// Where the UDP header starts behind an IPv4 header with its options.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<usize, Reason> {
    let ip = frame.at::<20>(at).ok_or(Reason::Truncated)?;
    let header = usize::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 != 4 || header < 20 {
        return Err(Reason::BadIp);
    }
    if ip[9] != PROTO_UDP {
        return Err(Reason::NotUdp);
    }
    if u16::from_be_bytes([ip[6], ip[7]]) & LATER_FRAGMENT != 0 {
        return Err(Reason::LaterFragment);
    }
    Ok(at + header)
}

/// Where the UDP header starts behind an IPv6 header and at most six extension headers.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<usize, Reason> {
    let ip = frame.at::<40>(at).ok_or(Reason::Truncated)?;
    if ip[0] >> 4 != 6 {
        return Err(Reason::BadIp);
    }
    let mut next = ip[6];
    let mut at = at + 40;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        let header = frame.at::<8>(at).ok_or(Reason::Truncated)?;
        at += match next {
            EXT_FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 => {
                return Err(Reason::LaterFragment);
            }
            EXT_FRAGMENT => 8,
            EXT_AUTH => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        next = header[0];
    }
    match next {
        PROTO_UDP => Ok(at),
        next if is_extension(next) => Err(Reason::TooManyExtensions),
        _ => Err(Reason::NotUdp),
    }
}

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6. Not ESP: nothing behind
/// it can be read.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | EXT_FRAGMENT | EXT_AUTH | 60 | 135 | 139 | 140)
}
