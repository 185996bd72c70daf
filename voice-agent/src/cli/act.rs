//! `block` and `release`.

use super::{
    Code, Failure,
    client::call,
    output::{Output, Tone},
    pinned, text,
    unattended::Unattended,
};
use crate::{
    api::convert,
    config::{AuditConfig, Paths},
    kernel::pinned::Pinned,
    proto::admin::{
        ActResponse, BlockRequest, ReleaseAllRequest, ReleaseAllResponse, ReleaseRequest, ReleaseResult,
    },
};
use std::time::Duration;
use voice_room::RoomId;

/// Cuts a room. Needs the agent: there is more to a cut than the kernel.
pub(super) async fn block(
    paths: &Paths,
    out: Output,
    room: &RoomId,
    lasts: Option<Duration>,
    reason: &str,
) -> Result<String, Failure> {
    let lasts_ms = lasts.map(convert::millis);
    let request = BlockRequest {
        room: room.to_string(),
        lasts_ms,
        reason: reason.into(),
    };
    let done = call!(paths, block(request))?;
    out.print(&done, |done, out| blocked(done, lasts_ms, out))
}

/// Lifts one cut (`room`), or all; through the pinned maps when the agent is away.
pub(super) async fn release(
    paths: &Paths,
    audit: &AuditConfig,
    out: Output,
    room: Option<&RoomId>,
    reason: &str,
) -> Result<String, Failure> {
    let asked = match room {
        Some(room) => release_one(paths, out, room, reason).await,
        None => release_all(paths, out, reason).await,
    };
    match asked {
        Err(away) if away.agent_is_away() => {
            let maps = pinned::open(paths, &away)?;
            let action = room.map_or("release_all", |_| "release");
            let action = Unattended::new(audit, action).to(room).because(reason);
            let results = action.ended(release_pinned(&maps, room))?;
            pinned::note(
                &away,
                "done in the pinned maps; the agent takes note when it is back",
            );
            released(&ReleaseAllResponse { results }, out)
        }
        asked => asked,
    }
}

async fn release_one(paths: &Paths, out: Output, room: &RoomId, reason: &str) -> Result<String, Failure> {
    let request = ReleaseRequest {
        room: room.to_string(),
        reason: reason.into(),
    };
    let done = call!(paths, release(request))?;
    out.print(&done, |done, out| {
        let said = format!("Released {}: it is {} now.\n", done.room, done.state);
        out.tone(Tone::Good, &said)
    })
}

async fn release_all(paths: &Paths, out: Output, reason: &str) -> Result<String, Failure> {
    let request = ReleaseAllRequest {
        reason: reason.into(),
    };
    released(&call!(paths, release_all(request))?, out)
}

/// Releases in the maps. Every room is tried, also after one failed.
fn release_pinned(maps: &Pinned, room: Option<&RoomId>) -> Result<Vec<ReleaseResult>, Failure> {
    if let Some(room) = room {
        let was_blocked = maps.release(room).map_err(|e| pinned::failure("releasing", &e))?;
        return match was_blocked {
            true => Ok(vec![lifted(room, Ok(()))]),
            false => Err(Failure::new(
                Code::NoSuchRoom,
                format!("room {room} is not blocked in the pinned maps; see `voice-agent rooms --blocked`"),
            )),
        };
    }
    let blocks = maps
        .blocked()
        .map_err(|e| pinned::failure("reading the pinned maps", &e))?;
    let release = |room: &RoomId| lifted(room, maps.release(room).map(drop).map_err(|e| e.to_string()));
    Ok(blocks.iter().map(|b| release(&b.room)).collect())
}

fn lifted(room: &RoomId, done: Result<(), String>) -> ReleaseResult {
    ReleaseResult {
        room: room.to_string(),
        ok: done.is_ok(),
        detail: done.err().unwrap_or_else(|| "lifted in the kernel".into()),
    }
}

/// Room by room. One that failed makes the command fail, after all were tried.
fn released(answer: &ReleaseAllResponse, out: Output) -> Result<String, Failure> {
    let failed: Vec<String> = answer
        .results
        .iter()
        .filter(|r| !r.ok)
        .map(|r| format!("{} ({})", r.room, r.detail))
        .collect();
    let said = out.print(answer, release_list)?;
    if failed.is_empty() {
        return Ok(said);
    }
    let (n, all) = (failed.len(), answer.results.len());
    let message = format!("{n} of {all} rooms not released: {}", failed.join(", "));
    Err(Failure {
        done: said,
        ..Failure::new(Code::Failed, message)
    })
}

fn release_list(answer: &ReleaseAllResponse, out: Output) -> String {
    if answer.results.is_empty() {
        return "No room is blocked; nothing to release.\n".into();
    }
    let line = |r: &ReleaseResult| match r.ok {
        true => out.tone(Tone::Good, &format!("Released {}: {}.", r.room, r.detail)) + "\n",
        false => out.tone(Tone::Bad, &format!("Not released: {}: {}.", r.room, r.detail)) + "\n",
    };
    answer.results.iter().map(line).collect()
}

fn blocked(done: &ActResponse, lasts_ms: Option<u64>, out: Output) -> String {
    let lasts = lasts_ms.map_or("the configured isolation".into(), text::duration);
    let said = format!("Blocked {} for {lasts}: it is {} now.", done.room, done.state);
    format!(
        "{}\nLift it: voice-agent release {}\n",
        out.tone(Tone::Bad, &said),
        done.room
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_how_long_and_how_to_lift_it() {
        let done = ActResponse {
            room: "talk-1".into(),
            state: "EXPIRED".into(),
            ..ActResponse::default()
        };
        assert_eq!(
            blocked(&done, Some(60_000), Output::plain()),
            "Blocked talk-1 for 60 s: it is EXPIRED now.\nLift it: voice-agent release talk-1\n"
        );
    }

    #[test]
    fn releasing_nothing_is_said_in_words_and_one_failure_fails_the_command() {
        let nothing = ReleaseAllResponse { results: Vec::new() };
        assert_eq!(
            released(&nothing, Output::plain()).unwrap(),
            "No room is blocked; nothing to release.\n"
        );
        let (a, b) = (RoomId::new("a").unwrap(), RoomId::new("b").unwrap());
        let results = vec![lifted(&a, Ok(())), lifted(&b, Err("the map is read-only".into()))];
        let failure = released(&ReleaseAllResponse { results }, Output::plain()).unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert_eq!(
            failure.message,
            "1 of 2 rooms not released: b (the map is read-only)"
        );
    }
}
