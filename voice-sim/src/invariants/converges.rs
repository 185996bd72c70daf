//! A healed system converges: the owner's room is the stored one, and every peer that serves it holds the same.

use super::{Invariant, Seen};
use crate::{
    Ms,
    world::{PEERS, World, rooms, serves},
};
use voice_room::State;

#[derive(Default)]
pub(super) struct Converges;

impl Invariant for Converges {
    fn see(&mut self, _now: Ms, _seen: &Seen<'_>) -> Result<(), String> {
        Ok(())
    }

    fn end(&self, world: &World) -> Result<(), String> {
        for room in rooms() {
            let stored = world.store.record(world.now, &room);
            let stored = stored.filter(|r| r.state != State::Destroyed);
            let held = world.held(&room).filter(|v| v.state != State::Destroyed);
            let of_store = stored.map(|r| (r.state, r.incarnation, r.version));
            let of_owner = held.as_ref().map(|v| (v.state, v.incarnation, v.version));
            if of_store != of_owner {
                return Err(format!(
                    "{room:?}: stored is {of_store:?}, its owner has {of_owner:?}"
                ));
            }
            for (p, name) in PEERS.iter().enumerate().filter(|(p, _)| serves(*p, &room)) {
                let peer = &world.peers[p];
                // Its isolation lifts by itself: where nothing is stored any more, it is over for this peer too.
                let lifted = |state| {
                    let now = peer.mono(world.now);
                    state == State::Expired
                        && of_store.is_none()
                        && peer.participant.admits(now, &room).is_ok()
                };
                let known = peer.participant.committed(&room);
                let known = known.filter(|c| c.state != State::Destroyed && !lifted(c.state));
                let known = known.map(|c| (c.state, c.incarnation, c.version));
                if known != of_store {
                    return Err(format!("{room:?}: stored is {of_store:?}, {name} has {known:?}"));
                }
            }
        }
        Ok(())
    }
}
