//! One agent per state directory and per pin directory. The locks are held by the kernel for this process and end with
//! it, however it ends.

use crate::config::Paths;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A longer lock file is not read to its end.
const MAX_BYTES: u64 = 16 * 1024;

/// Why this agent may not run.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has the state directory.
    #[error(
        "another agent runs on {}: {first}; stop it, or give this one a name of its own with node.instance",
        .dir.display()
    )]
    Held {
        /// The state directory.
        dir: PathBuf,
        /// The one that runs.
        first: Holder,
    },
    /// Another agent, with another state directory, has the pin directory.
    #[error(
        "another agent, with another paths.state, uses the pins in {}; stop it, or give this one a name of its own with \
         node.instance",
        .dir.display()
    )]
    PinsHeld {
        /// The pin directory.
        dir: PathBuf,
    },
    /// The disk.
    #[error("cannot lock {}: {problem}", .path.display())]
    Io {
        /// What was tried on.
        path: PathBuf,
        /// What went wrong.
        problem: io::Error,
    },
}

/// The agent that holds a lock, as it wrote of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// When it started, as RFC 3339.
    pub started: String,
    /// Its command line.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pid {}, started {}, {:?}",
            self.pid, self.started, self.command
        )
    }
}

/// The locks. Held until dropped.
#[derive(Debug)]
#[must_use = "the locks end when this is dropped"]
pub struct AgentLock {
    _state: Flock<File>,
    _pins: Option<Flock<File>>,
}

impl AgentLock {
    /// Makes the state directory if need be and locks it, then the pin directory if it can be made (else the kernel
    /// adapter will say what is wrong with it).
    ///
    /// # Errors
    /// [`LockError::Held`] and [`LockError::PinsHeld`] when another agent runs there.
    pub fn acquire(paths: &Paths) -> Result<AgentLock, LockError> {
        let state = lock_state(&paths.state)?;
        Ok(AgentLock {
            _state: state,
            _pins: lock_pins(&paths.pin_root())?,
        })
    }

    /// Locks the state directory alone, for who only looks into it.
    ///
    /// # Errors
    /// [`LockError::Held`] when an agent runs there.
    pub fn state_only(dir: &Path) -> Result<AgentLock, LockError> {
        Ok(AgentLock {
            _state: lock_state(dir)?,
            _pins: None,
        })
    }
}

fn lock_state(dir: &Path) -> Result<Flock<File>, LockError> {
    let path = dir.join("lock");
    let io = |problem| LockError::Io {
        path: path.clone(),
        problem,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(io)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(&path).map_err(io)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            sign(&mut lock).map_err(io)?;
            Ok(lock)
        }
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Held {
            dir: dir.into(),
            first: signature(file),
        }),
        Err((_, errno)) => Err(io(errno.into())),
    }
}

/// bpffs takes no ordinary files, so the directory itself is locked.
fn lock_pins(dir: &Path) -> Result<Option<Flock<File>>, LockError> {
    if fs::create_dir_all(dir).is_err() {
        return Ok(None);
    }
    let io = |problem| LockError::Io {
        path: dir.into(),
        problem,
    };
    match Flock::lock(File::open(dir).map_err(io)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::PinsHeld { dir: dir.into() }),
        Err((_, errno)) => Err(io(errno.into())),
    }
}

/// Writes who we are into the lock file, for the one that comes second.
fn sign(file: &mut File) -> io::Result<()> {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let holder = Holder {
        pid: std::process::id(),
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: args.join(" "),
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&holder)?)
}

/// Who holds the lock. What is not readable is said to be unknown: the lock holds all the same.
fn signature(file: File) -> Holder {
    let mut text = String::new();
    let read = file.take(MAX_BYTES).read_to_string(&mut text);
    let holder = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    holder.unwrap_or(Holder {
        pid: 0,
        started: "at an unknown time".into(),
        command: "unknown: it has not written its name yet".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path, state: &str) -> Paths {
        Paths {
            state: dir.join(state),
            run: dir.join("run"),
            bpffs: dir.join("pins"),
        }
    }

    #[test]
    fn a_second_agent_is_refused_and_told_of_the_first_until_that_one_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path(), "state");
        let first = AgentLock::acquire(&paths).unwrap();
        let refused = AgentLock::acquire(&paths).unwrap_err();
        let LockError::Held { first: holder, .. } = &refused else {
            panic!("{refused}")
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(holder.command.contains("voice_agent"), "{}", holder.command);
        assert!(humantime::parse_rfc3339(&holder.started).is_ok());
        assert!(refused.to_string().contains(&format!("pid {}", holder.pid)));
        drop(first);
        drop(AgentLock::acquire(&paths).unwrap());
    }

    #[test]
    fn two_agents_with_their_own_state_do_not_share_pins() {
        let dir = tempfile::tempdir().unwrap();
        let _first = AgentLock::acquire(&paths(dir.path(), "a")).unwrap();
        let refused = AgentLock::acquire(&paths(dir.path(), "b")).unwrap_err();
        assert!(matches!(refused, LockError::PinsHeld { .. }), "{refused}");
    }

    #[test]
    fn a_lock_file_left_by_a_dead_agent_with_garbage_in_it_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path(), "state");
        fs::create_dir_all(&paths.state).unwrap();
        fs::write(paths.state.join("lock"), [0xff; 40_000]).unwrap();
        let _first = AgentLock::acquire(&paths).unwrap();
        let LockError::Held { first, .. } = AgentLock::acquire(&paths).unwrap_err() else {
            panic!()
        };
        assert_eq!(first.pid, std::process::id());
    }

    #[test]
    fn a_state_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let refused = AgentLock::acquire(&paths(&dir.path().join("file"), "state")).unwrap_err();
        assert!(refused.to_string().contains("file/state"), "{refused}");
    }
}
