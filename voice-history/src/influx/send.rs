//! The thread that sends what waits, in order. What passes (away, slow, overloaded) is tried again, ever more slowly; what
//! the database will never take is set aside, so that it does not stop the rest.

use super::{
    Figures,
    http::{Client, Said},
    spool::Spool,
};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::{
    io,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the spool is looked at when nobody wakes the thread.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The thread, ended and waited for on drop: at most one request.
pub(super) struct Sender {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What became of a batch.
enum Outcome {
    Taken,
    /// It will never be taken.
    Refused(String),
    /// It may be taken later.
    Failed(String),
}

impl Sender {
    pub(super) fn start(client: Client, spool: Arc<Spool>, figures: Arc<Figures>) -> io::Result<Sender> {
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("history-send".into())
            .spawn(move || send(&client, &spool, &figures, &woken))?;
        Ok(Sender {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// There is something to send. A full channel says so already.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends the history panicked");
        }
    }
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times()
        .build()
}

fn send(client: &Client, spool: &Spool, figures: &Figures, woken: &Receiver<()>) {
    let mut delays = backoff();
    let mut failing = false;
    loop {
        let mut pause = LOOK_EVERY;
        while let Some((number, batch)) = spool.oldest() {
            let outcome = match batch {
                Ok(batch) => judged(client, client.write(&batch)),
                Err(error) => Outcome::Refused(format!("its file cannot be read: {error}")),
            };
            figures
                .failing
                .store(matches!(outcome, Outcome::Failed(_)), Ordering::Relaxed);
            match outcome {
                Outcome::Taken => {
                    spool.done(number);
                    Figures::add(&figures.sent, 1);
                    delays = backoff();
                    if std::mem::take(&mut failing) {
                        tracing::info!("the history's database takes snapshots again");
                    }
                }
                Outcome::Refused(why) => {
                    spool.refuse(number);
                    Figures::add(&figures.refused, 1);
                    tracing::error!(
                        batch = number,
                        why,
                        "the history's database refuses a batch; it is set aside"
                    );
                }
                Outcome::Failed(why) => {
                    Figures::add(&figures.failed, 1);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            why,
                            "the history's database does not take snapshots; they wait on this host's disk"
                        );
                    }
                    pause = delays.next().unwrap_or(LOOK_EVERY);
                    break;
                }
            }
            // Between two batches: the agent may be ending, and what waits is sent at its next start.
            if let Err(std::sync::mpsc::TryRecvError::Disconnected) = woken.try_recv() {
                return;
            }
        }
        if !wait(woken, pause, failing) {
            return;
        }
    }
}

/// Whether to go on. While the database fails, new batches do not shorten the pause.
fn wait(woken: &Receiver<()>, pause: Duration, failing: bool) -> bool {
    let until = std::time::Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        match woken.recv_timeout(left) {
            Ok(()) if failing => {}
            Ok(()) | Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn judged(client: &Client, said: io::Result<Said>) -> Outcome {
    match said {
        Err(error) => Outcome::Failed(error.to_string()),
        Ok(Said {
            status: 200..=299, ..
        }) => Outcome::Taken,
        Ok(Said { status: 404, body }) => {
            let made = client.make_database();
            let made = made.map_or_else(
                |e| e.to_string(),
                |said| format!("making it: {} {}", said.status, said.body.trim()),
            );
            Outcome::Failed(format!("{}; {made}", body.trim()))
        }
        // Malformed, or too large for the server's settings.
        Ok(Said {
            status: status @ (400 | 413 | 422),
            body,
        }) => Outcome::Refused(format!("{status}: {}", body.trim())),
        // Also wrong credentials: an operator can mend them.
        Ok(Said { status, body }) => Outcome::Failed(format!("{status}: {}", body.trim())),
    }
}
