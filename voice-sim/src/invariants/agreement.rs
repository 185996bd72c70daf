//! No two participants commit different states for one version (of one life, under one epoch); nor one and the store.

use super::{Invariant, Seen};
use crate::Ms;
use std::collections::BTreeMap;
use voice_room::{Epoch, Incarnation, RoomId, State, Version};

type Key = (RoomId, Epoch, Incarnation, Version);

#[derive(Default)]
pub(super) struct Agreement {
    states: BTreeMap<Key, (State, String)>,
}

impl Agreement {
    fn said(&mut self, key: &Key, state: State, who: &str) -> Result<(), String> {
        let (first, by) = self
            .states
            .entry(key.clone())
            .or_insert_with(|| (state, who.into()));
        if *first == state {
            Ok(())
        } else {
            Err(format!("{key:?} is {first} for {by} and {state} for {who}"))
        }
    }
}

impl Invariant for Agreement {
    fn see(&mut self, _now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Took(p, room, _, c) => {
                let key = ((*room).clone(), c.epoch, c.incarnation, c.version);
                self.said(&key, c.state, &format!("peer {p}"))
            }
            Seen::Stored(change, _) => {
                let r = &change.record;
                let key = (r.room.clone(), r.epoch, r.incarnation, r.version);
                self.said(&key, r.state, "the store")
            }
            Seen::Refused(p, room, why) if why.contains("is now told as") => {
                Err(format!("peer {p} was told two states of {room:?}: {why}"))
            }
            _ => Ok(()),
        }
    }
}
