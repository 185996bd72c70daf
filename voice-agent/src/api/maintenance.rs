//! The calls about maintenance.

use super::ops::{Answer, Ops, asked, caller, reason, rejected, room_id};
use crate::{driver::NotMaintained, proto::admin as pb};
use std::time::Duration;
use tonic::{Request, Response, Status};
use voice_room::core::maintenance::LONGEST;

impl Ops {
    pub(super) async fn maintain(
        &self,
        request: &Request<pb::MaintenanceOnRequest>,
    ) -> Answer<pb::MaintenanceOnResponse> {
        let asked_for = request.get_ref();
        let room = asked_for.room.as_deref().map(room_id).transpose()?;
        let lasts = Duration::from_millis(asked_for.lasts_ms);
        if lasts.is_zero() || lasts > LONGEST {
            return Err(Status::invalid_argument(format!(
                "maintenance for {}: allowed is more than nothing and at most {}",
                humantime::format_duration(lasts),
                humantime::format_duration(LONGEST)
            )));
        }
        let reason = reason(&asked_for.reason)?;
        let done = self.handle.maintain(room, Some(lasts), reason, caller(request));
        asked(done).await?.map_err(|e| refused(&e))?;
        Ok(Response::new(pb::MaintenanceOnResponse {
            room: asked_for.room.clone(),
            lasts_ms: asked_for.lasts_ms,
        }))
    }

    pub(super) async fn end_maintenance(
        &self,
        request: &Request<pb::MaintenanceOffRequest>,
    ) -> Answer<pb::MaintenanceOffResponse> {
        let room = request.get_ref().room.as_deref().map(room_id).transpose()?;
        let before = asked(self.handle.maintenance()).await?;
        let was_on = before.iter().any(|m| m.room == room);
        if was_on {
            let reason = "ended by command".into();
            let done = self.handle.maintain(room.clone(), None, reason, caller(request));
            asked(done).await?.map_err(|e| refused(&e))?;
        }
        let rest = before.iter().filter(|m| m.room != room);
        let (rooms, every_room): (Vec<_>, Vec<_>) = rest.partition(|m| m.room.is_some());
        Ok(Response::new(pb::MaintenanceOffResponse {
            room: room.map(|room| room.to_string()),
            was_on,
            every_room_still_on: !every_room.is_empty(),
            rooms_still_on: u32::try_from(rooms.len()).unwrap_or(u32::MAX),
        }))
    }
}

fn refused(why: &NotMaintained) -> Status {
    match why {
        NotMaintained::Refused(why) => rejected(why),
        NotMaintained::NotKept(_) => Status::internal(format!("maintenance: {why}")),
    }
}
