//! `events --group`, `events replay` and `events forget`: straight to the Redis that agents share, without the agent. A group
//! is told of each event at least once: it is acknowledged after it was written.

use super::{LOOK_EVERY, nobody_reads, print};
use crate::{
    api::convert,
    cli::{
        Code, Failure,
        output::{Output, Tone},
    },
    config::{Config, StoreKind},
    store::{
        Cursor, Position, Redis, RoomStore, StoreError,
        position::NoPosition,
        redis::groups::{Begin, Consumer},
        replay::rebuild,
    },
};
use serde_json::json;
use std::{io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use voice_room::{RoomId, StateChangeEvent};

/// What a consumer was given and has not acknowledged for so long goes to another.
const STALE: Duration = Duration::from_secs(60);
/// How often is looked for such.
const CLAIM_EVERY: Duration = Duration::from_secs(15);
/// Events of one room that are replayed at most.
const REPLAYED: usize = 1_000_000;

fn store(config: &Config) -> Result<Redis, Failure> {
    if config.store.kind != StoreKind::Redis {
        let problem = "this reads the events that agents share in Redis, and store.kind is embedded here";
        return Err(Failure::new(Code::Failed, problem));
    }
    Redis::open(&config.store.redis).map_err(|e| failed(&e))
}

fn failed(error: &StoreError) -> Failure {
    Failure::new(Code::Failed, error.to_string())
}

/// Prints what a group has not seen, as one of its consumers, and acknowledges it.
pub(in crate::cli) async fn group(
    config: &Config,
    json: bool,
    group: &str,
    since: Option<&str>,
    follow: bool,
) -> Result<String, Failure> {
    let begin = since.map(str::parse).transpose();
    let begin = begin.map_err(|e: NoPosition| Failure::new(Code::Usage, e.to_string()))?;
    let begin = begin.map_or(Begin::Oldest, |cursor: Cursor| Begin::At(cursor));
    let store = store(config)?;
    let mut interrupted = signal(SignalKind::interrupt())
        .map_err(|e| Failure::new(Code::Failed, format!("cannot listen for SIGINT: {e}")))?;
    let consumer = store
        .consumer(group, &config.node, &begin)
        .await
        .map_err(|e| failed(&e))?;
    let mut claimed = None;
    loop {
        let page = tokio::select! {
            _ = interrupted.recv() => return Ok(String::new()),
            page = page(&consumer, &mut claimed) => page,
        };
        let page = match page {
            Ok(page) => page,
            // A follower outlives a failover.
            Err(error) if follow => {
                eprintln!("voice-agent: {error}; tried again");
                Vec::new()
            }
            Err(error) => return Err(failed(&error)),
        };
        if page.is_empty() && !follow {
            return Ok(String::new());
        }
        if !deliver(&consumer, &page, json).await? || (page.is_empty() && nobody_reads()) {
            return Ok(String::new());
        }
        if page.is_empty() {
            tokio::select! {
                _ = interrupted.recv() => return Ok(String::new()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// What others left behind, now and then, and then what is new.
async fn page(
    consumer: &Consumer,
    claimed: &mut Option<Instant>,
) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
    if claimed.is_none_or(|at| at.elapsed() >= CLAIM_EVERY) {
        let stale = consumer.claim(STALE).await?;
        if !stale.is_empty() {
            return Ok(stale);
        }
        *claimed = Some(Instant::now());
    }
    consumer.read().await
}

/// Writes and acknowledges; `false` when nobody reads any more.
async fn deliver(
    consumer: &Consumer,
    page: &[(Position, StateChangeEvent)],
    json: bool,
) -> Result<bool, Failure> {
    let mut written = Vec::with_capacity(page.len());
    let mut read = true;
    for (position, event) in page {
        match print(&convert::event(*position, event), json) {
            Ok(()) => written.push(*position),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                read = false;
                break;
            }
            Err(e) => return Err(Failure::new(Code::Failed, format!("writing to stdout: {e}"))),
        }
    }
    // What is not acknowledged comes again.
    consumer.acknowledge(&written).await.map_err(|e| failed(&e))?;
    Ok(read)
}

/// Rebuilds a room from its events, and compares it with its record.
pub(in crate::cli) async fn replay(config: &Config, out: Output, room: &RoomId) -> Result<String, Failure> {
    let store = store(config)?;
    let events = store.events_of(room, REPLAYED).await.map_err(|e| failed(&e))?;
    let stored = store
        .look(room.clone())
        .await
        .map_err(|e| failed(&e))?
        .map(|seen| seen.record);
    let Some(rebuilt) = rebuild(&events) else {
        return Err(Failure::new(
            Code::NoSuchRoom,
            format!("there are no events of room {room}"),
        ));
    };
    let mut differences = rebuilt.problems.clone();
    differences.extend(stored.iter().flat_map(|record| rebuilt.differences(record)));
    let same = differences.is_empty();
    let shown = json!({
        "room": room, "same": same, "differences": differences, "rebuilt": rebuilt, "stored": stored,
    });
    let text = out.print(&shown, |_, out| {
        let mut text = format!(
            "{room}: {} events, version {} to {}: {} in epoch {}\n",
            rebuilt.events, rebuilt.first, rebuilt.version, rebuilt.state, rebuilt.epoch
        );
        let verdict = match (&stored, same) {
            (_, false) => out.tone(Tone::Bad, &differences.join("\n")),
            (None, true) => out.tone(
                Tone::Good,
                "The events fit together; there is no record (any more).",
            ),
            (Some(_), true) => out.tone(Tone::Good, "The record is what the events say."),
        };
        text.push_str(&verdict);
        text.push('\n');
        text
    })?;
    match same {
        true => Ok(text),
        false => Err(Failure {
            done: text,
            ..Failure::new(Code::Failed, format!("room {room}: events and record differ"))
        }),
    }
}

/// Forgets a group.
pub(in crate::cli) async fn forget(config: &Config, out: Output, group: &str) -> Result<String, Failure> {
    let found = store(config)?.forget_group(group).await.map_err(|e| failed(&e))?;
    if !found {
        return Err(Failure::new(Code::Failed, format!("there is no group {group:?}")));
    }
    out.print(&json!({ "ok": true, "group": group }), |_, out| {
        out.tone(
            Tone::Good,
            &format!("The group {group} is forgotten; nothing is kept for it any more."),
        ) + "\n"
    })
}
