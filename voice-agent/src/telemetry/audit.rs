//! The audit log: every decision and every operator's action as one JSON line. Whoever has something to tell hands it over
//! and never waits; a thread of its own writes. What a line says is in `audit/line.rs`, what an operator asked for in
//! `audit/asked.rs`, the file in `audit/file.rs`.

mod asked;
mod file;
mod line;

pub use asked::Asked;
pub use line::Line;

use crate::{config::AuditConfig, telemetry::Counter};
use file::Rotated;
use line::Told;
use std::{
    collections::VecDeque,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use voice_room::{Entry, Wall};

/// Lines that may wait for the disk: 4,000 trips at once are 16,000. More are left out and counted (`audit_dropped`).
const QUEUE: usize = 32_768;
/// Lines written at once, with one sync.
const BATCH: usize = 512;
/// The wait after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stop waits for the last lines.
const GOODBYE: Duration = Duration::from_secs(2);

/// The way to the audit log, or to nowhere when it is off. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    lines: Option<SyncSender<Box<Told>>>,
    health: Arc<Health>,
}

/// What the thread and those who ask about it share.
#[derive(Debug, Default)]
struct Health {
    stopping: AtomicBool,
    /// Why the file is not written, while it is not.
    problem: Mutex<Option<String>>,
}

impl Health {
    fn set(&self, problem: Option<String>) -> Option<String> {
        let mut now = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, problem)
    }
}

/// The thread. Dropping it writes what waits, for at most two seconds.
#[derive(Debug)]
#[must_use = "the audit log ends when this is dropped"]
pub struct Writer {
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Audit {
    /// Starts the thread. The file is opened by it; one that cannot be is tried again each second, and counted.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &AuditConfig) -> io::Result<(Audit, Writer)> {
        let mut audit = Audit::default();
        let health = audit.health.clone();
        let mut writer = Writer {
            health: health.clone(),
            thread: None,
        };
        if let Some(path) = config.file.clone() {
            let file = Rotated::new(path, config.max_bytes, config.keep);
            let (lines, waiting) = sync_channel(QUEUE);
            let body = move || run(file, &waiting, &health);
            writer.thread = Some(thread::Builder::new().name("audit".into()).spawn(body)?);
            audit.lines = Some(lines);
        }
        Ok((audit, writer))
    }

    /// Hands over a line.
    pub fn write(&self, line: Line) {
        self.tell(|| Told::Line(line));
    }

    /// Hands over what the core recorded, if it is a decision.
    pub fn decided(&self, entry: &Entry) {
        if line::is_decision(entry) {
            self.tell(|| Told::Entry(entry.clone()));
        }
    }

    /// Never waits.
    fn tell(&self, told: impl FnOnce() -> Told) {
        if let Some(lines) = &self.lines
            && lines.try_send(Box::new(told())).is_err()
        {
            Counter::AuditDropped.count();
        }
    }

    /// Why the file is not written, while it is not.
    pub fn problem(&self) -> Option<String> {
        let problem = self.health.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.health.stopping.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        let until = Instant::now() + GOODBYE;
        while !thread.is_finished() {
            if Instant::now() >= until {
                tracing::warn!(
                    "the last lines of the audit log may not be written: its disk took more than 2 s"
                );
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Appends one line from a process that is not the agent, which is away and may never have run: the directory is made as
/// it would make it. The file is not rotated by it.
///
/// # Errors
/// The file cannot be opened or written.
pub fn append(file: &Path, line: Line) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    }
    let mut text = VecDeque::from([Told::Line(line).text()]);
    Rotated::new(file.into(), u64::MAX, 1).append(&mut text)
}

/// Writes until nobody can hand over lines any more. What cannot be written is tried again until it can; when the agent
/// stops, once.
fn run(mut file: Rotated, waiting: &Receiver<Box<Told>>, health: &Health) {
    while let Ok(first) = waiting.recv() {
        let batch = std::iter::once(first).chain(waiting.try_iter().take(BATCH - 1));
        let mut lines: VecDeque<String> = batch.map(|told| told.text()).collect();
        while let Err(error) = file.append(&mut lines) {
            Counter::AuditFailed.count();
            let path = file.path().display();
            if health.set(Some(format!("{path}: {error}"))).is_none() {
                tracing::error!(file = %path, %error, "the audit log is not written; tried again each second");
            }
            if health.stopping.load(Ordering::Relaxed) {
                let left = lines.len() + waiting.try_iter().count();
                tracing::error!(
                    left,
                    "lines of the audit log were not written before the agent stopped"
                );
                return;
            }
            thread::park_timeout(RETRY);
        }
        if health.set(None).is_some() {
            tracing::info!(file = %file.path().display(), "the audit log is written again");
        }
    }
}

/// A line about the agent itself, now.
pub fn agent(action: &'static str, at: Wall) -> Line {
    Line::new(action, voice_room::timeline::Actor::Agent, at)
}

#[cfg(test)]
mod tests;
