//! Whose the files in the state directory are, and who else may touch them. One that somebody made as another user stops a
//! start, or the first write after it.

use super::{Finding, as_agent::as_agent};
use nix::unistd::{AccessFlags, access, geteuid};
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const CHECK: &str = "state files";
/// Files that are looked at; a state directory has some dozens.
const MOST: usize = 10_000;
/// Directories within each other; ours are three.
const DEEPEST: usize = 8;
/// Writable by the group or by others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// One file or directory.
#[derive(Debug, Clone)]
struct Owned {
    path: PathBuf,
    owner: u32,
    mode: u32,
    /// Whether the agent can read and write it.
    usable: bool,
}

/// `None`: the directory is not there yet.
pub(super) fn check(state: &Path) -> Option<Finding> {
    if !state.exists() {
        return None;
    }
    let mut all = Vec::new();
    let read = as_agent(|| collect(state, 0, &mut all));
    Some(match read {
        Ok(()) => judge(state, &all, geteuid().as_raw()),
        Err(e) => Finding::fail(
            CHECK,
            format!("cannot be listed as the agent would: {e}"),
            format!("chown -R the agent's user: {}", state.display()),
        ),
    })
}

fn collect(dir: &Path, depth: usize, all: &mut Vec<Owned>) -> Result<(), String> {
    let named = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    for entry in fs::read_dir(dir).map_err(|e| named(dir, e))? {
        if all.len() >= MOST {
            return Ok(());
        }
        let path = entry.map_err(|e| named(dir, e))?.path();
        let meta = match fs::symlink_metadata(&path) {
            // A live agent removes files of its databases at any time.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(|e| named(&path, e))?,
        };
        let usable = meta.is_symlink() || access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
        let go_on = meta.is_dir() && usable && depth < DEEPEST;
        all.push(Owned {
            path: path.clone(),
            owner: meta.uid(),
            mode: meta.mode() & 0o7777,
            usable,
        });
        if go_on {
            collect(&path, depth + 1, all)?;
        }
    }
    Ok(())
}

/// `me` is the user the agent runs as.
fn judge(state: &Path, all: &[Owned], me: u32) -> Finding {
    let shown = |file: &Owned| {
        let name = file.path.strip_prefix(state).unwrap_or(&file.path).display();
        format!("{name} (owner uid {}, mode {:04o})", file.owner, file.mode)
    };
    let state = state.display();
    let of = |bad: fn(&Owned, u32) -> bool| {
        let bad: Vec<&Owned> = all.iter().filter(|file| bad(file, me)).collect();
        let first = bad.first().map(|file| shown(file))?;
        Some(match bad.len() {
            1 => first,
            n => format!("{first} and {} more", n - 1),
        })
    };
    if let Some(which) = of(|file, _| !file.usable) {
        let advice = format!(
            "chown -R {me} {state} and chmod -R u+rwX {state}: the agent has no CAP_DAC_OVERRIDE, and does not start or cannot store"
        );
        return Finding::fail(CHECK, format!("the agent cannot read and write {which}"), advice);
    }
    if let Some(which) = of(|file, me| file.owner != me) {
        let advice = format!(
            "chown -R {me} {state}: it works as long as the modes let it, and its owner can change what is stored"
        );
        return Finding::warn(CHECK, format!("not the agent's (uid {me}): {which}"), advice);
    }
    if let Some(which) = of(|file, _| file.mode & WRITABLE_BY_OTHERS != 0) {
        let advice = format!("chmod -R go-w {state}: whoever writes there decides what a restart believes");
        return Finding::warn(CHECK, format!("others may write {which}"), advice);
    }
    Finding::ok(
        CHECK,
        format!("{} files and directories, the agent's alone to write", all.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    /// A state directory with a database in it; its path, and that of one file of the database.
    fn state() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rooms/0.jnl");
        fs::create_dir(dir.path().join("rooms")).unwrap();
        fs::write(&file, "x").unwrap();
        for path in [dir.path().join("rooms"), file.clone()] {
            let mode = if path.is_dir() { 0o750 } else { 0o640 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        (dir, file)
    }

    #[test]
    fn files_that_are_the_agents_own_are_fine_and_a_directory_to_come_is_nothing_to_say_about() {
        let (dir, _) = state();
        let found = check(dir.path()).unwrap();
        assert_eq!(found.level, Level::Ok, "{}", found.said);
        assert_eq!(check(&dir.path().join("not there")), None);
    }

    #[test]
    fn a_file_that_others_may_write_warns_with_its_mode() {
        let (dir, file) = state();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let found = check(dir.path()).unwrap();
        assert_eq!(found.level, Level::Warn);
        assert!(
            found.said.contains("rooms/0.jnl") && found.said.contains("mode 0666"),
            "{}",
            found.said
        );
        assert!(found.advice.unwrap().contains("chmod -R go-w"));
    }

    #[test]
    fn a_foreign_owned_database_file_fails_unless_the_agent_can_use_it_all_the_same() {
        let me = geteuid().as_raw();
        let (dir, file) = state();
        if me != 0 {
            return; // Only root can give files away.
        }
        chown(&file, Some(12_345), None).unwrap();
        let found = check(dir.path()).unwrap();
        assert_eq!(found.level, Level::Fail, "{}", found.said);
        assert!(
            found.said.contains("rooms/0.jnl (owner uid 12345, mode 0640)"),
            "{}",
            found.said
        );
        assert!(
            found
                .advice
                .unwrap()
                .contains(&format!("chown -R 0 {}", dir.path().display()))
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
        let found = check(dir.path()).unwrap();
        assert_eq!(found.level, Level::Warn, "the group is root's: {}", found.said);
    }
}
