//! What a bench is doing, on standard error: standard output is for the result.

use std::time::Instant;

/// Does `work`, with a line before and the time it took after.
pub(super) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    crate::interrupt::check()?;
    let begin = Instant::now();
    eprintln!("..   {what}");
    let done = work()?;
    eprintln!("ok   {what} ({:.1} s)", begin.elapsed().as_secs_f64());
    Ok(done)
}
