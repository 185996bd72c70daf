//! The open loop: calls begin when they are due, whether or not those before them have ended, and their latency counts from
//! then. Two callers share a room; one call in ten comes together with another of its room.

use crate::{
    bench::{Figure, Goal, stats::quantile},
    store_cases::{by, change, next},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use voice_agent::store::{Cursor, Redis, RoomStore};
use voice_room::{Change, OpId, RoomId, Version, record::Committed};

const CALLERS: usize = 10_000;
const ROOMS: usize = CALLERS / 2;
const PER_SECOND: usize = 15_000;
const SECONDS: usize = 8;
/// Of so many calls one is for the room of the call before it.
const TOGETHER: usize = 10;

/// What a run came to.
pub(super) struct Run {
    /// From the intended start to the answer, ms; of every call.
    latencies: Vec<f64>,
    /// Changes that were answered as done.
    done: Vec<(RoomId, Version, OpId)>,
    refused: usize,
    failed: usize,
    took: Duration,
}

/// Begins every room and then sends changes, each by `commit`.
pub(super) async fn run<F>(commit: impl Fn(Change) -> F) -> anyhow::Result<Run>
where
    F: Future<Output = anyhow::Result<Committed>> + Send + 'static,
{
    let known: Vec<Arc<Mutex<Change>>> = (0..ROOMS)
        .map(|n| Arc::new(Mutex::new(change(&format!("room-{n}")))))
        .collect();
    for chunk in known.chunks(500) {
        let begun = chunk.iter().map(|first| commit(get(first)));
        for answer in futures::future::join_all(begun).await {
            answer?;
        }
    }
    let (total, begin) = (PER_SECOND * SECONDS, Instant::now() + Duration::from_millis(100));
    let due = |call: usize| begin + Duration::from_secs_f64(call as f64 / PER_SECOND as f64);
    let mut calls = JoinSet::new();
    let mut sent = 0;
    while sent < total {
        tokio::time::sleep_until(due(sent)).await;
        let now = Instant::now();
        while sent < total && due(sent) <= now {
            // The one before it, for one in ten.
            let room = if sent % TOGETHER == 1 { sent - 1 } else { sent } % ROOMS;
            let (known, at) = (known[room].clone(), due(sent));
            let last = get(&known);
            let wanted = by(next(&last), last.record.epoch.revision, &format!("call-{sent}"));
            let answer = commit(wanted.clone());
            calls.spawn(async move {
                let answer = answer.await;
                let latency = at.elapsed().as_secs_f64() * 1e3;
                keep(&known, &wanted, answer.as_ref().ok());
                (latency, wanted, answer)
            });
            sent += 1;
        }
    }
    let mut run = Run {
        latencies: Vec::with_capacity(total),
        done: Vec::new(),
        refused: 0,
        failed: 0,
        took: Duration::ZERO,
    };
    while let Some(ended) = calls.join_next().await {
        let (latency, wanted, answer) = ended?;
        run.latencies.push(latency);
        let record = wanted.into_parts().record;
        match answer {
            Ok(Committed::Ok | Committed::Skipped) => {
                run.done.push((record.room, record.version, record.op_id));
            }
            Ok(_) => run.refused += 1,
            Err(_) => run.failed += 1,
        }
    }
    run.took = begin.elapsed();
    Ok(run)
}

/// What both callers of a room know from now on.
fn keep(known: &Mutex<Change>, wanted: &Change, answer: Option<&Committed>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Some(Committed::Ok | Committed::Skipped) if wanted.record.version > known.record.version => {
            *known = wanted.clone();
        }
        Some(Committed::Conflict(Some(stored))) if stored.version > known.record.version => {
            known.record = stored.clone();
        }
        _ => {}
    }
}

fn get(known: &Mutex<Change>) -> Change {
    known.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Changes that were answered as done and are not in the events, or twice, or not alone with their version.
pub(super) async fn wrong(store: &Redis, run: &Run) -> anyhow::Result<usize> {
    let mut told: BTreeMap<(RoomId, Version), Vec<OpId>> = BTreeMap::new();
    let mut cursor = Cursor::default();
    loop {
        let page = store.events(cursor.clone(), 20_000).await?;
        if page.is_empty() {
            break;
        }
        for (position, event) in page {
            cursor.read(position);
            told.entry((event.room, event.version))
                .or_default()
                .push(event.op_id);
        }
    }
    let is_wrong = |(room, version, op_id): &&(RoomId, Version, OpId)| {
        told.get(&(room.clone(), *version)).map(Vec::as_slice) != Some(std::slice::from_ref(op_id))
    };
    Ok(run.done.iter().filter(is_wrong).count())
}

/// Changes answered as done whose version another one, answered as done too, has as well: one of them is lost.
fn lost(run: &Run) -> usize {
    let mut versions: BTreeMap<(&RoomId, Version), usize> = BTreeMap::new();
    for (room, version, _) in &run.done {
        *versions.entry((room, *version)).or_default() += 1;
    }
    versions.values().map(|writers| writers - 1).sum()
}

pub(super) fn figures(cas: &Run, wrong: usize, naive: &Run) -> Vec<Figure> {
    const PEER: &str = "read, compare, write";
    let rate = |run: &Run| run.done.len() as f64 / run.took.as_secs_f64();
    let p99 = |run: &Run| quantile(&run.latencies, 0.99);
    let share = |run: &Run| 100.0 * lost(run) as f64 / run.done.len().max(1) as f64;
    let wrong = (wrong + lost(cas)) as f64;
    vec![
        Figure::with_goal("cas_open_per_s", rate(cas), "changes/s", Goal::AtLeast(12_400.0)).beside(
            PEER,
            rate(naive),
            rate(cas) / rate(naive),
        ),
        Figure::with_goal("cas_open_p99_ms", p99(cas), "ms", Goal::AtMost(8.2)).beside(
            PEER,
            p99(naive),
            p99(cas) / p99(naive),
        ),
        Figure::shown("cas_open_p50_ms", quantile(&cas.latencies, 0.5), "ms"),
        Figure::with_goal("cas_wrong_writes", wrong, "changes", Goal::AtMost(0.0)),
        Figure::shown("naive_wrong_writes_percent", share(naive), "% of the changes"),
        Figure::shown("cas_refused", cas.refused as f64, "conflicts"),
        Figure::with_goal("cas_failed", cas.failed as f64, "calls", Goal::AtMost(0.0)),
    ]
}
