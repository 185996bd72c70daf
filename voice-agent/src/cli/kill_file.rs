//! The kill-switch file `paths.run/kill-switch`. While it exists, an agent keeps the kill switch on. Here it is written when
//! no agent is there to do it; the kernel's own word is written elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file's name in `paths.run`.
const NAME: &str = "kill-switch";

/// Why the file could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("kill-switch file {path}: {tried}: {source}")]
pub(super) struct KillFileError {
    path: PathBuf,
    tried: &'static str,
    /// What the system said.
    pub(super) source: io::Error,
}

/// Where it lies.
fn path(run: &Path) -> PathBuf {
    run.join(NAME)
}

/// Whether it exists. A file that cannot be looked at counts as there: off must be certain.
pub(super) fn is_on(run: &Path) -> bool {
    path(run).try_exists().unwrap_or(true)
}

/// Writes the file, with a line saying who turned the switch, or removes it. Doing it again is no error.
pub(super) fn turn(run: &Path, on: bool, who: &str) -> Result<(), KillFileError> {
    let path = path(run);
    let done = if on {
        let text = format!(
            "on, by {who}, {}\n",
            humantime::format_rfc3339_seconds(std::time::SystemTime::now())
        );
        fs::create_dir_all(run).and_then(|()| fs::write(&path, text))
    } else {
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    };
    let tried = if on { "writing" } else { "removing" };
    done.map_err(|source| KillFileError { path, tried, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_while_the_switch_is_on_and_turning_it_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert!(!is_on(&run));
        turn(&run, false, "a test").unwrap();
        turn(&run, true, "a test").unwrap();
        turn(&run, true, "a test").unwrap();
        assert!(is_on(&run));
        assert!(
            fs::read_to_string(path(&run))
                .unwrap()
                .starts_with("on, by a test, ")
        );
        turn(&run, false, "a test").unwrap();
        assert!(!is_on(&run));
    }
}
