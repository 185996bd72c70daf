//! `maintenance on`, `off` and `list`.

use super::{
    Failure,
    args::MaintenanceCommand,
    client::call,
    output::{Output, Tone},
    text,
};
use crate::{
    api::convert,
    config::Paths,
    proto::admin::{
        Maintenance, MaintenanceListRequest, MaintenanceListResponse, MaintenanceOffRequest,
        MaintenanceOffResponse, MaintenanceOnRequest, MaintenanceOnResponse,
    },
};
use comfy_table::Cell;
use voice_room::RoomId;

/// Asks the agent; without it there is nothing to hold back.
pub(super) async fn maintenance(
    paths: &Paths,
    out: Output,
    command: &MaintenanceCommand,
) -> Result<String, Failure> {
    match command {
        MaintenanceCommand::On {
            room, lasts, reason, ..
        } => {
            let request = MaintenanceOnRequest {
                room: room.as_ref().map(RoomId::to_string),
                lasts_ms: convert::millis(*lasts),
                reason: reason.clone(),
            };
            let done = call!(paths, maintenance_on(request))?;
            out.print(&done, on)
        }
        MaintenanceCommand::Off { room, .. } => {
            let request = MaintenanceOffRequest {
                room: room.as_ref().map(RoomId::to_string),
            };
            let done = call!(paths, maintenance_off(request))?;
            out.print(&done, off)
        }
        MaintenanceCommand::List => {
            let answer = call!(paths, maintenance_list(MaintenanceListRequest {}))?;
            out.print(&answer, list)
        }
    }
}

fn on(done: &MaintenanceOnResponse, out: Output) -> String {
    let lasts = text::duration(done.lasts_ms);
    let (of, whose) = (
        subject(done.room.as_ref()),
        done.room.as_deref().unwrap_or("--all"),
    );
    let said = format!("Maintenance of {of} for {lasts}: it does not trip.");
    let end = format!("End it: voice-agent maintenance off {whose}\n");
    format!("{}\n{end}", out.tone(Tone::Look, &said))
}

fn off(done: &MaintenanceOffResponse, out: Output) -> String {
    let of = subject(done.room.as_ref());
    let mut said = match done.was_on {
        true => out.tone(Tone::Good, &format!("Maintenance of {of} is over.")) + "\n",
        false => format!("There was no maintenance of {of}.\n"),
    };
    if done.every_room_still_on {
        said += &out.tone(Tone::Look, "Every room is still under maintenance (--all).");
        said += "\n";
    }
    if done.rooms_still_on > 0 {
        let n = text::many(done.rooms_still_on.into(), "room");
        said += &format!("Under maintenance of their own: {n}; see `voice-agent maintenance list`.\n");
    }
    said
}

fn subject(room: Option<&String>) -> String {
    room.map_or("every room".into(), |room| format!("room {room}"))
}

fn list(answer: &MaintenanceListResponse, out: Output) -> String {
    if answer.maintenance.is_empty() {
        return "Nothing is under maintenance.\n".into();
    }
    let row = |m: &Maintenance| -> Vec<Cell> {
        vec![
            out.cell(None, m.room.as_deref().unwrap_or("(every room)")),
            out.cell(Some(Tone::Look), text::duration(m.left_ms)),
            out.cell(None, text::moment(m.since.as_ref())),
            out.cell(None, &m.actor),
            out.cell(None, &m.reason),
        ]
    };
    let header = ["ROOM", "LEFT", "SINCE", "BY", "REASON"];
    out.table(&header, answer.maintenance.iter().map(row).collect())
}

/// One of it in a line: `9 min 58 s left, by operator uid=0: kernel upgrade`.
pub(super) fn line(m: &Maintenance) -> String {
    let whose = if m.room.is_none() { "every room, " } else { "" };
    let left = text::duration(m.left_ms);
    format!("{whose}{left} left, by {}: {}", m.actor, m.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::Time;

    fn upgrade(room: Option<&str>) -> Maintenance {
        let since = Time {
            rfc3339: "2026-11-22T03:11:31.500Z".into(),
            unix_ms: 0,
        };
        Maintenance {
            room: room.map(String::from),
            reason: "upgrade".into(),
            actor: "operator uid=0".into(),
            since: Some(since),
            until: None,
            left_ms: 598_000,
        }
    }

    #[test]
    fn a_list_says_whom_how_long_who_and_why() {
        let maintenance = vec![upgrade(None), upgrade(Some("talk-1"))];
        assert_eq!(
            list(&MaintenanceListResponse { maintenance }, Output::plain()),
            "ROOM          LEFT        SINCE                     BY              REASON\n\
             (every room)  9 min 58 s  2026-11-22T03:11:31.500Z  operator uid=0  upgrade\n\
             talk-1        9 min 58 s  2026-11-22T03:11:31.500Z  operator uid=0  upgrade\n"
        );
        let none = MaintenanceListResponse::default();
        assert_eq!(list(&none, Output::plain()), "Nothing is under maintenance.\n");
        assert_eq!(
            line(&upgrade(None)),
            "every room, 9 min 58 s left, by operator uid=0: upgrade"
        );
    }

    #[test]
    fn on_says_how_to_end_it_and_off_what_stays() {
        let done = MaintenanceOnResponse {
            room: None,
            lasts_ms: 600_000,
        };
        assert_eq!(
            on(&done, Output::plain()),
            "Maintenance of every room for 10 min 0 s: it does not trip.\n\
             End it: voice-agent maintenance off --all\n"
        );
        let done = MaintenanceOffResponse {
            room: Some("talk-1".into()),
            was_on: false,
            every_room_still_on: true,
            rooms_still_on: 2,
        };
        assert_eq!(
            off(&done, Output::plain()),
            "There was no maintenance of room talk-1.\n\
             Every room is still under maintenance (--all).\n\
             Under maintenance of their own: 2 rooms; see `voice-agent maintenance list`.\n"
        );
    }
}
