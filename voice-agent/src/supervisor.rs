//! What the agent tells the service manager that started it, by the protocol of sd_notify(3): that it is ready, that its
//! driver still ticks, a line on how it does, a reload, its stop. Nobody is told when nobody asked (NOTIFY_SOCKET).
//!
//! Own code rather than a crate: the driver must never wait for the manager, so the socket does not block.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use voice_room::Mono;

/// How often READY=1 is tried while the manager does not take it.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// For how long.
const TRIES: u32 = 50;

/// A way to the service manager, or to nobody. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear of the driver; `None`: not at all.
    watchdog: Option<Duration>,
    /// When it heard of the driver last, as [`Mono`].
    alive: AtomicU64,
    /// Put behind each status line until there is another.
    note: Mutex<String>,
}

/// What cannot be used of what the manager said.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// There is no such socket.
    #[error(
        "NOTIFY_SOCKET {name:?} cannot be used: {source}; the service manager will not hear that the agent is ready"
    )]
    Socket {
        /// As given.
        name: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It is no number.
    #[error("WATCHDOG_USEC {0:?} is not a number of microseconds above 0; the watchdog is not served")]
    Watchdog(String),
}

impl Supervisor {
    /// Who started this process, as its environment says.
    ///
    /// # Errors
    /// What it says cannot be used.
    pub fn from_environment() -> Result<Supervisor, SupervisorError> {
        let var = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some(socket) = var("NOTIFY_SOCKET") else {
            return Ok(Supervisor::default());
        };
        // A child of the one that is watched inherits the variables.
        let pid = var("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        Supervisor::new(&socket, var("WATCHDOG_USEC").filter(|_| pid).as_deref())
    }

    /// `socket`: a path, or `@` and an abstract name. `watchdog`: microseconds.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(socket: &str, watchdog: Option<&str>) -> Result<Supervisor, SupervisorError> {
        let watchdog = watchdog
            .map(|text| match text.parse() {
                Ok(0) | Err(_) => Err(SupervisorError::Watchdog(text.to_owned())),
                Ok(micros) => Ok(Duration::from_micros(micros)),
            })
            .transpose()?;
        let connected = connect(socket).map_err(|source| SupervisorError::Socket {
            name: socket.to_owned(),
            source,
        })?;
        Ok(Supervisor(Arc::new(Inner {
            socket: Some(connected),
            watchdog,
            ..Inner::default()
        })))
    }

    /// The agent serves: its listeners are open, its programs attached, its driver ticks. Also the end of a reload.
    pub async fn ready(&self) {
        for _ in 0..TRIES {
            match self.tell("READY=1") {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(error) => return tracing::error!(%error, "the service manager cannot be told READY=1"),
                Ok(()) => return,
            }
        }
        tracing::error!("the service manager does not read READY=1");
    }

    /// A reload begins at this time (CLOCK_MONOTONIC); [`Supervisor::ready`] ends it.
    pub fn reloading(&self, at: Mono) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", at.0 / 1_000));
    }

    /// The agent was told to stop.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The driver ticked at this time. Told four times in each span after which the manager would end the agent.
    pub fn ticked(&self, at: Mono) {
        let Some(every) = self.0.watchdog else { return };
        let last = Mono(self.0.alive.load(Ordering::Relaxed));
        if at.since(last) >= every / 4 && self.tell("WATCHDOG=1").is_ok() {
            self.0.alive.store(at.0, Ordering::Relaxed);
        }
    }

    /// One line on how it does, for `systemctl status`.
    pub fn status(&self, line: &str) {
        if self.0.socket.is_some() {
            let note = self.0.note.lock().unwrap_or_else(PoisonError::into_inner);
            self.say(&format!("STATUS={line}{note}"));
        }
    }

    /// What each status line ends with from now on; empty: nothing.
    pub fn note(&self, note: &str) {
        let note = note.replace('\n', " ");
        *self.0.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    /// What is lost comes again, or is not worth waiting for.
    fn say(&self, text: &str) {
        if let Err(error) = self.tell(text) {
            tracing::debug!(%error, text, "the service manager was not told");
        }
    }

    fn tell(&self, text: &str) -> io::Result<()> {
        match &self.0.socket {
            Some(socket) => socket.send(text.as_bytes()).map(drop),
            None => Ok(()),
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
