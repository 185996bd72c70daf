//! The netlink questions we ask: which UDP sockets exist, how an interface is and which XDP program it has, where routes
//! lead. Reads only.

mod route;
mod rule;
mod socket;
mod tc;

pub use route::Route;
pub use socket::UdpSocket;
pub(super) use tc::{CLSACT_SIDES, Tc};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};
use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};
use voice_room::Port;

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// An interface, as rtnetlink tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Administratively.
    pub(super) up: bool,
    /// In bytes.
    pub(super) mtu: u32,
    /// The id of the XDP program on it.
    pub(super) xdp: Option<u32>,
    /// How that is attached, by the kernel's number.
    attached: u8,
}

impl Link {
    /// How the XDP program is attached, in a word.
    pub(super) fn xdp_mode(self) -> &'static str {
        match self.attached {
            1 => "native",
            2 => "generic",
            3 => "offloaded",
            4 => "in several modes",
            _ => "in a mode not known",
        }
    }
}

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// linux/rtnetlink.h, linux/if_link.h
const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;

impl Netlink {
    /// For [`Netlink::udp_ports`].
    pub(super) fn sock_diag() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkSockDiag)
    }

    /// For [`Netlink::xdp_program`].
    pub(super) fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Netlink { socket })
    }

    /// Local ports of every UDP socket, IPv4 and IPv6.
    pub(super) fn udp_ports(&self) -> io::Result<Vec<Port>> {
        Ok(self
            .udp_sockets()?
            .into_iter()
            .map(|socket| socket.port)
            .collect())
    }

    /// Every UDP socket, IPv4 and IPv6.
    pub(super) fn udp_sockets(&self) -> io::Result<Vec<UdpSocket>> {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            // struct inet_diag_req_v2: family, protocol, 2 bytes, states (all), socket id (any).
            let mut request = vec![family as u8, libc::IPPROTO_UDP as u8, 0, 0];
            request.extend(u32::MAX.to_ne_bytes());
            request.extend([0; 48]);
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, |answer| {
                sockets.extend(UdpSocket::parse(answer));
            })?;
        }
        Ok(sockets)
    }

    /// The unicast routes that lead out of an interface that is up, of every table to which a rule leads packets of this
    /// host's own sockets; multicast and link-local ones left out.
    pub(super) fn routes(&self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            // struct rtmsg
            let mut request = [0; 12];
            request[0] = family as u8;
            self.ask(RTM_GETROUTE, NLM_F_DUMP, &request, |answer| {
                routes.extend(route::parse(answer));
            })?;
        }
        Ok(route::reached(&routes, &self.rules()?))
    }

    /// Policy routing, IPv4 and IPv6.
    fn rules(&self) -> io::Result<Vec<rule::Rule>> {
        let mut rules = Vec::new();
        // struct fib_rule_hdr: of any family.
        self.ask(RTM_GETRULE, NLM_F_DUMP, &[0; 12], |answer| {
            rules.extend(rule::parse(answer));
        })?;
        Ok(rules)
    }

    /// The queueing disciplines of an interface.
    pub(super) fn qdiscs(&self, index: u32) -> io::Result<Vec<Tc>> {
        let mut all = self.tc(RTM_GETQDISC, index, 0)?;
        all.retain(|qdisc| qdisc.device == index);
        Ok(all)
    }

    /// The filters on one qdisc, or one side of clsact, of an interface. Some kinds of qdisc take none.
    pub(super) fn filters(&self, index: u32, parent: u32) -> io::Result<Vec<Tc>> {
        let mut all = match self.tc(RTM_GETTFILTER, index, parent) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Vec::new(),
            all => all?,
        };
        // A filter is told once as a whole with handle 0 before its own.
        all.retain(|filter| filter.handle != 0);
        Ok(all)
    }

    fn tc(&self, kind: u16, index: u32, parent: u32) -> io::Result<Vec<Tc>> {
        // struct tcmsg: family, pad, interface index, handle, parent, info.
        let mut request = vec![0; 4];
        request.extend(index.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(parent.to_ne_bytes());
        request.extend([0; 4]);
        let mut all = Vec::new();
        self.ask(kind, NLM_F_DUMP, &request, |answer| all.extend(tc::parse(answer)))?;
        Ok(all)
    }

    /// How an interface is.
    pub(super) fn link(&self, index: u32) -> io::Result<Link> {
        // struct ifinfomsg: family, pad, type, index, flags, change.
        let mut request = vec![0; 4];
        request.extend(index.to_ne_bytes());
        request.extend([0; 8]);
        let mut link = Link::default();
        self.ask(RTM_GETLINK, 0, &request, |answer| {
            let attributes = answer.get(16..).unwrap_or_default();
            let flags = answer.get(8..).and_then(number).unwrap_or_default();
            let xdp = attribute(attributes, IFLA_XDP);
            link = Link {
                up: flags & libc::IFF_UP.cast_unsigned() != 0,
                mtu: attribute(attributes, IFLA_MTU)
                    .and_then(number)
                    .unwrap_or_default(),
                xdp: xdp
                    .and_then(|xdp| attribute(xdp, IFLA_XDP_PROG_ID))
                    .and_then(number)
                    .filter(|id| *id != 0),
                attached: xdp
                    .and_then(|xdp| attribute(xdp, IFLA_XDP_ATTACHED)?.first().copied())
                    .unwrap_or_default(),
            };
        })?;
        Ok(link)
    }

    /// The id of the XDP program on an interface.
    pub(super) fn xdp_program(&self, index: u32) -> io::Result<Option<u32>> {
        Ok(self.link(index)?.xdp)
    }

    /// Sends one request and gives every answer's payload to `each`.
    fn ask(&self, kind: u16, flags: u16, payload: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        sendto(
            self.socket.as_raw_fd(),
            &message,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let received = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            if parse(buffer.get(..received).unwrap_or_default(), &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Gives each message to `each`. True: that was the last one.
fn parse(mut messages: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some(header) = messages.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = messages.get(HEADER..length) else {
            return Err(io::Error::other(
                "a netlink message is longer than what was received",
            ));
        };
        match u16::from_ne_bytes([k0, k1]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = payload.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
                return if code == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::from_raw_os_error(-code))
                };
            }
            _ => each(payload),
        }
        if u16::from_ne_bytes([f0, f1]) & NLM_F_MULTI == 0 {
            return Ok(true);
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The number a value begins with.
fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The value of the attribute of this kind.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [l0, l1, k0, k1] = *attributes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        // The upper two bits are flags (nested, byte order).
        if u16::from_ne_bytes([k0, k1]) & 0x3fff == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_port_of_an_open_socket_is_listed_and_that_of_a_closed_one_is_not() {
        let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
        let v6 = UdpSocket::bind("[::1]:0").unwrap();
        let ports = [&v4, &v6].map(|s| Port(s.local_addr().unwrap().port()));
        let listed = Netlink::sock_diag().unwrap().udp_ports().unwrap();
        assert!(
            ports.iter().all(|p| listed.contains(p)),
            "{ports:?} in {listed:?}"
        );
        drop((v4, v6));
        let listed = Netlink::sock_diag().unwrap().udp_ports().unwrap();
        assert!(
            !ports.iter().any(|p| listed.contains(p)),
            "{ports:?} not in {listed:?}"
        );
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error() {
        let e = Netlink::route()
            .unwrap()
            .xdp_program(u32::from(u16::MAX))
            .unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_loopback_interface_has_no_xdp_program() {
        assert_eq!(Netlink::route().unwrap().xdp_program(1).unwrap(), None);
    }
}
