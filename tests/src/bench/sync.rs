//! Three-phase sync on a real agent: three participants that must agree to every change, on loopback and behind lines of 50 ms;
//! and a STATE_EXPIRED to 2,000 gateways, beside a bare tonic service that does nothing else.

mod bare;
mod expired;
mod peers;
mod slow;

use super::{Figure, Goal, node::process, progress::step, stats};
use crate::{
    agent::{Agent, Settings, settings::Times},
    netns::{Netns, Pair},
    peer::AGENT_URL,
};
use peers::{Asker, Participant};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Who must agree to each change.
const PARTICIPANTS: [(&str, &str); 3] = [("gateway", "gw"), ("signalling", "sig"), ("media", "sfu")];
/// Each asks for rooms of its own.
const ASKERS: usize = 20;
const ROOMS: usize = 1000;
const PER_SECOND: usize = 500;
const WATCHED: Duration = Duration::from_secs(60);
/// Behind the slow lines: enough for a P99, and far below what the agent can do.
const SLOW_PER_SECOND: usize = 100;
const SLOW_WATCHED: Duration = Duration::from_secs(20);
/// Added in each direction.
const DELAY: Duration = Duration::from_millis(50);

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    process::allow_files(3 * expired::GATEWAYS as u64 + 2000)?;
    let pair = Pair::new()?;
    let agent = step("agent", || start_agent(&pair.node))?;
    let mut figures = step("1,000 rooms with three participants, on loopback", || {
        inside(&pair.node, on_loopback)
    })?;
    figures.extend(step("the same, 50 ms away", || inside(&pair.node, far_away))?);
    figures.extend(step("a STATE_EXPIRED to 2,000 gateways", || {
        expired::figures(&pair.node, &agent)
    })?);
    Ok(figures)
}

fn start_agent(ns: &Netns) -> anyhow::Result<Agent> {
    let settings = Settings::new(Times::REAL)
        .set("session.admit_per_second", "100000")
        .set("session.admit_burst", "100000")
        .set("rooms.prepare_within", "\"10s\"")
        .set("log.filter", "\"info,fjall=warn,lsm_tree=warn\"");
    Agent::start(ns, &settings)
}

/// On a runtime in the agent's namespace.
fn inside<F>(ns: &Netns, work: impl FnOnce() -> F + Send) -> anyhow::Result<Vec<Figure>>
where
    F: Future<Output = anyhow::Result<Vec<Figure>>>,
{
    ns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work())
    })?
}

async fn on_loopback() -> anyhow::Result<Vec<Figure>> {
    let (askers, _participants) = everybody(AGENT_URL, "near", ROOMS).await?;
    let took = open_loop(&askers, PER_SECOND, WATCHED).await?;
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    let mut bursts = Vec::new();
    for _ in 0..5 {
        bursts.push(burst(&askers).await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(vec![
        Figure::shown("sync_mean_ms", mean, "ms"),
        Figure::with_goal(
            "sync_p99_ms",
            stats::quantile(&took, 0.99),
            "ms",
            Goal::AtMost(10.0),
        ),
        Figure::shown("sync_max_ms", stats::quantile(&took, 1.0), "ms"),
        Figure::with_goal(
            "sync_burst_1000_ms",
            stats::median(&bursts),
            "ms",
            Goal::AtMost(300.0),
        ),
    ])
}

async fn far_away() -> anyhow::Result<Vec<Figure>> {
    let line = slow::Line::to(AGENT_URL, DELAY).await?;
    let (askers, _participants) = everybody(&line.url(), "far", ROOMS / 10).await?;
    let took = open_loop(&askers, SLOW_PER_SECOND, SLOW_WATCHED).await?;
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    let p99 = stats::quantile(&took, 0.99);
    Ok(vec![
        Figure::shown("sync_50ms_mean_ms", mean, "ms"),
        Figure::with_goal("sync_50ms_p99_ms", p99, "ms", Goal::AtMost(210.0)),
    ])
}

/// The participants, which serve every room, and the askers with their rooms, all live.
async fn everybody(url: &str, prefix: &str, rooms: usize) -> anyhow::Result<(Vec<Asker>, Vec<Participant>)> {
    let names: Vec<String> = (0..rooms).map(|n| format!("{prefix}-{n}")).collect();
    let mut askers = Vec::new();
    for (n, own) in names.chunks(rooms.div_ceil(ASKERS)).enumerate() {
        askers.push(Asker::start(url, &format!("{prefix}-asks-{n}"), own).await?);
    }
    let mut participants = Vec::new();
    for (role, id) in PARTICIPANTS {
        participants.push(Participant::start(url, role, &format!("{prefix}-{id}"), &names).await?);
    }
    Ok((askers, participants))
}

/// So many changes a second at fixed times, whatever becomes of those before. Milliseconds from when each was due to its answer.
async fn open_loop(askers: &[Asker], per_second: usize, lasts: Duration) -> anyhow::Result<Vec<f64>> {
    let begin = Instant::now() + Duration::from_millis(100);
    let changes = per_second * usize::try_from(lasts.as_secs())?;
    let mut asked = JoinSet::new();
    let mut took = Vec::with_capacity(changes);
    for n in 0..changes {
        let due = begin + Duration::from_secs_f64(n as f64 / per_second as f64);
        sleep_until(due).await;
        // Each room in turn, so that no change of a room waits for the one before.
        let asker = &askers[n % askers.len()];
        asked.spawn(asker.change(n / askers.len()));
        while let Some(done) = asked.try_join_next() {
            took.push(done??);
        }
        if n % 1000 == 0 {
            crate::interrupt::check()?;
        }
    }
    while let Some(done) = asked.join_next().await {
        took.push(done??);
    }
    Ok(took)
}

/// A change of every room at once. Milliseconds until the last is answered.
async fn burst(askers: &[Asker]) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut asked = JoinSet::new();
    for asker in askers {
        for n in 0..asker.rooms() {
            asked.spawn(asker.change(n));
        }
    }
    while let Some(done) = asked.join_next().await {
        done??;
    }
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}
