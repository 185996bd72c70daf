//! Three-phase sync on a real agent: three participants that must agree to every change, on loopback and behind lines of 50 ms;
//! and a STATE_EXPIRED to 2,000 gateways, beside a bare tonic service that does nothing else.
//!
//! A change takes from when it was due (open loop: those before it do not matter) until its asker and all three participants
//! have it. Each is checked: every participant was told every version of every room once, in order, as it was answered, and
//! the agent holds the last.

mod bare;
mod expired;
mod peers;
mod slow;

use super::{Figure, Goal, progress::step, stats};
use crate::{
    agent::{Agent, Settings, settings::Times},
    files,
    netns::{Netns, Pair},
    peer::AGENT_URL,
};
use anyhow::{Context, ensure};
use peers::{Asker, Done, Participant};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use voice_agent::session::Role;
use voice_room::RoomId;

/// Who must agree to each change, besides the media server that asks for it.
const PARTICIPANTS: [(Role, &str); 3] = [
    (Role::Gateway, "gw-1"),
    (Role::Gateway, "gw-2"),
    (Role::Signalling, "sig"),
];
/// Media servers, each with rooms of its own.
const ASKERS: usize = 20;
const ROOMS: usize = 1000;
const PER_SECOND: usize = 500;
const WATCHED: Duration = Duration::from_secs(60);
const P99_MS: f64 = 10.0;
const BURSTS: usize = 5;
/// Behind the slow lines: enough for a P99, and far below what the agent can do.
const SLOW_PER_SECOND: usize = 100;
const SLOW_WATCHED: Duration = Duration::from_secs(20);
/// Added in each direction.
const DELAY: Duration = Duration::from_millis(50);

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    files::allow_files(3 * expired::GATEWAYS as u64 + 2000)?;
    let pair = Pair::new()?;
    let agent = step("agent", || start_agent(&pair.node))?;
    let mut figures = step("1,000 rooms with three participants, on loopback", || {
        let (figures, last) = inside(&pair.node, on_loopback)?;
        holds(&agent, &last)?;
        Ok(figures)
    })?;
    figures.extend(step("the same, 50 ms away", || {
        let (figures, last) = inside(&pair.node, far_away)?;
        holds(&agent, &last)?;
        Ok(figures)
    })?);
    figures.extend(step("a STATE_EXPIRED to 2,000 gateways", || {
        expired::figures(&pair.node, &agent)
    })?);
    Ok(figures)
}

fn start_agent(ns: &Netns) -> anyhow::Result<Agent> {
    let settings = Settings::new(Times::REAL)
        .set("session.admit_per_second", "100000")
        .set("session.admit_burst", "100000")
        .set("log.filter", "\"info,fjall=warn,lsm_tree=warn\"");
    Agent::start(ns, &settings)
}

/// On a runtime in the agent's namespace.
fn inside<T, F>(ns: &Netns, work: impl FnOnce() -> F + Send) -> anyhow::Result<T>
where
    T: Send,
    F: Future<Output = anyhow::Result<T>>,
{
    ns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work())
    })?
}

/// The last change of each room, as its asker has it.
type Last = HashMap<RoomId, Done>;

async fn on_loopback() -> anyhow::Result<(Vec<Figure>, Last)> {
    let mut all = Everybody::start(AGENT_URL, "near", ROOMS).await?;
    let took = all.open_loop(PER_SECOND, WATCHED).await?;
    tell_slow(&took);
    let mut bursts = Vec::new();
    for _ in 0..BURSTS {
        bursts.push(all.burst().await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (p99, max) = (stats::quantile(&took, 0.99), stats::quantile(&took, 1.0));
    // The slowest of the bursts: all must hold.
    let burst = stats::quantile(&bursts, 1.0);
    let figures = vec![
        Figure::shown("sync_mean_ms", mean(&took), "ms"),
        Figure::with_goal("sync_p99_ms", p99, "ms", Goal::AtMost(P99_MS)),
        Figure::shown("sync_max_ms", max, "ms"),
        Figure::with_goal("sync_burst_1000_ms", burst, "ms", Goal::AtMost(300.0)),
    ];
    Ok((figures, all.last))
}

async fn far_away() -> anyhow::Result<(Vec<Figure>, Last)> {
    let line = slow::Line::to(AGENT_URL, DELAY)?;
    let mut all = Everybody::start(&line.url(), "far", ROOMS / 10).await?;
    let took = all.open_loop(SLOW_PER_SECOND, SLOW_WATCHED).await?;
    let p99 = stats::quantile(&took, 0.99);
    let figures = vec![
        Figure::shown("sync_50ms_mean_ms", mean(&took), "ms"),
        Figure::with_goal("sync_50ms_p99_ms", p99, "ms", Goal::AtMost(210.0)),
    ];
    Ok((figures, all.last))
}

/// In which seconds the changes above the goal were due: waits that come together have one cause.
fn tell_slow(took: &[f64]) {
    let mut slow: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    for (n, ms) in took.iter().enumerate().filter(|(_, ms)| **ms > P99_MS) {
        let (count, most) = slow.entry(n / PER_SECOND).or_default();
        *count += 1;
        *most = most.max(*ms);
    }
    let list = slow
        .iter()
        .map(|(second, (count, most))| format!("{second} s: {count} up to {most:.0} ms"));
    let list = list.collect::<Vec<_>>().join(", ");
    eprintln!(
        "     above {P99_MS} ms: {}",
        if list.is_empty() { "none" } else { &list }
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The agent has each room as the last answer said.
fn holds(agent: &Agent, last: &Last) -> anyhow::Result<()> {
    let told = agent.json(&["rooms"])?;
    let rooms = told["rooms"].as_array().context("rooms --json has no rooms")?;
    for (room, done) in last {
        let found = rooms.iter().find(|r| r["room"].as_str() == Some(room));
        let version = found.and_then(|r| r["version"].as_u64());
        ensure!(
            version == Some(done.version.0),
            "{done:?}, and the agent has {found:?}"
        );
    }
    Ok(())
}

/// The participants, which serve every room, and the media servers with their rooms, all live.
struct Everybody {
    askers: Vec<Asker>,
    participants: Vec<Participant>,
    last: Last,
}

impl Everybody {
    async fn start(url: &str, prefix: &str, rooms: usize) -> anyhow::Result<Everybody> {
        let names: Result<Vec<RoomId>, _> = (0..rooms)
            .map(|n| RoomId::new(&format!("{prefix}-{n}")))
            .collect();
        let names = names?;
        let mut askers = Vec::new();
        for (n, own) in names.chunks(rooms.div_ceil(ASKERS)).enumerate() {
            askers.push(Asker::start(url, &format!("{prefix}-sfu-{n}"), own).await?);
        }
        let mut participants = Vec::new();
        for (role, id) in PARTICIPANTS {
            participants.push(Participant::start(url, role, &format!("{prefix}-{id}"), &names).await?);
        }
        Ok(Everybody {
            askers,
            participants,
            last: Last::new(),
        })
    }

    /// So many changes a second at fixed times, whatever becomes of those before. Milliseconds that each took.
    async fn open_loop(&mut self, per_second: usize, lasts: Duration) -> anyhow::Result<Vec<f64>> {
        let begin = Instant::now() + Duration::from_millis(100);
        let changes = per_second * usize::try_from(lasts.as_secs())?;
        let (mut asked, mut done) = (JoinSet::new(), Vec::with_capacity(changes));
        let askers = self.askers.len();
        for n in 0..changes {
            let due = begin + Duration::from_secs_f64(n as f64 / per_second as f64);
            sleep_until(due).await;
            // Each room in turn, so that no change of a room waits for the one before.
            asked.spawn(self.askers[n % askers].change(n / askers, due));
            while let Some(change) = asked.try_join_next() {
                done.push(change??);
            }
            if n % 1000 == 0 {
                crate::interrupt::check()?;
            }
        }
        while let Some(change) = asked.join_next().await {
            done.push(change??);
        }
        self.took(done).await
    }

    /// A change of every room at once. Milliseconds until all have all of them.
    async fn burst(&mut self) -> anyhow::Result<f64> {
        let (due, mut asked, mut done) = (Instant::now(), JoinSet::new(), Vec::new());
        for asker in &mut self.askers {
            for n in 0..asker.rooms() {
                asked.spawn(asker.change(n, due));
            }
        }
        while let Some(change) = asked.join_next().await {
            done.push(change??);
        }
        Ok(stats::quantile(&self.took(done).await?, 1.0))
    }

    /// Checks the changes, and takes their times.
    async fn took(&mut self, done: Vec<Done>) -> anyhow::Result<Vec<f64>> {
        let mut told = Vec::new();
        for participant in &self.participants {
            told.push(participant.check(&done).await?);
        }
        let took = |(n, done): (usize, &Done)| done.took(told.iter().map(|told| told[n]));
        let took = done.iter().enumerate().map(took).collect();
        for done in done {
            let newer = self
                .last
                .get(&done.room)
                .is_none_or(|last| last.version < done.version);
            if newer {
                self.last.insert(done.room.clone(), done);
            }
        }
        Ok(took)
    }
}
