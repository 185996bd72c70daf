//! The rooms that the core named, with how many of them are held: that is asked for after every step, and there may be 10,000.

use super::Claim;
use std::collections::BTreeMap;
use voice_room::RoomId;

#[derive(Debug, Default)]
pub(super) struct Rooms {
    claims: BTreeMap<RoomId, Claim>,
    held: usize,
}

impl Rooms {
    /// How many are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn contains(&self, room: &RoomId) -> bool {
        self.claims.contains_key(room)
    }

    pub(super) fn get(&self, room: &RoomId) -> Option<&Claim> {
        self.claims.get(room)
    }

    /// Changes the claim and counts it anew. The answer of `what`; `None`: there is no such room.
    pub(super) fn change<T>(&mut self, room: &RoomId, what: impl FnOnce(&mut Claim) -> T) -> Option<T> {
        let claim = self.claims.get_mut(room)?;
        self.held -= usize::from(claim.held.is_some());
        let done = what(claim);
        self.held += usize::from(claim.held.is_some());
        Some(done)
    }

    pub(super) fn insert(&mut self, room: RoomId, claim: Claim) {
        self.held += usize::from(claim.held.is_some());
        if let Some(before) = self.claims.insert(room, claim) {
            self.held -= usize::from(before.held.is_some());
        }
    }

    pub(super) fn remove(&mut self, room: &RoomId) -> Option<Claim> {
        let claim = self.claims.remove(room)?;
        self.held -= usize::from(claim.held.is_some());
        Some(claim)
    }

    /// None is held any more; those that were held as their custodian are forgotten.
    pub(super) fn let_all_go(&mut self) {
        self.held = 0;
        self.claims
            .retain(|_, claim| !std::mem::take(&mut claim.held).is_some_and(|_| claim.custodian));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use voice_room::{Epoch, Incarnation, Mono, State, Version, command::Meta};

    fn claim(room: &RoomId) -> Claim {
        let meta = Meta {
            room: room.clone(),
            incarnation: Incarnation(1),
            state: State::Liveing,
            version: Version(1),
            epoch: Epoch::default(),
            source: None,
        };
        Claim::new(meta, Mono(0))
    }

    proptest! {
        #[test]
        fn what_is_counted_as_held_is_what_is_held(acts in prop::collection::vec((0..5u8, 0..4u8, any::<bool>()), 0..40)) {
            let mut rooms = Rooms::default();
            for (act, room, held) in acts {
                let room = RoomId::new(&format!("r{room}")).unwrap();
                let held = held.then_some(7);
                match act {
                    0 => drop(rooms.remove(&room)),
                    1 => rooms.let_all_go(),
                    2 => {
                        let mut claim = claim(&room);
                        (claim.held, claim.custodian) = (held, true);
                        rooms.insert(room, claim);
                    }
                    3 => {
                        let mut claim = claim(&room);
                        claim.held = held;
                        rooms.insert(room, claim);
                    }
                    _ => drop(rooms.change(&room, |claim| claim.held = held)),
                }
                let there = rooms.claims.values().filter(|claim| claim.held.is_some()).count();
                prop_assert_eq!(rooms.held(), there);
            }
        }
    }
}
