//! What an error of the database means: something that may pass (a full disk, a missing permission, another process), or
//! damage, which lies on the disk and stays.

use crate::store::StoreError;
use fjall::{Error, LsmError};
use std::{fs, io, path::Path};

/// The database cannot be opened now.
pub(super) fn refused(path: &Path, problem: &str) -> StoreError {
    StoreError::Unavailable(format!("cannot open {}: {problem}", path.display()))
}

/// The database is damaged.
pub(in crate::store) fn damaged(path: &Path, problem: &str) -> StoreError {
    StoreError::Damaged(format!("{} is damaged: {problem}", path.display()))
}

/// An error over a value without which the database is of no use.
pub(super) fn needed(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Foreign { .. } => damaged(path, &error.to_string()),
        other => other,
    }
}

/// An error of opening it.
pub(super) fn opening(path: &Path, error: &Error) -> StoreError {
    match error {
        Error::Locked => refused(path, "another process has it open"),
        other if is_damage(other) => damaged(path, &other.to_string()),
        other => refused(path, &other.to_string()),
    }
}

/// An error of reading it, told as `text`.
pub(super) fn of(text: String, error: &Error) -> StoreError {
    if is_damage(error) {
        StoreError::Damaged(text)
    } else {
        StoreError::Unavailable(text)
    }
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Io(e) | Error::Storage(LsmError::Io(e)) => files_are_wrong(e),
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::InvalidVersion(None)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => true,
        // Poisoned says that something failed before; InvalidVersion(Some) is whole, and of another release.
        _ => false,
    }
}

/// Files that are missing, too short or not files: what the system answers when it works and its contents do not.
fn files_are_wrong(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
    )
}

/// What fjall 3.1 does not tell as damage: strangers over which it aborts the process (it panics with a lock held that it then
/// wants to take), and missing files that it makes anew, removing the tables they named.
pub(in crate::store) fn untold(path: &Path) -> Result<(), StoreError> {
    if path.exists() && !path.is_dir() {
        return Err(damaged(path, "it is no directory"));
    }
    if !path.join("version").exists() {
        return Ok(());
    }
    let is_journal = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|e| e == "jnl");
    if !entries(path).iter().any(is_journal) {
        return Err(damaged(path, "its journal files are missing"));
    }
    let (mut named, mut list) = (false, false);
    for entry in entries(&path.join("keyspaces")) {
        let (name, table) = (entry.file_name(), entry.path());
        match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            Some(0) => list = table.join("current").exists(),
            Some(_) => named = true,
            None if table.is_dir() => {
                let problem = format!("it holds a directory that is not its own, {}", table.display());
                return Err(damaged(path, &problem));
            }
            None => {}
        }
    }
    if named && !list {
        return Err(damaged(path, "the list of its tables is missing"));
    }
    Ok(())
}

/// What cannot be listed is left to the database to complain about.
fn entries(dir: &Path) -> Vec<fs::DirEntry> {
    dir.read_dir()
        .map(|entries| entries.flatten().collect())
        .unwrap_or_default()
}
