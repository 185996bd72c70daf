//! A long line: what goes in at one end comes out at the other a fixed time later, in order, in both directions. On threads of
//! its own, which the kernel wakes within some 50 us; a timer of tokio is as much as a millisecond late.

use anyhow::Context;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// Pieces under way; more wait at the near end, as in a full window.
const PIECES: usize = 4096;

type Piece = (Instant, Vec<u8>);

/// Its near end. Takes no more connections when dropped; those that are there end with their peers.
pub(super) struct Line {
    address: SocketAddr,
}

impl Line {
    /// To the server at `url` (`http://HOST:PORT`).
    pub(super) fn to(url: &str, delay: Duration) -> anyhow::Result<Line> {
        let far: SocketAddr = url.trim_start_matches("http://").parse().context("an address")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        // It ends with the bench: it waits in accept().
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Err(error) = join(&near, far, delay) {
                    eprintln!("a slow line to {far}: {error}");
                }
            }
        });
        Ok(Line { address })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn join(near: &TcpStream, far: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let far = TcpStream::connect(far)?;
    for (from, to) in [(near, &far), (&far, near)] {
        from.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (put, take) = sync_channel(PIECES);
        thread::spawn(move || read(from, &put, delay));
        thread::spawn(move || write(to, &take));
    }
    Ok(())
}

fn read(mut from: TcpStream, put: &SyncSender<Piece>, delay: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..read).unwrap_or_default().to_vec();
        if put.send((Instant::now() + delay, piece)).is_err() {
            break;
        }
    }
}

/// Until the other end closes; then this one does, a delay later.
fn write(mut to: TcpStream, take: &Receiver<Piece>) {
    for (due, piece) in take {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
