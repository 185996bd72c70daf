//! Stands between the agent and Janus' admin socket and can hold everything back, as a hung admin thread does: connections
//! are taken, questions read, and nothing is answered.

use crate::rtp::Task;
use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, connect, listen,
            recv, send, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The longest packet of either side.
const PACKET: usize = 1 << 20;
const PAUSE: i64 = 50;

/// The proxy. Ends on drop.
#[derive(Debug)]
pub struct Blockade {
    blocked: Arc<AtomicBool>,
    _task: Task,
}

impl Blockade {
    /// Listens at `front` and forwards to `real`.
    pub fn start(real: &Path, front: &Path) -> anyhow::Result<Blockade> {
        let listener = seqpacket()?;
        bind(listener.as_raw_fd(), &UnixAddr::new(front)?)
            .with_context(|| format!("listen at {}", front.display()))?;
        listen(&listener, Backlog::new(8)?)?;
        let blocked = Arc::new(AtomicBool::new(false));
        let (flag, real) = (blocked.clone(), real.to_owned());
        let task = Task::start(move |stop| {
            let (real, flag) = (&real, &flag);
            thread::scope(|scope| {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(client) = taken(&listener) {
                        scope.spawn(move || forward(&client_of(client), real, flag, stop));
                    }
                }
            });
        });
        Ok(Blockade { blocked, _task: task })
    }

    /// From now on nothing is answered, or all is again.
    pub fn block(&self, on: bool) {
        self.blocked.store(on, Ordering::Relaxed);
    }
}

fn seqpacket() -> anyhow::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    impatient(&fd)?;
    Ok(fd)
}

/// Waits end after 50 ms, so that a thread sees that it shall stop.
fn impatient(fd: &OwnedFd) -> nix::Result<()> {
    setsockopt(fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PAUSE))
}

fn taken(listener: &OwnedFd) -> Option<i32> {
    accept(listener.as_raw_fd()).ok()
}

fn client_of(fd: i32) -> OwnedFd {
    // SAFETY: accept made this descriptor a moment ago and nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Question by question: the admin protocol answers each before the next is asked. Ends with either side.
fn forward(client: &OwnedFd, real: &Path, blocked: &AtomicBool, stop: &AtomicBool) {
    let held = || blocked.load(Ordering::Relaxed);
    let run = || -> anyhow::Result<()> {
        let server = seqpacket()?;
        connect(server.as_raw_fd(), &UnixAddr::new(real)?)?;
        impatient(client)?;
        while let Some(question) = packet(client, stop)? {
            while held() && !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            send(server.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL)?;
            let Some(answer) = packet(&server, stop)? else {
                break;
            };
            send(client.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL)?;
        }
        Ok(())
    };
    // The agent gives up a connection that does not answer; that ends this one.
    if let Err(error) = run() {
        tracing::debug!(%error, "admin proxy connection ended");
    }
}

/// The next packet; `None` when the other side is gone or we shall stop.
fn packet(fd: &OwnedFd, stop: &AtomicBool) -> nix::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; PACKET];
    while !stop.load(Ordering::Relaxed) {
        match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => return Ok(None),
            Ok(len) => {
                buffer.truncate(len);
                return Ok(Some(buffer));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
