//! The tables on disk. An era is a table that holds everything of some hours, so that what is too old goes as a whole, without
//! looking at it. A segment holds the frames of one chapter, until nothing of it is open any more.

use super::{
    chapter::{Chapter, Span},
    fault::DiskError,
    keys,
    live::{Block, Replay, Unclosed, Written},
};
use crate::snapshot::Transition;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, config::CompressionPolicy,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use voice_room::RoomId;

/// The layout of keys and values of this build.
const FORMAT: &[u8] = b"1";
/// Of each table. One that was written out stays in memory until the next is.
const MEMTABLE_BYTES: u64 = 512 << 10;
/// Reads are few, and the system caches files.
const CACHE_BYTES: u64 = 256 << 10;
/// Changes of state that are written at once. A start or a storm has thousands: in one batch they would make a memtable of
/// ten times its size, in memory that stays in pieces between what lasts.
const CHANGES_AT_ONCE: usize = 500;
/// The least that fjall takes.
const JOURNALS_BYTES: u64 = 64 << 20;

/// Everything of some hours.
#[derive(Clone)]
pub(super) struct Era {
    pub(super) number: u64,
    pub(super) table: Keyspace,
    /// Its chapters, in order.
    pub(super) spans: Vec<Span>,
}

/// The opened database.
pub(super) struct Tables {
    path: PathBuf,
    db: Database,
    /// Oldest first; at least one.
    eras: Vec<Era>,
    /// By the first tick of their chapters.
    segments: BTreeMap<u64, Keyspace>,
}

impl Tables {
    /// Opens or makes the database.
    pub(super) fn open(path: &Path) -> Result<Tables, DiskError> {
        let opening = |e: &fjall::Error| DiskError::of(format_args!("open {}", path.display()), e);
        let db = Database::builder(path)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNALS_BYTES)
            .open()
            .map_err(|e| opening(&e))?;
        check_format(&db, path)?;
        let (mut eras, mut segments) = (Vec::new(), BTreeMap::new());
        for name in db.list_keyspace_names() {
            if let Some(number) = numbered(&name, ERA) {
                let table = table(&db, &name)?;
                eras.push(Era {
                    number,
                    spans: spans(&table)?,
                    table,
                });
            } else if let Some(first) = numbered(&name, SEGMENT) {
                segments.insert(first, table(&db, &name)?);
            }
        }
        eras.sort_by_key(|era| era.number);
        let mut tables = Tables {
            path: path.into(),
            db,
            eras,
            segments,
        };
        if tables.eras.is_empty() {
            tables.begin_era()?;
        }
        Ok(tables)
    }

    /// Oldest first.
    pub(super) fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// Behind the last tick of the last chapter.
    fn chapters_end(&self) -> Option<u64> {
        self.eras
            .iter()
            .rev()
            .find_map(|era| era.spans.last())
            .map(Span::end)
    }

    /// Closes what was open when the agent ended. The next tick.
    pub(super) fn close_open(&mut self) -> Result<u64, DiskError> {
        let first_segment = self.segments.keys().next().copied();
        let ended = self.chapters_end();
        let mut replay = Replay::new(ended.or(first_segment).unwrap_or(0));
        for segment in self.segments.values() {
            for pair in segment.iter() {
                let (key, frame) = pair.into_inner().map_err(|e| reading(&e))?;
                let tick = keys::tick(&key).ok_or_else(|| damaged("a frame has a key that is none"))?;
                replay.take(tick, &frame).map_err(|e| damaged(&e.to_string()))?;
            }
        }
        let next = match replay.close() {
            None => ended.unwrap_or(0),
            Some(Unclosed {
                blocks,
                chapter,
                next,
            }) => {
                let chapter = Some(chapter).filter(|chapter| !chapter.times.is_empty());
                self.insert(None, &blocks, chapter.as_ref(), &[])?;
                next
            }
        };
        self.sync()?;
        self.drop_segments_before(u64::MAX)?;
        Ok(next)
    }

    /// Writes a tick, all of it or nothing; of many changes of state some may be written without it, and are written again
    /// with the next. `chapter` is the first tick of the chapter it lies in.
    pub(super) fn write(
        &mut self,
        chapter: u64,
        written: &Written,
        transitions: &[Transition],
    ) -> Result<(), DiskError> {
        if !self.segments.contains_key(&chapter) {
            let segment = table(&self.db, &format!("{SEGMENT}{chapter}"))?;
            self.segments.insert(chapter, segment);
        }
        let mut changes = transitions.chunks(CHANGES_AT_ONCE);
        let last = changes.next_back().unwrap_or_default();
        for some in changes {
            self.insert(None, &[], None, some)?;
        }
        let frame = Some((chapter, written));
        self.insert(frame, &written.blocks, written.chapter.as_ref(), last)
    }

    fn insert(
        &mut self,
        frame: Option<(u64, &Written)>,
        blocks: &[(RoomId, Block)],
        chapter: Option<&Chapter>,
        transitions: &[Transition],
    ) -> Result<(), DiskError> {
        let Some(era) = self.eras.last_mut() else {
            return Err(DiskError::Unavailable("there is no table to write to".into()));
        };
        let mut batch = self.db.batch();
        if let Some((segment, written)) = frame
            && let Some(segment) = self.segments.get(&segment)
        {
            batch.insert(segment, written.tick.to_be_bytes(), written.frame.as_slice());
        }
        for (room, block) in blocks {
            batch.insert(&era.table, keys::block(room, block.first), block.encode());
        }
        if let Some(chapter) = chapter {
            batch.insert(&era.table, keys::chapter(chapter.first), chapter.encode());
        }
        for change in transitions {
            let json = serde_json::to_vec(change)
                .map_err(|e| DiskError::Unavailable(format!("cannot encode a change of state: {e}")))?;
            batch.insert(&era.table, keys::change(change), json);
            batch.insert(&era.table, keys::leg(change), "");
        }
        batch.commit().map_err(|e| DiskError::of("write a tick", &e))?;
        era.spans.extend(chapter.map(Chapter::span));
        Ok(())
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|e| DiskError::of(format_args!("sync {}", self.path.display()), &e))
    }

    /// Removes segments of older chapters than this.
    pub(super) fn drop_segments_before(&mut self, chapter: u64) -> Result<(), DiskError> {
        let stay = self.segments.split_off(&chapter);
        for (_, segment) in std::mem::replace(&mut self.segments, stay) {
            self.delete(segment)?;
        }
        Ok(())
    }

    /// From now on, a new era. The one before is written out, so that no journal is kept for it.
    pub(super) fn begin_era(&mut self) -> Result<(), DiskError> {
        let number = self.eras.last().map_or(1, |era| era.number + 1);
        let table = table(&self.db, &format!("{ERA}{number}"))?;
        if let Some(before) = self.eras.last() {
            before
                .table
                .rotate_memtable()
                .map_err(|e| DiskError::of("write a table out", &e))?;
        }
        self.eras.push(Era {
            number,
            table,
            spans: Vec::new(),
        });
        Ok(())
    }

    /// Removes the oldest era, unless it is the only one. Whether it did.
    pub(super) fn drop_oldest_era(&mut self) -> Result<bool, DiskError> {
        if self.eras.len() < 2 {
            return Ok(false);
        }
        let oldest = self.eras.remove(0);
        self.delete(oldest.table)?;
        Ok(true)
    }

    /// Bytes of all eras, as far as they are written out.
    pub(super) fn bytes(&self) -> u64 {
        self.eras.iter().map(|era| era.table.disk_space()).sum()
    }

    /// Bytes of everything, with frames and journals.
    pub(super) fn all_bytes(&self) -> u64 {
        let segments: u64 = self.segments.values().map(Keyspace::disk_space).sum();
        self.bytes() + segments + self.db.journal_disk_space().unwrap_or(0)
    }

    fn delete(&self, table: Keyspace) -> Result<(), DiskError> {
        self.db
            .delete_keyspace(table)
            .map_err(|e| DiskError::of("remove a table", &e))
    }
}

const ERA: &str = "era-";
const SEGMENT: &str = "open-";

fn numbered(name: &str, kind: &str) -> Option<u64> {
    name.strip_prefix(kind)?.parse().ok()
}

fn table(db: &Database, name: &str) -> Result<Keyspace, DiskError> {
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
    };
    db.keyspace(name, options)
        .map_err(|e| DiskError::of(format_args!("open table {name}"), &e))
}

fn check_format(db: &Database, path: &Path) -> Result<(), DiskError> {
    let meta = table(db, "meta")?;
    match meta.get("format").map_err(|e| reading(&e))? {
        None => meta
            .insert("format", FORMAT)
            .map_err(|e| DiskError::of("write", &e)),
        Some(format) if &*format == FORMAT => Ok(()),
        Some(format) => Err(DiskError::Unavailable(format!(
            "cannot open {}: its format is {}, this build knows {}: run the agent that wrote it, or move it away",
            path.display(),
            format.escape_ascii(),
            FORMAT.escape_ascii(),
        ))),
    }
}

fn spans(table: &Keyspace) -> Result<Vec<Span>, DiskError> {
    let mut spans = Vec::new();
    for pair in table.prefix(keys::CHAPTERS) {
        let (key, value) = pair.into_inner().map_err(|e| reading(&e))?;
        let first = key.get(1..).and_then(keys::tick);
        let chapter = first.and_then(|first| Chapter::decode(first, &value).ok());
        spans.push(chapter.ok_or_else(|| damaged("a chapter cannot be read"))?.span());
    }
    Ok(spans)
}

pub(super) fn reading(error: &fjall::Error) -> DiskError {
    DiskError::of("read the history", error)
}

fn damaged(problem: &str) -> DiskError {
    DiskError::Damaged(format!("the history is damaged: {problem}"))
}
