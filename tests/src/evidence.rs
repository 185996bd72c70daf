//! What a cut left behind as evidence: its times by the kernel, from `show` and `explain`.

use crate::agent::Agent;
use serde_json::Value;
use voice_room::Mono;

/// A cut, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// When the verdict was armed.
    pub armed: Mono,
    /// When it ends.
    pub deadline: Mono,
    /// From arming to the kernel's first drop of a packet towards the node.
    pub first_drop_us: u64,
    /// The rule that allowed it.
    pub rule: String,
    /// The state before it.
    pub old_state: String,
}

/// The recorded entries of `kind` of a room, oldest first.
pub fn entries(agent: &Agent, room: &str, kind: &str) -> Vec<Value> {
    let explained = agent.json(&["explain", room]).unwrap_or_default();
    let entries = explained["entries"].as_array().into_iter().flatten();
    entries
        .map(|e| e["what"].clone())
        .filter(|what| what["kind"] == kind)
        .collect()
}

/// The kinds of everything recorded of a room, oldest first.
pub fn kinds(agent: &Agent, room: &str) -> Vec<String> {
    let explained = agent.json(&["explain", room]).unwrap_or_default();
    let entries = explained["entries"].as_array().into_iter().flatten();
    entries
        .filter_map(|e| e["what"]["kind"].as_str().map(str::to_owned))
        .collect()
}

/// The latest cut of a room; `None` until its first drop is recorded.
pub fn cut(agent: &Agent, room: &str) -> Option<Cut> {
    let drops = entries(agent, room, "first_drop");
    let drop = drops.iter().rfind(|d| d["direction"] == "ingress")?;
    let trip = entries(agent, room, "trip").pop()?;
    let stuck = entries(agent, room, "transition").pop()?;
    let (armed, deadline) = armed(agent, room)?;
    Some(Cut {
        armed,
        deadline,
        first_drop_us: drop["after_us"].as_u64()?,
        rule: trip["rule"].as_str()?.to_owned(),
        old_state: stuck["old_state"].as_str()?.to_owned(),
    })
}

/// When the verdict of the room's present cut was armed and when it ends.
pub fn armed(agent: &Agent, room: &str) -> Option<(Mono, Mono)> {
    let block = agent.room(room)?["block"].clone();
    let at = |key: &str| block[key].as_u64().map(Mono);
    Some((at("armed_monotonic_ns")?, at("deadline_monotonic_ns")?))
}
