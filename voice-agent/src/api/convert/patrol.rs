//! What patrol found, and what became of repairs.

use super::{millis, name, time};
use crate::{
    patrol::{Diffs, Found, LastRound, repair},
    proto::admin::{
        Apart, DiffResponse, Difference, Differs, PatrolRound, RepairResult, Repaired, Unknown, Value, value,
    },
};
use std::collections::BTreeMap;
use voice_room::{
    patrol::{self, Place, Worth},
    timeline,
};

/// The answer to `diff`.
pub fn diffs(diffs: &Diffs) -> DiffResponse {
    DiffResponse {
        rooms: count(diffs.rooms),
        unsettled: count(diffs.unsettled),
        differences: diffs.found.iter().map(found).collect(),
        left_out: count(diffs.left_out),
        unknown: unknown(&diffs.unknown),
        took_ms: millis(diffs.took),
        last_round: diffs.last.as_ref().map(last_round),
    }
}

/// What became of one difference.
pub fn repair_result(result: &repair::Result, diffs: &Diffs) -> RepairResult {
    let known = diffs
        .found
        .iter()
        .find(|found| found.difference.is(&result.difference));
    let detail = match &result.outcome {
        repair::Outcome::Left(why) | repair::Outcome::Failed(why) => why.clone(),
        repair::Outcome::Repaired | repair::Outcome::Would => String::new(),
    };
    RepairResult {
        difference: Some(known.map_or_else(|| difference(&result.difference), found)),
        outcome: result.outcome.name().into(),
        detail,
    }
}

/// Places that could not be looked at.
pub fn unknown(unknown: &BTreeMap<Place, String>) -> Vec<Unknown> {
    let one = |(place, problem): (&Place, &String)| Unknown {
        place: place.to_string(),
        problem: problem.clone(),
    };
    unknown.iter().map(one).collect()
}

/// What differs in one place.
pub fn differs(d: &timeline::Differs) -> Differs {
    Differs {
        place: d.place.to_string(),
        class: d.class.name().into(),
        why: d.why.clone(),
        fields: d.fields.iter().map(apart).collect(),
    }
}

/// A repair.
pub fn repaired(r: &timeline::Repaired) -> Repaired {
    let (Ok(detail) | Err(detail)) = &r.result;
    Repaired {
        place: r.place.to_string(),
        fields: r.fields.iter().map(apart).collect(),
        actor: r.actor.to_string(),
        ok: r.result.is_ok(),
        detail: detail.clone(),
    }
}

fn found(found: &Found) -> Difference {
    Difference {
        rounds: found.rounds,
        since: found.since.map(time),
        ..difference(&found.difference)
    }
}

fn difference(d: &patrol::Difference) -> Difference {
    Difference {
        room: d.room.to_string(),
        place: d.place.to_string(),
        path: d.path.clone(),
        here: value(&d.here),
        there: value(&d.there),
        right: name(&d.right),
        class: d.class.name().into(),
        why: d.why.clone(),
        rounds: 0,
        since: None,
    }
}

fn last_round(last: &LastRound) -> PatrolRound {
    PatrolRound {
        ended: Some(time(last.ended)),
        took_ms: millis(last.took),
        rooms: count(last.rooms),
        unknown: unknown(&last.unknown),
    }
}

fn apart(apart: &timeline::Apart) -> Apart {
    Apart {
        path: apart.path.clone(),
        here: value(&apart.here),
        there: value(&apart.there),
    }
}

fn value(worth: &Worth) -> Option<Value> {
    let value = match worth {
        Worth::Nothing => return None,
        Worth::Flag(flag) => value::Value::Flag(*flag),
        Worth::Number(number) => value::Value::Number(*number),
        Worth::Text(text) => value::Value::Text(text.clone()),
    };
    Some(Value { value: Some(value) })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
