//! `cargo xtask test`: sets up, builds everything once, runs each part, and adds up.
//!
//! One build for all parts, and the test binaries run by us: `cargo test -p` by part would unite features anew for
//! each and build the dependencies several times.

mod parts;
mod summary;

use crate::{
    args::Test,
    build_ebpf, command, dist,
    progress::{Progress, seconds},
    setup,
};
use anyhow::Context;
use parts::Part;
use std::{
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};
use summary::Summary;

/// A fresh clone's whole run has to stay below this on two cores.
const BUDGET: Duration = Duration::from_secs(30 * 60);

/// The last line is `N passed, N failed`; the exit code says the same.
pub(crate) fn run(root: &Path, progress: &Progress, options: &Test) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let needs: &[_] = if options.full {
        &[setup::TEST, setup::JANUS, setup::FULL]
    } else {
        &[setup::TEST, setup::JANUS]
    };
    setup::packages(progress, needs)?;
    setup::require_root("test")?;
    setup::python::ensure(root, progress)?;
    setup::rotel::ensure(root, progress)?;
    build_ebpf(root, progress)?;
    let mut parts = progress.section("agent and tests", || parts::build(root))?;
    parts.push(Part::docs(root));
    if options.full {
        dist::run(root, progress)?;
    }
    let set_up = start.elapsed();
    let mut done = Vec::new();
    for (part, filter) in parts::choose(parts, options)? {
        println!("\n== {}", part.name);
        let began = Instant::now();
        let summary = run_part(root, &part, filter, options)?;
        done.push((part.name, summary, began.elapsed()));
    }
    Ok(report(&done, set_up, start.elapsed(), options.full))
}

/// Runs one part, its output shown as it comes.
fn run_part(root: &Path, part: &Part, filter: Option<&str>, options: &Test) -> anyhow::Result<Summary> {
    let mut command = part.command(if options.full { 4 * BUDGET } else { BUDGET });
    // Else the tests would build it themselves, with other features, and the dependencies once more.
    command.env("XTASK_VOICE_AGENT", command::built(root, "voice-agent"));
    command
        .args(filter)
        .args(part.serial.then_some("--test-threads=1"));
    command
        .args(options.full.then_some("--include-ignored"))
        .args(&options.extra);
    if std::io::stdout().is_terminal() {
        command.arg("--color=always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let output = child
        .stdout
        .take()
        .context("no standard output, although it was asked for")?;
    let mut summary = Summary::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        summary.read(&line);
    }
    summary.end(child.wait()?);
    Ok(summary)
}

/// A line per part, what failed, and the sum as the last line.
fn report(done: &[(String, Summary, Duration)], set_up: Duration, whole: Duration, full: bool) -> ExitCode {
    println!("\n{:<28} {:>8}", "set-up and build", seconds(set_up));
    let mut sum = Summary::default();
    for (name, summary, took) in done {
        let word = if summary.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "{name:<28} {:>8}  {:>4} passed, {} failed  {word}",
            seconds(*took),
            summary.passed,
            summary.failed
        );
        sum.add(summary);
    }
    for problem in &sum.problems {
        println!("failed: {problem}");
    }
    println!("{:<28} {:>8}", "whole", seconds(whole));
    if whole > BUDGET && !full {
        println!(
            "longer than the {} minutes that a whole run may take",
            BUDGET.as_secs() / 60
        );
    }
    if sum.ignored > 0 {
        println!("{} left to --full", sum.ignored);
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
