//! `rooms` and `show`.

mod show;
#[cfg(test)]
mod tests;

pub(super) use show::show as described;

use super::{
    Failure,
    client::call,
    output::{Output, Tone},
    pinned, text,
};
use crate::{
    config::Paths,
    proto::admin::{Room, RoomsRequest, RoomsResponse, ShowRequest},
};
use comfy_table::Cell;
use voice_room::RoomId;

const HEADER: [&str; 8] = [
    "ROOM",
    "STATE",
    "SINCE",
    "HEARTBEAT",
    "CLIENTS",
    "PORTS",
    "DROPPED",
    "NOTE",
];
/// Where that is.
const NOTE: usize = HEADER.len() - 1;

/// Every room, or the blocked ones; those also when the agent is dead.
pub(super) async fn rooms(paths: &Paths, out: Output, blocked: bool) -> Result<String, Failure> {
    let request = RoomsRequest {
        blocked_only: blocked,
    };
    match call!(paths, rooms(request)) {
        Ok(answer) => out.print(&answer, |answer, out| list(answer, out, blocked)),
        Err(away) if blocked && away.agent_is_away() => {
            let maps = pinned::open(paths, &away)?;
            pinned::note(&away, "read from the pinned maps");
            out.print(&pinned::blocked(&maps)?, pinned::list)
        }
        Err(failure) => Err(failure),
    }
}

/// One room.
pub(super) async fn show(paths: &Paths, out: Output, room: &RoomId) -> Result<String, Failure> {
    let request = ShowRequest {
        room: room.to_string(),
    };
    let room = call!(paths, show(request))?;
    out.print(&room, show::show)
}

fn list(answer: &RoomsResponse, out: Output, blocked: bool) -> String {
    if answer.rooms.is_empty() {
        return match blocked {
            true => "No room is blocked.\n".into(),
            false => "No rooms on this node.\n".into(),
        };
    }
    // A node alone owns every room; what is always the same is left out.
    let all_held = answer.rooms.iter().all(is_held);
    let mut header = HEADER.to_vec();
    if !all_held {
        header.insert(NOTE, "OWNER");
    }
    let row = |room: &Room| {
        let mut row = row(room, out);
        if !all_held {
            let (tone, owner) = owner(room);
            row.insert(NOTE, out.cell(tone, owner));
        }
        row
    };
    out.table(&header, answer.rooms.iter().map(row).collect())
}

fn is_held(room: &Room) -> bool {
    room.authority.as_ref().is_none_or(|a| a.state == "held")
}

fn owner(room: &Room) -> (Option<Tone>, String) {
    let Some(authority) = &room.authority else {
        return (Some(Tone::Faint), "not known".into());
    };
    match (authority.state.as_str(), &authority.owner) {
        ("held", _) => (None, "this node".into()),
        (_, Some(owner)) => (Some(Tone::Look), owner.clone()),
        ("claiming", None) => (Some(Tone::Look), "claiming".into()),
        _ => (Some(Tone::Faint), "nobody".into()),
    }
}

fn row(room: &Room, out: Output) -> Vec<Cell> {
    let (tone, note) = note(room);
    let (beat, beat_tone) = heartbeat(room);
    vec![
        out.cell(None, &room.room),
        out.cell(state_tone(&room.state), &room.state),
        out.cell(None, text::duration(room.state_age_ms)),
        out.cell(beat_tone, beat),
        out.cell(None, room.clients),
        out.cell(None, room.ports.len()),
        out.cell(None, text::count(room.dropped_packets)),
        out.cell(tone, note),
    ]
}

/// The colour of a state.
pub(super) fn state_tone(state: &str) -> Option<Tone> {
    match state {
        "LIVEING" => Some(Tone::Good),
        "GRACE_CLOSING" => Some(Tone::Look),
        "EXPIRED" => Some(Tone::Bad),
        _ => Some(Tone::Faint),
    }
}

/// When its last heartbeat came.
pub(super) fn heartbeat(room: &Room) -> (String, Option<Tone>) {
    match (room.heartbeat_age_ms, room.misses) {
        (None, _) => ("never".into(), Some(Tone::Faint)),
        (Some(age), 0) => (text::duration(age), None),
        (Some(age), missed) => (
            format!("{}, {missed} missed", text::duration(age)),
            Some(Tone::Look),
        ),
    }
}

/// The one thing most worth knowing of a room.
pub(super) fn note(room: &Room) -> (Option<Tone>, String) {
    if let Some(block) = &room.block {
        let ports = if room.ports.is_empty() {
            "nothing bound, "
        } else {
            ""
        };
        let left = text::duration(block.left_ms);
        return (Some(Tone::Bad), format!("cut: {ports}{left} left"));
    }
    if let Some(hold) = &room.held {
        return (
            Some(Tone::Look),
            format!("stuck, held: {}", hold.replace('_', " ")),
        );
    }
    if room.would_trip {
        return (Some(Tone::Look), "would trip (shadow)".into());
    }
    match room.unstored_changes {
        0 => (None, String::new()),
        n => (
            Some(Tone::Look),
            format!("{} not stored", text::many(n.into(), "change")),
        ),
    }
}
