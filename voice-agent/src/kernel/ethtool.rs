//! The driver of an interface. By ioctl: sysfs shows the interfaces of the namespace it was mounted in.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _};

/// linux/ethtool.h, linux/sockios.h
const ETHTOOL_GDRVINFO: u32 = 3;
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// struct ethtool_drvinfo: the command, the driver's name in 32 bytes, and fields that are not read.
const LENGTH: usize = 196;

/// The driver's name (`ixgbe`, `veth`); interfaces without ethtool (loopback) have none: EOPNOTSUPP.
pub(super) fn driver(name: &str) -> io::Result<String> {
    // Any socket takes the request.
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0"))?;
    let mut info = Info {
        command: ETHTOOL_GDRVINFO,
        rest: [0; LENGTH - 4],
    };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut info).cast();
    // SAFETY: `request` names the interface with a final zero and points to `info`, which has the size the kernel writes for
    // this command and outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = info
        .rest
        .iter()
        .take(32)
        .take_while(|byte| **byte != 0)
        .copied()
        .collect();
    String::from_utf8(name).map_err(io::Error::other)
}

#[repr(C)]
struct Info {
    command: u32,
    rest: [u8; LENGTH - 4],
}
