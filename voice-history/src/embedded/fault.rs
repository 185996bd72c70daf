//! What an error of the database means: something that may pass, or damage, which lies on the disk and stays. A damaged
//! database is kept under another name, and a new one begun.

use fjall::{Error, LsmError};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why the database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// It may be mended, or pass: a full disk, a permission, another process.
    #[error("{0}")]
    Unavailable(String),
    /// What is on the disk is damaged.
    #[error("{0}")]
    Damaged(String),
}

impl DiskError {
    /// An error while doing `what`.
    pub(super) fn of(what: impl std::fmt::Display, error: &Error) -> DiskError {
        let text = format!("cannot {what}: {error}");
        if is_damage(error) {
            DiskError::Damaged(text)
        } else {
            DiskError::Unavailable(text)
        }
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
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::UnexpectedEof
            | K::InvalidData
            | K::InvalidInput
            | K::NotFound
            | K::AlreadyExists
            | K::IsADirectory
            | K::NotADirectory
    )
}

/// Keeps a damaged database as `PATH.damaged`, in place of the one before: histories are large.
///
/// # Errors
/// It cannot be renamed.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let aside = PathBuf::from(name);
    match fs::symlink_metadata(&aside) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&aside)?,
        Ok(_) => fs::remove_file(&aside)?,
        Err(_) => {}
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}
