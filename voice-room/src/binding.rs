//! What tells a room's packets from others': its ports, and on ports that rooms share, its flows and SSRCs.

use crate::Port;
use alloc::vec::Vec;
use core::{fmt, net::IpAddr};
use serde::{Deserialize, Serialize};

/// A media session on a shared port, by its remote end. Which local address it uses does not matter: media servers
/// listen on all of theirs, and may know themselves by one that is not in the packets (NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The local port.
    pub port: Port,
    /// The remote address, never an IPv4 one written as IPv6.
    remote: IpAddr,
    /// The remote port.
    pub remote_port: u16,
}

impl Flow {
    /// Between a local port and a remote end.
    pub fn new(port: Port, remote: IpAddr, remote_port: u16) -> Flow {
        let remote = remote.to_canonical();
        Flow {
            port,
            remote,
            remote_port,
        }
    }

    /// The remote address.
    pub fn remote(&self) -> IpAddr {
        self.remote
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = core::net::SocketAddr::new(self.remote, self.remote_port);
        write!(f, "{} with {remote}", self.port.0)
    }
}

/// An RTP stream on a shared port, by its synchronisation source. A fallback for packets of no known flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ssrc {
    /// The local port.
    pub port: Port,
    /// The synchronisation source, RTP header word 3.
    pub ssrc: u32,
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from SSRC {:08x}", self.port.0, self.ssrc)
    }
}

/// Everything a room is bound by. A packet is the room's when its local port is, or when the port is shared and its
/// flow, or else its SSRC, is the room's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Binding {
    /// Ports of this room alone.
    pub ports: Vec<Port>,
    /// Flows on shared ports.
    pub flows: Vec<Flow>,
    /// Streams on shared ports.
    pub ssrcs: Vec<Ssrc>,
}

impl Binding {
    /// Whether nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.flows.is_empty() && self.ssrcs.is_empty()
    }

    /// Whether it shares a port with other rooms.
    pub fn is_shared(&self) -> bool {
        !(self.flows.is_empty() && self.ssrcs.is_empty())
    }
}

impl From<&[Port]> for Binding {
    fn from(ports: &[Port]) -> Self {
        ports.to_vec().into()
    }
}

impl<const N: usize> From<&[Port; N]> for Binding {
    fn from(ports: &[Port; N]) -> Self {
        ports.to_vec().into()
    }
}

/// Ports alone.
impl From<Vec<Port>> for Binding {
    fn from(ports: Vec<Port>) -> Self {
        Binding {
            ports,
            ..Binding::default()
        }
    }
}
