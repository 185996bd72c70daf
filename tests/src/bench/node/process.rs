//! What a process uses, as /proc has it.

use anyhow::Context;
use nix::unistd::Pid;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Of one process at one time.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Usage {
    pub(in crate::bench) at: Instant,
    /// CPU time of its threads that live.
    pub(in crate::bench) cpu: Duration,
    pub(in crate::bench) rss_mib: f64,
}

impl Usage {
    pub(in crate::bench) fn of(pid: Pid) -> anyhow::Result<Usage> {
        let mut cpu = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread that ended since is gone with its time.
            if let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) {
                cpu += on_cpu(&stat).with_context(|| format!("schedstat says {stat:?}"))?;
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Usage {
            at: Instant::now(),
            cpu,
            rss_mib: rss_mib(&status).context("no VmRSS in /proc/PID/status")?,
        })
    }
}

/// The first word: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(
        schedstat.split_whitespace().next()?.parse().ok()?,
    ))
}

fn rss_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        assert_eq!(on_cpu("1500000000 20 3\n"), Some(Duration::from_millis(1500)));
        assert_eq!(on_cpu(""), None);
        assert_eq!(rss_mib("VmHWM:\t 4096 kB\nVmRSS:\t    2048 kB\n"), Some(2.0));
        assert_eq!(rss_mib("VmHWM:\t 4096 kB\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of(Pid::this()).unwrap().rss_mib > 0.0);
    }
}
