//! The rooms by id. Each lies in memory of its own: a node of the tree has place for eleven, and rooms that come one after
//! the other leave half of it empty.

use super::room::Room;
use crate::RoomId;
use alloc::{
    boxed::Box,
    collections::{BTreeMap, btree_map::IterMut},
};
use core::{iter::Map, ops::Bound};

#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<RoomId, Box<Room>>);

impl Rooms {
    pub(super) fn get(&self, id: &RoomId) -> Option<&Room> {
        self.0.get(id).map(|room| &**room)
    }

    pub(super) fn get_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.0.get_mut(id).map(|room| &mut **room)
    }

    pub(super) fn contains_key(&self, id: &RoomId) -> bool {
        self.0.contains_key(id)
    }

    /// In place of what was there.
    pub(super) fn insert(&mut self, id: RoomId, room: Room) {
        self.0.insert(id, Box::new(room));
    }

    pub(super) fn remove(&mut self, id: &RoomId) {
        self.0.remove(id);
    }

    /// Those behind this one, by id; `None`: all.
    pub(super) fn after(&self, id: Option<&RoomId>) -> impl Iterator<Item = (&RoomId, &Room)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.0.range::<RoomId, _>((from, Bound::Unbounded));
        behind.map(|(id, room)| (id, &**room))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomId, &Room)> {
        self.0.iter().map(|(id, room)| (id, &**room))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&RoomId, &mut Room)> {
        self.into_iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Room> {
        self.0.values().map(|room| &**room)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.0.values_mut().map(|room| &mut **room)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&RoomId, &mut Room) -> bool) {
        self.0.retain(|id, room| keep(id, room));
    }
}

type Unbox<'r> = fn((&'r RoomId, &'r mut Box<Room>)) -> (&'r RoomId, &'r mut Room);

impl<'r> IntoIterator for &'r mut Rooms {
    type Item = (&'r RoomId, &'r mut Room);
    type IntoIter = Map<IterMut<'r, RoomId, Box<Room>>, Unbox<'r>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut().map(|(id, room)| (id, &mut **room))
    }
}
