//! What the embedded store and the journal have in common: an fjall database that is opened anew after its disk failed,
//! and values as JSON. After a failed write or sync fjall takes no more writes until it is opened again.

pub(super) mod fault;
pub(super) mod journals;

use super::StoreError;
use crate::telemetry::Counter;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

/// The layout of keys and values of this build.
const FORMAT: u32 = 1;
/// After a failure the database is opened again at most so often.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// Of each table. One that was written out stays in memory until the next is, so each counts twice. Room records are some
/// hundred bytes: thousands of them.
const MEMTABLE_BYTES: u64 = 512 << 10;
/// Reads are few: starts, operators' questions, and sweeps, which would fill it with what nobody asks for again. The system
/// caches files.
const CACHE_BYTES: u64 = 256 << 10;
const JOURNALS_BYTES: u64 = 128 << 20;
/// A value takes about so much at most: its memory is had at once, and not moved while it grows.
const VALUE: usize = 1024;

/// Threads that encode at a time, and how many values one is worth: a thread costs as much as some ten of them.
const ENCODERS: usize = 4;
const WORTH_A_THREAD: usize = 256;

/// The tables of one database.
pub(super) trait Tables: Sized {
    /// Counts how often it was opened anew.
    const REOPENED: Counter;
    /// Counts how often its latest writes could not be read back.
    const CUT_SHORT: Counter;
    /// Counts values that are not ours.
    const FOREIGN: Counter;

    /// Opens or makes the tables.
    fn open(db: Database) -> Result<Self, StoreError>;
}

/// An opened database, or the reason why it is not.
pub(super) struct Disk<T> {
    path: PathBuf,
    tables: Result<T, StoreError>,
    tried: Instant,
}

impl<T: Tables> Disk<T> {
    /// Opens or makes the database in `path`.
    pub(super) fn open(path: &Path) -> Result<Disk<T>, StoreError> {
        Ok(Disk {
            path: path.into(),
            tables: Ok(open(path)?),
            tried: Instant::now(),
        })
    }

    /// The tables, opened again if they failed at least [`REOPEN_EVERY`] ago. What a failed sync left in memory alone is
    /// first written anew: nothing is read back, and taken for stored, that the disk does not have.
    pub(super) fn tables(&mut self) -> Result<&mut T, StoreError> {
        if self.tables.is_err() && self.tried.elapsed() >= REOPEN_EVERY {
            self.tried = Instant::now();
            self.tables = journals::renew(&self.path).and_then(|()| open(&self.path));
            if self.tables.is_ok() {
                T::REOPENED.count();
                tracing::warn!(path = %self.path.display(), "opened anew after a failure");
            }
        }
        self.tables.as_mut().map_err(|e| e.clone())
    }

    /// Runs `work` on the tables. When the disk fails they are closed, to be opened again later. So they are when the
    /// database panics, which it does where it finds a lock poisoned.
    pub(super) fn with<R>(
        &mut self,
        work: impl FnOnce(&mut T) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let tables = self.tables()?;
        // Unwind safe: after a panic the tables are not looked at again, only dropped.
        let result = catch_unwind(AssertUnwindSafe(|| work(tables)))
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the database panicked".into())));
        if let Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) = &result {
            self.failed(error.clone());
        }
        result
    }

    /// Closes the tables after a failure.
    fn failed(&mut self, error: StoreError) {
        if self.tables.is_ok() {
            tracing::error!(path = %self.path.display(), %error, "the disk failed; the database will be opened anew");
            self.tried = Instant::now();
            let failed = std::mem::replace(&mut self.tables, Err(error));
            if catch_unwind(AssertUnwindSafe(|| drop(failed))).is_err() {
                tracing::error!(path = %self.path.display(), "the database panicked again while it was closed");
            }
        }
    }
}

fn open<T: Tables>(path: &Path) -> Result<T, StoreError> {
    fault::untold(path)?;
    std::fs::create_dir_all(path)
        .map_err(|e| StoreError::Unavailable(format!("cannot make {}: {e}", path.display())))?;
    let before = journals::ends(path);
    // Unwind safe: nothing of what a panic interrupts is used again.
    let tables = catch_unwind(AssertUnwindSafe(|| open_database(path)))
        .unwrap_or_else(|_| Err(fault::damaged(path, "the database panicked over what it found")))?;
    journals::tell_cut_short(&before, T::CUT_SHORT);
    Ok(tables)
}

fn open_database<T: Tables>(path: &Path) -> Result<T, StoreError> {
    let db = Database::builder(path)
        .worker_threads(1)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNALS_BYTES)
        .open()
        .map_err(|e| fault::opening(path, &e))?;
    let meta = table(&db, "meta")?;
    match read::<u32>(&meta, b"format", T::FOREIGN) {
        Ok(Some(FORMAT)) => {}
        Ok(None) => {
            insert_one(&meta, b"format", &FORMAT)?;
            db.persist(PersistMode::SyncAll).map_err(|e| unwritable(&e))?;
        }
        Ok(Some(other)) => {
            let problem =
                format!("its format is {other}, this build knows {FORMAT}: run the agent that wrote it");
            return Err(fault::refused(path, &problem));
        }
        Err(error) => return Err(fault::needed(path, error)),
    }
    T::open(db).map_err(|error| fault::needed(path, error))
}

/// Opens or makes a table.
pub(super) fn table(db: &Database, name: &str) -> Result<Keyspace, StoreError> {
    db.keyspace(name, || {
        KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
    })
    .map_err(|e| fault::of(format!("cannot open table {name}: {e}"), &e))
}

pub(super) fn unreadable(error: &fjall::Error) -> StoreError {
    fault::of(format!("cannot read: {error}"), error)
}

pub(super) fn unwritable(error: &fjall::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot write: {error}"))
}

/// A value as it is stored.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(VALUE);
    serde_json::to_writer(&mut bytes, value)
        .map_err(|e| StoreError::Unavailable(format!("cannot encode: {e}")))?;
    Ok(bytes)
}

/// Many values, in their order. Some thousands are encoded by several threads: who stores so many at once waits for it.
pub(super) fn encode_all<T: Serialize + Sync>(values: &[T]) -> Result<Vec<Vec<u8>>, StoreError> {
    let threads = available_parallelism().map_or(1, usize::from).min(ENCODERS);
    let part = values.len().div_ceil(threads).max(WORTH_A_THREAD);
    let encode_part = |part: &[T]| part.iter().map(encode).collect::<Result<Vec<_>, _>>();
    let Some((first, others)) = values.split_at_checked(part) else {
        return encode_part(values);
    };
    thread::scope(|scope| {
        let others: Vec<_> = others
            .chunks(part)
            .map(|part| scope.spawn(move || encode_part(part)))
            .collect();
        let mut all = encode_part(first)?;
        for other in others {
            let encoded = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            all.extend(encoded?);
        }
        Ok(all)
    })
}

/// A stored value; counted and named by its key when it is not ours.
pub(super) fn decode<V: DeserializeOwned>(
    table: &Keyspace,
    key: &[u8],
    value: &[u8],
    foreign: Counter,
) -> Result<V, StoreError> {
    serde_json::from_slice(value).map_err(|e| self::foreign(table, key, &e.to_string(), foreign))
}

/// Something that is not ours stands under `key`.
pub(super) fn foreign(table: &Keyspace, key: &[u8], problem: &str, counter: Counter) -> StoreError {
    counter.count();
    StoreError::Foreign {
        key: format!("{}/{}", &**table.name(), key.escape_ascii()),
        problem: problem.into(),
    }
}

/// Reads one value.
pub(super) fn read<V: DeserializeOwned>(
    table: &Keyspace,
    key: &[u8],
    foreign: Counter,
) -> Result<Option<V>, StoreError> {
    let value = table.get(key).map_err(|e| unreadable(&e))?;
    value.map(|value| decode(table, key, &value, foreign)).transpose()
}

/// Writes one value, not yet synced.
pub(super) fn insert_one(table: &Keyspace, key: &[u8], value: &impl Serialize) -> Result<(), StoreError> {
    table.insert(key, encode(value)?).map_err(|e| unwritable(&e))
}

/// A key and its value, as stored.
pub(super) type Pair = (fjall::UserKey, fjall::UserValue);

/// Up to `limit` pairs from `cursor` on; moves the cursor, back to the beginning after the last.
pub(super) fn page(table: &Keyspace, cursor: &mut Vec<u8>, limit: usize) -> Result<Vec<Pair>, StoreError> {
    let pairs: Vec<Pair> = table
        .range(cursor.as_slice()..)
        .take(limit)
        .map(|pair| pair.into_inner().map_err(|e| unreadable(&e)))
        .collect::<Result<_, _>>()?;
    cursor.clear();
    if let Some((last, _)) = pairs.get(limit.saturating_sub(1)) {
        cursor.extend_from_slice(last);
        cursor.push(0);
    }
    Ok(pairs)
}
