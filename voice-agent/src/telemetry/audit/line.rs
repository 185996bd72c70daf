//! What a line of the audit log says. Absent fields do not apply; an operator's `uid` is null when it is not known.

use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};
use voice_room::{
    Entry, EventType, Incarnation, RoomId, StateChangeEvent, Wall,
    timeline::{Actor, Evidence, Rule, Step, What},
};

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    time: String,
    unix_ms: u64,
    action: &'static str,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    arguments: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    evidence: Value,
    result: Value,
}

/// What the thread is handed: making lines of the core's entries is left to it.
#[derive(Debug)]
pub(super) enum Told {
    Line(Line),
    Entry(Entry),
}

impl Told {
    /// JSON and a newline.
    pub(super) fn text(self) -> String {
        let line = match self {
            Told::Line(line) => line,
            Told::Entry(entry) => decision(entry),
        };
        // Every field has a JSON form.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Line {
    /// A line without room, evidence and result.
    pub fn new(action: &'static str, actor: Actor, at: Wall) -> Line {
        // Later than any date that can be written: the last one that can.
        let time = UNIX_EPOCH + Duration::from_millis(at.0.min(253_402_300_799_999));
        let (actor, uid) = match actor {
            Actor::Operator { uid } => ("operator".into(), Some(uid)),
            other => (other.to_string(), None),
        };
        Line {
            time: humantime::format_rfc3339_millis(time).to_string(),
            unix_ms: at.0,
            action,
            actor,
            uid,
            room: None,
            incarnation: None,
            reason: None,
            arguments: Value::Null,
            evidence: Value::Null,
            result: Value::Null,
        }
    }

    /// Of this room, by whatever name was given for it.
    #[must_use]
    pub fn room(mut self, room: impl Into<String>) -> Line {
        self.room = Some(room.into());
        self
    }

    /// Of this life of the room.
    #[must_use]
    pub fn life(self, room: &RoomId, incarnation: Incarnation) -> Line {
        Line {
            incarnation: Some(incarnation.0),
            ..self.room(room.as_str())
        }
    }

    /// Why, in words.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Line {
        self.reason = Some(reason.into());
        self
    }

    /// What it was asked for with.
    #[must_use]
    pub fn arguments(mut self, arguments: Value) -> Line {
        self.arguments = arguments;
        self
    }

    /// On which facts.
    #[must_use]
    pub fn evidence(mut self, evidence: Value) -> Line {
        self.evidence = evidence;
        self
    }

    /// What came of it.
    #[must_use]
    pub fn result(mut self, result: Value) -> Line {
        self.result = result;
        self
    }
}

/// Decisions are what the agent's rules or an operator brought about, what became of a trip, and its end. What peers tell,
/// and what only repeats another entry, is none.
pub(super) fn is_decision(entry: &Entry) -> bool {
    match &entry.what {
        // An operator's block is in its transition, with who it was; the agent's own trip has the evidence in its entry.
        What::Trip { rule, .. } => *rule != Rule::Operator,
        What::Transition(event) => match event.actor {
            Actor::Operator { .. } => true,
            Actor::Agent => event.event_type != EventType::Stuck,
            Actor::Peer(_) | Actor::Source(_) => false,
        },
        What::Step { step, result } => result.is_err() || !matches!(step, Step::Journal | Step::Audit),
        What::WouldTrip { .. }
        | What::Held { .. }
        | What::Lifted { .. }
        | What::Differs(_)
        | What::Repaired(_) => true,
        _ => false,
    }
}

fn decision(entry: Entry) -> Line {
    let line = |action, actor| Line::new(action, actor, entry.at).life(&entry.room, entry.incarnation);
    let agent = |action| line(action, Actor::Agent);
    match entry.what {
        What::Trip {
            rule,
            evidence,
            until,
            version,
        } => agent("trip")
            .evidence(evidence.as_ref().map_or(Value::Null, facts))
            .result(json!({ "rule": rule, "until_unix_ms": until.0, "version": version })),
        What::WouldTrip { rule, evidence } => agent("would_trip")
            .evidence(facts(&evidence))
            .result(json!({ "rule": rule })),
        What::Held { hold, evidence } => agent("hold")
            .evidence(facts(&evidence))
            .result(json!({ "hold": hold })),
        What::Step { step, result } => agent("step").reason(step.name()).result(match result {
            Ok(detail) => json!({ "ok": true, "detail": detail }),
            Err(problem) => json!({ "ok": false, "problem": problem }),
        }),
        What::Lifted { dropped, reason } => agent("lifted")
            .reason(reason)
            .result(json!({ "dropped_packets": dropped })),
        What::Differs(differs) => agent("differs")
            .reason(differs.why.as_str())
            .evidence(json!(differs.fields))
            .result(json!({ "place": differs.place, "class": differs.class })),
        What::Repaired(repaired) => {
            let done = line("repaired", repaired.actor.clone()).evidence(json!(repaired.fields));
            done.result(match &repaired.result {
                Ok(detail) => json!({ "place": repaired.place, "ok": true, "detail": detail }),
                Err(problem) => json!({ "place": repaired.place, "ok": false, "problem": problem }),
            })
        }
        What::Transition(event) => line("transition", event.actor.clone())
            .reason(event.reason.as_str())
            .result(moved(&event)),
        // None of them is a decision; were one handed over, the line would still say what it is.
        other => agent("recorded").result(json!(other)),
    }
}

fn moved(event: &StateChangeEvent) -> Value {
    json!({
        "event": event.event_type,
        "from": event.old_state,
        "to": event.new_state,
        "version": event.version,
    })
}

/// By the names and units of `explain --json`.
fn facts(e: &Evidence) -> Value {
    let witness = e.witness.as_ref().map(|w| {
        json!({
            "window_ms": millis(w.window),
            "rtp_in_packets": w.rtp_in,
            "rtp_out_packets": w.rtp_out,
            "saw_egress": w.saw_egress,
        })
    });
    json!({
        "misses": e.misses,
        "heartbeat_age_ms": e.heartbeat_age.map(millis),
        "progress_age_ms": millis(e.progress_age),
        "progress": e.progress,
        "source": e.source,
        "source_silent_ms": e.source_silent_for.map(millis),
        "sockets_gone": e.sockets_gone,
        "witness": witness,
        "cap_used": e.cap.0,
        "cap_allowed": e.cap.1,
        "mode": e.mode,
    })
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
