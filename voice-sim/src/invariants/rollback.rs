//! No commit after rollback: an attempt that was rolled back is never stored, and one that is stored never rolled back.

use super::{Invariant, Seen};
use crate::Ms;
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{
    Change, OpId, RoomId,
    sync::{Attempt, Proposal},
};

#[derive(Default)]
pub(super) struct NoCommitAfterRollback {
    /// What each agent asks about: its last attempt for a room.
    asks: BTreeMap<(usize, RoomId), Proposal>,
    of: BTreeMap<OpId, (RoomId, Attempt)>,
    stored: BTreeSet<(RoomId, Attempt)>,
    rolled_back: BTreeSet<(RoomId, Attempt)>,
}

/// Whether this is the change that was proposed, and not a fact that came in between.
fn is_of(change: &Change, p: &Proposal) -> bool {
    let event = &change.event;
    let same = (event.event_type, event.version, event.epoch) == (p.event, p.version, p.attempt.epoch);
    same && event.reason.starts_with(&p.reason)
}

impl Invariant for NoCommitAfterRollback {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Prepares(a, p) => {
                self.asks.insert((*a, p.room.clone()), (*p).clone());
            }
            Seen::Sent(a, change) => {
                let place = (*a, change.record.room.clone());
                if let Some(asks) = self.asks.get(&place).filter(|p| is_of(change, p)) {
                    let of = (place.1.clone(), asks.attempt);
                    self.of.entry(change.record.op_id.clone()).or_insert(of);
                    self.asks.remove(&place);
                }
            }
            Seen::RollsBack(r) => {
                let of = (r.room.clone(), r.attempt);
                self.asks.retain(|_, p| p.attempt != r.attempt);
                if self.stored.contains(&of) {
                    return Err(format!("{of:?} is rolled back, yet stored"));
                }
                self.rolled_back.insert(of);
            }
            Seen::Stored(change, _) => {
                if let Some(of) = self.of.get(&change.record.op_id) {
                    if self.rolled_back.contains(of) {
                        return Err(format!("{of:?} is stored, yet was rolled back: {change:?}"));
                    }
                    self.stored.insert(of.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }
}
