//! Follows the rooms as the CLI shows them, on a thread of its own: asking takes longer than a refresh of the screen.

use crate::{
    agent::Agent,
    rtp::{Task, lock},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

const EVERY: Duration = Duration::from_millis(250);

/// The latest `rooms --json`, by room.
#[derive(Debug)]
pub(super) struct Watch {
    rooms: Arc<Mutex<BTreeMap<String, Value>>>,
    _task: Task,
}

impl Watch {
    pub(super) fn start(agent: Arc<Agent>) -> Watch {
        let rooms: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let seen = rooms.clone();
        let task = Task::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(answer) = agent.json(&["rooms"]) {
                    *lock(&seen) = by_name(&answer);
                }
                thread::sleep(EVERY);
            }
        });
        Watch { rooms, _task: task }
    }

    /// A room; null when the agent does not know it.
    pub(super) fn room(&self, name: &str) -> Value {
        lock(&self.rooms).get(name).cloned().unwrap_or_default()
    }

    /// Its state by wire name; `(no room)` before it began and once it is over.
    pub(super) fn state(&self, name: &str) -> String {
        self.room(name)["state"]
            .as_str()
            .unwrap_or("(no room)")
            .to_owned()
    }

    /// Heartbeats missed in a row.
    pub(super) fn misses(&self, name: &str) -> u64 {
        self.room(name)["misses"].as_u64().unwrap_or(0)
    }
}

fn by_name(answer: &Value) -> BTreeMap<String, Value> {
    let rooms = answer["rooms"].as_array().or_else(|| answer.as_array());
    let named = rooms
        .into_iter()
        .flatten()
        .filter_map(|r| Some((r["room"].as_str()?.to_owned(), r.clone())));
    named.collect()
}
