//! Nobody acts on a lower epoch: no peer takes a state of, or agrees to an attempt of, an owner of before one it heard.

use super::{Invariant, Seen};
use crate::Ms;
use std::collections::BTreeMap;
use voice_room::{Epoch, RoomId};

#[derive(Default)]
pub(super) struct NoLowerEpoch {
    highest: BTreeMap<(usize, RoomId), Epoch>,
}

impl NoLowerEpoch {
    fn acts(&mut self, p: usize, room: &RoomId, before: Option<Epoch>, epoch: Epoch) -> Result<(), String> {
        let highest = self.highest.entry((p, room.clone())).or_default();
        let known = (*highest).max(before.unwrap_or_default());
        *highest = known.max(epoch);
        if epoch < known {
            return Err(format!(
                "peer {p} acts on epoch {epoch} of {room:?}, and knew {known}"
            ));
        }
        Ok(())
    }
}

impl Invariant for NoLowerEpoch {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Took(p, room, before, state) => self.acts(*p, room, *before, state.epoch),
            Seen::Agreed(p, room, attempt, before) => self.acts(*p, room, *before, attempt.epoch),
            Seen::PeerDied(p) => {
                self.highest.retain(|(peer, _), _| peer != p);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
