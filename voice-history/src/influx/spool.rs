//! Batches that wait for the database: one compressed file each, numbered in order, of bounded size in all.

use super::Figures;
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::VecDeque,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

/// Refused batches that are kept for a person to look at.
const REFUSED_KEPT: u64 = 16;

pub(super) struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    waiting: Mutex<Waiting>,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct Waiting {
    /// Whether what lies in the directory is known: not while it cannot be made or read.
    open: bool,
    /// Number and bytes, oldest first.
    files: VecDeque<(u64, u64)>,
    bytes: u64,
    next: u64,
}

impl Spool {
    /// One that is opened when it is first used, and tried again while that fails.
    pub(super) fn new(dir: &Path, max_bytes: u64, figures: Arc<Figures>) -> Spool {
        Spool {
            dir: dir.into(),
            max_bytes,
            waiting: Mutex::default(),
            figures,
        }
    }

    /// Opens or makes it, and finds what waits. A file that was not finished is removed.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(super) fn open(&self) -> io::Result<()> {
        self.opened().map(drop)
    }

    fn opened(&self) -> io::Result<MutexGuard<'_, Waiting>> {
        let mut waiting = self.waiting();
        if !waiting.open {
            *waiting = found(&self.dir)?;
            self.figures.waiting.store(waiting.bytes, Ordering::Relaxed);
        }
        Ok(waiting)
    }

    /// A panic of another thread leaves plain data behind.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.gz"))
    }

    /// Lays a batch down. When there is no room the oldest go, and are counted as lost.
    pub(super) fn put(&self, lines: &str) -> io::Result<()> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(lines.as_bytes())?;
        let bytes = encoder.finish()?;
        let mut waiting = self.opened()?;
        let number = waiting.next;
        let part = self.dir.join(format!("{number:012}.part"));
        let laid = fs::write(&part, &bytes).and_then(|()| fs::rename(&part, self.path(number)));
        if let Err(error) = laid {
            // It may be there in part, or not at all.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        waiting.next += 1;
        waiting.bytes += bytes.len() as u64;
        waiting.files.push_back((number, bytes.len() as u64));
        while waiting.bytes > self.max_bytes && waiting.files.len() > 1 {
            let Some((oldest, len)) = waiting.files.pop_front() else {
                break;
            };
            waiting.bytes = waiting.bytes.saturating_sub(len);
            fs::remove_file(self.path(oldest))?;
            Figures::add(&self.figures.lost, 1);
        }
        self.figures.waiting.store(waiting.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The oldest batch that waits.
    pub(super) fn oldest(&self) -> Option<(u64, io::Result<Vec<u8>>)> {
        let number = self.opened().ok()?.files.front()?.0;
        Some((number, fs::read(self.path(number))))
    }

    /// The database has it, or it is beyond help.
    pub(super) fn done(&self, number: u64) {
        self.take(number);
        // Sent twice at worst: the same lines make the same points.
        let _ = fs::remove_file(self.path(number));
    }

    /// The database will never take it: it is kept aside.
    pub(super) fn refuse(&self, number: u64) {
        self.take(number);
        let aside = self.dir.join("refused");
        let kept = fs::create_dir_all(&aside).and_then(|()| {
            fs::rename(
                self.path(number),
                aside.join(format!("{:02}.gz", number % REFUSED_KEPT)),
            )
        });
        if kept.is_err() {
            let _ = fs::remove_file(self.path(number));
        }
    }

    fn take(&self, number: u64) {
        let mut waiting = self.waiting();
        if waiting.files.front().is_some_and(|(first, _)| *first == number)
            && let Some((_, len)) = waiting.files.pop_front()
        {
            waiting.bytes = waiting.bytes.saturating_sub(len);
        }
        self.figures.waiting.store(waiting.bytes, Ordering::Relaxed);
    }
}

fn found(dir: &Path) -> io::Result<Waiting> {
    fs::create_dir_all(dir)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".part") {
            fs::remove_file(entry.path())?;
        } else if let Some(number) = name.strip_suffix(".gz").and_then(|n| n.parse().ok()) {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(Waiting {
        open: true,
        bytes: found.iter().map(|(_, bytes)| bytes).sum(),
        next: found.last().map_or(0, |(number, _)| number + 1),
        files: found.into(),
    })
}
