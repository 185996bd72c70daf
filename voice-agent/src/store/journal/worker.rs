//! The journal's one thread: does what is asked, in order, and sweeps now and then.

use super::{Job, tables::JournalTables};
use crate::store::{
    disk::Disk,
    queue::{Answer, tell},
    wall_now,
};
use std::{
    ops::ControlFlow,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Works until the queue ends or it is told to close.
pub(super) fn run(mut disk: Disk<JournalTables>, jobs: &Receiver<Job>) {
    let mut swept = Instant::now();
    loop {
        match jobs.recv_timeout(SWEEP_EVERY) {
            Ok(job) => {
                if let ControlFlow::Break(answer) = work(&mut disk, job) {
                    let synced = disk.with(|tables| tables.sync());
                    drop(disk);
                    tell(answer, synced);
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if swept.elapsed() >= SWEEP_EVERY {
            swept = Instant::now();
            if let Err(error) = disk.with(|tables| tables.sweep(wall_now())) {
                tracing::warn!(%error, "journal not swept; tried again in 10 s");
            }
        }
    }
}

/// Breaks when told to close.
fn work(disk: &mut Disk<JournalTables>, job: Job) -> ControlFlow<Answer<()>> {
    match job {
        Job::Put(intents, answer) => tell(answer, disk.with(|tables| tables.put(&intents))),
        Job::Forget(room, answer) => tell(answer, disk.with(|tables| tables.forget(&room))),
        Job::Keep(rooms, over, answer) => tell(answer, disk.with(|tables| tables.keep(&rooms, &over))),
        Job::Intents(answer) => tell(answer, disk.with(|tables| tables.intents())),
        Job::Maintain(notice, answer) => tell(answer, disk.with(|tables| tables.maintain(&notice))),
        Job::EndMaintenance(room, answer) => {
            tell(answer, disk.with(|tables| tables.end_maintenance(room.as_ref())));
        }
        Job::Append(entries, answer) => {
            let appended = disk.with(|tables| tables.append(&entries));
            let trim = appended.is_ok();
            tell(answer, appended);
            // Nobody waits for this.
            if trim && let Err(error) = disk.with(JournalTables::trim_grown) {
                tracing::warn!(%error, "timelines not trimmed; tried again when they have grown");
            }
        }
        Job::Timeline(room, answer) => tell(answer, disk.with(|tables| tables.timeline(&room))),
        Job::NextEpoch(known, answer) => tell(answer, disk.with(|tables| tables.next_epoch(known))),
        Job::Close(answer) => return ControlFlow::Break(answer),
    }
    ControlFlow::Continue(())
}
