//! The calls of patrol: how rooms compare, and repairs.

use super::{
    convert,
    ops::{Answer, Ops, asked, caller, no_such_room, room_id},
};
use crate::{
    driver::Stopped,
    patrol::{
        Diffs,
        repair::{Order, repair},
    },
    proto::admin as pb,
};
use std::{future::Future, time::Duration};
use tonic::{Request, Response, Status};
use voice_room::RoomId;

/// How long a look at every room, or a repair of them, may take. Below the CLI's own patience with these two.
const LOOK_WITHIN: Duration = Duration::from_secs(50);

impl Ops {
    pub(super) async fn differences(&self, request: &Request<pb::DiffRequest>) -> Answer<pb::DiffResponse> {
        let room = self.known_room(request.get_ref().room.as_deref()).await?;
        let diffs: Diffs = looked(self.handle.diff(room)).await?;
        Ok(Response::new(convert::patrol::diffs(&diffs)))
    }

    pub(super) async fn mend(&self, request: &Request<pb::RepairRequest>) -> Answer<pb::RepairResponse> {
        let order = Order {
            room: self.known_room(request.get_ref().room.as_deref()).await?,
            dry_run: request.get_ref().dry_run,
            actor: caller(request),
        };
        let (diffs, results) = looked(repair(&self.handle, &order)).await?;
        let result = |result| convert::patrol::repair_result(result, &diffs);
        Ok(Response::new(pb::RepairResponse {
            dry_run: order.dry_run,
            results: results.iter().map(result).collect(),
            unknown: convert::patrol::unknown(&diffs.unknown),
        }))
    }

    async fn known_room(&self, room: Option<&str>) -> Result<Option<RoomId>, Status> {
        let Some(room) = room.map(room_id).transpose()? else {
            return Ok(None);
        };
        match asked(self.handle.room(room.clone())).await? {
            Some(_) => Ok(Some(room)),
            None => Err(no_such_room(&room)),
        }
    }
}

/// Waits for a look. The driver drops the question when too many are asked, and when it ends.
async fn looked<T>(answer: impl Future<Output = Result<T, Stopped>>) -> Result<T, Status> {
    match tokio::time::timeout(LOOK_WITHIN, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Stopped)) => Err(Status::resource_exhausted(
            "too many looks are asked for at once, or the agent is shutting down; ask again in a moment",
        )),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the look did not end within {} s; the agent's log and `voice-agent status` say what is slow",
            LOOK_WITHIN.as_secs()
        ))),
    }
}
