//! The calls for the history: questions as they come over the socket, checked; answers as JSON of `voice-history`'s types.

use super::ops::{Answer, room_id};
use crate::{history::History, proto::admin as pb};
use serde::Serialize;
use tonic::{Response, Status};
use voice_history::{Cursor, HistoryError, PathQuestion, Question, Range};
use voice_room::Wall;

/// Snapshots in one answer: each is some hundred bytes of JSON.
const PAGE: u32 = 2_000;

/// Answers a question; `None`: the history is off.
pub(super) async fn ask(
    history: Option<&History>,
    asked: &pb::HistoryRequest,
) -> Answer<pb::HistoryResponse> {
    let history = history.ok_or_else(|| {
        Status::failed_precondition(
            "the history is off: set history.kind = \"embedded\" and restart the agent",
        )
    })?;
    let range = Range {
        from: Wall(asked.from_ms.unwrap_or(0)),
        to: Wall(asked.to_ms.unwrap_or(u64::MAX)),
    };
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, PAGE) as usize;
    let after = asked.after.clone().map(Cursor);
    let room = asked.room.as_deref().map(room_id).transpose()?;
    let json = match (room, &asked.path, asked.at_ms) {
        (Some(room), None, None) => {
            let question = Question {
                room,
                range,
                limit,
                points: asked.points.map(|points| points as usize),
                after,
            };
            json(&history.room(question).await.map_err(|e| refused(&e))?)
        }
        (Some(room), None, Some(at)) => json(&history.at(room, Wall(at)).await.map_err(|e| refused(&e))?),
        (None, Some(path), None) => {
            let path = path
                .parse()
                .map_err(|e: voice_history::PathError| Status::invalid_argument(e.to_string()))?;
            let question = PathQuestion {
                path,
                range,
                limit,
                after,
            };
            json(&history.path(question).await.map_err(|e| refused(&e))?)
        }
        _ => {
            return Err(Status::invalid_argument(
                "ask for a room, for a room at a time, or for a path",
            ));
        }
    }?;
    Ok(Response::new(pb::HistoryResponse { json }))
}

fn json(answer: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(answer).map_err(|e| Status::internal(format!("writing the answer: {e}")))
}

fn refused(error: &HistoryError) -> Status {
    let said = error.to_string();
    match error {
        HistoryError::NoSuchRoom { .. } => Status::not_found(said),
        HistoryError::Range(_) | HistoryError::Cursor(_) => Status::invalid_argument(said),
        HistoryError::Away(_) => Status::internal(said),
    }
}
