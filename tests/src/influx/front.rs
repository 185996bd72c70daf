//! What stands before a database: it hands requests on, answers them by itself as an overloaded one does, or not at all. Only for
//! faults that a real server does not have when a test wants them.

use crate::netns::Netns;
use anyhow::Context;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a thread looks whether something else is wanted.
const LOOK: Duration = Duration::from_millis(20);
/// A slow answer's bytes come so often.
const TRICKLE: Duration = Duration::from_millis(500);

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It goes to the database, and the answer comes back.
    Through,
    /// It is answered with this status.
    Status(u16),
    /// It is taken and never answered.
    Hang,
    /// It is answered a byte at a time, without an end.
    Trickle,
    /// Nothing is taken any more; the last.
    Ended,
}

#[derive(Debug)]
struct Shared {
    way: Mutex<Way>,
    asked: AtomicU64,
    to: u16,
}

/// The front, in the namespace of its database.
#[derive(Debug)]
pub struct Front {
    shared: Arc<Shared>,
    port: u16,
}

impl Front {
    /// Before the database on this port of 127.0.0.1.
    pub fn before(ns: &Netns, to: u16) -> anyhow::Result<Front> {
        let listener = ns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            way: Mutex::new(Way::Through),
            asked: AtomicU64::default(),
            to,
        });
        let serving = Arc::clone(&shared);
        // Ends with the front.
        drop(ns.spawn(move || serve(&listener, &serving)));
        Ok(Front { shared, port })
    }

    /// As `history.influx.address` has it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on; what hangs ends with the next way.
    pub fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }

    /// Requests so far. A connection without one is none.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.set(Way::Ended);
    }
}

impl Shared {
    fn way(&self) -> Way {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while shared.way() != Way::Ended {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        let shared = Arc::clone(shared);
        // A connection that breaks off is its client's to tell.
        thread::spawn(move || drop(answer(stream, &shared)));
    }
}

fn answer(mut client: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    client.set_nonblocking(false)?;
    let request = request(&mut client)?;
    if request.is_empty() {
        return Ok(());
    }
    shared.asked.fetch_add(1, Ordering::Relaxed);
    let way = shared.way();
    let lasts = || shared.way() == way;
    match way {
        Way::Through => {
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.to))?;
            server.write_all(&request)?;
            std::io::copy(&mut server, &mut client)?;
        }
        Way::Status(status) => {
            let body = "{\"error\":\"said by a test\"}";
            let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(head.as_bytes())?;
            client.write_all(body.as_bytes())?;
        }
        Way::Hang => {
            while lasts() {
                thread::sleep(LOOK);
            }
        }
        Way::Trickle => {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            while lasts() {
                client.write_all(b" ")?;
                thread::sleep(TRICKLE);
            }
        }
        Way::Ended => {}
    }
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

/// A request with its body; empty when the client hangs up without one.
fn request(client: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let (mut request, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let n = client.read(&mut piece)?;
        if n == 0 {
            return Ok(Vec::new());
        }
        request.extend_from_slice(&piece[..n]);
        let Some(head) = request.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length = text
            .split("content-length:")
            .nth(1)
            .and_then(|rest| rest.lines().next())
            .context("a request without Content-Length")?;
        if request.len() >= head + 4 + length.trim().parse::<usize>()? {
            return Ok(request);
        }
    }
}
