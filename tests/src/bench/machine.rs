//! Where a bench ran: a figure means little without it.

use anyhow::Context;
use serde::Serialize;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

/// The machine, and what was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's own name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// All memory.
    pub memory_mib: u64,
    /// Its release.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// The commit; with `+` when files were changed since.
    pub commit: String,
    /// When, UTC.
    pub date: String,
}

impl Machine {
    /// This one, now.
    pub(super) fn here() -> anyhow::Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let now = SystemTime::UNIX_EPOCH
            + Duration::from_secs(
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)?
                    .as_secs(),
            );
        let changed = !said("git", &["status", "--porcelain"])?.is_empty();
        let commit = said("git", &["rev-parse", "--short=12", "HEAD"])?;
        Ok(Machine {
            cpu: value(&read("/proc/cpuinfo")?, "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory_mib(&read("/proc/meminfo")?),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().into(),
            rustc: said("rustc", &["--version"])?,
            commit: if changed { commit + "+" } else { commit },
            date: humantime::format_rfc3339_seconds(now).to_string(),
        })
    }
}

/// The value of `key : value` in a file of /proc.
fn value(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(k, _)| k.trim() == key);
    found.map(|(_, value)| value.trim().to_owned())
}

fn memory_mib(meminfo: &str) -> u64 {
    let total = value(meminfo, "MemTotal").unwrap_or_default();
    let kib = total.split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// What a command of the workspace says; empty where it is not there (a source archive has no git).
fn said(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(output) = Command::new(program).args(args).current_dir(root).output() else {
        return Ok(String::new());
    };
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU: fast\n";
        assert_eq!(value(cpuinfo, "model name").as_deref(), Some("A CPU: fast"));
        assert_eq!(value(cpuinfo, "bogomips"), None);
        assert_eq!(memory_mib("MemTotal:       24685568 kB\nMemFree: 1 kB\n"), 24107);
        assert_eq!(memory_mib("nonsense"), 0);
    }

    #[test]
    fn this_machine_has_a_kernel_a_compiler_and_cores() {
        let here = Machine::here().unwrap();
        assert!(
            here.cores > 0 && here.memory_mib > 0 && !here.kernel.is_empty(),
            "{here:?}"
        );
        assert!(here.date.ends_with('Z'), "{here:?}");
    }
}
