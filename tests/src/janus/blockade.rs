//! Stands between the agent and Janus' admin socket and can hold everything back, as a hung admin thread does: connections
//! are taken, questions read, and nothing is answered. It can also answer itself, with what no sound Janus says.

use crate::rtp::{Task, lock};
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
use serde_json::Value;
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The longest packet of either side.
const PACKET: usize = 1 << 20;
const PAUSE: i64 = 50;

/// An answer that is none. `{}` in it stands for the question's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonsense {
    /// This packet, whatever was asked.
    Packet(&'static str),
    /// A packet of so many bytes.
    Long(usize),
    /// A session with a handle, which nothing is told about.
    Refused,
    /// The connection ends.
    Close,
}

/// The proxy. Ends on drop.
#[derive(Debug)]
pub struct Blockade {
    blocked: Arc<AtomicBool>,
    nonsense: Arc<Mutex<Option<Nonsense>>>,
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
        let nonsense: Arc<Mutex<Option<Nonsense>>> = Arc::default();
        let (flag, said, real) = (blocked.clone(), nonsense.clone(), real.to_owned());
        let task = Task::start(move |stop| {
            let (real, flag, said) = (&real, &flag, &said);
            thread::scope(|scope| {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(client) = taken(&listener) {
                        scope.spawn(move || forward(&client_of(client), real, (flag, said), stop));
                    }
                }
            });
        });
        Ok(Blockade {
            blocked,
            nonsense,
            _task: task,
        })
    }

    /// From now on nothing is answered, or all is again.
    pub fn block(&self, on: bool) {
        self.blocked.store(on, Ordering::Relaxed);
    }

    /// From now on questions are answered like this, or by Janus again.
    pub fn talk(&self, nonsense: Option<Nonsense>) {
        *lock(&self.nonsense) = nonsense;
    }
}

impl Nonsense {
    /// What is answered; `None`: nothing, and the connection ends.
    fn answer(self, question: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let question: Value = serde_json::from_slice(question)?;
        let transaction = question["transaction"].as_str().unwrap_or_default();
        let of = |template: &str| template.replace("{}", transaction).into_bytes();
        Ok(match self {
            Nonsense::Packet(template) => Some(of(template)),
            Nonsense::Long(bytes) => Some(vec![b'x'; bytes]),
            Nonsense::Close => None,
            Nonsense::Refused => Some(match question["janus"].as_str() {
                Some("list_sessions") => of(r#"{"janus":"success","transaction":"{}","sessions":[1]}"#),
                Some("list_handles") => of(r#"{"janus":"success","transaction":"{}","handles":[2]}"#),
                _ => of(r#"{"janus":"error","transaction":"{}","error":{"code":490,"reason":"not today"}}"#),
            }),
        })
    }
}

fn connected(real: &Path) -> anyhow::Result<OwnedFd> {
    let server = seqpacket()?;
    connect(server.as_raw_fd(), &UnixAddr::new(real)?)?;
    Ok(server)
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
fn forward(
    client: &OwnedFd,
    real: &Path,
    (blocked, nonsense): (&AtomicBool, &Mutex<Option<Nonsense>>),
    stop: &AtomicBool,
) {
    let over = || stop.load(Ordering::Relaxed);
    let told = || *lock(nonsense);
    let run = || -> anyhow::Result<()> {
        // Connected when it is needed: a stopped Janus takes no connection once its backlog is full.
        let mut janus: Option<OwnedFd> = None;
        impatient(client)?;
        setsockopt(client, sockopt::SndBufForce, &(PACKET * 4))?;
        while let Some(question) = packet(client, over)? {
            while blocked.load(Ordering::Relaxed) && !over() {
                thread::sleep(Duration::from_millis(20));
            }
            let mut answer = None;
            if told().is_none() {
                let server = match janus.take() {
                    Some(server) => server,
                    None => connected(real)?,
                };
                send(server.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL)?;
                // A Janus that was stopped meanwhile never answers; then what we are told to say by now does.
                answer = packet(&server, || over() || told().is_some())?;
                janus = answer.is_some().then_some(server);
            }
            let answer = match (answer, told()) {
                (Some(answer), _) => Some(answer),
                (None, Some(said)) => said.answer(&question)?,
                (None, None) => None,
            };
            let Some(answer) = answer else {
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

/// The next packet; `None` when the other side is gone or there is nothing to wait for any more.
fn packet(fd: &OwnedFd, over: impl Fn() -> bool) -> nix::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; PACKET];
    while !over() {
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
