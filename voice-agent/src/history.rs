//! Snapshots: the driver hands over what its rooms are like, a thread of its own encodes and writes it, and the admin service
//! asks for it. What is kept, and how, is `voice-history`'s.

pub mod probe;
mod vitals;

pub use vitals::HistoryVitals;

use crate::{
    config::{Config, HistoryConfig, HistoryKind, read_secret},
    store::{StoreError, trial},
    telemetry::Counter,
};
use probe::Probe;
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use voice_history::{
    Answer, Asker, Embedded, Health, HistoryError, Keeper, Moment, PathPage, PathQuestion, Question, Tick,
    Transition,
    influx::{self, Influx},
};
use voice_room::{RoomId, Wall};

/// Ticks that may wait for the disk. When it is slower, the newest is dropped and counted; its changes of state wait.
const QUEUE: usize = 4;
/// Changes of state that wait in the driver; then the oldest go.
const MAX_WAITING: usize = 20_000;
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a database is waited for: less, so that it is said what it did.
const DATABASE_WITHIN: Duration = Duration::from_millis(4_500);
/// Questions that are answered at once; further ones wait for their turn within that time. Each has a thread.
const ASKED_AT_ONCE: usize = 8;

/// The directory below `paths.state`.
pub const DIRECTORY: &str = "history";
/// What waits for an InfluxDB, below `paths.state`.
const SPOOL: &str = "history-spool";

/// The driver's end.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Tick>,
    waiting: Vec<Transition>,
    vitals: HistoryVitals,
}

/// The admin service's end. Cheap to clone.
#[derive(Clone)]
pub struct History {
    asker: Asker,
    turns: Arc<Semaphore>,
    /// Whether its database takes connections; `None`: it has none.
    reached: Option<Probe>,
    vitals: HistoryVitals,
}

/// The thread that writes; ends when the recorder is gone.
#[derive(Debug)]
pub struct Writer(thread::JoinHandle<()>);

impl Recorder {
    /// A change of state, for the next tick.
    pub fn changed(&mut self, change: &Transition) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.remove(0);
            Counter::HistoryChangesLost.count();
        }
        self.waiting.push(change.clone());
    }

    /// Hands a tick over. Never waits: with a full queue it is dropped and counted.
    pub fn record(&mut self, mut tick: Tick) {
        tick.transitions = std::mem::take(&mut self.waiting);
        match self.queue.try_send(tick) {
            Ok(()) => {}
            Err(TrySendError::Full(tick) | TrySendError::Disconnected(tick)) => {
                self.vitals.set(Health::Broken);
                Counter::HistoryTicksDropped.count();
                self.waiting = tick.transitions;
            }
        }
    }
}

impl Recorder {
    /// How the history itself does, as of the last snapshots.
    pub fn health(&self) -> Health {
        self.vitals.health()
    }
}

impl History {
    /// What it leaves behind, for metrics.
    pub fn vitals(&self) -> &HistoryVitals {
        &self.vitals
    }

    /// Whether it does its work now: it kept the last snapshots, and its database takes connections and what it is sent.
    pub async fn works(&self) -> bool {
        let kept = self.vitals.health() != Health::Broken && !self.vitals.kept.fails();
        match &self.reached {
            Some(database) => kept && database.ask().await != Health::Broken,
            None => kept,
        }
    }

    /// A room over a time.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn room(&self, question: Question) -> Result<Answer, HistoryError> {
        self.ask(move |reader| reader.room(&question)).await
    }

    /// A room as it was.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn at(&self, room: RoomId, at: Wall) -> Result<Moment, HistoryError> {
        self.ask(move |reader| reader.at(&room, at)).await
    }

    /// Rooms that went a way.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn path(&self, question: PathQuestion) -> Result<PathPage, HistoryError> {
        self.ask(move |reader| reader.path(&question)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Asker) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let timer = self.vitals.queries.start_timer();
        let until = Instant::now() + DATABASE_WITHIN;
        let answer = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let reader = self.asker.until(until);
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                work(&reader)
            })
            .await
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        timer.observe_duration();
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(HistoryError::Away("reading it panicked".into())),
            Err(_) => Err(HistoryError::Away(format!(
                "it did not answer within {} s",
                ANSWER_WITHIN.as_secs()
            ))),
        }
    }
}

impl Writer {
    /// Waits until what was handed over is written.
    pub fn finish(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread that writes the history panicked");
        }
    }
}

/// Tries the database in a process of its own, as the others: over some damage it would abort this one. What is damaged is
/// kept under another name.
pub async fn set_aside_if_damaged(state: &Path) {
    let path = state.join(DIRECTORY);
    let program = Path::new(trial::THIS_PROGRAM);
    let Err(StoreError::Damaged(problem)) = trial::passes(program, trial::Database::History, &path).await
    else {
        return; // what else is wrong is told when it is opened
    };
    match voice_history::set_aside(&path) {
        Ok(kept) => {
            Counter::HistorySetAside.count();
            tracing::error!(problem, kept = %kept.display(), "the history is damaged: it is kept under another name, and a new one begun");
        }
        Err(error) => {
            tracing::error!(problem, %error, "the history is damaged and cannot be set aside: move it away");
        }
    }
}

/// Starts the thread that writes. A kind that is off keeps nothing.
///
/// # Errors
/// The spool, a password file, or the system gives no thread.
pub fn start(config: &Config) -> io::Result<(Recorder, History, Writer)> {
    let keeper = match config.history.kind {
        HistoryKind::Influx => Keeper::Influx(Box::new(Influx::start(&settings(config)?)?)),
        HistoryKind::Embedded | HistoryKind::Off => Keeper::Embedded(Box::new(embedded(config))),
    };
    let vitals = HistoryVitals::new(keeper.figures()).map_err(io::Error::other)?;
    let history = History {
        asker: keeper.asker(),
        turns: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        reached: reached(config),
        vitals: vitals.clone(),
    };
    let told = vitals.clone();
    let (queue, ticks) = sync_channel(QUEUE);
    let writing = thread::Builder::new()
        .name("history".into())
        .spawn(move || write(keeper, &ticks, &told))?;
    let recorder = Recorder {
        queue,
        waiting: Vec::new(),
        vitals,
    };
    Ok((recorder, history, Writer(writing)))
}

fn embedded(config: &Config) -> Embedded {
    let HistoryConfig {
        max_age,
        max_mib,
        reserve_mib,
        ..
    } = config.history;
    Embedded::new(voice_history::Settings {
        path: config.paths.state.join(DIRECTORY),
        max_age,
        max_bytes: u64::from(max_mib) << 20,
        reserve: u64::from(reserve_mib) << 20,
    })
}

/// Who is asked whether the database takes connections: an answer to more than that may need rights that this agent has not.
fn reached(config: &Config) -> Option<Probe> {
    if config.history.kind != HistoryKind::Influx {
        return None;
    }
    let address = config.history.influx.address.as_ref()?.to_string();
    let probe = format!("history=tcp://{}", address.strip_prefix("http://")?);
    probe.parse().ok()
}

fn settings(config: &Config) -> io::Result<influx::Settings> {
    let given = &config.history.influx;
    let password = match &given.password_file {
        None => String::new(),
        Some(file) => {
            let bytes =
                read_secret(file).map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
            String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned()
        }
    };
    let address = given.address.clone();
    Ok(influx::Settings {
        address: address.ok_or_else(|| io::Error::other("history.influx.address is not set"))?,
        database: given.database.clone(),
        user: given.username.clone().map(|name| (name, password)),
        node: config.node.clone(),
        max_age: config.history.max_age,
        spool: config.paths.state.join(SPOOL),
        spool_bytes: u64::from(given.spool_mib) << 20,
    })
}

fn write(mut keeper: Keeper, ticks: &Receiver<Tick>, vitals: &HistoryVitals) {
    if let Keeper::Embedded(embedded) = &mut keeper
        && let Err(error) = embedded.open()
    {
        tracing::warn!(%error, "the history is not open yet; it is tried again with each snapshot");
    }
    let (mut failing, mut lost) = (false, 0);
    while let Ok(tick) = ticks.recv() {
        // What was laid down with the last tick has long been sent, if it can be.
        let well = if keeper.waits() {
            Health::Degraded
        } else {
            Health::Healthy
        };
        let taken = keeper.take(tick);
        vitals.set(if taken.is_ok() { well } else { Health::Broken });
        let lost_before = std::mem::replace(&mut lost, vitals.kept.lost_changes());
        Counter::HistoryChangesLost.add(usize::try_from(lost - lost_before).unwrap_or(usize::MAX));
        match taken {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("snapshots are written again");
                }
            }
            Err(error) => {
                Counter::HistoryTicksDropped.count();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error, "snapshots are not written");
                }
            }
        }
    }
    if let Err(error) = keeper.close() {
        tracing::warn!(
            error,
            "the history was not closed in order; it recovers at the next start"
        );
    }
}
