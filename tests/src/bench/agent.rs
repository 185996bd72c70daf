//! An agent with 10,000 live rooms and all that is on by default: heartbeats and snapshots every 5 s, patrol every 30 s. What it
//! takes of the machine, how long a round of patrol takes, and for how long the driver was busy at one go meanwhile. The goals
//! are of issue 6. The same round with Redis and etcd beside it, on the same two cores.

use super::{
    Figure, Goal,
    node::{process::Usage, servers::Server},
    progress::step,
};
use crate::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::Commons,
    files::allow_files,
    metrics,
    netns::{Netns, Pair},
};
use anyhow::{Context, ensure};
use std::{thread, time::Duration};

const ROOMS: u32 = 10_000;
/// Media servers; each lists its rooms in one heartbeat.
const SERVERS: u32 = 4;
/// The CPU figure is over so long: twelve heartbeats, two rounds of patrol.
const WATCHED: Duration = Duration::from_secs(60);
/// Looks of which the slowest is shown.
const LOOKS: usize = 5;
/// Claims, and telling etcd of every room, which takes its time on purpose.
const SETTLED: Duration = Duration::from_secs(120);

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    allow_files(u64::from(ROOMS) + 2000)?;
    let mut figures = alone()?;
    figures.extend(shared()?);
    Ok(figures)
}

/// With nothing but its own disk.
fn alone() -> anyhow::Result<Vec<Figure>> {
    let pair = Pair::new()?;
    let agent = step("agent", || Agent::start(&pair.node, &settings()))?;
    let _servers = step("10,000 live rooms", || go_live(&pair.node, &agent))?;
    step("two rounds of patrol", || rounds(&pair.node, 2))?;
    let usage = step("60 s of heartbeats, snapshots and patrol", || watch(&agent))?;
    let page = metrics::page(&pair.node, "/metrics")?;
    let ms = |series: &str| seconds(&page, series).map(|s| s * 1e3);
    let round = ms("voice_agent_patrol_last_round_seconds")?;
    let slice = ms("voice_agent_patrol_longest_slice_seconds")?;
    let turn = ms("voice_agent_driver_longest_turn_seconds")?;
    let nothing = differences(&agent)?;
    ensure!(nothing == 0, "{nothing} differences on a healthy node");
    Ok(vec![
        Figure::with_goal("agent_cpu_percent", usage.0, "% of one core", Goal::AtMost(10.0)),
        Figure::with_goal("agent_rss_mib", usage.1, "MiB", Goal::AtMost(128.0)),
        Figure::with_goal("patrol_10k_rooms_ms", round, "ms", Goal::AtMost(1000.0)),
        Figure::shown("patrol_longest_slice_ms", slice, "ms"),
        Figure::shown("driver_longest_turn_ms", turn, "ms"),
    ])
}

/// With records in Redis and claims in etcd.
fn shared() -> anyhow::Result<Vec<Figure>> {
    let pair = Pair::new()?;
    let commons = step("Redis and etcd", || Commons::start(&pair))?;
    let settings = commons
        .shared(settings(), "n1")
        .set("store.redis.record_ttl", "\"300s\"")
        .set("store.redis.timeout", "\"5s\"")
        .set("registry.etcd.ttl", "\"30s\"")
        .set("registry.etcd.grace", "\"300s\"");
    let agent = step("agent", || Agent::start(&pair.node, &settings))?;
    let _servers = step("10,000 live rooms", || go_live(&pair.node, &agent))?;
    step("all stored and told", || settled(&agent))?;
    let took = step("patrol with Redis and etcd", || {
        let look = |_| agent.json(&["diff"])?["took_ms"].as_f64().context("no took_ms");
        (0..LOOKS).map(look).collect::<anyhow::Result<Vec<f64>>>()
    })?;
    let slowest = took.into_iter().fold(0.0, f64::max);
    let goal = Goal::AtMost(1000.0);
    Ok(vec![Figure::with_goal(
        "patrol_10k_rooms_redis_etcd_ms",
        slowest,
        "ms",
        goal,
    )])
}

fn settings() -> Settings {
    Settings::new(Times::REAL)
        .set("kernel.max_slots", &ROOMS.to_string())
        .set("log.filter", "\"info,fjall=warn,lsm_tree=warn\"")
}

fn go_live(ns: &Netns, agent: &Agent) -> anyhow::Result<Vec<Server>> {
    let each = ROOMS / SERVERS;
    let server = |n: u32| {
        let rooms = n * each..(n + 1) * each;
        Server::start(ns, &format!("media-{n}"), rooms, Times::REAL.heartbeat)
    };
    let servers = (0..SERVERS)
        .map(server)
        .collect::<anyhow::Result<Vec<Server>>>()?;
    let live = || agent.json(&["status"]).unwrap_or_default()["rooms"]["liveing"].as_u64();
    let all = clock::poll(SETTLED, || {
        thread::sleep(Duration::from_millis(500));
        (live() == Some(u64::from(ROOMS))).then_some(())
    });
    ensure!(
        all.is_some(),
        "only {:?} of {ROOMS} rooms are live:\n{}",
        live(),
        agent.log()
    );
    Ok(servers)
}

/// Waits for so many rounds that looked at every room.
fn rounds(ns: &Netns, wanted: usize) -> anyhow::Result<()> {
    let (mut ended, mut last) = (0, f64::MAX);
    clock::poll(Duration::from_secs(120), || {
        thread::sleep(Duration::from_millis(500));
        let page = metrics::page(ns, "/metrics").ok()?;
        let age = seconds(&page, "voice_agent_patrol_last_round_age_seconds").ok()?;
        let whole = seconds(&page, "voice_agent_patrol_rooms").ok()? >= f64::from(ROOMS);
        ended += usize::from(whole && age < last);
        last = age;
        (ended > wanted).then_some(())
    })
    .context("patrol has not looked at every room twice after 120 s")
}

/// Percent of one core, MiB.
fn watch(agent: &Agent) -> anyhow::Result<(f64, f64)> {
    let pid = agent.pid()?;
    let before = Usage::of(pid)?;
    for _ in 0..WATCHED.as_secs() {
        crate::interrupt::check()?;
        thread::sleep(Duration::from_secs(1));
    }
    let after = Usage::of(pid)?;
    let cpu = (after.cpu - before.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64();
    Ok((100.0 * cpu, after.rss_mib))
}

fn settled(agent: &Agent) -> anyhow::Result<()> {
    let mut last = String::new();
    let settled = clock::poll(SETTLED, || {
        thread::sleep(Duration::from_secs(1));
        let found = differences(agent);
        last = format!("{found:?}");
        (found.ok()? == 0).then_some(())
    });
    settled.with_context(|| format!("not settled after {SETTLED:?}: {last} differences"))
}

fn differences(agent: &Agent) -> anyhow::Result<usize> {
    let answer = agent.json(&["diff"])?;
    ensure!(
        answer["unknown"] == serde_json::json!([]),
        "{}",
        answer["unknown"]
    );
    ensure!(
        answer["unsettled"] == 0,
        "{} rooms are not settled",
        answer["unsettled"]
    );
    Ok(answer["differences"].as_array().map_or(0, Vec::len))
}

fn seconds(page: &str, series: &str) -> anyhow::Result<f64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line
        .with_context(|| format!("no {series} in the figures"))?
        .parse()?)
}
