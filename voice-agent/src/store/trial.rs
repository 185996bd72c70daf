//! Opens and reads a database in a process of its own before this one does: over damage fjall may panic with locks held or
//! ask for more memory than there is, and either aborts the process.

use super::{StoreError, aside, disk::fault};
use std::{path::Path, process::Stdio};
use tokio::process::Command;
use voice_history::DiskError;

/// This program, also after its file was replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";
/// The hidden command of the child.
pub const COMMAND: &str = "try-database";

/// What the child says.
const SOUND: &str = "sound";
const DAMAGED: &str = "damaged: ";
const REFUSED: &str = "refused: ";

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Database {
    /// The embedded store.
    Rooms,
    /// The journal.
    Journal,
    /// Snapshots of rooms.
    History,
}

impl Database {
    /// Its name, and that of its directory below the state directory.
    pub fn name(self) -> &'static str {
        match self {
            Database::Rooms => "rooms",
            Database::Journal => "journal",
            Database::History => "history",
        }
    }
}

/// In the child: tries the database, and says how it went, in a line.
pub async fn verdict(which: Database, path: &Path) -> String {
    let tried = match which {
        Database::Rooms => match aside::open_store(path).await {
            Ok((store, _)) => store.close().await,
            Err(error) => Err(error),
        },
        Database::Journal => match aside::open_journal(path).await {
            Ok((journal, _)) => journal.close().await,
            Err(error) => Err(error),
        },
        Database::History => voice_history::try_open(path).map_err(|error| match error {
            DiskError::Unavailable(problem) => StoreError::Unavailable(problem),
            DiskError::Damaged(problem) => StoreError::Damaged(problem),
        }),
    };
    match tried {
        Ok(()) => format!("{SOUND}\n"),
        Err(StoreError::Damaged(problem)) => format!("{DAMAGED}{problem}\n"),
        Err(other) => format!("{REFUSED}{other}\n"),
    }
}

/// Whether the database at `path` can be opened and read, tried by `program`. What is not there yet can.
///
/// # Errors
/// [`StoreError::Damaged`], also when the child died over it; [`StoreError::Unavailable`] with the child's words.
pub async fn passes(program: &Path, which: Database, path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    fault::untold(path)?;
    let mut child = Command::new(program);
    child.arg(COMMAND).arg(which.name()).arg(path);
    child.stdin(Stdio::null()).kill_on_drop(true);
    let said = match child.output().await {
        Ok(said) => said,
        Err(error) => {
            // Then it is opened without: only damage that aborts is not survived.
            tracing::warn!(program = %program.display(), %error, "the databases cannot be tried in a process of their own");
            return Ok(());
        }
    };
    let (line, complaint) = (first_line(&said.stdout), first_line(&said.stderr));
    if line == SOUND {
        Ok(())
    } else if let Some(problem) = line.strip_prefix(DAMAGED) {
        Err(StoreError::Damaged(problem.into()))
    } else if let Some(problem) = line.strip_prefix(REFUSED) {
        Err(StoreError::Unavailable(problem.into()))
    } else {
        let status = said.status;
        Err(fault::damaged(
            path,
            &format!("who reads it dies ({status}): {complaint}"),
        ))
    }
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}
