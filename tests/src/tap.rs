//! Taps for RTP of programs that are not ours: what leaves the users' namespace, and what the node's IP layer takes after
//! XDP and TC let it through. Each packet is known by (ssrc, sequence), each time is the kernel's.

use crate::{
    clock,
    netns::Netns,
    rtp::{Task, lock},
};
use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
            recvmsg, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    collections::HashMap,
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use voice_room::Mono;

/// One RTP packet seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    port: u16,
    key: (u32, u16),
    at: Mono,
}

/// Both taps. They end on drop.
#[derive(Debug)]
pub struct Taps {
    left: Tap,
    arrived: Tap,
}

impl Taps {
    /// Listens in both namespaces. Needs root.
    pub fn start(node: &Netns, users: &Netns) -> anyhow::Result<Taps> {
        // A packet socket sees what goes out last of all; a raw IP socket takes what comes in after XDP and TC. The
        // second listens first: no packet may be seen leaving that nobody could see arrive.
        let arrived = Tap::start(node, AddressFamily::Inet, SockType::Raw, SockProtocol::Udp)?;
        let left = Tap::start(
            users,
            AddressFamily::Packet,
            SockType::Datagram,
            SockProtocol::EthAll,
        )?;
        Ok(Taps { left, arrived })
    }

    /// Waits until nothing was sent to `ports` for 300 ms, but not longer than `at_most`: a sender goes on until it took
    /// note of its signal. True if it became quiet.
    pub fn wait_quiet(&self, ports: &[u16], at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut before = self.sent(ports);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(300));
            let now = self.sent(ports);
            if now == before {
                return true;
            }
            before = now;
        }
        false
    }

    /// RTP packets sent to `ports`.
    pub fn sent(&self, ports: &[u16]) -> u64 {
        self.left.count(ports, |_| true)
    }

    /// RTP packets sent to `ports` in `from..to`.
    pub fn sent_between(&self, ports: &[u16], from: Mono, to: Mono) -> u64 {
        self.left.count(ports, |p| from <= p.at && p.at < to)
    }

    /// RTP packets that arrived at `ports`, also those that left before the taps listened.
    pub fn arrived(&self, ports: &[u16]) -> u64 {
        self.arrived.count(ports, |_| true)
    }

    /// RTP packets that arrived at `ports` of those that were seen leaving.
    pub fn delivered(&self, ports: &[u16]) -> u64 {
        let sent = self.left.times(ports);
        self.arrived.count(ports, |p| sent.contains_key(&p.key))
    }

    /// RTP packets that left at `from` or later and arrived at `ports` before `to`.
    pub fn delivered_within(&self, ports: &[u16], from: Mono, to: Mono) -> u64 {
        let sent = self.left.times(ports);
        let after = |p: &Seen| sent.get(&p.key).is_some_and(|at| *at >= from);
        self.arrived.count(ports, |p| p.at < to && after(p))
    }

    /// When the first packet arrived at `ports` at `t` or later.
    pub fn first_from(&self, ports: &[u16], t: Mono) -> Option<Mono> {
        self.arrived.first_from(ports, t)
    }

    /// When the first packet left for `ports` at `t` or later.
    pub fn first_sent_from(&self, ports: &[u16], t: Mono) -> Option<Mono> {
        self.left.first_from(ports, t)
    }
}

#[derive(Debug)]
struct Tap {
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: Task,
}

impl Tap {
    fn start(
        ns: &Netns,
        family: AddressFamily,
        kind: SockType,
        protocol: SockProtocol,
    ) -> anyhow::Result<Tap> {
        let fd = ns
            .run(|| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol))?
            .with_context(|| format!("open a tap in {} (needs root)", ns.name()))?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = seen.clone();
        let task = Task::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                if let Some(packet) = read(&fd) {
                    lock(&log).push(packet);
                }
            }
        });
        Ok(Tap { seen, _task: task })
    }

    fn count(&self, ports: &[u16], pick: impl Fn(&Seen) -> bool) -> u64 {
        let seen = lock(&self.seen);
        seen.iter().filter(|p| ports.contains(&p.port) && pick(p)).count() as u64
    }

    fn first_from(&self, ports: &[u16], t: Mono) -> Option<Mono> {
        let seen = lock(&self.seen);
        let mut from = seen.iter().filter(|p| ports.contains(&p.port) && p.at >= t);
        from.next().map(|p| p.at)
    }

    fn times(&self, ports: &[u16]) -> HashMap<(u32, u16), Mono> {
        let seen = lock(&self.seen);
        let of_ports = seen.iter().filter(|p| ports.contains(&p.port));
        of_ports.map(|p| (p.key, p.at)).collect()
    }
}

/// The next packet, if it is RTP; `None` also after 50 ms of silence.
fn read(fd: &OwnedFd) -> Option<Seen> {
    let mut buf = [0; 256];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut iov = [IoSliceMut::new(&mut buf)];
    let message =
        match recvmsg::<SockaddrStorage>(fd.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::empty()) {
            Ok(message) => message,
            // Down interfaces show up as errors of a packet socket; it goes on when they are up.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return None,
            Err(error) => panic!("receive on a tap: {error}"),
        };
    let outgoing = |a: SockaddrStorage| {
        a.as_link_addr()
            .is_none_or(|l| l.pkttype() == libc::PACKET_OUTGOING)
    };
    let seen_here = message.address.is_none_or(outgoing);
    let stamp = message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(t) => Some(Duration::from(t)),
        _ => None,
    });
    let len = message.bytes;
    let at = stamp.map_or_else(clock::now, clock::from_realtime);
    let (port, key) = rtp(buf.get(..len)?)?;
    seen_here.then_some(Seen { port, key, at })
}

/// Destination port, and (ssrc, sequence), of an IPv4 packet that is RTP.
fn rtp(ip: &[u8]) -> Option<(u16, (u32, u16))> {
    let first = *ip.first()?;
    if first >> 4 != 4 || *ip.get(9)? != 17 {
        return None;
    }
    let (udp, rtp) = ip.get(usize::from(first & 15) * 4..)?.split_first_chunk::<8>()?;
    let [v, pt, s0, s1, _, _, _, _, c0, c1, c2, c3] = *rtp.first_chunk::<12>()?;
    // RTCP shares the first byte; its packet types are 192-223 (RFC 5761).
    if v >> 6 != 2 || (192..=223).contains(&pt) {
        return None;
    }
    let port = u16::from_be_bytes([udp[2], udp[3]]);
    Some((
        port,
        (u32::from_be_bytes([c0, c1, c2, c3]), u16::from_be_bytes([s0, s1])),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        netns::{NODE_IP, Pair, USER_IP},
        rtp::Endpoint,
    };
    use std::net::SocketAddr;

    #[test]
    fn both_taps_see_every_packet_that_crosses_and_match_them() {
        let pair = Pair::new().unwrap();
        let taps = Taps::start(&pair.node, &pair.users).unwrap();
        let begin = clock::now();
        let to = SocketAddr::new(NODE_IP.parse().unwrap(), 50_100);
        let user = Endpoint::bind(&pair.users, SocketAddr::new(USER_IP.parse().unwrap(), 40_100)).unwrap();
        let sender = user.sender(to, 9, 1000);
        clock::wait_for("200 packets", Duration::from_secs(5), || user.sent() >= 200);
        sender.stop();
        clock::wait_for("all seen twice", Duration::from_secs(2), || {
            taps.sent(&[50_100]) == user.sent() && taps.delivered(&[50_100]) == user.sent()
        });
        assert_eq!(taps.sent(&[50_102]), 0);
        let middle = begin + Duration::from_millis(100);
        let late = taps.sent_between(&[50_100], middle, clock::now());
        assert_eq!(taps.delivered_within(&[50_100], middle, clock::now()), late);
        assert!(taps.first_from(&[50_100], begin).unwrap() < middle + Duration::from_secs(1));
    }
}
