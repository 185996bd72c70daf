//! A damaged database must not keep the agent from its start: it is kept under another name, and a new one begun. Rooms
//! are then learnt again from their media servers; what the kernel has pinned stays.

use super::{
    Embedded, JournalHandle, RoomStore, StoreError, Stored, disk,
    journal::Journalled,
    trial::{self, Database},
};
use crate::telemetry::Counter;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// So many are kept of each database; then the oldest goes.
const KEPT: usize = 8;
const MARK: &str = ".damaged-";

/// A database, what counts that it was set aside, and that its end could not be read back.
type Kind = (Database, Counter, Counter);
const ROOMS: Kind = (Database::Rooms, Counter::StoreSetAside, Counter::StoreCutShort);
const JOURNAL: Kind = (
    Database::Journal,
    Counter::JournalSetAside,
    Counter::JournalCutShort,
);

/// The databases, opened and read.
#[derive(Debug)]
pub struct Opened {
    /// The rooms.
    pub store: Embedded,
    /// What they are.
    pub stored: Stored,
    /// The journal.
    pub journal: JournalHandle,
    /// What it holds.
    pub journalled: Journalled,
    /// Whether one of them had to be begun anew: then not every epoch that was given is known.
    pub begun_anew: bool,
}

/// Opens both databases below `state` and reads them. One that is damaged is set aside, and counted. Each is first tried by
/// `program`, this program, in a process of its own.
///
/// # Errors
/// The disk, a permission, another process: what the operator can mend, and what may pass.
pub async fn open(state: &Path, program: &Path) -> Result<Opened, StoreError> {
    let (rooms, journal) = (state.join("rooms"), state.join("journal"));
    let anew_rooms = set_aside_if_damaged(program, ROOMS, &rooms).await?;
    let anew_journal = set_aside_if_damaged(program, JOURNAL, &journal).await?;
    let (store, stored) = open_store(&rooms).await?;
    let (journal, journalled) = open_journal(&journal).await?;
    Ok(Opened {
        store,
        stored,
        journal,
        journalled,
        begun_anew: anew_rooms || anew_journal,
    })
}

/// Opens the journal alone, for a node whose rooms are in a shared store; as [`open`] does it. True: it was begun anew.
///
/// # Errors
/// As [`open`].
pub async fn open_journal_alone(
    state: &Path,
    program: &Path,
) -> Result<(JournalHandle, Journalled, bool), StoreError> {
    let path = state.join("journal");
    let anew = set_aside_if_damaged(program, JOURNAL, &path).await?;
    let (journal, journalled) = open_journal(&path).await?;
    Ok((journal, journalled, anew))
}

/// Opens the rooms and reads all of them.
///
/// # Errors
/// It cannot be opened or read.
pub async fn open_store(path: &Path) -> Result<(Embedded, Stored), StoreError> {
    let store = Embedded::open(path)?;
    let stored = store.load(Vec::new()).await?;
    Ok((store, stored))
}

/// Opens the journal and reads what a start needs of it.
///
/// # Errors
/// It cannot be opened or read.
pub async fn open_journal(path: &Path) -> Result<(JournalHandle, Journalled), StoreError> {
    let journal = JournalHandle::open(path)?;
    let journalled = journal.intents().await?;
    Ok((journal, journalled))
}

/// Whether it was damaged, and is aside now.
async fn set_aside_if_damaged(
    program: &Path,
    (which, aside, cut_short): Kind,
    path: &Path,
) -> Result<bool, StoreError> {
    let before = disk::journals::ends(path);
    match trial::passes(program, which, path).await {
        Ok(()) => {
            disk::journals::tell_cut_short(&before, cut_short);
            Ok(false)
        }
        Err(StoreError::Damaged(problem)) => set_aside(path, &problem, aside).map(|()| true),
        Err(other) => Err(other),
    }
}

fn set_aside(path: &Path, problem: &str, counter: Counter) -> Result<(), StoreError> {
    let failed = |e: io::Error| {
        StoreError::Unavailable(format!(
            "{problem}; and it cannot be set aside: {e}; move {} away",
            path.display()
        ))
    };
    let mut kept = set_aside_before(path).map_err(failed)?;
    while kept.len() >= KEPT {
        let (_, oldest) = kept.remove(0);
        tracing::warn!(path = %oldest.display(), "the oldest damaged database is removed: {KEPT} are kept");
        remove(&oldest).map_err(failed)?;
    }
    let number = kept.last().map_or(1, |(last, _)| last.saturating_add(1));
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{MARK}{number}"));
    fs::rename(path, &name).map_err(failed)?;
    counter.count();
    tracing::error!(
        problem,
        kept = %Path::new(&name).display(),
        "a database is damaged: it is kept under another name, and a new one begun"
    );
    Ok(())
}

/// The damaged databases that were set aside from `path`, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn set_aside_before(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}{MARK}", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
