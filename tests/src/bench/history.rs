//! The history on disk with 10,000 rooms: what a snapshot costs in CPU and bytes, and what questions cost over ten million of
//! them. No clock is waited for: ticks of 5 s are given one after the other, and the CPU they took is set against 5 s each.

mod rooms;

use super::{
    Figure, Goal,
    progress::step,
    stats::{median, quantile},
};
use anyhow::{Context, ensure};
use nix::time::{ClockId, clock_gettime};
use rooms::Rooms;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};
use voice_history::{Embedded, PathQuestion, Question, Range, Reader, Settings};
use voice_room::Wall;

const ROOMS: usize = 10_000;
/// Ten million snapshots.
const TICKS: u64 = 1_000;
const QUESTIONS: u64 = 1_000;
const TICK: Duration = Duration::from_secs(5);

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let (still, moving) = (dir.path().join("still"), dir.path().join("moving"));
    let unchanged = step("10,000 rooms that do not change, 1,000 ticks", || {
        fill(&still, &mut Rooms::still(ROOMS)).map(|filled| filled.bytes)
    })?;
    let before = rss_mib()?;
    let filled = step(
        "10,000 rooms with media, 1,000 ticks: ten million snapshots",
        || fill(&moving, &mut Rooms::moving(ROOMS)),
    )?;
    let history = opened(&moving)?;
    let reader = history.reader();
    let (room, path) = step("questions", || Ok((ask_rooms(&reader)?, ask_paths(&reader)?)))?;
    let core = 100.0 * filled.cpu.as_secs_f64() / (TICK.as_secs_f64() * TICKS as f64);
    Ok(vec![
        Figure::with_goal("snapshot_cpu_percent", core, "% of one core", Goal::AtMost(5.0)),
        Figure::with_goal("snapshot_bytes_unchanged", unchanged, "bytes", Goal::AtMost(8.0)),
        Figure::with_goal("snapshot_bytes_moving", filled.bytes, "bytes", Goal::AtMost(24.0)),
        Figure::with_goal(
            "query_room_p99_ms",
            quantile(&room, 0.99),
            "ms",
            Goal::AtMost(100.0),
        ),
        Figure::shown("query_room_p50_ms", median(&room), "ms"),
        Figure::with_goal(
            "query_path_p99_ms",
            quantile(&path, 0.99),
            "ms",
            Goal::AtMost(100.0),
        ),
        Figure::shown("query_path_p50_ms", median(&path), "ms"),
        Figure::shown("tick_written_p99_ms", quantile(&filled.ticks, 0.99), "ms"),
        Figure::shown("history_rss_mib", filled.rss - before, "MiB"),
        Figure::shown("history_disk_mib", filled.disk, "MiB"),
    ])
}

/// What filling a history cost.
struct Filled {
    /// Of the whole process, without the making of the snapshots.
    cpu: Duration,
    /// A snapshot's in tables, open blocks closed.
    bytes: f64,
    /// Each tick's, ms.
    ticks: Vec<f64>,
    /// At the end, MiB.
    rss: f64,
    /// With journals and what is open, MiB.
    disk: f64,
}

fn fill(path: &Path, rooms: &mut Rooms) -> anyhow::Result<Filled> {
    let mut history = opened(path)?;
    let (begun, mut made, mut ticks) = (
        cpu(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
        Duration::ZERO,
        Vec::new(),
    );
    for _ in 0..TICKS {
        let before = cpu(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let tick = rooms.tick();
        made += cpu(ClockId::CLOCK_THREAD_CPUTIME_ID)?.saturating_sub(before);
        let begin = Instant::now();
        history.take(tick)?;
        ticks.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = cpu(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.saturating_sub(begun + made);
    let (rss, disk) = (rss_mib()?, bytes_below(path)? as f64 / f64::from(1 << 20));
    history.close()?;
    // A start closes what is open.
    opened(path)?.close()?;
    let bytes = bytes_below(&path.join("keyspaces"))? as f64 / (ROOMS as u64 * TICKS) as f64;
    Ok(Filled {
        cpu,
        bytes,
        ticks,
        rss,
        disk,
    })
}

fn opened(path: &Path) -> anyhow::Result<Embedded> {
    let mut history = Embedded::new(Settings {
        path: path.into(),
        max_age: Duration::from_secs(7 * 86_400),
        max_bytes: 16 << 30,
        reserve: 0,
    });
    history.open()?;
    Ok(history)
}

/// An hour of a room, for as many rooms; ms each.
fn ask_rooms(reader: &Reader) -> anyhow::Result<Vec<f64>> {
    let ask = |n: u64| {
        let from = rooms::START + n * 7919 % TICKS * 1000;
        let question = Question {
            room: rooms::room(usize::try_from(n * 104_729)? % ROOMS)?,
            range: Range {
                from: Wall(from),
                to: Wall(from + 3_600_000),
            },
            limit: voice_history::MAX_PAGE,
            points: None,
            after: None,
        };
        let begin = Instant::now();
        let answer = reader.room(&question)?;
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        ensure!(
            answer.snapshots.len() > 500,
            "{} snapshots of an hour",
            answer.snapshots.len()
        );
        Ok(ms)
    };
    (0..QUESTIONS).map(ask).collect()
}

/// A hundred rooms that went a way of one leg, or of two, in ten minutes or in all of the time; ms each.
fn ask_paths(reader: &Reader) -> anyhow::Result<Vec<f64>> {
    let ask = |n: u64| {
        let from = rooms::START + n * 7919 % TICKS * 4000;
        let to = if n.is_multiple_of(3) {
            u64::MAX
        } else {
            from + 600_000
        };
        let path = if n.is_multiple_of(2) {
            "LIVEING>EXPIRED"
        } else {
            "LIVEING>EXPIRED>LIVEING"
        };
        let question = PathQuestion {
            path: path.parse()?,
            range: Range {
                from: Wall(from),
                to: Wall(to),
            },
            limit: 100,
            after: None,
        };
        let begin = Instant::now();
        let page = reader.path(&question)?;
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        ensure!(!page.trips.is_empty(), "no room went {path}");
        Ok(ms)
    };
    (0..QUESTIONS).map(ask).collect()
}

fn cpu(clock: ClockId) -> anyhow::Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

/// Resident memory of this process.
fn rss_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.trim().split(' ').next())
        .context("no VmRSS in /proc/self/status")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// What files take on the disk: those that were made longer than they are written count as written.
fn bytes_below(path: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += if found.is_dir() {
            bytes_below(&entry.path())?
        } else {
            found.blocks() * 512
        };
    }
    Ok(bytes)
}
