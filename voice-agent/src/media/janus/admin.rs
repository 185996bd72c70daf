//! The client of Janus' admin socket: unix, SOCK_SEQPACKET, one JSON object a packet. Every question has a deadline;
//! whatever goes wrong is a typed error, costs the connection and is counted. What is asked is in `listing`.

use super::{
    counters::{Counters, count},
    wire::{Answer, AnswerError},
};
use crate::{
    backoff::Backoff,
    config::{JanusConfig, Secret},
};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket},
};
use serde_json::{Value, json};
use std::{io, os::fd::AsRawFd, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::Interest,
    net::UnixStream,
    time::{Instant, timeout_at},
};

/// How long one question may take. Janus answers in well under a millisecond; a busy one in tens of them.
const DEADLINE: Duration = Duration::from_secs(2);
/// Janus reads no more of one packet.
const QUESTION_BOUND: usize = 8192;
/// The longest answer taken. A list of 5,000 rooms has 650 KiB.
const ANSWER_BOUND: usize = 1 << 20;
/// The waits after failed connections; the longest is below a heartbeat.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection.
    #[error(
        "connecting to the Janus admin socket {path}: {problem}; is Janus running, its unix admin transport on, and the \
         socket writable for the agent's user?"
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// A connection failed a moment ago.
    #[error("the Janus admin socket failed a moment ago; next try in {} ms", .0.as_millis())]
    BackingOff(Duration),
    /// The question has more bytes than Janus reads.
    #[error("the question {question} has {len} bytes; Janus reads at most {QUESTION_BOUND}")]
    Question {
        /// What was asked.
        question: &'static str,
        /// Its size.
        len: usize,
    },
    /// The connection broke.
    #[error("asking Janus for {question}: {problem}")]
    Io {
        /// What was asked.
        question: &'static str,
        /// What the system says.
        problem: io::Error,
    },
    /// No answer in time.
    #[error("Janus did not answer {question} within {} ms", DEADLINE.as_millis())]
    Deadline {
        /// What was asked.
        question: &'static str,
    },
    /// The answer is larger than `ANSWER_BOUND`.
    #[error("Janus answered {question} with {len} bytes; at most {ANSWER_BOUND} are taken")]
    Oversize {
        /// What was asked.
        question: &'static str,
        /// Its size.
        len: usize,
    },
    /// The answer is not what the question asks for.
    #[error("Janus answered {question} with something else: {problem}")]
    Garbage {
        /// What was asked.
        question: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Janus refused. The connection is sound.
    #[error("Janus refused {question}: {reason} (code {code})")]
    Refused {
        /// What was asked.
        question: &'static str,
        /// Janus' number.
        code: i64,
        /// Janus' words.
        reason: String,
    },
}

/// A connection to the admin socket, made when needed and again after a failure.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    secret: Secret,
    counters: Arc<Counters>,
    socket: Option<UnixStream>,
    transaction: u64,
    /// Packets that answered no question of ours since the last that did.
    strays: u32,
    buffer: Vec<u8>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Admin {
    /// A client that is not connected yet.
    pub fn new(config: &JanusConfig, counters: Arc<Counters>) -> Admin {
        Admin {
            path: config.admin_socket.clone(),
            secret: config.admin_secret.clone(),
            counters,
            socket: None,
            transaction: 0,
            strays: 0,
            buffer: vec![0; ANSWER_BOUND],
            backoff: RETRY,
            not_before: None,
        }
    }

    /// Asks `question` with these further fields. A `Refused` keeps the connection, everything else ends it.
    pub(super) async fn ask(&mut self, question: &'static str, fields: Value) -> Result<Answer, AdminError> {
        let answer = self.ask_until(Instant::now() + DEADLINE, question, fields).await;
        match &answer {
            Ok(_) => self.backoff.reset(),
            Err(AdminError::Refused { .. } | AdminError::BackingOff(_)) => {}
            Err(_) => self.failed(),
        }
        answer
    }

    /// Packets that came in place of an answer to the last question. A Janus that sends them is there.
    pub(super) fn strays(&self) -> u32 {
        self.strays
    }

    /// Asks something harmless: whether Janus answers and takes the secret.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&mut self) -> Result<(), AdminError> {
        self.ask("list_sessions", json!({})).await.map(drop)
    }

    fn failed(&mut self) {
        count(&self.counters.admin_failed);
        self.socket = None;
        self.not_before = Some(Instant::now() + self.backoff.wait());
    }

    async fn ask_until(
        &mut self,
        deadline: Instant,
        question: &'static str,
        fields: Value,
    ) -> Result<Answer, AdminError> {
        self.transaction += 1;
        let transaction = self.transaction.to_string();
        let packet = packet(question, fields, &transaction, &self.secret);
        if packet.len() > QUESTION_BOUND {
            let len = packet.len();
            return Err(AdminError::Question { question, len });
        }
        // Put back once it has answered: a question that is broken off ends its connection, on which its answer would come in place
        // of the next one's.
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        self.strays = 0;
        let exchange = self.exchange(&socket, question, &packet, &transaction);
        let answer = match timeout_at(deadline, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.too_late(question)),
        };
        self.socket = Some(socket);
        match (answer.janus.as_str(), answer.error) {
            ("error", Some(AnswerError { code, reason })) => Err(AdminError::Refused {
                question,
                code,
                reason,
            }),
            ("success", None) => Ok(Answer {
                error: None,
                ..answer
            }),
            (other, _) => {
                let problem = format!("janus is {other:?}, not \"success\" or \"error\"");
                Err(AdminError::Garbage { question, problem })
            }
        }
    }

    /// Nothing at all is silence; answers to something else are answers that we do not understand.
    fn too_late(&self, question: &'static str) -> AdminError {
        match self.strays {
            0 => AdminError::Deadline { question },
            n => {
                let problem = format!(
                    "{n} answers of other transactions within {} ms",
                    DEADLINE.as_millis()
                );
                AdminError::Garbage { question, problem }
            }
        }
    }

    fn connect(&self) -> Result<UnixStream, AdminError> {
        let left = self
            .not_before
            .map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(AdminError::BackingOff(left));
        }
        let connected = || -> io::Result<UnixStream> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(&self.path)?)?;
            // The type only registers and closes; packets go through send and recv below.
            UnixStream::from_std(std::os::unix::net::UnixStream::from(fd))
        };
        connected().map_err(|problem| AdminError::Connect {
            path: self.path.clone(),
            problem,
        })
    }

    /// Sends the packet and reads until the answer of this transaction comes; the caller sets the time.
    async fn exchange(
        &mut self,
        socket: &UnixStream,
        question: &'static str,
        packet: &[u8],
        transaction: &str,
    ) -> Result<Answer, AdminError> {
        let io = |problem| AdminError::Io { question, problem };
        let fd = socket.as_raw_fd();
        let sent = || Ok(send(fd, packet, MsgFlags::MSG_NOSIGNAL)?);
        socket.async_io(Interest::WRITABLE, sent).await.map_err(io)?;
        loop {
            let buffer = &mut self.buffer;
            // MSG_TRUNC: the packet's real length, also when it does not fit.
            let mut received = || match recv(fd, buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => Err(Errno::ECONNRESET.into()),
                other => Ok(other?),
            };
            let len = socket
                .async_io(Interest::READABLE, &mut received)
                .await
                .map_err(io)?;
            let bytes = self
                .buffer
                .get(..len)
                .ok_or(AdminError::Oversize { question, len })?;
            let answer: Answer = serde_json::from_slice(bytes).map_err(|problem| AdminError::Garbage {
                question,
                problem: problem.to_string(),
            })?;
            if answer.transaction.as_deref() == Some(transaction) {
                return Ok(answer);
            }
            self.strays = self.strays.saturating_add(1);
            count(&self.counters.stray_answers);
        }
    }
}

fn packet(question: &'static str, fields: Value, transaction: &str, secret: &Secret) -> Vec<u8> {
    let mut packet = json!({ "janus": question, "transaction": transaction, "admin_secret": secret.0 });
    if let (Value::Object(packet), Value::Object(fields)) = (&mut packet, fields) {
        packet.extend(fields);
    }
    packet.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
