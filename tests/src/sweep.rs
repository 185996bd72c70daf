//! Names that carry the pid of the process that made them, and the removal of what a killed run left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// What the name of everything we make begins with; the pid follows.
pub const PREFIX: &str = "vl";

/// A name no other process and no other call uses: `vl-PID-COUNT`. At most 13 characters, so that two more make an
/// interface name.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{count}", std::process::id())
}

/// Removes namespaces and scratch directories whose maker is dead, with the processes still in them. Once a process.
pub fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in stale(Path::new("/run/netns")) {
            kill_all_in(&name);
            quiet(&["ip", "netns", "del", &name]);
        }
        for name in stale(&std::env::temp_dir()) {
            let dir = std::env::temp_dir().join(name);
            unmount_below(&dir);
            let _ = fs::remove_dir_all(&dir);
        }
    });
}

/// Our names in `dir` whose maker is dead.
fn stale(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names
        .filter(|n| maker(n).is_some_and(|pid| !alive(pid)))
        .collect()
}

fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?
        .strip_prefix('-')?
        .split('-')
        .next()?
        .parse()
        .ok()
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Kills what a dead run left in its own namespace. Nothing else can be in there: the name was ours.
fn kill_all_in(netns: &str) {
    let Ok(out) = Command::new("ip").args(["netns", "pids", netns]).output() else {
        return;
    };
    for pid in String::from_utf8_lossy(&out.stdout).split_whitespace() {
        quiet(&["kill", "-KILL", pid]);
    }
}

/// Unmounts every file system below `dir`, deepest first.
pub(crate) fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|p| p.starts_with(dir)).collect();
    below.sort();
    for point in below.iter().rev() {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Runs a command whose failure does not matter here.
fn quiet(argv: &[&str]) {
    if let Some((program, args)) = argv.split_first() {
        let _ = Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker_and_foreign_names_tell_none() {
        assert_eq!(maker(&format!("{}-a-b", unique())), Some(std::process::id()));
        assert_eq!(maker("vl-x-1"), None);
        assert_eq!(maker("vlor-1-1"), None);
        assert_eq!(maker("hs1"), None);
    }

    #[test]
    fn only_names_of_dead_makers_are_stale() {
        let dir = tempfile::tempdir().unwrap();
        let dead = format!("{PREFIX}-{}-0-x", i32::MAX);
        for name in [&unique(), &dead, "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(stale(dir.path()), [dead]);
    }
}
