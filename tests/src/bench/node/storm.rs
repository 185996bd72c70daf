//! A storm of trips: all rooms of a media server at once, by what the kernel's maps say afterwards. A room's deadline is
//! the time of its decision plus the isolation; `armed_at` is written just before its deadline word.

use super::{DYING, crowd::Crowd, servers};
use crate::{
    agent::{Agent, settings::Times},
    bench::{Figure, Goal},
    clock,
};
use anyhow::Context;
use std::{path::Path, thread, time::Duration};
use voice_agent::kernel::pinned;
use voice_common::RoomEntry;
use voice_room::Mono;

/// Waits until the rooms of the dead media server are cut and every gateway knows.
pub(super) fn figures(agent: &Agent, crowd: &Crowd, times: Times) -> anyhow::Result<Vec<Figure>> {
    let pins = agent.pin_dir();
    let patience = times.stuck_after + 2 * times.heartbeat + Duration::from_secs(60);
    let over = clock::poll(patience, || {
        // Seldom: what is measured has the machine to itself.
        thread::sleep(Duration::from_secs(1));
        let armed = armed(&pins).ok().filter(|armed| armed.len() >= DYING as usize)?;
        Some((armed, crowd.complete()?))
    });
    let (armed, all_told) = over.with_context(|| {
        let cut = armed(&pins).map_or_else(|e| format!("{e:#}: none"), |armed| armed.len().to_string());
        format!(
            "{cut} of {DYING} rooms are cut after {patience:?}; {}\n{}\n{}",
            crowd.describe(),
            told(agent),
            tail(&agent.log())
        )
    })?;
    let decided = armed
        .iter()
        .map(|entry| entry.last_deadline)
        .min()
        .unwrap_or_default();
    let decided = Mono(decided.saturating_sub(u64::try_from(times.isolation.as_nanos())?));
    let last = Mono(armed.iter().map(|entry| entry.armed_at).max().unwrap_or_default());
    let ms = |until: Mono| until.since(decided).as_secs_f64() * 1e3;
    Ok(vec![
        Figure::shown("storm_rooms", armed.len() as f64, "rooms"),
        Figure::with_goal("storm_armed_ms", ms(last), "ms", Goal::AtMost(50.0)),
        Figure::with_goal(
            "storm_pushed_100_gateways_ms",
            ms(all_told),
            "ms",
            Goal::AtMost(1000.0),
        ),
    ])
}

/// Every verdict in force.
fn armed(pins: &Path) -> anyhow::Result<Vec<RoomEntry>> {
    let tables = pinned::tables(pins)?;
    let entries = (1..tables.slots()).map(|slot| tables.room(slot));
    Ok(entries.filter(|entry| entry.deadline != 0).collect())
}

/// What the agent itself says of its rooms, and why of one that should be cut.
fn told(agent: &Agent) -> String {
    let said = |args: &[&str]| agent.text(args).unwrap_or_else(|e| format!("{e:#}"));
    let room = servers::name(0);
    [said(&["status"]), said(&["explain", &room])].join("\n")
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(30)..)
        .unwrap_or_default()
        .join("\n")
}
