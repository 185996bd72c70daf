//! The journal files of a database, `N.jnl`: what came last, not yet in tables. Looked at as bytes; their format is fjall's.

use crate::{store::StoreError, telemetry::Counter};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const CHUNK: usize = 64 * 1024;
/// Of a copy that was not finished.
const UNFINISHED: &str = "renewing";

/// Each journal and where its data ends; behind it lie the zeros it was made with. What cannot be read is left to the
/// database to complain about.
pub(in crate::store) fn ends(path: &Path) -> Vec<(PathBuf, u64)> {
    let journals = all(path).unwrap_or_default();
    let end = |journal: PathBuf| {
        let end = data_end(&mut File::open(&journal).ok()?).ok()?;
        Some((journal, end))
    };
    journals.into_iter().filter_map(end).collect()
}

/// Tells and counts the journals that opening made shorter than their data was: fjall cuts a journal at the first thing
/// that it cannot read. Those that are gone were read to their end.
pub(in crate::store) fn tell_cut_short(before: &[(PathBuf, u64)], counter: Counter) {
    for (journal, end) in before {
        let now = fs::metadata(journal).map_or(*end, |now| now.len());
        if now < *end {
            counter.count();
            tracing::warn!(
                journal = %journal.display(),
                bytes = end - now,
                "the end of the journal could not be read back and was left out: a write that was interrupted, or damage"
            );
        }
    }
}

/// Writes every journal anew, synced. After a failed sync the kernel takes pages for written that are not, and says so no
/// more: they are read back from memory, until it is lost. Only a copy that was synced is on the disk.
pub(super) fn renew(path: &Path) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::Unavailable(format!("cannot write {} anew: {e}", path.display()));
    for journal in all(path).map_err(failed)? {
        let copy = journal.with_extension(UNFINISHED);
        if let Err(error) = copied(&journal, &copy).and_then(|()| fs::rename(&copy, &journal)) {
            // Gone already, or it stays and is written over the next time.
            let _ = fs::remove_file(&copy);
            return Err(failed(error));
        }
    }
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(path)? {
        let found = entry?.path();
        if found.extension().is_some_and(|e| e == "jnl") && found.is_file() {
            journals.push(found);
        }
    }
    Ok(journals)
}

fn copied(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let (len, end) = (from.metadata()?.len(), data_end(&mut from)?);
    from.rewind()?;
    io::copy(&mut from.take(end), &mut to)?;
    to.set_len(len)?;
    to.flush()?;
    to.sync_all()
}

/// Behind the last byte that is not zero. Read backwards: the zeros are the larger part, and a hole.
fn data_end(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let len = usize::try_from(end).unwrap_or(CHUNK).min(CHUNK);
        let start = end - len as u64;
        file.seek(SeekFrom::Start(start))?;
        let read = chunk.get_mut(..len).unwrap_or_default();
        file.read_exact(read)?;
        if let Some(last) = read.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
