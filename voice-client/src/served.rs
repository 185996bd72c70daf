//! Which rooms this peer serves, so that it can say them again after a reconnect. The agent forgets them with the stream.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use voice_room::{ClientId, RoomId};

/// Rooms that are remembered: the agent's own default bound of one peer's. Those above come back with what their clients say.
const MAX_ROOMS: usize = 16_384;
/// Clients that are remembered, of all rooms together.
const MAX_CLIENTS: usize = 262_144;

/// All of them, and why.
#[derive(Debug, Default)]
pub(crate) struct Served {
    rooms: BTreeMap<RoomId, Because>,
    clients: usize,
    /// A media server's last listing.
    listed: HashSet<RoomId>,
}

#[derive(Debug, Default)]
struct Because {
    named: bool,
    clients: BTreeSet<ClientId>,
}

impl Served {
    pub(crate) fn name(&mut self, room: &RoomId) {
        if let Some(because) = self.entry(room) {
            because.named = true;
        }
    }

    pub(crate) fn join(&mut self, room: &RoomId, client: &ClientId) {
        if self.clients >= MAX_CLIENTS {
            return;
        }
        let new = self
            .entry(room)
            .is_some_and(|because| because.clients.insert(client.clone()));
        self.clients += usize::from(new);
    }

    /// True: it was the last reason to serve the room.
    pub(crate) fn leave(&mut self, room: &RoomId, client: &ClientId) -> bool {
        let Some(because) = self.rooms.get_mut(room) else {
            return false;
        };
        self.clients -= usize::from(because.clients.remove(client));
        let over = !because.named && because.clients.is_empty();
        if over {
            self.rooms.remove(room);
        }
        over && !self.listed.contains(room)
    }

    pub(crate) fn list(&mut self, rooms: HashSet<RoomId>) {
        self.listed = rooms;
    }

    pub(crate) fn forget(&mut self, room: &RoomId) {
        if let Some(because) = self.rooms.remove(room) {
            self.clients -= because.clients.len();
        }
    }

    pub(crate) fn contains(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room) || self.listed.contains(room)
    }

    /// Each once; those of the last listing come last.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        let listed = self.listed.iter();
        self.rooms
            .keys()
            .chain(listed.filter(|room| !self.rooms.contains_key(*room)))
    }

    fn entry(&mut self, room: &RoomId) -> Option<&mut Because> {
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(room) {
            return None;
        }
        Some(self.rooms.entry(room.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_served_until_its_last_client_left_unless_it_was_named() {
        let (room, named) = (RoomId::new("r").unwrap(), RoomId::new("n").unwrap());
        let (a, b) = (ClientId::new("a").unwrap(), ClientId::new("b").unwrap());
        let mut served = Served::default();
        served.name(&named);
        for r in [&room, &named] {
            served.join(r, &a);
            served.join(r, &b);
            served.join(r, &b);
        }
        assert_eq!(served.clients, 4);
        assert_eq!((served.leave(&room, &a), served.leave(&room, &b)), (false, true));
        assert_eq!(
            (served.leave(&named, &a), served.leave(&named, &b)),
            (false, false)
        );
        assert_eq!((served.contains(&room), served.contains(&named)), (false, true));
        assert_eq!(served.clients, 0);
    }
}
