//! A full node: 10,000 live rooms on a real agent, and a media server with 4,000 of them that dies. Rooms come by session
//! streams, each with a socket of its own; 100 gateways are connected from the start.

mod crowd;
pub(super) mod process;
pub(super) mod servers;
mod storm;

use super::{Figure, Goal, progress::step};
use crate::{
    agent::{Agent, Settings, settings::Times},
    clock, files,
    netns::{Netns, Pair},
};
use anyhow::{Context, ensure};
use crowd::Crowd;
use process::Usage;
use servers::Server;
use std::{thread, time::Duration};

/// Rooms of the media server that dies.
const DYING: u32 = 4000;
/// Rooms of the two that go on, each.
const STAYING: u32 = 3000;
const ROOMS: u32 = DYING + 2 * STAYING;
const GATEWAYS: usize = 100;
/// The CPU figure is over so long: twelve heartbeats.
const WATCHED: Duration = Duration::from_secs(60);

/// As in production, but stuck after 30 s rather than 90 s: nothing happens while one waits.
const TIMES: Times = Times {
    stuck_after: Duration::from_secs(30),
    ..Times::REAL
};

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    files::allow_files(u64::from(ROOMS) + 2000)?;
    let pair = Pair::new()?;
    let agent = step("agent", || start_agent(&pair.node))?;
    let crowd = step("100 gateways", || Crowd::start(&pair.node, GATEWAYS, DYING))?;
    let (dying, _staying) = step("10,000 live rooms", || go_live(&pair.node, &agent))?;
    let mut figures = step("60 s of heartbeats", || watch(&agent))?;
    figures.extend(step("a media server with 4,000 rooms dies", || {
        drop(dying);
        storm::figures(&agent, &crowd, TIMES)
    })?);
    Ok(figures)
}

fn start_agent(ns: &Netns) -> anyhow::Result<Agent> {
    let settings = Settings::new(TIMES)
        .set("kernel.max_slots", &ROOMS.to_string())
        .set("log.filter", "\"info,fjall=warn,lsm_tree=warn\"");
    Agent::start(ns, &settings)
}

/// The one that dies, and those that stay.
fn go_live(ns: &Netns, agent: &Agent) -> anyhow::Result<(Server, [Server; 2])> {
    let dying = Server::start(ns, "media-1", 0..DYING, TIMES.heartbeat)?;
    let staying = [DYING, DYING + STAYING].map(|first| {
        Server::start(
            ns,
            &format!("media-{first}"),
            first..first + STAYING,
            TIMES.heartbeat,
        )
    });
    let [a, b] = staying;
    let servers = (dying, [a?, b?]);
    let mut live = 0;
    let all = clock::poll(Duration::from_secs(60), || {
        thread::sleep(Duration::from_millis(500));
        live = live_rooms(agent).unwrap_or_default();
        (live == u64::from(ROOMS)).then_some(())
    });
    ensure!(
        all.is_some(),
        "only {live} of {ROOMS} rooms are live after 60 s:\n{}",
        agent.log()
    );
    Ok(servers)
}

fn live_rooms(agent: &Agent) -> anyhow::Result<u64> {
    let status = agent.json(&["status"])?;
    let live = status["rooms"]["liveing"].as_u64();
    live.with_context(|| format!("no live rooms in {status}"))
}

fn watch(agent: &Agent) -> anyhow::Result<Vec<Figure>> {
    // What going live left to do is done by then.
    thread::sleep(TIMES.heartbeat * 2);
    let pid = agent.pid()?;
    let before = Usage::of(pid)?;
    for _ in 0..WATCHED.as_secs() {
        crate::interrupt::check()?;
        thread::sleep(Duration::from_secs(1));
    }
    let after = Usage::of(pid)?;
    let cpu = (after.cpu - before.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64();
    Ok(vec![
        Figure::shown("live_rooms", live_rooms(agent)? as f64, "rooms"),
        Figure::shown("agent_cpu_percent", 100.0 * cpu, "% of one core"),
        Figure::with_goal("rss_10k_rooms_mib", after.rss_mib, "MiB", Goal::AtMost(64.0)),
    ])
}
