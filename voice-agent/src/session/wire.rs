//! From the core's types to the wire's. The way back, which must doubt everything, is `translate`.

use crate::{proto::v1, session::translate::Refusal};
use voice_room::{
    Epoch, EventType, Isolation, Rejected, State, Wall,
    command::{Accepted, Expired, RoomUpdate},
    sync::{Proposal, Rollback},
};

pub(super) fn epoch(epoch: Epoch) -> v1::Epoch {
    v1::Epoch {
        era: epoch.era,
        revision: epoch.revision,
    }
}

pub(super) fn state(state: State) -> v1::RoomState {
    match state {
        State::Created => v1::RoomState::Created,
        State::Liveing => v1::RoomState::Liveing,
        State::GraceClosing => v1::RoomState::GraceClosing,
        State::Expired => v1::RoomState::Expired,
        State::Destroyed => v1::RoomState::Destroyed,
    }
}

pub(super) fn isolation(isolation: &Isolation, now: Wall) -> v1::Isolation {
    v1::Isolation {
        room: isolation.room.to_string(),
        reason: isolation.reason.clone(),
        isolated_until_ms: isolation.until.0,
        retry_after_ms: isolation.until.0.saturating_sub(now.0),
    }
}

pub(super) fn expired(expired: &Expired, now: Wall) -> v1::StateExpired {
    v1::StateExpired {
        room: expired.room.to_string(),
        reason: expired.reason.clone(),
        version: expired.version.0,
        epoch: Some(epoch(expired.epoch)),
        incarnation: expired.incarnation.0,
        isolated_until_ms: expired.isolated_until.0,
        retry_after_ms: expired.isolated_until.0.saturating_sub(now.0),
    }
}

pub(super) fn restored(update: &RoomUpdate) -> v1::StateRestored {
    v1::StateRestored {
        room: update.room.to_string(),
        state: state(update.state).into(),
        version: update.version.0,
        epoch: Some(epoch(update.epoch)),
        incarnation: update.incarnation.0,
        reason: update.reason.clone(),
    }
}

pub(super) fn update(update: &RoomUpdate) -> v1::RoomUpdate {
    v1::RoomUpdate {
        room: update.room.to_string(),
        state: state(update.state).into(),
        version: update.version.0,
        epoch: Some(epoch(update.epoch)),
        incarnation: update.incarnation.0,
        reason: update.reason.clone(),
        trace_id: update
            .trace_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

pub(super) fn commit(told: &RoomUpdate) -> v1::Commit {
    v1::Commit {
        update: Some(update(told)),
        over: told.over,
    }
}

pub(super) fn prepare(proposal: &Proposal) -> v1::Prepare {
    v1::Prepare {
        room: proposal.room.to_string(),
        incarnation: proposal.incarnation.0,
        event: event(proposal.event).into(),
        state: state(proposal.state).into(),
        version: proposal.version.0,
        epoch: Some(epoch(proposal.attempt.epoch)),
        attempt: proposal.attempt.number,
        answer_within_ms: u64::try_from(proposal.within.as_millis()).unwrap_or(u64::MAX),
        reason: proposal.reason.clone(),
        trace_id: proposal
            .trace_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

pub(super) fn rollback(rollback: &Rollback) -> v1::Rollback {
    v1::Rollback {
        room: rollback.room.to_string(),
        epoch: Some(epoch(rollback.attempt.epoch)),
        attempt: rollback.attempt.number,
        reason: rollback.reason.clone(),
    }
}

/// Only what a peer can ask for is ever proposed.
fn event(event: EventType) -> v1::EventType {
    match event {
        EventType::Create => v1::EventType::Create,
        EventType::StartLive => v1::EventType::StartLive,
        EventType::HostDisconnect => v1::EventType::HostDisconnect,
        EventType::HostReturn => v1::EventType::HostReturn,
        EventType::NoActiveUser => v1::EventType::NoActiveUser,
        EventType::Close => v1::EventType::Close,
        _ => v1::EventType::Unspecified,
    }
}

pub(super) fn accepted(request_id: u64, accepted: &Accepted) -> v1::EventResult {
    v1::EventResult {
        request_id,
        result: Some(v1::event_result::Result::Accepted(v1::Accepted {
            state: state(accepted.state).into(),
            version: accepted.version.0,
            epoch: Some(epoch(accepted.epoch)),
            incarnation: accepted.incarnation.0,
        })),
    }
}

pub(super) fn refused(request_id: u64, refusal: Refusal) -> v1::EventResult {
    v1::EventResult {
        request_id,
        result: Some(v1::event_result::Result::Rejected(v1::Refused {
            code: refusal.code.to_owned(),
            message: refusal.message,
            retry_after_ms: refusal.retry_after_ms,
        })),
    }
}

impl From<&Rejected> for Refusal {
    fn from(rejected: &Rejected) -> Refusal {
        let retry_after_ms = match rejected {
            Rejected::Isolated { retry_after, .. } => {
                u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1)
            }
            _ => 0,
        };
        Refusal {
            code: rejected.code(),
            message: rejected.to_string(),
            retry_after_ms,
        }
    }
}
