//! A room that its media server serves is never expired by a rule: at its node the kernel sees its RTP both ways.

use super::{Invariant, Seen};
use crate::{Ms, world::home};

/// The witness's window: a room served for less may still be judged on what was before.
const WINDOW: Ms = 30_000;

#[derive(Default)]
pub(super) struct ServedIsNotExpired;

impl Invariant for ServedIsNotExpired {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Tripped(a, room, rule, Some(served)) if home(room) == *a && *served > WINDOW => Err(
                format!("agent {a} trips {room:?} by {rule:?}; it was served for {served} ms"),
            ),
            _ => Ok(()),
        }
    }
}
