//! SIGINT, SIGTERM and SIGHUP end a program by an error on its main thread, so that everything it made is dropped and so removed.

use anyhow::bail;
use nix::sys::signal::{SigSet, Signal};
use std::{
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// From now on the signals are taken by a thread of ours. Call it before any other thread is made: they inherit the
/// mask. Programs that we start do not (std resets it).
pub fn watch_for() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            CAUGHT.store(signal as i32, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// An error once a signal came.
pub fn check() -> anyhow::Result<()> {
    match caught() {
        Some(signal) => bail!("interrupted by {signal}"),
        None => Ok(()),
    }
}

/// The signal that came, if one did; the exit code is then 128 + its number.
pub fn caught() -> Option<Signal> {
    Signal::try_from(CAUGHT.load(Ordering::Relaxed)).ok()
}
