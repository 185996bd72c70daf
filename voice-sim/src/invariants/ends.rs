//! Every transition ends: who asked is answered once, unless the agent died; no participant stays prepared, nothing stays
//! unstored.

use super::{Invariant, Seen};
use crate::{
    Ms,
    world::{AGENTS, PEERS, World, rooms},
};

#[derive(Default)]
pub(super) struct EveryTransitionEnds;

impl Invariant for EveryTransitionEnds {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Answered(reply, false) => Err(format!("{reply:?} is answered twice")),
            _ => Ok(()),
        }
    }

    fn end(&self, world: &World) -> Result<(), String> {
        if let Some(unrest) = (0..AGENTS).find_map(|a| world.unrest(a)) {
            return Err(unrest);
        }
        for (p, name) in PEERS.iter().enumerate() {
            for room in rooms() {
                // A peer of version 1 is asked nothing.
                if let Some(prepared) = world.peers[p].participant.prepared(&room) {
                    return Err(format!("{name} is still prepared in {room:?}: {prepared:?}"));
                }
            }
        }
        Ok(())
    }
}
