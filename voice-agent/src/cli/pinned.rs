//! What stands in for a dead agent: the maps pinned in the kernel. Every use is announced on stderr.

use super::{
    Code, Failure,
    output::{Output, Tone},
    text,
};
use crate::{
    api::convert,
    config::Paths,
    kernel::{
        KernelError,
        pinned::{Pinned, PinnedBlock},
    },
    proto::admin::Time,
};
use serde::Serialize;
use std::io;

/// The blocked rooms, in the shape of the agent's own answer as far as the maps can tell.
#[derive(Debug, Serialize)]
pub(super) struct Blocked {
    /// Always `pinned_maps`; the agent's answer has no such field.
    source: &'static str,
    rooms: Vec<Room>,
}

#[derive(Debug, Serialize)]
struct Room {
    room: String,
    incarnation: u64,
    ports: Vec<u32>,
    flows: Vec<String>,
    ssrcs: Vec<String>,
    dropped_packets: u64,
    block: Block,
}

#[derive(Debug, Serialize)]
struct Block {
    until: Time,
    left_ms: u64,
    shadow: bool,
}

/// Opens the pinned maps; `None`: there are none.
pub(super) fn find(paths: &Paths) -> Result<Option<Pinned>, Failure> {
    let dir = paths.pin_dir();
    // Who may not look cannot say that nothing is there.
    if let Err(problem) = dir.try_exists() {
        let message = format!(
            "looking for pinned maps in {}: {problem}; run as root",
            dir.display()
        );
        return Err(Failure::new(Code::Permission, message));
    }
    match Pinned::open(&dir) {
        Ok(maps) => Ok(Some(maps)),
        Err(KernelError::NoPins { .. }) => Ok(None),
        Err(e) => Err(failure("opening the pinned maps", &e)),
    }
}

/// Opens the pinned maps in place of the agent. Nothing pinned: the agent's absence is the failure.
pub(super) fn open(paths: &Paths, away: &Failure) -> Result<Pinned, Failure> {
    find(paths)?.ok_or_else(|| {
        let dir = paths.pin_dir();
        let message = format!("{}; nothing is pinned in {} either", away.message, dir.display());
        Failure::new(away.code, message)
    })
}

/// Says on stderr who answered.
pub(super) fn note(away: &Failure, what: &str) {
    match away.code {
        Code::AgentSilent => eprintln!("agent does not answer: {what}"),
        _ => eprintln!("agent not running: {what}"),
    }
}

/// A failure of the maps.
pub(super) fn failure(tried: &str, problem: &KernelError) -> Failure {
    let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
    let code = match problem {
        KernelError::Permission { .. } | KernelError::PinOwner { .. } => Code::Permission,
        KernelError::Pin { source, .. } if denied(source) => Code::Permission,
        _ => Code::Failed,
    };
    Failure::new(code, format!("{tried}: {problem}"))
}

/// Rooms under a cut.
pub(super) fn blocked(maps: &Pinned) -> Result<Blocked, Failure> {
    let blocks = maps
        .blocked()
        .map_err(|e| failure("reading the pinned maps", &e))?;
    Ok(Blocked {
        source: "pinned_maps",
        rooms: blocks.iter().map(room).collect(),
    })
}

fn room(b: &PinnedBlock) -> Room {
    Room {
        room: b.room.to_string(),
        incarnation: b.incarnation.0,
        ports: b.binding.ports.iter().map(|p| p.0.into()).collect(),
        flows: b.binding.flows.iter().map(ToString::to_string).collect(),
        ssrcs: b.binding.ssrcs.iter().map(ToString::to_string).collect(),
        dropped_packets: b.dropped,
        block: Block {
            until: convert::time(convert::now() + b.left),
            left_ms: convert::millis(b.left),
            shadow: b.shadow,
        },
    }
}

/// The list for people.
pub(super) fn list(blocked: &Blocked, out: Output) -> String {
    if blocked.rooms.is_empty() {
        return "No room is blocked.\n".into();
    }
    let row = |room: &Room| {
        let left = text::duration(room.block.left_ms);
        let (tone, note) = match room.block.shadow {
            true => (Tone::Look, format!("shadow (counts only): {left} left")),
            false => (Tone::Bad, format!("cut: {left} left")),
        };
        vec![
            out.cell(None, &room.room),
            out.cell(None, room.incarnation),
            out.cell(None, text::bound(&room.ports, room.flows.len(), room.ssrcs.len())),
            out.cell(None, text::count(room.dropped_packets)),
            out.cell(Some(tone), note),
        ]
    };
    let rows = blocked.rooms.iter().map(row).collect();
    out.table(&["ROOM", "LIFE", "PORTS", "DROPPED", "NOTE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use voice_room::{Incarnation, Mono, Port, RoomId};

    #[test]
    fn a_block_in_the_pinned_maps_is_listed_with_its_ports_and_what_is_left() {
        let block = PinnedBlock {
            room: RoomId::new("talk-1").unwrap(),
            incarnation: Incarnation(3),
            shadow: false,
            deadline: Mono(0),
            left: Duration::from_secs(42),
            binding: vec![Port(50_000), Port(50_001)].into(),
            dropped: 12_345,
        };
        let rooms = vec![room(&block)];
        let source = "pinned_maps";
        let blocked = Blocked { source, rooms };
        assert_eq!(
            list(&blocked, Output::plain()),
            "ROOM    LIFE  PORTS        DROPPED  NOTE\n\
             talk-1  3     50000-50001  12,345   cut: 42 s left\n"
        );
        let json = serde_json::to_value(&blocked).unwrap();
        assert_eq!(json["source"], "pinned_maps");
        assert_eq!(json["rooms"][0]["block"]["left_ms"], 42_000);
    }

    #[test]
    fn no_block_is_said_in_words() {
        let (source, rooms) = ("pinned_maps", Vec::new());
        assert_eq!(
            list(&Blocked { source, rooms }, Output::plain()),
            "No room is blocked.\n"
        );
    }
}
