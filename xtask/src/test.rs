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
    panic::resume_unwind,
    path::Path,
    process::{ExitCode, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use summary::Summary;

/// A fresh clone's whole run has to stay below this on two cores.
const BUDGET: Duration = Duration::from_secs(30 * 60);

/// How many parts run at a time: as many as the cores of the machine that the budget is for.
const LANES: usize = 2;

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
    let done = run_parts(root, &parts::choose(parts, options)?, options)?;
    Ok(report(&done, set_up, start.elapsed(), options.full))
}

/// A part's name, what its tests said, and how long it took.
type Done = (String, Summary, Duration);

/// Runs the parts in their order, [`LANES`] at a time: most of them wait for a server or a clock most of the time.
fn run_parts(root: &Path, parts: &[(Part, Option<&str>)], options: &Test) -> anyhow::Result<Vec<Done>> {
    let show = if parts.len() == 1 {
        Show::Lines
    } else {
        Show::Parts
    };
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut done = Vec::new();
        while let Some((part, filter)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            let summary = run_part(root, part, *filter, options, show)?;
            done.push((part.name.clone(), summary, began.elapsed()));
        }
        anyhow::Ok(done)
    };
    let mut done = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let ended = lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect::<anyhow::Result<Vec<_>>>()
    })?
    .concat();
    done.sort_by_key(|(name, ..)| parts.iter().position(|(part, _)| part.name == *name));
    Ok(done)
}

/// How a part's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Line by line as it comes: of the only part.
    Lines,
    /// The whole when the part has ended, so that those of two parts do not mix.
    Parts,
}

/// Runs one part and reads its output.
fn run_part(
    root: &Path,
    part: &Part,
    filter: Option<&str>,
    options: &Test,
    show: Show,
) -> anyhow::Result<Summary> {
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
    let mut held = format!("\n== {}\n", part.name);
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        summary.read(&line);
        held.push_str(&line);
        held.push('\n');
        if show == Show::Lines {
            print!("{}", std::mem::take(&mut held));
        }
    }
    print!("{held}");
    summary.end(child.wait()?);
    Ok(summary)
}

/// A line per part, what failed, and the sum as the last line.
fn report(done: &[Done], set_up: Duration, whole: Duration, full: bool) -> ExitCode {
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
