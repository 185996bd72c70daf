//! Signals to processes that a test started.

use crate::clock;
use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, path::Path, time::Duration};

/// Sends a signal. SIGSTOP returns once every thread has stopped: until one of them has taken it, which on a busy machine
/// takes a while, the others run on.
pub fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    kill(pid, signal).with_context(|| format!("send {signal} to process {pid}"))?;
    if signal != Signal::SIGSTOP {
        return Ok(());
    }
    let within = Duration::from_secs(10);
    match clock::poll(within, || all_stopped(pid).then_some(())) {
        Some(()) => Ok(()),
        None => bail!("process {pid} has not stopped within {within:?}"),
    }
}

/// A thread that ended meanwhile does not count; a process that ended has no thread that could be stopped.
fn all_stopped(pid: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| is_stopped(&thread.path()))
}

/// The state follows the name, which is in parentheses and may hold any character.
fn is_stopped(thread: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(thread.join("stat")) else {
        return true;
    };
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}
