//! The thread that attaches: whatever a NIC takes its time for happens here, never on the driver's thread.

use super::{
    attach::{Attacher, Report},
    status::InterfaceStatus,
};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// What it last saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) interfaces: Vec<InterfaceStatus>,
    pub(super) repairs: u64,
    /// Since they were last taken; at most [`MAX_LINES`].
    wrong: Vec<String>,
}

const MAX_LINES: usize = 256;

/// The thread, ended and waited for on drop.
#[derive(Debug)]
pub(super) struct Worker {
    /// Asks for one check. Full: one is waiting already, and a second would see the same.
    checks: Option<SyncSender<()>>,
    xdp: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Hands over the programs. The thread works in the network namespace of the caller.
    pub(super) fn spawn(attacher: Attacher) -> io::Result<Self> {
        let (checks, queue) = sync_channel(1);
        let xdp = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen {
            interfaces: attacher.status(),
            ..Seen::default()
        }));
        let shared = (Arc::clone(&seen), Arc::clone(&xdp));
        let thread = thread::Builder::new()
            .name("kernel-attach".into())
            .spawn(move || work(attacher, &queue, &shared.0, &shared.1))?;
        Ok(Worker {
            checks: Some(checks),
            xdp,
            seen,
            thread: Some(thread),
        })
    }

    /// Asks for a check of every attachment.
    pub(super) fn check(&self) {
        if let Some(checks) = &self.checks
            && let Err(TrySendError::Disconnected(())) = checks.try_send(())
        {
            tracing::error!(
                "the thread that attaches kernel programs has ended; attachments stay as they are"
            );
        }
    }

    /// From now on XDP is attached too, if the policy allows.
    pub(super) fn want_xdp(&self) {
        if !self.xdp.swap(true, Ordering::Relaxed) {
            self.check();
        }
    }

    /// What was last seen.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// What was wrong, or was repaired, since last asked. What merely came and went is logged by the thread.
    pub(super) fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).wrong)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.checks = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that attaches kernel programs panicked");
        }
    }
}

fn work(mut attacher: Attacher, checks: &Receiver<()>, seen: &Mutex<Seen>, xdp: &AtomicBool) {
    while let Ok(()) = checks.recv() {
        if xdp.load(Ordering::Relaxed) {
            attacher.want_xdp();
        }
        let report = attacher.check().unwrap_or_else(|e| Report {
            wrong: vec![e.to_string()],
            ..Report::default()
        });
        for line in report.news {
            tracing::info!("kernel: {line}");
        }
        let interfaces = attacher.status();
        let mut seen = lock(seen);
        seen.interfaces = interfaces;
        seen.repairs += report.repairs;
        let room = MAX_LINES.saturating_sub(seen.wrong.len());
        seen.wrong.extend(report.wrong.into_iter().take(room));
    }
}

/// A panic elsewhere leaves plain data behind, which stays readable.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
