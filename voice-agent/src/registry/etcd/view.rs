//! What the registry holds, as far as was seen: kept by events, or by a listing and what it differs in. No I/O.

use super::{
    claims::epoch,
    records::{self, Agent, Foreign, Key, Owner, Room},
};
use crate::proto::mvccpb::{Event, KeyValue, event::EventType};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};
use voice_room::{
    NodeName, RoomId,
    command::Meta,
    patrol::{Field, OwnerSeen, RegistrySight},
};

/// Keys that are kept. Beyond it they are ignored, and told.
pub(super) const MOST: usize = 1_000_000;

/// A key's value, with where it stands in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    /// What.
    pub(super) value: T,
    /// Of its last change.
    pub(super) revision: i64,
    /// The lease it is on.
    pub(super) lease: i64,
}

/// How the ownership of a room changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diff {
    /// The room.
    pub(super) room: RoomId,
    /// Before; `None`: nobody's.
    pub(super) before: Option<At<Owner>>,
    /// After; `None`: nobody's.
    pub(super) after: Option<At<Owner>>,
    /// It went because the lease of its owner ended, rather than by the owner's will.
    pub(super) ended: bool,
    /// What its owner last said of the room.
    pub(super) meta: Option<Meta>,
}

/// The registry at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The newest revision that was seen.
    pub(super) revision: i64,
    /// The agents that run.
    pub(super) agents: BTreeMap<NodeName, At<Agent>>,
    /// Who owns which room.
    pub(super) owners: BTreeMap<RoomId, At<Owner>>,
    /// What is told of rooms.
    pub(super) rooms: BTreeMap<RoomId, At<Room>>,
    /// Keys of rooms under which something stands that is not ours, and what is wrong with it.
    pub(super) foreign: BTreeMap<Key, String>,
    /// How many rooms are owned with each era: the highest is asked for before every transaction.
    eras: BTreeMap<u32, usize>,
}

/// What a change of the view brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Rooms whose ownership changed.
    pub(super) diffs: Vec<Diff>,
    /// Values that are not ours.
    pub(super) foreign: Vec<Foreign>,
    /// Keys left out because there are too many.
    pub(super) left_out: usize,
}

/// A room's metadata that went, kept until it is known whether its owner went with it.
type Told = BTreeMap<RoomId, At<Room>>;

impl View {
    /// The highest era that any agent claims with.
    pub(super) fn highest_era(&self) -> u32 {
        let agents = self.agents.values().map(|agent| agent.value.era);
        let owners = self.eras.last_key_value().map(|(era, _)| *era);
        agents.chain(owners).max().unwrap_or(0)
    }

    /// What is held of a room.
    pub(super) fn sight(&self, room: &RoomId, telling: bool, address: &str) -> RegistrySight {
        let owner = self.owners.get(room).map(|at| {
            Ok(OwnerSeen {
                node: at.value.node.clone(),
                epoch: epoch(at.value.era, at.revision),
            })
        });
        let told = self.rooms.get(room).map(|at| Ok(at.value.clone().into()));
        RegistrySight {
            owner: owner.or_else(|| self.foreign(&Key::Owner(room.clone()))),
            told: told.or_else(|| self.foreign(&Key::Room(room.clone()))),
            telling,
            address: address.to_owned(),
        }
    }

    fn foreign<T>(&self, key: &Key) -> Option<Field<T>> {
        self.foreign.get(key).cloned().map(Err)
    }

    /// Applies the events of whole revisions, in their order.
    pub(super) fn apply(&mut self, events: &[Event], revision: i64) -> Changes {
        let mut changes = Changes::default();
        let (mut touched, mut told) = (BTreeMap::new(), Told::new());
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let Some(key) = records::key(&kv.key) else {
                continue;
            };
            if let Key::Owner(room) = &key {
                let before = self.owners.get(room).cloned();
                touched.entry(room.clone()).or_insert(before);
            }
            match event.r#type() {
                EventType::Put => self.put(key, kv, &mut changes),
                EventType::Delete => self.delete(key, &mut told),
            }
            self.revision = self.revision.max(kv.mod_revision);
        }
        self.revision = self.revision.max(revision);
        self.compare(touched, &told, &mut changes);
        changes
    }

    /// Puts a whole listing in place of what was known, and says what differs.
    pub(super) fn replace(&mut self, listing: &[KeyValue], revision: i64) -> Changes {
        let old = mem::take(self);
        let mut changes = Changes::default();
        for kv in listing {
            if let Some(key) = records::key(&kv.key) {
                self.put(key, kv, &mut changes);
            }
        }
        self.revision = revision;
        let rooms: BTreeSet<&RoomId> = old.owners.keys().chain(self.owners.keys()).collect();
        let touched = rooms
            .into_iter()
            .map(|room| (room.clone(), old.owners.get(room).cloned()));
        let touched: BTreeMap<_, _> = touched.collect();
        self.compare(touched, &old.rooms, &mut changes);
        changes
    }

    fn put(&mut self, key: Key, kv: &KeyValue, changes: &mut Changes) {
        let kept = self.agents.len() + self.owners.len() + self.rooms.len() + self.foreign.len();
        if kept >= MOST {
            changes.left_out += 1;
            return;
        }
        self.foreign.remove(&key);
        let of_room = matches!(key, Key::Owner(_) | Key::Room(_)).then(|| key.clone());
        let kept = match key {
            Key::Agent(node) => keep(&mut self.agents, node, kv),
            Key::Owner(room) => self.put_owner(&room, kv),
            Key::Room(room) => keep(&mut self.rooms, room, kv),
            Key::Status(_) => Ok(()),
        };
        let foreign = kept.err();
        if let (Some(key), Some(foreign)) = (of_room, &foreign) {
            self.foreign.insert(key, foreign.problem.clone());
        }
        changes.foreign.extend(foreign);
    }

    fn put_owner(&mut self, room: &RoomId, kv: &KeyValue) -> Result<(), Foreign> {
        let era = |view: &View| view.owners.get(room).map(|owner| owner.value.era);
        let before = era(self);
        let kept = keep(&mut self.owners, room.clone(), kv);
        let after = era(self);
        self.recount(before, after);
        kept
    }

    /// A room that was owned with one era is owned with another, or by nobody.
    fn recount(&mut self, before: Option<u32>, after: Option<u32>) {
        if let Some(era) = after {
            *self.eras.entry(era).or_default() += 1;
        }
        if let Some(era) = before
            && let Some(rooms) = self.eras.get_mut(&era)
        {
            *rooms -= 1;
            if *rooms == 0 {
                self.eras.remove(&era);
            }
        }
    }

    fn delete(&mut self, key: Key, told: &mut Told) {
        self.foreign.remove(&key);
        match key {
            Key::Agent(node) => drop(self.agents.remove(&node)),
            Key::Owner(room) => {
                let before = self.owners.remove(&room).map(|owner| owner.value.era);
                self.recount(before, None);
            }
            Key::Room(room) => {
                if let Some(at) = self.rooms.remove(&room) {
                    told.insert(room, at);
                }
            }
            Key::Status(_) => {}
        }
    }

    /// Tells which of the touched rooms changed hands. A lease ends with all its keys at once; so an owner's key that went
    /// while its node is registered on the same lease was given up, and any other went with its lease.
    fn compare(&self, touched: BTreeMap<RoomId, Option<At<Owner>>>, told: &Told, changes: &mut Changes) {
        for (room, before) in touched {
            let after = self.owners.get(&room).cloned();
            if before == after {
                continue;
            }
            let lives = |owner: &At<Owner>| {
                self.agents
                    .get(&owner.value.node)
                    .is_some_and(|agent| agent.lease == owner.lease)
            };
            let ended = after.is_none() && before.as_ref().is_some_and(|owner| !lives(owner));
            let told = told.get(&room).or_else(|| self.rooms.get(&room));
            let meta = last_said(told, before.as_ref()).map(|said| said.into_meta(room.clone()));
            changes.diffs.push(Diff {
                room,
                before,
                after,
                ended,
                meta,
            });
        }
    }
}

/// What the last owner said of a room: with its claim, or since.
fn last_said(told: Option<&At<Room>>, owner: Option<&At<Owner>>) -> Option<Room> {
    let claimed = owner.and_then(|owner| Some((owner.value.room.as_ref()?, owner.revision)));
    let told = told.map(|told| (&told.value, told.revision));
    let last = told
        .into_iter()
        .chain(claimed)
        .max_by_key(|(_, revision)| *revision)?;
    Some(last.0.clone())
}

/// Keeps what is ours; what is not takes the place of what was there.
fn keep<K: Ord, T: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<K, At<T>>,
    key: K,
    kv: &KeyValue,
) -> Result<(), Foreign> {
    match records::read(kv) {
        Ok(value) => {
            let at = At {
                value,
                revision: kv.mod_revision,
                lease: kv.lease,
            };
            map.insert(key, at);
            Ok(())
        }
        Err(foreign) => {
            map.remove(&key);
            Err(foreign)
        }
    }
}

#[cfg(test)]
mod tests;
