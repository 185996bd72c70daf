//! As many changes as the server takes, by us and by redis-benchmark in turn: the same script with arguments of the same sizes,
//! each call the beginning of a new room. The server is kept on one processor, and we on another, in one thread, as redis-benchmark
//! is: where they run would be seen more than what they do.

use crate::{
    bench::{Figure, Goal, stats::median},
    redis::Server,
    store_cases::change,
};
use anyhow::{Context, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};
use voice_agent::store::Redis;
use voice_room::record::Committed;

/// Each of both in turn; the figures are medians, that of the ratio of the rounds' ratios: a round takes a second and a half, and the
/// next may have more or less of this machine.
const ROUNDS: usize = 15;
const CHANGES: usize = 60_000;
/// On their way at one time, by us and by redis-benchmark: 50 connections, 16 commands on each.
const CONNECTIONS: usize = 50;
const PIPELINE: usize = 16;
/// This thread.
const HERE: Pid = Pid::from_raw(0);

pub(super) fn figures(server: &Server) -> anyhow::Result<Vec<Figure>> {
    let all = sched_getaffinity(HERE)?;
    let mut may = (0..CpuSet::count()).filter(|processor| all.is_set(*processor).unwrap_or(false));
    if let (Some(first), Some(second)) = (may.next(), may.next()) {
        server.keep_on(&only(first)?)?;
        // The processes that a thread starts are where it is. It ends with the figures.
        let measured = thread::scope(|scope| {
            scope
                .spawn(move || {
                    sched_setaffinity(HERE, &only(second)?)?;
                    measure(server)
                })
                .join()
        });
        let anywhere = server.keep_on(&all);
        let figures = measured.map_err(|_| anyhow::anyhow!("the measuring panicked"))??;
        anywhere?;
        Ok(figures)
    } else {
        measure(server)
    }
}

fn only(processor: usize) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(set)
}

fn measure(server: &Server) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let store = Redis::open(&server.config())?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (hash, call) = Redis::sample_call(&change("bench-000000000000")).map_err(anyhow::Error::msg)?;
    for _ in 0..ROUNDS {
        server.ask(&["FLUSHALL"])?;
        let by_us = runtime.block_on(by_us(&store))?;
        server.ask(&["FLUSHALL"])?;
        let by_them = by_redis_benchmark(server, &hash, &call)?;
        ours.push(by_us);
        theirs.push(by_them);
        ratios.push(by_us / by_them);
    }
    server.ask(&["FLUSHALL"])?;
    let (ours, theirs, ratio) = (median(&ours), median(&theirs), median(&ratios));
    Ok(vec![
        Figure::shown("cas_saturated_per_s", ours, "changes/s").beside(
            "redis-benchmark -P 16",
            theirs,
            ratio,
        ),
        Figure::with_goal(
            "cas_saturated_vs_redis_benchmark",
            ratio,
            "ratio",
            Goal::AtLeast(0.9),
        ),
    ])
}

/// By as many callers as there are calls on their way, each of which goes on when it is answered.
async fn by_us(store: &Redis) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let caller = || {
        let (store, next) = (store.clone(), next.clone());
        async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= CHANGES {
                    return anyhow::Ok(());
                }
                let answer = store.commit_once(change(&format!("bench-{n:012}"))).await?;
                ensure!(answer == Committed::Ok, "a new room was not begun: {answer:?}");
            }
        }
    };
    let callers: Vec<_> = (0..CONNECTIONS * PIPELINE)
        .map(|_| tokio::spawn(caller()))
        .collect();
    for caller in callers {
        caller.await??;
    }
    Ok(CHANGES as f64 / begin.elapsed().as_secs_f64())
}

/// `__rand_int__` makes each call's keys new; they need not fit together for the script's work to be the same.
fn by_redis_benchmark(server: &Server, hash: &str, call: &[String]) -> anyhow::Result<f64> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &server.port().to_string(), "-n", &CHANGES.to_string()]);
    command.args(["-c", &CONNECTIONS.to_string(), "-P", &PIPELINE.to_string()]);
    command.args(["-r", "1000000000", "--csv", "EVALSHA", hash]);
    command.args(
        call.iter()
            .map(|word| word.replace("000000000000", "__rand_int__")),
    );
    let out = command.output().context("run redis-benchmark")?;
    let said = String::from_utf8_lossy(&out.stdout);
    let line = said.lines().last().unwrap_or_default();
    // "EVALSHA …","41000.12","…": the command may hold quotes and commas of its own.
    let mut cells = line.rsplit("\",\"").map(|cell| cell.trim_matches('"'));
    let rate = cells.nth(6).and_then(|cell| cell.parse::<f64>().ok());
    let events = server.ask(&["EVAL", "local n = 0 for i = 0, 63 do n = n + redis.call('XLEN', string.format('{v%02d}:events', i)) end return n", "0"])?;
    let done: usize = events.trim().parse()?;
    ensure!(
        done * 100 >= CHANGES * 99,
        "redis-benchmark made {done} of {CHANGES} changes: {said}"
    );
    rate.with_context(|| format!("redis-benchmark said {line}"))
}
