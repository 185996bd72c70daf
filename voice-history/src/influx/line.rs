//! Snapshots as lines: measurement `room` (tags room_id, node, path), `transition` (the same) and `health` (node, dependency).

use crate::{
    NodeHealth, Tick, Transition,
    snapshot::{Snapshot, names},
};
use std::{collections::HashMap, fmt::Write, sync::LazyLock};
use voice_common::Count;
use voice_room::{NodeName, RoomId, State, Wall};

/// Lines of one request, about.
const BATCH: usize = 5_000;

/// The way that each room last went, for the tag `path`.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<RoomId, (Option<State>, State)>);

/// The fields of each counter: packets, bytes.
pub(super) static FIELDS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let fields = names().into_iter().map(|name| name.replace('.', "_"));
    fields
        .map(|name| (format!("{name}_packets"), format!("{name}_bytes")))
        .collect()
});

/// The lines of a tick, in batches.
pub(super) fn batches(
    node: &NodeName,
    tick: &Tick,
    health: Option<&NodeHealth>,
    paths: &mut Paths,
) -> Vec<String> {
    let node = tag(node);
    let mut batches = vec![String::new()];
    let mut lines = 0;
    let changes = tick
        .transitions
        .iter()
        .filter_map(|change| transition(&node, change));
    let changes: Vec<String> = changes.collect();
    for change in &tick.transitions {
        paths
            .0
            .insert(change.room.clone(), (change.old_state, change.new_state));
    }
    let rooms = tick.rooms.iter().map(|(room, snapshot)| {
        let path = paths.0.get(room).filter(|(_, to)| *to == snapshot.state);
        line_of(
            &node,
            room,
            &path_of(path.and_then(|(from, _)| *from), snapshot.state),
            tick.at,
            &snapshot,
        )
    });
    let healths = health.into_iter().flatten().map(|(name, health)| {
        format!(
            "health,dependency={},node={node} level=\"{}\" {}\n",
            tag(name),
            health.name(),
            time(tick.at)
        )
    });
    for line in changes.into_iter().chain(healths).chain(rooms) {
        if lines == BATCH {
            batches.push(String::new());
            lines = 0;
        }
        lines += 1;
        if let Some(last) = batches.last_mut() {
            last.push_str(&line);
        }
    }
    if tick.rooms.len() < paths.0.len() / 2 {
        let present: std::collections::HashSet<&RoomId> = tick.rooms.ids().iter().collect();
        paths.0.retain(|room, _| present.contains(room));
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// `LIVEING>EXPIRED`, the tag of changes of state and of what comes after them.
pub(super) fn path_of(from: Option<State>, to: State) -> String {
    format!("{}>{}", from.map_or("NONE", State::name), to.name())
}

fn line_of(node: &str, room: &RoomId, path: &str, at: Wall, snapshot: &Snapshot) -> String {
    let mut line = String::with_capacity(512);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        line,
        "room,node={node},path={path},room_id={} state=\"{}\",since={}i,incarnation={}i,version={}i,era={}i,revision={}i,\
         misses={}i,members={}i",
        tag(room),
        snapshot.state.name(),
        whole(snapshot.since.0),
        whole(snapshot.incarnation.0),
        whole(snapshot.version.0),
        snapshot.epoch.era,
        whole(snapshot.epoch.revision),
        snapshot.misses,
        snapshot.members
    );
    if let Some(age) = snapshot.heartbeat_age {
        let _ = write!(line, ",heartbeat_age={age}i");
    }
    if let Some(until) = snapshot.blocked_until {
        let _ = write!(line, ",blocked_until={}i", whole(until.0));
    }
    for ((packets, bytes), count) in FIELDS.iter().zip(&snapshot.media.0) {
        if *count != Count::default() {
            let _ = write!(
                line,
                ",{packets}={}i,{bytes}={}i",
                whole(count.packets),
                whole(count.bytes)
            );
        }
    }
    let _ = writeln!(line, " {}", time(at));
    line
}

fn transition(node: &str, change: &Transition) -> Option<String> {
    // A change of state is always JSON: it came from a store.
    let json = serde_json::to_string(change).ok()?;
    Some(format!(
        "transition,node={node},path={},room_id={} event=\"{}\",version={}i,record=\"{}\" {}\n",
        path_of(change.old_state, change.new_state),
        tag(&change.room),
        change.event_type.name(),
        whole(change.version.0),
        json.replace('\\', "\\\\").replace('"', "\\\""),
        time(change.timestamp)
    ))
}

fn tag(text: &str) -> String {
    text.replace('\\', "/")
        .replace(',', "\\,")
        .replace('=', "\\=")
        .replace(' ', "\\ ")
}

/// InfluxDB counts time in nanoseconds of 63 bits: until 2262.
pub(super) fn time(at: Wall) -> u64 {
    at.0.min(9_223_372_036_854)
}

/// InfluxDB 1.x has whole numbers of 63 bits.
fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
