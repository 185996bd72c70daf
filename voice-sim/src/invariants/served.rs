//! A room that its media server serves is never expired: not by a rule, at its node the kernel sees its RTP both ways; and not
//! by a custodian, however long its node is cut off from the registry, as long as its agent reaches the store.

use super::{Invariant, Seen};
use crate::{Ms, world::home};

/// The witness's window: a room served for less may still be judged on what was before.
const WINDOW: Ms = 30_000;
/// Within which an agent that hears of a served room has told the store, whatever is lost on the way: a refresh, three sweeps
/// and some calls.
const TOLD: Ms = 60_000;

#[derive(Default)]
pub(super) struct ServedIsNotExpired;

impl Invariant for ServedIsNotExpired {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Tripped(a, room, rule, Some(served)) if home(room) == *a && *served > WINDOW => Err(
                format!("agent {a} trips {room:?} by {rule:?}; it was served for {served} ms"),
            ),
            Seen::Lost(room, Some(told)) if *told > TOLD => Err(format!(
                "a custodian ends {room:?}; its agent could tell for {told} ms that it is served"
            )),
            _ => Ok(()),
        }
    }
}
