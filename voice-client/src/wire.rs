//! From the wire's types to those of `voice-room`, and back. What an agent says is checked here, once.

use crate::proto::v1;
use std::time::Duration;
use voice_room::{
    Epoch, EventType, IdError, Incarnation, RoomId, State, TraceId, Version, Wall,
    command::{Expired, RoomUpdate},
    sync::{Attempt, Known, Proposal, Rollback},
};

/// A message of the agent that cannot be understood. Nothing is changed by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("room state {0} is none that is known")]
    State(i32),
    #[error("event {0} is none that is known")]
    Event(i32),
    #[error("COMMIT without a room")]
    Empty,
}

pub(crate) fn epoch(epoch: Option<v1::Epoch>) -> Epoch {
    epoch.map_or(Epoch::default(), |epoch| Epoch {
        era: epoch.era,
        revision: epoch.revision,
    })
}

pub(crate) fn to_epoch(epoch: Epoch) -> v1::Epoch {
    v1::Epoch {
        era: epoch.era,
        revision: epoch.revision,
    }
}

pub(crate) fn state(given: i32) -> Result<State, Unreadable> {
    match v1::RoomState::try_from(given) {
        Ok(v1::RoomState::Created) => Ok(State::Created),
        Ok(v1::RoomState::Liveing) => Ok(State::Liveing),
        Ok(v1::RoomState::GraceClosing) => Ok(State::GraceClosing),
        Ok(v1::RoomState::Expired) => Ok(State::Expired),
        Ok(v1::RoomState::Destroyed) => Ok(State::Destroyed),
        Ok(v1::RoomState::Unspecified) | Err(_) => Err(Unreadable::State(given)),
    }
}

fn event(given: i32) -> Result<EventType, Unreadable> {
    match v1::EventType::try_from(given) {
        Ok(v1::EventType::Create) => Ok(EventType::Create),
        Ok(v1::EventType::StartLive) => Ok(EventType::StartLive),
        Ok(v1::EventType::HostDisconnect) => Ok(EventType::HostDisconnect),
        Ok(v1::EventType::HostReturn) => Ok(EventType::HostReturn),
        Ok(v1::EventType::NoActiveUser) => Ok(EventType::NoActiveUser),
        Ok(v1::EventType::Close) => Ok(EventType::Close),
        Ok(v1::EventType::Unspecified) | Err(_) => Err(Unreadable::Event(given)),
    }
}

/// An empty or unreadable trace id is none: it changes nothing of what is said.
fn trace(given: &str) -> Option<TraceId> {
    TraceId::new(given).ok()
}

pub(crate) fn expired(told: &v1::StateExpired) -> Result<(Expired, Duration), Unreadable> {
    let expired = Expired {
        room: RoomId::new(&told.room)?,
        incarnation: Incarnation(told.incarnation),
        version: Version(told.version),
        epoch: epoch(told.epoch),
        reason: told.reason.clone(),
        isolated_until: Wall(told.isolated_until_ms),
    };
    Ok((expired, Duration::from_millis(told.retry_after_ms)))
}

pub(crate) fn restored(told: v1::StateRestored) -> Result<RoomUpdate, Unreadable> {
    Ok(RoomUpdate {
        room: RoomId::new(&told.room)?,
        incarnation: Incarnation(told.incarnation),
        state: state(told.state)?,
        version: Version(told.version),
        epoch: epoch(told.epoch),
        reason: told.reason,
        trace_id: None,
        over: 0,
    })
}

pub(crate) fn update(told: v1::RoomUpdate, over: u64) -> Result<RoomUpdate, Unreadable> {
    Ok(RoomUpdate {
        room: RoomId::new(&told.room)?,
        incarnation: Incarnation(told.incarnation),
        state: state(told.state)?,
        version: Version(told.version),
        epoch: epoch(told.epoch),
        reason: told.reason,
        trace_id: trace(&told.trace_id),
        over,
    })
}

pub(crate) fn commit(told: v1::Commit) -> Result<RoomUpdate, Unreadable> {
    update(told.update.ok_or(Unreadable::Empty)?, told.over)
}

pub(crate) fn prepare(told: v1::Prepare) -> Result<Proposal, Unreadable> {
    Ok(Proposal {
        to: Vec::new(),
        room: RoomId::new(&told.room)?,
        incarnation: Incarnation(told.incarnation),
        event: event(told.event)?,
        state: state(told.state)?,
        version: Version(told.version),
        attempt: Attempt {
            epoch: epoch(told.epoch),
            number: told.attempt,
        },
        reason: told.reason,
        trace_id: trace(&told.trace_id),
        within: Duration::from_millis(told.answer_within_ms),
    })
}

pub(crate) fn rollback(told: v1::Rollback) -> Result<Rollback, Unreadable> {
    Ok(Rollback {
        to: Vec::new(),
        room: RoomId::new(&told.room)?,
        attempt: Attempt {
            epoch: epoch(told.epoch),
            number: told.attempt,
        },
        reason: told.reason,
    })
}

pub(crate) fn known(known: &Known) -> v1::KnownRoom {
    v1::KnownRoom {
        room: known.room.to_string(),
        epoch: (known.epoch != Epoch::default()).then(|| to_epoch(known.epoch)),
        incarnation: known.incarnation.0,
        version: known.version.0,
        prepared: known.prepared,
    }
}

/// Cuts a reason to what the agent takes, at a character's end.
pub(crate) fn cut(reason: &str, bytes: usize) -> &str {
    let mut end = reason.len().min(bytes);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_the_end_of_a_character() {
        assert_eq!(cut("abc", 256), "abc");
        assert_eq!(cut(&"é".repeat(200), 255).len(), 254);
    }

    #[test]
    fn what_an_agent_says_that_is_not_understood_is_an_error_and_no_guess() {
        let told = v1::RoomUpdate {
            room: "r".into(),
            state: 99,
            ..Default::default()
        };
        assert_eq!(update(told.clone(), 0), Err(Unreadable::State(99)));
        let told = v1::RoomUpdate {
            room: "a b".into(),
            ..told
        };
        assert!(matches!(update(told, 0), Err(Unreadable::Id(_))));
        assert_eq!(commit(v1::Commit::default()), Err(Unreadable::Empty));
    }
}
