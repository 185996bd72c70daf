//! A TCP proxy in front of a server, which can cut its connections, leave them half-open, and delay what goes through. It
//! runs on threads of its own, so that a test of any kind of client can use it.

use anyhow::Context;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long a thread waits at most before it looks at what the proxy was told.
const LOOK: Duration = Duration::from_millis(10);
const BUFFER: usize = 64 * 1024;

/// What is done with bytes and with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They go through.
    Open,
    /// Nothing goes through, nothing is closed, and new connections are taken but not served: a network that drops packets.
    Stalled,
    /// New connections are closed at once.
    Refusing,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    way: Way,
    delay: Duration,
    /// So many bytes more go from the server to its clients; `None`: all.
    answers: Option<usize>,
    /// Both ends of each connection that goes on.
    open: Vec<(TcpStream, TcpStream)>,
    taken: usize,
    ended: bool,
}

/// A running proxy; its connections and its port are gone after drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepts: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free loopback port for the server at `to`.
    pub fn to(to: SocketAddr) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a proxy's port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared {
            to,
            way: Way::Open,
            delay: Duration::ZERO,
            answers: None,
            open: Vec::new(),
            taken: 0,
            ended: false,
        }));
        let theirs = shared.clone();
        let accepts = thread::spawn(move || accept(&listener, &theirs));
        Ok(Proxy {
            address,
            shared,
            accepts: Some(accepts),
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were taken so far.
    pub fn connections(&self) -> usize {
        self.shared().taken
    }

    /// Ends every connection at once, by a reset or an end of stream. New ones go through. What was held back is lost.
    pub fn cut(&self) {
        let mut shared = self.shared();
        shared.way = Way::Open;
        shared.close();
        shared.answers = None;
    }

    /// Ends every connection and refuses new ones until [`Proxy::open`].
    pub fn refuse(&self) {
        let mut shared = self.shared();
        shared.way = Way::Refusing;
        shared.close();
    }

    /// From now on nothing goes through and nothing is closed, as in a network that drops packets.
    pub fn stall(&self) {
        self.shared().way = Way::Stalled;
    }

    /// Of what the server says, `bytes` more go through, of all connections together; the rest is held back. What clients say
    /// goes through.
    pub fn hold_answers_after(&self, bytes: usize) {
        self.shared().answers = Some(bytes);
    }

    /// Everything goes through again, also what was held back.
    pub fn open(&self) {
        let mut shared = self.shared();
        shared.way = Way::Open;
        shared.answers = None;
    }

    /// Each piece of what goes through waits so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared().delay = delay;
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut shared = self.shared();
        shared.ended = true;
        shared.close();
        drop(shared);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

impl Shared {
    fn close(&mut self) {
        for (client, server) in self.open.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<Shared>>) {
    // Taken while stalled: kept open, not served, until the proxy opens.
    let mut waiting: Vec<TcpStream> = Vec::new();
    loop {
        let mut state = lock(shared);
        if state.ended {
            return;
        }
        let way = state.way;
        match listener.accept() {
            Ok((client, _)) => {
                state.taken += 1;
                waiting.push(client);
            }
            Err(_) if way == Way::Open && !waiting.is_empty() => {}
            Err(_) => {
                drop(state);
                thread::sleep(LOOK);
                continue;
            }
        }
        drop(state);
        match way {
            Way::Open => waiting.drain(..).for_each(|client| join(client, shared)),
            Way::Stalled => {}
            Way::Refusing => waiting.clear(),
        }
    }
}

/// Connects a client with the server. A server that is away closes the client's connection.
fn join(client: TcpStream, shared: &Arc<Mutex<Shared>>) {
    let to = lock(shared).to;
    let joined = (|| {
        let server = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
        for end in [&client, &server] {
            // Accepted sockets do not inherit it on Linux, others might.
            end.set_nonblocking(false)?;
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(LOOK))?;
        }
        let copies = (client.try_clone()?, server.try_clone()?);
        let kept = (client.try_clone()?, server.try_clone()?);
        std::io::Result::Ok((server, copies, kept))
    })();
    let Ok((server, copies, kept)) = joined else {
        return;
    };
    lock(shared).open.push(kept);
    let theirs = shared.clone();
    thread::spawn(move || pump(client, server, Side::Client, &theirs));
    let theirs = shared.clone();
    thread::spawn(move || pump(copies.1, copies.0, Side::Server, &theirs));
}

/// Who says what is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Copies one direction until an end closes.
fn pump(mut from: TcpStream, mut to: TcpStream, side: Side, shared: &Mutex<Shared>) {
    let mut buffer = vec![0; BUFFER];
    while ready(shared).is_some() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                // Asked again: it may have been told otherwise while this waited for bytes.
                let Some(delay) = ready(shared) else { break };
                thread::sleep(delay);
                if !carry(&mut to, buffer.get(..read).unwrap_or_default(), side, shared) {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes on a piece, as far as it may go. False: the connection has to end.
fn carry(to: &mut TcpStream, mut piece: &[u8], side: Side, shared: &Mutex<Shared>) -> bool {
    while !piece.is_empty() {
        if ready(shared).is_none() {
            return false;
        }
        let mut state = lock(shared);
        let now = match &mut state.answers {
            Some(left) if side == Side::Server => {
                let now = piece.len().min(*left);
                *left -= now;
                now
            }
            _ => piece.len(),
        };
        drop(state);
        if now == 0 {
            // After a cut there is no bound any more, and writing fails.
            thread::sleep(LOOK);
            continue;
        }
        let (goes, rest) = piece.split_at(now);
        if to.write_all(goes).is_err() {
            return false;
        }
        piece = rest;
    }
    true
}

/// Waits while the proxy is stalled. The delay, or `None` when the connection has to end.
fn ready(shared: &Mutex<Shared>) -> Option<Duration> {
    loop {
        let state = lock(shared);
        match state.way {
            _ if state.ended => return None,
            Way::Refusing => return None,
            Way::Open => return Some(state.delay),
            Way::Stalled => {}
        }
        drop(state);
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that sends back what it gets, for one connection after the other.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn answer(stream: &mut TcpStream) -> std::io::Result<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| byte[0])
    }

    #[test]
    fn bytes_go_through_and_a_cut_ends_the_connection_but_not_the_proxy() {
        let proxy = Proxy::to(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"a").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'a');
        proxy.cut();
        assert!(answer(&mut stream).is_err());
        let mut stream = connect(&proxy);
        stream.write_all(b"b").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'b');
        assert_eq!(proxy.connections(), 2);
    }

    #[test]
    fn a_stalled_connection_stays_open_and_goes_on_later_and_a_delay_delays() {
        let proxy = Proxy::to(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"a").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'a');
        proxy.stall();
        stream.write_all(b"b").unwrap();
        let mut late = connect(&proxy);
        late.write_all(b"c").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = answer(&mut stream).unwrap_err().kind();
        assert!(
            matches!(silent, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{silent}"
        );
        proxy.open();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(
            (answer(&mut stream).unwrap(), answer(&mut late).unwrap()),
            (b'b', b'c')
        );
        proxy.delay(Duration::from_millis(100));
        let begin = Instant::now();
        stream.write_all(b"d").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'd');
        assert!(
            begin.elapsed() >= Duration::from_millis(200),
            "{:?}",
            begin.elapsed()
        );
    }

    #[test]
    fn answers_are_held_back_after_so_many_bytes_and_questions_are_not_and_a_cut_loses_them() {
        let proxy = Proxy::to(echo()).unwrap();
        let mut stream = connect(&proxy);
        proxy.hold_answers_after(2);
        stream.write_all(b"abc").unwrap();
        assert_eq!(
            (answer(&mut stream).unwrap(), answer(&mut stream).unwrap()),
            (b'a', b'b')
        );
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = answer(&mut stream).unwrap_err().kind();
        assert!(
            matches!(silent, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{silent}"
        );
        proxy.cut();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(answer(&mut stream).is_err(), "the c is lost");
        let mut stream = connect(&proxy);
        stream.write_all(b"d").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'd');
    }

    #[test]
    fn a_refusing_proxy_closes_at_once() {
        let proxy = Proxy::to(echo()).unwrap();
        proxy.refuse();
        assert!(answer(&mut connect(&proxy)).is_err());
    }
}
