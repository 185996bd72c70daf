//! The history on this host's disk. One writer takes ticks; readers ask meanwhile and never hold it: they look at what is open
//! for as long as it takes to copy one room's block, and read tables as they were when they began.

mod chapter;
mod fault;
mod frame;
mod keys;
mod live;
mod read;
mod tables;

pub use fault::{DiskError, set_aside};
pub use read::Reader;

use crate::{Tick, Transition};
use live::Live;
use nix::sys::statvfs::statvfs;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tables::{Era, Tables};
use voice_room::Wall;

/// After a failure the database is opened again at most so often.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// Eras that make up what is kept: what goes at once is one of them.
const ERAS: u64 = 16;
/// Changes of state that wait for a disk that fails; then the oldest go.
const MAX_WAITING: usize = 100_000;

/// Where and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database's directory.
    pub path: PathBuf,
    /// Older snapshots go, a sixteenth of this time at once.
    pub max_age: Duration,
    /// The oldest snapshots go when they take more than this, a sixteenth at once. Journals and what is open come on top.
    pub max_bytes: u64,
    /// So much of the file system is left to others: below, the oldest snapshots go, and then none are written.
    pub reserve: u64,
}

/// What the history has done, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Snapshots written.
    pub snapshots: AtomicU64,
    /// Ticks that could not be written.
    pub dropped: AtomicU64,
    /// Times the oldest snapshots went because the disk was short.
    pub tightened: AtomicU64,
    /// Times the database was opened anew.
    pub reopened: AtomicU64,
    /// Times it was damaged and set aside.
    pub set_aside: AtomicU64,
    /// Changes of state that were lost.
    pub lost_changes: AtomicU64,
    /// Records that could not be read.
    pub damaged: AtomicU64,
    /// Bytes on disk, as of the last chapter.
    pub bytes: AtomicU64,
}

impl Figures {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// What writer and readers share.
struct Shared {
    live: Mutex<Live>,
    /// Those that are open; none while the database is not.
    eras: RwLock<Arc<Vec<Era>>>,
    /// Why it is not.
    away: Mutex<Option<String>>,
    figures: Arc<Figures>,
}

impl Shared {
    /// What is open. A panic of another thread leaves plain data behind, which the next failure replaces.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self) -> MutexGuard<'_, Option<String>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn eras(&self) -> Arc<Vec<Era>> {
        Arc::clone(&self.eras.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, eras: &[Era]) {
        *self.eras.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(eras.to_vec());
    }
}

/// The one writer of the history on this host's disk.
pub struct Embedded {
    settings: Settings,
    tables: Option<Tables>,
    /// When it was last opened, or failed.
    tried: Option<Instant>,
    shared: Arc<Shared>,
    /// Changes of state that are not written yet.
    waiting: Vec<Transition>,
}

impl Embedded {
    /// A history that opens its database with the first tick; what is damaged is set aside then, and begun anew.
    pub fn new(settings: Settings) -> Embedded {
        let shared = Shared {
            live: Mutex::default(),
            eras: RwLock::default(),
            away: Mutex::new(Some("it is not open yet".into())),
            figures: Arc::default(),
        };
        Embedded {
            settings,
            tables: None,
            tried: None,
            shared: Arc::new(shared),
            waiting: Vec::new(),
        }
    }

    /// A reader. Any number may read while this writes.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// What was done.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.shared.figures)
    }

    /// Opens the database, and closes what was open when it was last written. What is damaged is set aside.
    ///
    /// # Errors
    /// What may pass, or be mended. Then each tick tries again, once a second at most.
    pub fn open(&mut self) -> Result<(), DiskError> {
        self.tried = Some(Instant::now());
        let opened = match guarded(|| self.opened()) {
            Err(DiskError::Damaged(problem)) => self.begin_anew(&problem),
            other => other,
        };
        let (tables, next) = opened.inspect_err(|error| {
            *self.shared.away() = Some(error.to_string());
        })?;
        let figures = &self.shared.figures;
        figures.bytes.store(tables.all_bytes(), Ordering::Relaxed);
        *self.shared.live() = Live::new(next);
        self.shared.show(tables.eras());
        *self.shared.away() = None;
        self.tables = Some(tables);
        Ok(())
    }

    fn opened(&self) -> Result<(Tables, u64), DiskError> {
        let path = &self.settings.path;
        std::fs::create_dir_all(path)
            .map_err(|e| DiskError::Unavailable(format!("cannot make {}: {e}", path.display())))?;
        let mut tables = Tables::open(path)?;
        let next = tables.close_open()?;
        Ok((tables, next))
    }

    fn begin_anew(&self, problem: &str) -> Result<(Tables, u64), DiskError> {
        let aside = set_aside(&self.settings.path)
            .map_err(|e| DiskError::Unavailable(format!("{problem}; and it cannot be set aside: {e}")))?;
        Figures::add(&self.shared.figures.set_aside, 1);
        tracing::error!(
            problem,
            kept = %aside.display(),
            "the history is damaged: it is kept under another name, and a new one begun"
        );
        guarded(|| self.opened())
    }

    /// Writes a tick, all of it or nothing. Changes of state that could not be written come with the next.
    ///
    /// # Errors
    /// The disk. The tick is dropped and counted.
    pub fn take(&mut self, mut tick: Tick) -> Result<(), DiskError> {
        self.waiting.append(&mut tick.transitions);
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        Figures::add(&self.shared.figures.lost_changes, excess as u64);
        let written = self.write(&tick);
        let figures = &self.shared.figures;
        match &written {
            Ok(()) => Figures::add(&figures.snapshots, tick.rooms.len() as u64),
            Err(_) => Figures::add(&figures.dropped, 1),
        }
        written
    }

    fn write(&mut self, tick: &Tick) -> Result<(), DiskError> {
        if self.tables.is_none() {
            if self.tried.is_some_and(|tried| tried.elapsed() < REOPEN_EVERY) {
                let why = self.shared.away().clone().unwrap_or_default();
                return Err(DiskError::Unavailable(why));
            }
            let again = self.tried.is_some();
            self.open()?;
            Figures::add(&self.shared.figures.reopened, u64::from(again));
        }
        self.leave_room()?;
        let result = guarded(|| self.write_to_tables(tick));
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    fn write_to_tables(&mut self, tick: &Tick) -> Result<(), DiskError> {
        let Some(tables) = &mut self.tables else {
            return Err(DiskError::Unavailable("the history is not open".into()));
        };
        let (chapter, written) = {
            let mut live = self.shared.live();
            (live.chapter_first(), live.take(tick))
        };
        tables.write(chapter, &written, &self.waiting)?;
        // With its memory: a start or a storm has thousands of them.
        self.waiting = Vec::new();
        if written.chapter.is_some() {
            self.shared.show(tables.eras());
        }
        self.shared.live().written();
        if written.chapter.is_some() {
            self.end_of_chapter(chapter, tick.at)?;
        }
        Ok(())
    }

    /// Once in a chapter's length: sync, and what is not needed any more goes.
    fn end_of_chapter(&mut self, chapter: u64, now: Wall) -> Result<(), DiskError> {
        let Some(tables) = &mut self.tables else {
            return Ok(());
        };
        tables.sync()?;
        // No block that is open now began before this chapter: none is longer than one.
        tables.drop_segments_before(chapter)?;
        let Settings {
            max_age, max_bytes, ..
        } = &self.settings;
        let age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        if let Some(era) = tables.eras().last() {
            let began = era.spans.first().map_or(now.0, |span| span.earliest);
            if now.0.saturating_sub(began) >= age / ERAS || era.table.disk_space() >= max_bytes / ERAS {
                tables.begin_era()?;
            }
        }
        let too_old = |era: &Era| {
            era.spans
                .iter()
                .map(|span| span.latest)
                .max()
                .is_some_and(|latest| latest < now.0.saturating_sub(age))
        };
        while tables.eras().first().is_some_and(too_old) && tables.drop_oldest_era()? {}
        while tables.bytes() > *max_bytes && tables.drop_oldest_era()? {}
        self.shared.show(tables.eras());
        self.shared
            .figures
            .bytes
            .store(tables.all_bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// On a disk that others fill, the oldest snapshots go; when there are none, new ones are not written.
    fn leave_room(&mut self) -> Result<(), DiskError> {
        let Settings { path, reserve, .. } = &self.settings;
        let Some(tables) = &mut self.tables else {
            return Ok(());
        };
        let free = match statvfs(path) {
            Ok(found) => found.blocks_available().saturating_mul(found.fragment_size()),
            Err(_) => return Ok(()), // then the writing itself says what is wrong
        };
        if free >= *reserve {
            return Ok(());
        }
        if guarded(|| tables.drop_oldest_era())? {
            Figures::add(&self.shared.figures.tightened, 1);
            tracing::warn!(free, reserve, path = %path.display(), "the disk is short: the oldest snapshots were removed");
            self.shared.show(tables.eras());
            return Ok(());
        }
        Err(DiskError::Unavailable(format!(
            "{} bytes are free on the disk of {}, and {reserve} are left to others: no snapshots are written",
            free,
            path.display()
        )))
    }

    /// Closes the tables; they are opened again with a later tick.
    fn failed(&mut self, error: &DiskError) {
        self.tried = Some(Instant::now());
        tracing::error!(path = %self.settings.path.display(), %error, "the history failed; it will be opened anew");
        *self.shared.away() = Some(error.to_string());
        self.shared.show(&[]);
        *self.shared.live() = Live::default();
        let tables = self.tables.take();
        if catch_unwind(AssertUnwindSafe(|| drop(tables))).is_err() {
            tracing::error!("the database panicked while it was closed");
        }
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// The disk.
    pub fn close(mut self) -> Result<(), DiskError> {
        let Some(tables) = self.tables.take() else {
            return Ok(());
        };
        guarded(|| tables.sync())
    }
}

/// Opens the database at `path` as a start would, and closes it again. For a process of its own: over some damage fjall aborts.
///
/// # Errors
/// It is damaged, or cannot be opened now.
pub fn try_open(path: &Path) -> Result<(), DiskError> {
    guarded(|| {
        let mut tables = Tables::open(path)?;
        tables.close_open().map(drop)
    })
}

/// Runs work on the database, which panics over some damage. Unwind safe: after a panic the tables are only dropped.
fn guarded<T>(work: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(DiskError::Damaged(
            "the database panicked over what it found".into(),
        ))
    })
}

#[cfg(test)]
mod tests;
