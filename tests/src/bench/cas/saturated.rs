//! As many changes as the server takes, by us and by redis-benchmark in turn: the same script with arguments of the same sizes,
//! each call the beginning of a new room.

use crate::{
    bench::{Figure, Goal, stats::median},
    redis::Server,
    store_cases::change,
};
use anyhow::{Context, ensure};
use futures::{StreamExt, stream::iter};
use std::{process::Command, time::Instant};
use tokio::runtime::Runtime;
use voice_agent::store::Redis;
use voice_room::record::Committed;

/// Each of both in turn; the figures are medians, that of the ratio of the rounds' ratios: a round takes a second and a half, and the
/// next may have more or less of this machine.
const ROUNDS: usize = 9;
const CHANGES: usize = 60_000;
/// On their way at one time, by us and by redis-benchmark: 50 connections, 16 commands on each.
const CONNECTIONS: usize = 50;
const PIPELINE: usize = 16;

pub(super) fn figures(server: &Server, store: &Redis, runtime: &Runtime) -> anyhow::Result<Vec<Figure>> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (hash, call) = Redis::sample_call(&change("bench-000000000000")).map_err(anyhow::Error::msg)?;
    for _ in 0..ROUNDS {
        server.ask(&["FLUSHALL"])?;
        let by_us = runtime.block_on(by_us(store))?;
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

async fn by_us(store: &Redis) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let changes = (0..CHANGES).map(|n| change(&format!("bench-{n:012}")));
    // In tasks, as the agent has them.
    let mut answers = iter(changes)
        .map(|change| {
            let store = store.clone();
            tokio::spawn(async move { store.commit_once(change).await })
        })
        .buffer_unordered(CONNECTIONS * PIPELINE);
    while let Some(answer) = answers.next().await {
        let answer = answer??;
        ensure!(answer == Committed::Ok, "a new room was not begun: {answer:?}");
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
