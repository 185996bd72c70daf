//! Which rooms one peer serves, and why. Bounded; knows nothing of other peers.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;
use voice_room::{ClientId, RoomId};

/// Clients one peer may have in all its rooms.
pub(super) const MAX_CLIENTS: usize = 262_144;
/// A room a media server stopped listing is remembered for this long, so that a late trip still reaches the server.
const LISTED_FOR: Duration = Duration::from_secs(3600);

/// Why a room counts as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Because {
    /// Named in the metadata or in a room event. Holds until the room is destroyed.
    Named,
    /// This client is in it. Holds until its last client left.
    Client(ClientId),
}

/// The rooms one peer serves.
#[derive(Debug)]
pub(super) struct Served {
    max_rooms: usize,
    rooms: HashMap<RoomId, Why>,
    clients: usize,
}

#[derive(Debug, Default)]
struct Why {
    named: bool,
    clients: HashSet<ClientId>,
    listed: Option<Instant>,
}

impl Why {
    fn holds(&self) -> bool {
        self.named || self.listed.is_some() || !self.clients.is_empty()
    }
}

impl Served {
    /// None yet, and at most so many at one time.
    pub(super) fn new(max_rooms: usize) -> Served {
        Served {
            max_rooms,
            rooms: HashMap::new(),
            clients: 0,
        }
    }

    pub(super) fn contains(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether `room` would still fit, as an error text if not.
    pub(super) fn fits(&self, room: &RoomId, because: &Because) -> Result<(), String> {
        if !self.contains(room) && self.rooms.len() >= self.max_rooms {
            return Err(format!(
                "this peer serves {} rooms already, the most (session.max_rooms); close some first",
                self.max_rooms
            ));
        }
        if matches!(because, Because::Client(_)) && self.clients >= MAX_CLIENTS {
            return Err(format!(
                "this peer has {MAX_CLIENTS} clients already; let some leave first"
            ));
        }
        Ok(())
    }

    /// True: the room was not served before.
    pub(super) fn add(&mut self, room: RoomId, because: Because) -> bool {
        let why = self.rooms.entry(room).or_default();
        let new = !why.holds();
        match because {
            Because::Named => why.named = true,
            Because::Client(client) => self.clients += usize::from(why.clients.insert(client)),
        }
        new
    }

    /// Whether this client is in the room at this peer.
    pub(super) fn has(&self, room: &RoomId, client: &ClientId) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|why| why.clients.contains(client))
    }

    /// Every room, with the clients that are in it.
    pub(super) fn into_rooms(self) -> impl Iterator<Item = (RoomId, HashSet<ClientId>)> {
        self.rooms.into_iter().map(|(room, why)| (room, why.clients))
    }

    /// A client left; the last one takes the room along (`true`) unless it is served for another reason too.
    pub(super) fn leave(&mut self, room: &RoomId, client: &ClientId) -> bool {
        let Some(why) = self.rooms.get_mut(room) else {
            return false;
        };
        self.clients -= usize::from(why.clients.remove(client));
        let over = !why.holds();
        if over {
            self.rooms.remove(room);
        }
        over
    }

    /// A media server listed these rooms. Those that were not served before.
    pub(super) fn list<'r>(
        &mut self,
        rooms: impl ExactSizeIterator<Item = &'r RoomId> + Clone,
        now: Instant,
    ) -> Result<Vec<RoomId>, String> {
        let new = rooms.clone().filter(|room| !self.contains(room)).count();
        if self.rooms.len() + new > self.max_rooms {
            return Err(format!(
                "{new} new rooms besides the {} known of this peer: at most {} are allowed (session.max_rooms)",
                self.rooms.len(),
                self.max_rooms
            ));
        }
        let mut listed = Vec::with_capacity(new);
        for room in rooms {
            if let Some(why) = self.rooms.get_mut(room) {
                why.listed = Some(now);
            } else {
                listed.push(room.clone());
                let why = self.rooms.entry(room.clone()).or_default();
                why.listed = Some(now);
            }
        }
        Ok(listed)
    }

    /// Forgets rooms that were listed too long ago and are served for no other reason. Which.
    pub(super) fn purge(&mut self, now: Instant) -> Vec<RoomId> {
        let mut gone = Vec::new();
        self.rooms.retain(|room, why| {
            why.listed = why
                .listed
                .filter(|at| now.saturating_duration_since(*at) < LISTED_FOR);
            let stays = why.holds();
            if !stays {
                gone.push(room.clone());
            }
            stays
        });
        gone
    }

    /// The room is over.
    pub(super) fn forget(&mut self, room: &RoomId) {
        if let Some(why) = self.rooms.remove(room) {
            self.clients -= why.clients.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_ROOMS: usize = 16_384;

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    fn client(name: &str) -> Because {
        Because::Client(ClientId::new(name).unwrap())
    }

    #[test]
    fn a_room_is_served_until_the_last_of_its_clients_left() {
        let mut served = Served::new(MAX_ROOMS);
        served.add(room("r"), client("a"));
        served.add(room("r"), client("a"));
        served.add(room("r"), client("b"));
        served.leave(&room("r"), &ClientId::new("a").unwrap());
        served.leave(&room("r"), &ClientId::new("a").unwrap());
        assert!(served.contains(&room("r")));
        served.leave(&room("r"), &ClientId::new("b").unwrap());
        assert_eq!((served.len(), served.clients), (0, 0));
    }

    #[test]
    fn a_room_named_in_an_event_stays_served_when_its_clients_leave_and_goes_when_it_is_over() {
        let mut served = Served::new(MAX_ROOMS);
        served.add(room("r"), Because::Named);
        served.add(room("r"), client("a"));
        served.leave(&room("r"), &ClientId::new("a").unwrap());
        assert!(served.contains(&room("r")));
        served.add(room("r"), client("a"));
        served.forget(&room("r"));
        assert_eq!((served.len(), served.clients), (0, 0));
    }

    #[test]
    fn a_room_no_longer_listed_is_remembered_for_a_late_trip_but_not_for_ever() {
        let mut served = Served::new(MAX_ROOMS);
        let t = Instant::now();
        served.list([room("r")].iter(), t).unwrap();
        assert_eq!(served.purge(t + LISTED_FOR / 2), []);
        assert!(served.contains(&room("r")));
        assert_eq!(served.purge(t + LISTED_FOR), [room("r")]);
        assert!(!served.contains(&room("r")));
    }

    #[test]
    fn the_number_of_rooms_is_bounded_and_the_refusal_says_so() {
        let mut served = Served::new(MAX_ROOMS);
        let rooms: Vec<RoomId> = (0..MAX_ROOMS).map(|n| room(&format!("r{n}"))).collect();
        served.list(rooms.iter(), Instant::now()).unwrap();
        assert!(served.fits(&room("r0"), &Because::Named).is_ok());
        let said = served.fits(&room("more"), &Because::Named).unwrap_err();
        assert!(said.contains("16384 rooms"));
        assert!(served.list([room("more")].iter(), Instant::now()).is_err());
        assert_eq!(served.len(), MAX_ROOMS);
    }
}
