//! The history in an InfluxDB (1.x, line protocol and InfluxQL over HTTP). Snapshots are first laid down in a bounded spool on
//! this host's disk, as batches of compressed lines, and sent from there in order: an outage of the database loses nothing
//! while the spool has room.

mod http;
mod line;
mod read;
mod send;
mod spool;

pub use http::Address;
pub use read::Reader;

use crate::{NodeHealth, Tick, Transition};
use http::Client;
use send::Sender;
use spool::Spool;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use voice_room::NodeName;

/// The health of the node is written when it changes, and at least so often.
const HEALTH_EVERY: u32 = 120;
/// Changes of state that wait for a disk that fails; then the oldest go.
const MAX_WAITING: usize = 100_000;

/// Where and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub address: Address,
    /// The database; it is made when it is not there.
    pub database: String,
    /// User and password; `None`: without.
    pub user: Option<(String, String)>,
    /// This node, the tag of all that it writes.
    pub node: NodeName,
    /// The database is told to keep what is written so long, when it is made.
    pub max_age: Duration,
    /// The spool's directory.
    pub spool: PathBuf,
    /// Bytes of the spool; when it is full the oldest batches go.
    pub spool_bytes: u64,
}

/// What was done, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Batches the database took.
    pub sent: AtomicU64,
    /// Batches it refused as malformed; the last of them are kept aside.
    pub refused: AtomicU64,
    /// Attempts that failed: away, too slow, overloaded.
    pub failed: AtomicU64,
    /// Batches that were lost because the spool was full.
    pub lost: AtomicU64,
    /// Ticks that could not be spooled.
    pub dropped: AtomicU64,
    /// Changes of state that were lost because too many waited for the spool's disk.
    pub lost_changes: AtomicU64,
    /// Bytes that wait.
    pub waiting: AtomicU64,
    /// Whether the last attempt failed.
    pub failing: AtomicBool,
}

impl Figures {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// The writer: lays ticks down in the spool. The thread that sends ends with it.
pub struct Influx {
    node: NodeName,
    spool: Arc<Spool>,
    sender: Sender,
    figures: Arc<Figures>,
    client: Client,
    /// What was written last, and how many ticks ago.
    health: Option<(NodeHealth, u32)>,
    /// The way each room last went.
    paths: line::Paths,
    /// Changes of state that could not be laid down yet.
    waiting: Vec<Transition>,
}

impl Influx {
    /// Opens the spool and starts to send. The database need not be there yet, and neither need room for the spool.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: &Settings) -> io::Result<Influx> {
        let figures = Arc::<Figures>::default();
        let spool = Arc::new(Spool::new(
            &settings.spool,
            settings.spool_bytes,
            Arc::clone(&figures),
        ));
        if let Err(error) = spool.open() {
            tracing::warn!(path = %settings.spool.display(), %error, "the spool is not open yet; each snapshot tries it again");
        }
        let client = Client::new(settings);
        let sender = Sender::start(client.clone(), Arc::clone(&spool), Arc::clone(&figures))?;
        Ok(Influx {
            node: settings.node.clone(),
            spool,
            sender,
            figures,
            client,
            health: None,
            paths: line::Paths::default(),
            waiting: Vec::new(),
        })
    }

    /// A reader. Any number may read while this writes.
    pub fn reader(&self) -> Reader {
        Reader::new(self.client.clone(), self.node.clone())
    }

    /// What was done.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Lays a tick down; it is sent in the background. Changes of state that could not be laid down come with the next.
    ///
    /// # Errors
    /// The spool's disk. The tick is dropped and counted.
    pub fn take(&mut self, mut tick: Tick) -> io::Result<()> {
        self.waiting.append(&mut tick.transitions);
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        Figures::add(&self.figures.lost_changes, excess as u64);
        tick.transitions = std::mem::take(&mut self.waiting);
        let laid = self.lay(&tick);
        if laid.is_err() {
            Figures::add(&self.figures.dropped, 1);
            self.health = None;
            self.waiting = tick.transitions;
        }
        self.sender.wake();
        laid
    }

    fn lay(&mut self, tick: &Tick) -> io::Result<()> {
        let due = self
            .health
            .as_ref()
            .is_none_or(|(last, ago)| *last != tick.health || *ago >= HEALTH_EVERY);
        let health = due.then_some(&tick.health);
        line::batches(&self.node, tick, health, &mut self.paths)
            .into_iter()
            .try_for_each(|batch| self.spool.put(&batch))?;
        if due {
            self.health = Some((tick.health.clone(), 1));
        } else if let Some((_, ago)) = &mut self.health {
            *ago += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
