//! The store's one thread: takes what waits, commits in groups, answers reads in their order, sweeps now and then.

use super::{Job, group::Group, tables::RoomTables};
use crate::store::{
    StoreError,
    disk::Disk,
    queue::{Answer, tell},
    wall_now,
};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};
use voice_room::{Change, record::Committed};

/// Changes in one group at most.
const GROUP: usize = 512;
const SWEEP_EVERY: Duration = Duration::from_secs(60);

type Commit = (Box<Change>, Answer<Committed>);

/// Works until the queue ends or it is told to close.
pub(super) fn run(mut disk: Disk<RoomTables>, jobs: &Receiver<Job>) {
    let mut swept = Instant::now();
    loop {
        let first = match jobs.recv_timeout(SWEEP_EVERY) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (commits, other) = take(first, jobs);
        commit(&mut disk, commits);
        match other {
            None | Some(Job::Commit(..)) => {}
            Some(Job::Load(answer)) => tell(answer, disk.with(|tables| tables.load())),
            Some(Job::Refresh(rooms, answer)) => tell(answer, disk.with(|tables| tables.refresh(&rooms))),
            Some(Job::Look(room, answer)) => tell(answer, disk.with(|tables| tables.look(&room, wall_now()))),
            Some(Job::Survey(rooms, answer)) => tell(answer, disk.with(|tables| tables.survey(&rooms))),
            Some(Job::Isolation(room, answer)) => tell(answer, disk.with(|tables| tables.isolation(&room))),
            Some(Job::Events { after, limit, answer }) => {
                tell(answer, disk.with(|tables| tables.events(after, limit)));
            }
            Some(Job::Close(answer)) => {
                drop(disk);
                tell(answer, Ok(()));
                return;
            }
        }
        if swept.elapsed() >= SWEEP_EVERY {
            swept = Instant::now();
            sweep(&mut disk);
        }
    }
}

/// All commits that wait, up to the first job of another kind.
fn take(first: Option<Job>, jobs: &Receiver<Job>) -> (Vec<Commit>, Option<Job>) {
    let mut commits = Vec::new();
    let mut job = first;
    loop {
        match job {
            Some(Job::Commit(change, answer)) => commits.push((change, answer)),
            other => return (commits, other),
        }
        if commits.len() >= GROUP {
            return (commits, None);
        }
        job = jobs.try_recv().ok();
    }
}

fn commit(disk: &mut Disk<RoomTables>, commits: Vec<Commit>) {
    if commits.is_empty() {
        return;
    }
    let mut results = Vec::with_capacity(commits.len());
    let written = disk.with(|tables| {
        let mut group = Group::new(tables);
        for (change, _) in &commits {
            let result = group.judge(change);
            if let Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) = result {
                return Err(error);
            }
            results.push(result);
        }
        group.write()
    });
    match written {
        Ok(()) => commits
            .into_iter()
            .zip(results)
            .for_each(|((_, a), r)| tell(a, r)),
        // Nothing is known of any of them, not even of a repeat or a conflict: what they were judged against may be gone.
        Err(error) => commits.into_iter().for_each(|(_, a)| tell(a, Err(error.clone()))),
    }
}

fn sweep(disk: &mut Disk<RoomTables>) {
    match disk.with(|tables| tables.sweep(wall_now())) {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(removed, "store swept"),
        Err(error) => tracing::warn!(%error, "store not swept; tried again in a minute"),
    }
}
