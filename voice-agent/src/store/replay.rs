//! A room's state rebuilt from its events, and what is wrong with them: for who wants to know whether the record is what its
//! events say. Pure.

use super::Position;
use serde::Serialize;
use voice_room::{
    Epoch, EventType, Incarnation, OpId, RoomRecord, State, StateChangeEvent, Version, state::allows,
};

/// What the events of a room come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The state after the last of them.
    pub state: State,
    /// Its version.
    pub version: Version,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its life.
    pub incarnation: Incarnation,
    /// The change that made it.
    pub op_id: OpId,
    /// The first version that is still told of; those before it were cut.
    pub first: Version,
    /// How many events.
    pub events: usize,
    /// Where they do not fit together, in words.
    pub problems: Vec<String>,
}

/// Goes through the events of one room in their order; `None` when there are none.
pub fn rebuild(events: &[(Position, StateChangeEvent)]) -> Option<Rebuilt> {
    let (_, first) = events.first()?;
    let mut rebuilt = after(first, first.version, events.len());
    for (position, event) in events.iter().skip(1) {
        let problem = misfit(&rebuilt, event);
        let problems = std::mem::take(&mut rebuilt.problems);
        rebuilt = after(event, first.version, events.len());
        rebuilt.problems = problems;
        rebuilt
            .problems
            .extend(problem.map(|problem| format!("{position}: {problem}")));
    }
    Some(rebuilt)
}

impl Rebuilt {
    /// Where a stored record differs from what the events say, in words.
    pub fn differences(&self, stored: &RoomRecord) -> Vec<String> {
        let pairs = [
            ("state", self.state.to_string(), stored.state.to_string()),
            ("version", self.version.to_string(), stored.version.to_string()),
            ("epoch", self.epoch.to_string(), stored.epoch.to_string()),
            (
                "incarnation",
                self.incarnation.to_string(),
                stored.incarnation.to_string(),
            ),
            ("op_id", self.op_id.to_string(), stored.op_id.to_string()),
        ];
        let differ = pairs.into_iter().filter(|(_, told, stored)| told != stored);
        differ
            .map(|(name, told, stored)| format!("{name}: the events say {told}, the record {stored}"))
            .collect()
    }
}

fn after(event: &StateChangeEvent, first: Version, events: usize) -> Rebuilt {
    Rebuilt {
        state: event.new_state,
        version: event.version,
        epoch: event.epoch,
        incarnation: event.incarnation,
        op_id: event.op_id.clone(),
        first,
        events,
        problems: Vec::new(),
    }
}

/// Why an event does not follow on what was before it.
fn misfit(before: &Rebuilt, event: &StateChangeEvent) -> Option<String> {
    let (state, version) = (before.state, event.version);
    if version <= before.version {
        return Some(format!("version {version} after version {}", before.version));
    }
    if event.epoch < before.epoch {
        return Some(format!("epoch {} after epoch {}", event.epoch, before.epoch));
    }
    // An owner puts back what the store lost: under the next number that it never used.
    if event.event_type == EventType::Restore {
        return None;
    }
    // So does one who begins a life of a room that the store had forgotten.
    let begins = event.old_state.is_none();
    if version != before.version.next() && !begins {
        return Some(format!(
            "version {version} after version {}: some are missing",
            before.version
        ));
    }
    let fits = match event.old_state {
        None => state == State::Destroyed || version != before.version.next(),
        Some(old) => old == state,
    };
    let known = allows(event.old_state, event.event_type, event.new_state);
    (!fits || !known).then(|| {
        let old = event.old_state.map_or("(no room)", State::name);
        format!(
            "{} from {old} to {} while the room is {state}",
            event.event_type, event.new_state
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{change, then};
    use voice_room::Change;

    fn told(changes: &[Change]) -> Vec<(Position, StateChangeEvent)> {
        (1..)
            .zip(changes)
            .map(|(n, change)| (Position::Local(n), change.event.clone()))
            .collect()
    }

    #[test]
    fn events_that_fit_together_come_to_the_record_and_others_are_named() {
        let created = change("a");
        let live = then(&created, EventType::StartLive, State::Liveing);
        let closed = then(&live, EventType::Close, State::Destroyed);
        let again = then(&closed, EventType::Create, State::Created);
        let all = [created.clone(), live.clone(), closed, again.clone()];
        let rebuilt = rebuild(&told(&all)).unwrap();
        assert_eq!(
            (&rebuilt.problems[..], rebuilt.differences(&again.record)),
            (&[][..], vec![])
        );
        assert_eq!(
            (rebuilt.version, rebuilt.events, rebuilt.first),
            (Version(4), 4, Version(1))
        );
        assert_eq!(rebuilt.differences(&live.record).len(), 3);
        let gap = rebuild(&told(&[created.clone(), again])).unwrap();
        assert_eq!(gap.problems.len(), 0, "{gap:?}");
        let twice = rebuild(&told(&[created.clone(), live.clone(), live])).unwrap();
        assert!(
            twice.problems[0].contains("version 2 after version 2"),
            "{twice:?}"
        );
        assert_eq!(rebuild(&[]), None);
    }
}
