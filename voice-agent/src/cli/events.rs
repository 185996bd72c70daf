//! `events`: one line each, written as they come. Ends quietly when interrupted, or when nobody reads any more.

pub(super) mod shared;

use super::{
    Code, Failure,
    client::{call, received, refused},
    text,
};
use crate::{
    config::Paths,
    proto::admin::{Event, EventsRequest},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, Write},
    os::fd::AsFd,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use voice_room::RoomId;

/// How often a follower looks whether its own reader is still there while no event comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Prints events to stdout; nothing is left to print afterwards.
pub(super) async fn events(
    paths: &Paths,
    json: bool,
    room: Option<&RoomId>,
    since: Option<&str>,
    follow: bool,
) -> Result<String, Failure> {
    let request = EventsRequest {
        room: room.map(ToString::to_string),
        since: since.map(ToOwned::to_owned),
        follow,
    };
    // Before the first line is out: whoever has read it may interrupt.
    let mut interrupted = signal(SignalKind::interrupt())
        .map_err(|e| Failure::new(Code::Failed, format!("cannot listen for SIGINT: {e}")))?;
    let mut events = call!(paths, events(request))?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let next = async {
            match follow {
                true => events.message().await.map_err(|status| refused(&status)),
                false => received(paths, events.message()).await,
            }
        };
        let next = tokio::select! {
            _ = interrupted.recv() => return Ok(String::new()),
            next = next => next?,
            _ = look.tick(), if follow => {
                if nobody_reads() {
                    return Ok(String::new());
                }
                continue;
            }
        };
        let Some(event) = next else {
            return Ok(String::new());
        };
        match print(&event, json) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(String::new()),
            Err(e) => return Err(Failure::new(Code::Failed, format!("writing to stdout: {e}"))),
            Ok(()) => {}
        }
    }
}

fn print(event: &Event, json: bool) -> io::Result<()> {
    let line = match (json, &event.gap) {
        (true, _) => serde_json::to_string(event).map_err(io::Error::other)?,
        // Not among the events, each of which is one line.
        (false, Some(gap)) => {
            eprintln!("voice-agent: {gap}");
            return Ok(());
        }
        (false, None) => line(event),
    };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Whether stdout is a pipe or socket whose other end is closed.
fn nobody_reads() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|r| r.intersects(gone))
}

/// `42  2026-11-22T03:11:31.500Z  talk-1  LIVEING -> EXPIRED  STUCK by agent: stuck for 92 s`
fn line(e: &Event) -> String {
    let t = e.transition.clone().unwrap_or_default();
    let from = t.old_state.as_deref().unwrap_or("(no room)");
    let (at, reason) = (
        text::moment(e.at.as_ref()),
        t.reason.replace(char::is_control, " "),
    );
    format!(
        "{}  {at}  {}  {from} -> {}  {} by {}: {reason}",
        e.position, e.room, t.new_state, t.event_type, t.actor
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{Time, Transition};

    #[test]
    fn an_event_is_one_line_whatever_its_reason_holds() {
        let event = Event {
            position: "42".into(),
            at: Some(Time {
                rfc3339: "2026-11-22T03:11:31.500Z".into(),
                unix_ms: 0,
            }),
            room: "talk-1".into(),
            incarnation: 1,
            transition: Some(Transition {
                event_type: "STUCK".into(),
                old_state: Some("LIVEING".into()),
                new_state: "EXPIRED".into(),
                actor: "agent".into(),
                reason: "stuck\nfor 92 s".into(),
                ..Transition::default()
            }),
            gap: None,
        };
        assert_eq!(
            line(&event),
            "42  2026-11-22T03:11:31.500Z  talk-1  LIVEING -> EXPIRED  STUCK by agent: stuck for 92 s"
        );
    }
}
