//! 10,000 rooms of one agent in a real etcd: how soon they are all owned again after their lease was lost and after a restart
//! of the agent, and what others who write to the same etcd notice meanwhile.
//!
//! Meanwhile is from the loss until others are told of all rooms again. When a lease ends etcd deletes its 20,000 keys in one step,
//! in which nobody writes: that is in it, and measured with no agent too. The restarts are on an etcd that has not deleted anything yet.

mod others;

use super::{Figure, Goal, progress::step, stats};
use crate::{
    clock,
    etcd::{Etcd, direct::Direct},
    registrant::{Registrant, config},
};
use anyhow::{Context, ensure};
use others::{Others, Write};
use std::{
    thread,
    time::{Duration, Instant},
};
use voice_agent::config::EtcdConfig;
use voice_room::RoomId;

const ROOMS: usize = 10_000;
/// Each kind of loss, so many times; the figure is the median.
const ROUNDS: usize = 5;
const IDLE: Duration = Duration::from_secs(20);
/// As in production.
const TTL: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(300);
/// What takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let etcd = step("etcd", || Etcd::start(1))?;
    let direct = Direct::to(&etcd.endpoints()[0])?;
    let config = config(etcd.endpoints(), TTL, GRACE);
    let rooms: Vec<RoomId> = (0..ROOMS)
        .map(|n| RoomId::new(&format!("room-{n}")))
        .collect::<Result<_, _>>()?;
    let mut agent = step("10,000 rooms", || {
        let agent = begin(&config, &rooms)?;
        told(&agent, &direct, &rooms)?;
        Ok(Some(agent))
    })?;
    let idle = step("others, with nothing else going on", || {
        Others::start(&etcd)?.measure_for(IDLE)
    })?;
    let idle: Vec<f64> = idle.iter().map(|write| write.took).collect();
    let (mut lost, mut restarted, mut telling) = (Vec::new(), Vec::new(), Vec::new());
    let mut meanwhile = Meanwhile::default();
    // They come first: etcd 3.4 is slower after it has deleted many keys at once.
    for round in 1..=ROUNDS {
        step(&format!("restart {round}"), || {
            drop(agent.take());
            let others = Others::start(&etcd)?;
            let begun = Instant::now();
            let again = begin(&config, &rooms)?;
            restarted.push(begun.elapsed().as_secs_f64());
            let owned = Instant::now();
            all_told(&again)?;
            telling.push(owned.elapsed().as_secs_f64());
            meanwhile.sort(
                &others.end()?,
                &[(Phase::Restart, begun), (Phase::Telling, owned)],
            );
            told(&again, &direct, &rooms)?;
            agent = Some(again);
            Ok(())
        })?;
    }
    let agent = agent.context("there is no agent after the last restart")?;
    for round in 1..=ROUNDS {
        step(&format!("lost lease {round}"), || {
            let others = Others::start(&etcd)?;
            let begun = Instant::now();
            let deleted = lose_lease(&agent, &direct, &rooms)?;
            lost.push(begun.elapsed().as_secs_f64());
            let owned = Instant::now();
            all_told(&agent)?;
            telling.push(owned.elapsed().as_secs_f64());
            let phases = [
                (Phase::Deleting, begun),
                (Phase::Lost, deleted),
                (Phase::Telling, owned),
            ];
            meanwhile.sort(&others.end()?, &phases);
            told(&agent, &direct, &rooms)
        })?;
    }
    let alone = step("the same keys deleted with no agent", || {
        deleted_alone(agent, &direct, Others::start(&etcd)?)
    })?;
    ensure!(
        meanwhile.deleting.len() == ROUNDS,
        "nobody wrote while the keys were deleted"
    );
    let took = [&lost, &restarted, &telling].map(|took| stats::median(took));
    Ok(figures(took, &idle, &meanwhile, &alone))
}

/// `took` in seconds until all rooms were owned after a lost lease, after a restart, and until all was told after that.
fn figures(took: [f64; 3], idle: &[f64], meanwhile: &Meanwhile, alone: &[f64]) -> Vec<Figure> {
    let [lost, restarted, telling] = took;
    let p99 = |took: &[f64]| stats::quantile(took, 0.99);
    let longest = |took: &[f64]| stats::quantile(took, 1.0);
    let idle = p99(idle);
    let deleting: Vec<f64> = meanwhile.deleting.iter().map(|round| longest(round)).collect();
    let all = [
        &meanwhile.deleting.concat()[..],
        &meanwhile.lost,
        &meanwhile.telling,
        &meanwhile.restart,
    ]
    .concat();
    let shown = [
        ("recovery_after_lost_lease_s", lost, "s"),
        ("recovery_after_restart_s", restarted, "s"),
        ("recovery_others_put_p99_ms", p99(&all), "ms"),
        (
            "recovery_others_put_p99_restart_ms",
            p99(&meanwhile.restart),
            "ms",
        ),
        (
            "recovery_others_put_p99_lost_lease_ms",
            p99(&meanwhile.lost),
            "ms",
        ),
        (
            "recovery_others_put_p99_telling_ms",
            p99(&meanwhile.telling),
            "ms",
        ),
        ("recovery_others_idle_put_p99_ms", idle, "ms"),
        ("recovery_deletion_put_longest_ms", stats::median(&deleting), "ms"),
        ("recovery_deletion_alone_put_longest_ms", longest(alone), "ms"),
    ];
    let goals = [
        Figure::with_goal(
            "recovery_10k_rooms_s",
            lost.max(restarted),
            "s",
            Goal::AtMost(1.8),
        ),
        // It is what others' share of slow writes gets smaller by, so it may not take as long as it likes.
        Figure::with_goal(
            "recovery_telling_s",
            telling,
            "s",
            Goal::AtMost(TTL.as_secs_f64() / 2.0),
        ),
        Figure::with_goal(
            "recovery_others_put_p99_ratio",
            p99(&all) / idle,
            "x idle",
            Goal::AtMost(2.0),
        ),
    ];
    let shown = shown.map(|(name, value, unit)| Figure::shown(name, value, unit));
    goals.into_iter().chain(shown).collect()
}

/// What happens while others write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// etcd ends the lease and deletes the keys on it, 20,000 in one step in which nobody writes. It is what the agent recovers
    /// from, and takes its time without an agent too.
    Deleting,
    /// The agent notices and claims all rooms anew.
    Lost,
    /// It tells of its rooms.
    Telling,
    /// It starts, lists all keys and claims all rooms anew.
    Restart,
}

/// How long others' writes took, in milliseconds, by what went on when they were meant to be sent.
#[derive(Debug, Default)]
struct Meanwhile {
    /// Of each round.
    deleting: Vec<Vec<f64>>,
    lost: Vec<f64>,
    telling: Vec<f64>,
    restart: Vec<f64>,
}

impl Meanwhile {
    /// `phases` in their order, each with its beginning. Writes from before the first are left out.
    fn sort(&mut self, writes: &[Write], phases: &[(Phase, Instant)]) {
        let mut deleting = Vec::new();
        for Write { meant, took } in writes {
            let of = match phases.iter().rev().find(|(_, begun)| begun <= meant) {
                Some((Phase::Deleting, _)) => &mut deleting,
                Some((Phase::Lost, _)) => &mut self.lost,
                Some((Phase::Telling, _)) => &mut self.telling,
                Some((Phase::Restart, _)) => &mut self.restart,
                None => continue,
            };
            of.push(*took);
        }
        if !deleting.is_empty() {
            self.deleting.push(deleting);
        }
    }
}

/// Starts an agent's registry and claims every room; returns when it holds them all.
fn begin(config: &EtcdConfig, rooms: &[RoomId]) -> anyhow::Result<Registrant> {
    let agent = Registrant::start(config, "node", "node")?;
    agent.claim(rooms);
    let all = clock::poll(LIMIT, || (agent.held() == rooms.len()).then_some(()));
    all.with_context(|| {
        format!(
            "only {} of {} rooms are held after {LIMIT:?}",
            agent.held(),
            rooms.len()
        )
    })?;
    Ok(agent)
}

/// Ends the lease as etcd does when its leader stalled, and waits until every room is owned again, under a new lease. When the
/// keys were deleted.
fn lose_lease(agent: &Registrant, direct: &Direct, rooms: &[RoomId]) -> anyhow::Result<Instant> {
    let lease = lease(agent)?;
    direct.revoke(lease)?;
    let deleted = Instant::now();
    let again = clock::poll(LIMIT, || {
        let other = agent.handle().authority().lease().is_some_and(|now| now != lease);
        (other && agent.held() == rooms.len()).then_some(())
    });
    again.context("the rooms are not all held again")?;
    Ok(deleted)
}

/// Ends the agent, and then its lease: how long others' writes took meanwhile, in milliseconds.
fn deleted_alone(agent: Registrant, direct: &Direct, others: Others) -> anyhow::Result<Vec<f64>> {
    let lease = lease(&agent)?;
    drop(agent);
    direct.revoke(lease)?;
    let writes = others.end()?;
    Ok(writes.iter().map(|write| write.took).collect())
}

fn lease(agent: &Registrant) -> anyhow::Result<i64> {
    agent
        .handle()
        .authority()
        .lease()
        .context("the agent has no lease")
}

/// Waits until the agent has told of every room, by its own word: to ask etcd again and again for 10,000 keys would be felt by
/// the others.
fn all_told(agent: &Registrant) -> anyhow::Result<()> {
    let mut told = 0;
    let all = clock::poll(LIMIT, || {
        thread::sleep(Duration::from_millis(100));
        let standing = agent.handle().standing();
        // Twice in a row: what was asked for may not have been taken up yet.
        told = if (standing.waiting, standing.untold) == (0, 0) {
            told + 1
        } else {
            0
        };
        (told == 2).then_some(())
    });
    all.with_context(|| format!("not everything is told after {LIMIT:?}"))
}

/// Waits until what is told of every room is in etcd, on the lease there is.
fn told(agent: &Registrant, direct: &Direct, rooms: &[RoomId]) -> anyhow::Result<()> {
    let lease = agent.handle().authority().lease();
    let all = clock::poll(LIMIT, || {
        thread::sleep(Duration::from_millis(200));
        let there = direct.list("/voice/rooms/").ok()?;
        (there.iter().filter(|kv| Some(kv.lease) == lease).count() == rooms.len()).then_some(())
    });
    ensure!(
        all.is_some(),
        "the metadata of {} rooms is not all in etcd after {LIMIT:?}",
        rooms.len()
    );
    Ok(())
}
