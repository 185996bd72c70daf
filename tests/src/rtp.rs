//! RTP endpoints: one UDP socket each, which records every packet it takes with the kernel's timestamp, and senders
//! that record every packet they send. Comparing the two logs tells what was lost, and when.

pub mod packet;

use crate::{clock, netns::Netns};
use anyhow::Context;
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use packet::{MIN_LEN, Packet};
use std::{
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use voice_room::Mono;

/// One packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub ssrc: u32,
    /// When it was sent, by the sender's stamp inside it.
    pub sent: Mono,
    /// When the kernel took it from the interface.
    pub at: Mono,
}

/// What an endpoint took, in order. Grows by 24 bytes a packet; a run is minutes, not days.
#[derive(Debug, Default)]
struct Taken {
    arrivals: Vec<Arrival>,
    foreign: u64,
    last_from: Option<SocketAddr>,
}

/// A UDP socket that records what it takes. Ends with its reader on drop.
#[derive(Debug)]
pub struct Endpoint {
    socket: Arc<UdpSocket>,
    taken: Arc<Mutex<Taken>>,
    sent: Arc<Mutex<Vec<Mono>>>,
    _task: Task,
}

impl Endpoint {
    /// Binds `addr` inside `ns` and begins to record.
    pub fn bind(ns: &Netns, addr: SocketAddr) -> anyhow::Result<Endpoint> {
        let socket = ns
            .run(|| UdpSocket::bind(addr))?
            .with_context(|| format!("bind {addr} in {}", ns.name()))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // A reader that waits for its turn on a busy machine must not lose packets that the kernel let through.
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let socket = Arc::new(socket);
        let taken = Arc::new(Mutex::new(Taken::default()));
        let (reads, records) = (socket.clone(), taken.clone());
        let task = Task::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                take_one(&reads, &records);
            }
        });
        let sent = Arc::default();
        Ok(Endpoint {
            socket,
            taken,
            sent,
            _task: task,
        })
    }

    /// Where it is bound.
    pub fn addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Packets taken so far.
    pub fn count(&self) -> u64 {
        lock(&self.taken).arrivals.len() as u64
    }

    /// Datagrams taken that are not ours.
    pub fn foreign(&self) -> u64 {
        lock(&self.taken).foreign
    }

    /// Where the latest packet came from.
    pub fn last_from(&self) -> Option<SocketAddr> {
        lock(&self.taken).last_from
    }

    /// Packets that were sent at `from` or later and taken before `to`.
    pub fn count_within(&self, from: Mono, to: Mono) -> u64 {
        let taken = lock(&self.taken);
        taken
            .arrivals
            .iter()
            .filter(|a| from <= a.sent && a.at < to)
            .count() as u64
    }

    /// The first packet taken that was sent at `t` or later.
    pub fn first_sent_from(&self, t: Mono) -> Option<Arrival> {
        let taken = lock(&self.taken);
        taken
            .arrivals
            .iter()
            .filter(|a| a.sent >= t)
            .min_by_key(|a| a.at)
            .copied()
    }

    /// The first packet that arrived at `t` or later.
    pub fn first_from(&self, t: Mono) -> Option<Arrival> {
        let taken = lock(&self.taken);
        taken.arrivals.iter().find(|a| a.at >= t).copied()
    }

    /// The last packet taken so far.
    pub fn last(&self) -> Option<Arrival> {
        lock(&self.taken).arrivals.last().copied()
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        lock(&self.sent).len() as u64
    }

    /// Packets sent in `from..to`.
    pub fn sent_between(&self, from: Mono, to: Mono) -> u64 {
        lock(&self.sent)
            .iter()
            .filter(|t| from <= **t && **t < to)
            .count() as u64
    }

    /// When the first packet was sent at `t` or later.
    pub fn first_sent(&self, t: Mono) -> Option<Mono> {
        lock(&self.sent).iter().find(|sent| **sent >= t).copied()
    }

    /// Sends one packet now.
    pub fn send(&self, to: SocketAddr, packet: Packet) {
        send(&self.socket, to, packet, &self.sent);
    }

    /// Sends to `to` at `pps` packets a second until the sender is dropped.
    pub fn sender(&self, to: SocketAddr, ssrc: u32, pps: u32) -> Sender {
        let (socket, sent) = (self.socket.clone(), self.sent.clone());
        Sender(Task::start(move |stop| pace(&socket, to, ssrc, pps, &sent, stop)))
    }
}

/// Takes one datagram, or times out.
fn take_one(socket: &UdpSocket, taken: &Mutex<Taken>) {
    let mut buf = [0; 2048];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut iov = [IoSliceMut::new(&mut buf)];
    let fd = socket.as_raw_fd();
    let (len, from, stamp) =
        match recvmsg::<SockaddrStorage>(fd, &mut iov, Some(&mut control), MsgFlags::empty()) {
            Ok(message) => (message.bytes, source(message.address), stamp(&message)),
            // A timeout lets the reader see that it shall stop; an interruption is no datagram.
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(error) => panic!("receive on {socket:?}: {error}"),
        };
    let at = stamp.map_or_else(clock::now, clock::from_realtime);
    let mut taken = lock(taken);
    taken.last_from = from;
    match Packet::decode(buf.get(..len).unwrap_or_default()) {
        Some((packet, sent)) => taken.arrivals.push(Arrival {
            ssrc: packet.ssrc,
            sent,
            at,
        }),
        None => taken.foreign += 1,
    }
}

fn stamp(message: &nix::sys::socket::RecvMsg<'_, '_, SockaddrStorage>) -> Option<Duration> {
    message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(t) => Some(Duration::from(t)),
        _ => None,
    })
}

fn source(address: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let address = address?;
    let v4 = address
        .as_sockaddr_in()
        .map(|a| SocketAddr::from((a.ip(), a.port())));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|a| SocketAddr::from((a.ip(), a.port())))
    })
}

/// Sends RTP at a steady rate. Ends on drop.
#[derive(Debug)]
pub struct Sender(Task);

impl Sender {
    /// Ends it and waits until its last packet left.
    pub fn stop(self) {
        self.0.end();
    }
}

/// Sends packet n at `start + n / pps`. Late by a scheduling gap, it catches up in a burst, as a real network does.
fn pace(socket: &UdpSocket, to: SocketAddr, ssrc: u32, pps: u32, sent: &Mutex<Vec<Mono>>, stop: &AtomicBool) {
    // The default slack of 50 us is the whole spacing at 20,000 packets/s.
    let _ = nix::sys::prctl::set_timerslack(1);
    let spacing = Duration::from_secs(1) / pps.max(1);
    let mut packet = Packet::first(ssrc);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += spacing;
        send(socket, to, packet, sent);
        packet = packet.next();
    }
}

/// Sends one packet and logs it under the stamp it carries.
fn send(socket: &UdpSocket, to: SocketAddr, packet: Packet, sent: &Mutex<Vec<Mono>>) {
    let now = clock::now();
    match socket.send_to(&packet.encode(now, MIN_LEN), to) {
        Ok(_) => lock(sent).push(now),
        // The interface may be down for a moment (tests delete it); such a packet was never sent.
        Err(error) => tracing::debug!(%to, %error, "send RTP"),
    }
}

/// A thread that is told to stop and waited for.
#[derive(Debug)]
pub(crate) struct Task {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    pub(crate) fn start(run: impl FnOnce(&AtomicBool) + Send + 'static) -> Task {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = Some(thread::spawn(move || run(&seen)));
        Task { stop, thread }
    }

    pub(crate) fn end(mut self) {
        self.end_now();
    }

    fn end_now(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let died = thread.join().is_err();
            assert!(!died || thread::panicking(), "a traffic thread panicked");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// A poisoned log is as good as any: its reader's panic is reported by `Task`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::{NODE_IP, Pair, USER_IP};

    fn addr(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    #[test]
    fn thousands_of_packets_a_second_arrive_all_and_each_with_its_times() {
        let pair = Pair::new().unwrap();
        let to = addr(NODE_IP, 50000);
        let receiver = Endpoint::bind(&pair.node, to).unwrap();
        let user = Endpoint::bind(&pair.users, addr(USER_IP, 40000)).unwrap();
        let begin = clock::now();
        let sender = user.sender(to, 7, 5000);
        clock::wait_for("2500 packets", Duration::from_secs(5), || user.sent() >= 2500);
        sender.stop();
        clock::wait_for("all arrive", Duration::from_secs(2), || {
            receiver.count() == user.sent()
        });
        let end = clock::now();
        let (first, last) = (receiver.first_sent_from(begin).unwrap(), receiver.last().unwrap());
        assert_eq!(first.ssrc, 7);
        assert!(begin <= first.sent && first.sent <= first.at, "{first:?}");
        assert!(last.at <= end, "{last:?} ends before {end:?}");
        assert_eq!(receiver.last_from(), Some(addr(USER_IP, 40000)));
        let middle = first.sent + Duration::from_millis(100);
        assert_eq!(receiver.count_within(begin, end), user.sent());
        assert_eq!(receiver.count_within(middle, end), user.sent_between(middle, end));
    }
}
