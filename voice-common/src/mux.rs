//! Whose packet it is on a port that several rooms share: by the flow, else by the SSRC. What neither tells is nobody's.

use crate::{Class, Direction, FlowKey, Frame, Owner, Reason, Room, SsrcKey, Tables, Udp, packet};

/// The room of a datagram on a shared port, and its slot.
#[inline(always)]
pub(crate) fn room<F, T>(
    frame: &F,
    udp: &Udp<'_>,
    class: Class,
    direction: Direction,
    tables: &T,
) -> Result<(u32, Room), Reason>
where
    F: Frame + ?Sized,
    T: Tables,
{
    // Found again rather than kept: ports of one room do not pay for it.
    let (_, ip) = packet::ethernet(frame)?;
    let ip = packet::any_of_these(ip);
    let owner = flow(frame, ip, udp, direction).and_then(|key| tables.flow(&key));
    let owner = match owner {
        Some(owner) => owner,
        None => by_ssrc(frame, udp, direction, class, tables).ok_or(Reason::MuxUnknown)?,
    };
    let room = tables.room(owner.slot).ok_or(Reason::NoSlot)?;
    if room.generation != owner.generation {
        return Err(Reason::MuxStale);
    }
    Ok((owner.slot, room))
}

/// The flow: the local port and the remote end. `None` only for a frame that was not parsed before.
#[inline(always)]
fn flow<F: Frame + ?Sized>(frame: &F, start: usize, udp: &Udp<'_>, direction: Direction) -> Option<FlowKey> {
    let ingress = matches!(direction, Direction::Ingress);
    let (port, remote_port) = if ingress {
        (udp.dst(), udp.src())
    } else {
        (udp.src(), udp.dst())
    };
    let ip = frame.at::<20>(start)?;
    let remote = if ip[0] >> 4 == 4 {
        let at = if ingress { 12 } else { 16 };
        mapped([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]])
    } else {
        let at = if ingress { 8 } else { 24 };
        *frame.at::<16>(start + at)?
    };
    Some(FlowKey {
        port,
        remote_port,
        remote,
    })
}

/// An IPv4 address as IPv6 writes it (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

#[inline(always)]
fn by_ssrc<F, T>(frame: &F, udp: &Udp<'_>, direction: Direction, class: Class, tables: &T) -> Option<Owner>
where
    F: Frame + ?Sized,
    T: Tables,
{
    let port = match direction {
        Direction::Ingress => udp.dst(),
        Direction::Egress => udp.src(),
    };
    let key = SsrcKey {
        ssrc: ssrc(frame, udp, class)?,
        port: u32::from(port),
    };
    tables.ssrc(&key)
}

/// Who sends: word 3 of an RTP header (RFC 3550, 5.1), word 2 of an RTCP packet (6.4); both are in clear under SRTP.
#[inline(always)]
pub fn ssrc<F: Frame + ?Sized>(frame: &F, udp: &Udp<'_>, class: Class) -> Option<u32> {
    let at = match class {
        Class::Rtp => 8,
        Class::Rtcp => 4,
        Class::Other => return None,
    };
    // Ethernet padding is not payload.
    if usize::from(udp.length()) < 8 + at + 4 {
        return None;
    }
    frame.at::<4>(udp.payload + at).copied().map(u32::from_be_bytes)
}
