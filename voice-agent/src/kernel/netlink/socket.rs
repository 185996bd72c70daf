//! A UDP socket, as sock_diag tells it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use voice_room::Port;

/// An open UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpSocket {
    /// Its local port.
    pub port: Port,
    /// Its local address; unspecified when it takes packets for any.
    pub local: IpAddr,
}

impl UdpSocket {
    /// struct inet_diag_msg: family and 3 bytes, source port, destination port, source address.
    pub(super) fn parse(answer: &[u8]) -> Option<UdpSocket> {
        let port = u16::from_be_bytes(*answer.get(4..)?.first_chunk()?);
        let local = if i32::from(*answer.first()?) == libc::AF_INET {
            Ipv4Addr::from(*answer.get(8..)?.first_chunk::<4>()?).into()
        } else {
            Ipv6Addr::from(*answer.get(8..)?.first_chunk::<16>()?).to_canonical()
        };
        Some(UdpSocket {
            port: Port(port),
            local,
        })
    }
}
