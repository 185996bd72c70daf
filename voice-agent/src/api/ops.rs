//! The calls: each checks what it was given, asks the driver, and turns the answer into a message or a status.

use super::{
    ANSWER_WITHIN, About, convert,
    events::{Events, Readers},
    history, top,
};
use crate::{
    driver::{Handle, Stopped},
    proto::admin::{self as pb, admin_server::Admin},
    store::{Cursor, position::NoPosition},
    telemetry::{
        audit::{Asked, Audit},
        counters::Counter,
        logs::recent_lines,
    },
};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use std::{collections::BTreeMap, future::Future, time::Duration};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::server::UdsConnectInfo};
use voice_room::{Rejected, RoomId, Version, command::Accepted, input, input::Ask, timeline::Actor};

/// The response metadata that carries `Rejected::code`.
pub(crate) const REASON: &str = "voice-reason";

/// A reason longer than this, in bytes, is refused: it is stored, pushed to every peer and shown.
const REASON_MAX: usize = 256;

/// Releases at one time when all are released.
const RELEASES_AT_ONCE: usize = 64;

pub(super) type Answer<T> = Result<Response<T>, Status>;

/// The service.
pub(super) struct Ops {
    pub(super) handle: Handle,
    pub(super) audit: Audit,
    pub(super) about: About,
    pub(super) readers: Readers,
}

#[tonic::async_trait]
impl Admin for Ops {
    type EventsStream = Events;

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answer<Events> {
        let wanted = request.get_ref();
        let room = wanted.room.as_deref().map(room_id).transpose()?;
        let since: Option<Cursor> = wanted
            .since
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|e: NoPosition| Status::invalid_argument(e.to_string()))?;
        let since = since.unwrap_or_default();
        let events = self
            .readers
            .read(self.handle.clone(), room, since, wanted.follow)?;
        Ok(Response::new(events))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        let census = asked(self.handle.census()).await?;
        let kernel = asked(self.handle.kernel()).await?;
        let maintenance = asked(self.handle.maintenance()).await?;
        let of_every_room = maintenance.iter().find(|m| m.room.is_none());
        let of_rooms = maintenance.len() - usize::from(of_every_room.is_some());
        let now = convert::now();
        Ok(Response::new(pb::StatusResponse {
            node: self.about.node.to_string(),
            instance: self.about.instance.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: Some(convert::time(self.about.started)),
            uptime_ms: convert::millis(now.since(self.about.started)),
            mode: convert::mode(self.about.mode.get()),
            kill_switch: kernel.kill_switch,
            rooms: Some(convert::counts(&census)),
            kernel: Some(convert::kernel(&kernel)),
            maintenance_of_every_room: of_every_room.map(|m| convert::maintenance(m, now)),
            rooms_under_maintenance: u32::try_from(of_rooms).unwrap_or(u32::MAX),
            audit_problem: self.audit.problem(),
            recovered: self.about.recovered.clone(),
            dependencies: self.about.tiers.views().iter().map(convert::dependency).collect(),
            store_lost_records: Counter::StoreLostRecords.value(),
        }))
    }

    async fn rooms(&self, request: Request<pb::RoomsRequest>) -> Answer<pb::RoomsResponse> {
        let blocked_only = request.get_ref().blocked_only;
        let views = asked(self.handle.rooms()).await?;
        let now = convert::now();
        let wanted = views.iter().filter(|v| !blocked_only || v.block.is_some());
        let rooms = wanted.map(|v| convert::room(v, &self.about.node, now)).collect();
        Ok(Response::new(pb::RoomsResponse { rooms }))
    }

    async fn top(&self, request: Request<pb::TopRequest>) -> Answer<pb::TopResponse> {
        let page = top::page(request.get_ref())?;
        let offset = page.offset;
        let found = asked(self.handle.top(page)).await?;
        Ok(Response::new(top::answer(&found, offset, &self.about)))
    }

    async fn show(&self, request: Request<pb::ShowRequest>) -> Answer<pb::Room> {
        let room = room_id(&request.get_ref().room)?;
        let view = asked(self.handle.room(room.clone())).await?;
        let view = view.ok_or_else(|| no_such_room(&room))?;
        Ok(Response::new(convert::room(
            &view,
            &self.about.node,
            convert::now(),
        )))
    }

    async fn history(&self, request: Request<pb::HistoryRequest>) -> Answer<pb::HistoryResponse> {
        history::ask(self.about.history.as_ref(), request.get_ref()).await
    }

    async fn diff(&self, request: Request<pb::DiffRequest>) -> Answer<pb::DiffResponse> {
        self.differences(&request).await
    }

    async fn repair(&self, request: Request<pb::RepairRequest>) -> Answer<pb::RepairResponse> {
        let wanted = request.get_ref();
        let asked = self.asked("repair", &request);
        let asked = match &wanted.room {
            Some(room) => asked.of_room(room),
            None => asked,
        };
        let asked = asked.saying(json!({ "every_room": wanted.room.is_none(), "dry_run": wanted.dry_run }));
        let answer = self.mend(&request).await;
        match &answer {
            Ok(done) => asked.done(&tally(done.get_ref())),
            Err(status) => asked.refused(reason_of(status), status.message()),
        }
        answer
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Answer<pb::ExplainResponse> {
        let room = room_id(&request.get_ref().room)?;
        let entries = asked(self.handle.explain(room.clone())).await?;
        let entries = entries.map_err(|e| Status::internal(format!("reading the evidence: {e}")))?;
        if entries.is_empty() && asked(self.handle.room(room.clone())).await?.is_none() {
            return Err(no_such_room(&room));
        }
        Ok(Response::new(pb::ExplainResponse {
            room: room.to_string(),
            entries: entries.iter().map(convert::entry).collect(),
        }))
    }

    async fn block(&self, request: Request<pb::BlockRequest>) -> Answer<pb::ActResponse> {
        let wanted = request.get_ref();
        let asked = self.asked("block", &request).of_room(&wanted.room);
        let asked = asked.because(&wanted.reason);
        let asked = asked.saying(json!({ "lasts_ms": wanted.lasts_ms }));
        concluded(asked, self.cut(&request).await)
    }

    async fn release(&self, request: Request<pb::ReleaseRequest>) -> Answer<pb::ActResponse> {
        let wanted = request.get_ref();
        let asked = self.asked("release", &request).of_room(&wanted.room);
        let asked = asked.because(&wanted.reason);
        concluded(asked, self.let_go(&request).await)
    }

    async fn release_all(&self, request: Request<pb::ReleaseAllRequest>) -> Answer<pb::ReleaseAllResponse> {
        let asked = self.asked("release_all", &request);
        let asked = asked.because(&request.get_ref().reason);
        let answer = self.let_all_go(&request).await;
        match &answer {
            Ok(done) => asked.done(&json!({ "rooms": done.get_ref().results.len() })),
            Err(status) => asked.refused(reason_of(status), status.message()),
        }
        answer
    }

    async fn close(&self, request: Request<pb::CloseRequest>) -> Answer<pb::ActResponse> {
        let wanted = request.get_ref();
        let asked = self.asked("close", &request).of_room(&wanted.room);
        let asked = asked.because(&wanted.reason);
        let asked = asked.saying(json!({ "version": wanted.version }));
        concluded(asked, self.end(&request).await)
    }

    async fn kill_switch(&self, request: Request<pb::KillSwitchRequest>) -> Answer<pb::KillSwitchResponse> {
        let on = request.get_ref().on;
        let asked = self.asked("kill_switch", &request).saying(json!({ "on": on }));
        concluded(asked, self.turn(on, &request).await)
    }

    async fn maintenance_on(
        &self,
        request: Request<pb::MaintenanceOnRequest>,
    ) -> Answer<pb::MaintenanceOnResponse> {
        let wanted = request.get_ref();
        let asked = self.asked("maintenance_on", &request);
        let asked = match &wanted.room {
            Some(room) => asked.of_room(room),
            None => asked,
        };
        let asked = asked.because(&wanted.reason);
        let asked = asked.saying(json!({ "lasts_ms": wanted.lasts_ms, "every_room": wanted.room.is_none() }));
        concluded(asked, self.maintain(&request).await)
    }

    async fn maintenance_off(
        &self,
        request: Request<pb::MaintenanceOffRequest>,
    ) -> Answer<pb::MaintenanceOffResponse> {
        let room = &request.get_ref().room;
        let asked = self.asked("maintenance_off", &request);
        let asked = match room {
            Some(room) => asked.of_room(room),
            None => asked,
        };
        let asked = asked.saying(json!({ "every_room": room.is_none() }));
        concluded(asked, self.end_maintenance(&request).await)
    }

    async fn maintenance_list(
        &self,
        _: Request<pb::MaintenanceListRequest>,
    ) -> Answer<pb::MaintenanceListResponse> {
        let now = convert::now();
        let maintenance = asked(self.handle.maintenance()).await?;
        let maintenance = maintenance.iter().map(|m| convert::maintenance(m, now)).collect();
        Ok(Response::new(pb::MaintenanceListResponse { maintenance }))
    }

    async fn kernel(&self, _: Request<pb::KernelRequest>) -> Answer<pb::KernelResponse> {
        let status = asked(self.handle.kernel()).await?;
        Ok(Response::new(convert::kernel(&status)))
    }

    async fn logs(&self, _: Request<pb::LogsRequest>) -> Answer<pb::LogsResponse> {
        let lines = recent_lines();
        Ok(Response::new(pb::LogsResponse { lines }))
    }

    async fn topology(&self, request: Request<pb::TopologyRequest>) -> Answer<pb::TopologyResponse> {
        let room = request.get_ref().room.as_deref().map(room_id).transpose()?;
        let peers = asked(self.handle.topology(room)).await?;
        let now = convert::now();
        Ok(Response::new(pb::TopologyResponse {
            peers: peers.iter().map(|p| convert::peer(p, now)).collect(),
        }))
    }
}

impl Ops {
    /// The caller's uid and what is asked for go into the audit log, with the answer.
    fn asked<T>(&self, action: &'static str, request: &Request<T>) -> Asked<'_> {
        self.audit.asked(action, caller(request))
    }

    async fn cut(&self, request: &Request<pb::BlockRequest>) -> Answer<pb::ActResponse> {
        let lasts = request.get_ref().lasts_ms.map(Duration::from_millis);
        if lasts.is_some_and(|d| d.is_zero()) {
            return Err(Status::invalid_argument(
                "lasts_ms is 0; give at least 1, or leave it out",
            ));
        }
        let reason = reason(&request.get_ref().reason)?;
        let ask = Ask::Block { lasts, reason };
        self.act(request, &request.get_ref().room, ask).await
    }

    async fn let_go(&self, request: &Request<pb::ReleaseRequest>) -> Answer<pb::ActResponse> {
        let reason = reason(&request.get_ref().reason)?;
        let ask = Ask::Release { reason };
        self.act(request, &request.get_ref().room, ask).await
    }

    async fn let_all_go(&self, request: &Request<pb::ReleaseAllRequest>) -> Answer<pb::ReleaseAllResponse> {
        let reason = reason(&request.get_ref().reason)?;
        let actor = caller(request);
        let rooms = asked(self.handle.rooms()).await?;
        let blocked = rooms.into_iter().filter(|v| v.block.is_some()).map(|v| v.room);
        let release = |room: RoomId| self.release_one(room, actor.clone(), reason.clone());
        let results = stream::iter(blocked)
            .map(release)
            .buffered(RELEASES_AT_ONCE)
            .collect()
            .await;
        Ok(Response::new(pb::ReleaseAllResponse { results }))
    }

    async fn end(&self, request: &Request<pb::CloseRequest>) -> Answer<pb::ActResponse> {
        let ask = Ask::Close {
            version: Version(request.get_ref().version),
            reason: reason(&request.get_ref().reason)?,
        };
        self.act(request, &request.get_ref().room, ask).await
    }

    async fn turn<T>(&self, on: bool, request: &Request<T>) -> Answer<pb::KillSwitchResponse> {
        let turned = asked(self.handle.kill_switch(on, caller(request))).await?;
        turned.map_err(|e| Status::internal(format!("turning the kill switch: {e}")))?;
        Ok(Response::new(pb::KillSwitchResponse { on }))
    }

    async fn act<T>(&self, request: &Request<T>, room: &str, ask: Ask) -> Answer<pb::ActResponse> {
        let room = room_id(room)?;
        let accepted = self.request(room.clone(), caller(request), ask).await?;
        Ok(Response::new(pb::ActResponse {
            room: room.to_string(),
            state: accepted.state.name().into(),
            version: accepted.version.0,
            epoch: accepted.epoch.to_string(),
            incarnation: accepted.incarnation.0,
        }))
    }

    async fn release_one(&self, room: RoomId, actor: Actor, reason: String) -> pb::ReleaseResult {
        let asked = self.audit.asked("release", actor.clone());
        let asked = asked.of_room(room.as_str()).because(&reason);
        let done = self.request(room.clone(), actor, Ask::Release { reason }).await;
        let ok = done.is_ok();
        let detail = match &done {
            Ok(accepted) => accepted.state.name().into(),
            Err(status) => status.message().into(),
        };
        let room = room.to_string();
        let result = pb::ReleaseResult { room, ok, detail };
        match &done {
            Ok(_) => asked.done(&result),
            Err(status) => asked.refused(reason_of(status), status.message()),
        }
        result
    }

    async fn request(&self, room: RoomId, actor: Actor, ask: Ask) -> Result<Accepted, Status> {
        let is_block = matches!(ask, Ask::Block { .. });
        let is_release = matches!(ask, Ask::Release { .. });
        let request = input::Request {
            room: room.clone(),
            ask,
            actor,
            op_id: None,
            incarnation: None,
            sequence: None,
            trace_id: None,
            reply: None,
            participants: Vec::new(),
        };
        match tokio::time::timeout(ANSWER_WITHIN, self.handle.request(request)).await {
            Ok(Ok(answer)) => answer.map_err(|why| match why {
                Rejected::NotInTable {
                    from: Some(state), ..
                } if is_release => refused(
                    &why,
                    format!("room {room} is {state}, not cut: there is nothing to release"),
                ),
                Rejected::NotInTable {
                    from: Some(state), ..
                } if is_block => refused(
                    &why,
                    format!("room {room} is {state}: only a room in LIVEING or GRACE_CLOSING can be cut"),
                ),
                why => rejected(&why),
            }),
            Ok(Err(stopped)) => Err(Status::unavailable(stopped.to_string())),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "the store did not confirm within {} s; the agent goes on trying: see `voice-agent show {room}`",
                ANSWER_WITHIN.as_secs()
            ))),
        }
    }
}

/// Ends the line of what was asked for, with the answer that the caller gets.
fn concluded<T: Serialize>(asked: Asked<'_>, answer: Answer<T>) -> Answer<T> {
    match &answer {
        Ok(response) => asked.done(response.get_ref()),
        Err(status) => asked.refused(reason_of(status), status.message()),
    }
    answer
}

/// Differences by what became of them: each is in the timeline of its room.
fn tally(done: &pb::RepairResponse) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for result in &done.results {
        *tally.entry(result.outcome.as_str()).or_default() += 1;
    }
    tally
}

/// The core's own name of a refusal, where it has one.
fn reason_of(status: &Status) -> Option<&str> {
    status.metadata().get(REASON)?.to_str().ok()
}

/// Waits for the driver, within bounds. UNAVAILABLE, and only this, says that the agent itself does not work.
pub(super) async fn asked<T>(answer: impl Future<Output = Result<T, Stopped>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map_err(|stopped| Status::unavailable(stopped.to_string())),
        Err(_) => Err(Status::unavailable(format!(
            "the agent's driver did not answer within {} s; see its log",
            ANSWER_WITHIN.as_secs()
        ))),
    }
}

/// Who is at the other end of the socket, by SO_PEERCRED.
pub(super) fn caller<T>(request: &Request<T>) -> Actor {
    let info = request.extensions().get::<UdsConnectInfo>();
    let uid = info.and_then(|i| i.peer_cred).map(|c| c.uid());
    Actor::Operator { uid }
}

pub(super) fn room_id(text: &str) -> Result<RoomId, Status> {
    RoomId::new(text).map_err(|e| Status::invalid_argument(e.to_string()))
}

pub(super) fn reason(text: &str) -> Result<String, Status> {
    let text = text.trim();
    if text.is_empty() || text.len() > REASON_MAX || text.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "reason {:?} is not valid: allowed is one line of 1 to {REASON_MAX} bytes",
            text.chars().take(80).collect::<String>()
        )));
    }
    Ok(text.into())
}

pub(super) fn no_such_room(room: &RoomId) -> Status {
    rejected(&Rejected::UnknownRoom(room.clone()))
}

pub(super) fn rejected(why: &Rejected) -> Status {
    refused(why, why.to_string())
}

/// A refusal in other words than the core's: an operator types `release`, and never sees the event RELEASE.
fn refused(why: &Rejected, message: String) -> Status {
    let code = match why {
        Rejected::UnknownRoom(_) => Code::NotFound,
        _ => Code::FailedPrecondition,
    };
    let mut status = Status::new(code, message);
    let reason = MetadataValue::from_static(why.code());
    status.metadata_mut().insert(REASON, reason);
    status
}
