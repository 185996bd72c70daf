//! The pure half of the adapter: what Janus says, as inputs of the core. It remembers who is in which room, so that a
//! timeout finds its rooms, the host's leaving is told from a guest's, and a listing can be compared with the events.
//! Nothing here judges life: a room is served when a listing or its handle just said so. A heartbeat of a room comes
//! before every other fact about it: by it the core adopts a room, or starts one that was only announced.

use super::wire::{Event, Participant};
use crate::media::facts;
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{
    ClientId, Input, Port, RoomId, SourceId, State,
    core::RoomView,
    input::{Ask, ClientAct, Heartbeat, Served},
};

/// How many leavings are remembered while a listing is under way. What exceeds it, the next listing repairs.
const LEFT_BOUND: usize = 4096;

/// A full answer of Janus: who is in which room, and which rooms there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Every participant that is not idle.
    pub participants: Vec<Participant>,
    /// The rooms the plugin lists, also empty ones; private rooms are known by their participants only.
    pub rooms: Vec<RoomId>,
}

/// The hosts the core has on record, of rooms not known here yet.
pub type Hosts = BTreeMap<RoomId, ClientId>;

/// The rooms of one Janus.
#[derive(Debug)]
pub struct Rooms {
    source: SourceId,
    rooms: BTreeMap<RoomId, Room>,
    /// Counts listings. A participant seen first while one is under way may be missing in it.
    listing: u64,
    /// Who left while a listing is under way and may still stand in it.
    left: BTreeSet<(RoomId, ClientId)>,
}

/// One room with somebody in it.
#[derive(Debug)]
struct Room {
    /// The host the core has on record; without one, the first to join: Janus itself knows no host.
    host: ClientId,
    members: BTreeMap<ClientId, Member>,
}

#[derive(Debug)]
struct Member {
    session: u64,
    handle: u64,
    port: Option<Port>,
    /// The listing that was the latest when it was seen first.
    since: u64,
}

impl Rooms {
    /// Nothing known yet.
    pub fn new(source: SourceId) -> Rooms {
        Rooms {
            source,
            rooms: BTreeMap::new(),
            listing: 0,
            left: BTreeSet::new(),
        }
    }

    /// A listing is about to be asked for. What events say until it is answered is newer than it.
    pub fn listing_begins(&mut self) {
        self.listing += 1;
        self.left.clear();
    }

    /// Whether somebody is known to be in the room. If not, the core is asked for its host first.
    pub fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// A whole listing was answered: the heartbeat of every room in it, then what the events had not told.
    pub fn listed(&mut self, mut listing: Listing, hosts: &Hosts) -> Vec<Input> {
        // The first joiner among those present has the oldest handle.
        listing.participants.sort_by_key(|p| p.created);
        let mut told = Vec::new();
        let mut seen = BTreeSet::new();
        for participant in listing.participants {
            let key = (participant.room.clone(), participant.id.clone());
            if !self.left.contains(&key) {
                seen.insert(key);
                told.push(self.seen(participant, hosts));
            }
        }
        told.extend(self.missing(&seen));
        told.insert(0, self.heartbeat(listing.rooms));
        told
    }

    /// After the first listing: rooms of this Janus that were live on record, and that it shows nobody in. They ended
    /// while nobody listened. RTP that still flows there keeps them from being over; then they are judged.
    pub fn ended_unseen(&self, on_record: &[RoomView]) -> Vec<Input> {
        let ours = on_record
            .iter()
            .filter(|view| view.source.as_ref() == Some(&self.source) && view.state == State::Liveing);
        ours.filter(|view| !self.rooms.contains_key(&view.room))
            .map(|view| {
                let reason = "nobody was in it when the agent came back".into();
                self.request(&view.room, Ask::HostDisconnect { reason })
            })
            .collect()
    }

    /// `handle_info` was asked because of an event, and this participant is in its room.
    pub fn looked(&mut self, participant: Participant, hosts: &Hosts) -> Vec<Input> {
        let room = participant.room.clone();
        self.left.remove(&(room.clone(), participant.id.clone()));
        let told = self.seen(participant, hosts);
        let served = self.rooms.get(&room).map(|known| served(&room, known));
        let heartbeat = Input::Heartbeat(Heartbeat {
            source: self.source.clone(),
            rooms: served.into_iter().collect(),
            capacity: None,
        });
        vec![heartbeat, told]
    }

    /// The session and handle of a participant, if it is known.
    pub fn place(&self, room: &RoomId, id: &ClientId) -> Option<(u64, u64)> {
        let member = self.rooms.get(room)?.members.get(id)?;
        Some((member.session, member.handle))
    }

    /// An event that needs no question any more.
    pub fn happened(&mut self, event: Event) -> Vec<Input> {
        match event {
            Event::Look { .. } => Vec::new(),
            Event::Left {
                room,
                id,
                handle,
                why,
            } => {
                let member = self.rooms.get(&room).and_then(|known| known.members.get(&id));
                let other = |member: &Member| handle.is_some_and(|handle| handle != member.handle);
                if member.is_some_and(other) {
                    return Vec::new();
                }
                self.remember_left(&room, &id);
                self.leave(&room, &id, &why)
            }
            Event::RoomDestroyed(room) => self.leave_all("the room was destroyed", |r, _| *r == room),
            Event::SessionOver { session, why } => self.leave_all(&why, |_, m| m.session == session),
            Event::Detached { handle } => {
                self.leave_all("its handle was detached", |_, m| m.handle == handle)
            }
        }
    }

    /// Takes a participant that is in its room: it joins, or is still there.
    fn seen(&mut self, participant: Participant, hosts: &Hosts) -> Input {
        let Participant {
            room,
            id,
            session,
            handle,
            port,
            ..
        } = participant;
        let entry = self.rooms.entry(room.clone()).or_insert_with(|| Room {
            host: hosts.get(&room).unwrap_or(&id).clone(),
            members: BTreeMap::new(),
        });
        let old = entry.members.get(&id).map(|member| member.since);
        let since = old.unwrap_or(self.listing);
        entry.members.insert(
            id.clone(),
            Member {
                session,
                handle,
                port,
                since,
            },
        );
        let is_host = entry.host == id;
        let what = old.map_or(ClientAct::Join, |_| ClientAct::Keepalive);
        self.client(&room, &id, what, is_host)
    }

    /// Those known before the listing began and not in it have left without an event.
    fn missing(&mut self, seen: &BTreeSet<(RoomId, ClientId)>) -> Vec<Input> {
        let latest = self.listing;
        self.leave_all_by("it is no longer listed", |room, id, member| {
            member.since < latest && !seen.contains(&(room.clone(), id.clone()))
        })
    }

    fn leave_all(&mut self, why: &str, gone: impl Fn(&RoomId, &Member) -> bool) -> Vec<Input> {
        self.leave_all_by(why, |room, _, member| gone(room, member))
    }

    fn leave_all_by(&mut self, why: &str, gone: impl Fn(&RoomId, &ClientId, &Member) -> bool) -> Vec<Input> {
        let mut going = Vec::new();
        for (room, known) in &self.rooms {
            let members = known.members.iter().filter(|(id, m)| gone(room, id, m));
            going.extend(members.map(|(id, _)| (room.clone(), id.clone())));
        }
        let mut told = Vec::new();
        for (room, id) in going {
            self.remember_left(&room, &id);
            told.extend(self.leave(&room, &id, why));
        }
        told
    }

    fn remember_left(&mut self, room: &RoomId, id: &ClientId) {
        if self.left.len() < LEFT_BOUND {
            self.left.insert((room.clone(), id.clone()));
        }
    }

    fn leave(&mut self, room: &RoomId, id: &ClientId, why: &str) -> Vec<Input> {
        let Some(known) = self.rooms.get_mut(room) else {
            return Vec::new();
        };
        if known.members.remove(id).is_none() {
            return Vec::new();
        }
        let is_host = known.host == *id;
        let empty = known.members.is_empty();
        let mut told = Vec::new();
        if is_host {
            let reason = format!("host {id}: {why}");
            told.push(self.request(room, Ask::HostDisconnect { reason }));
        }
        told.push(self.client(room, id, ClientAct::Leave, is_host));
        if empty {
            self.rooms.remove(room);
            told.push(self.request(room, Ask::NoActiveUser));
        }
        told
    }

    fn heartbeat(&self, listed: Vec<RoomId>) -> Input {
        let known = self.rooms.iter();
        let mut rooms: BTreeMap<RoomId, Served> = known
            .map(|(room, known)| (room.clone(), served(room, known)))
            .collect();
        for room in listed {
            rooms.entry(room).or_insert_with_key(|room| Served {
                room: room.clone(),
                ports: Vec::new(),
                flows: Vec::new(),
                ssrcs: Vec::new(),
                participants: 0,
                host: None,
            });
        }
        Input::Heartbeat(Heartbeat {
            source: self.source.clone(),
            rooms: rooms.into_values().collect(),
            capacity: None,
        })
    }

    fn client(&self, room: &RoomId, client: &ClientId, what: ClientAct, is_host: bool) -> Input {
        facts::client(&self.source, room, client, what, is_host)
    }

    fn request(&self, room: &RoomId, ask: Ask) -> Input {
        facts::request(&self.source, room, ask)
    }
}

/// The hosts of the rooms' present lives, as the core has them on record.
pub(super) fn hosts<'a>(views: impl IntoIterator<Item = &'a RoomView>) -> Hosts {
    let live = views.into_iter().filter(|view| view.state.is_live());
    live.filter_map(|view| Some((view.room.clone(), view.host.clone()?)))
        .collect()
}

fn served(room: &RoomId, known: &Room) -> Served {
    let ports: BTreeSet<Port> = known.members.values().filter_map(|member| member.port).collect();
    Served {
        room: room.clone(),
        ports: ports.into_iter().collect(),
        // One socket per participant: no port is shared.
        flows: Vec::new(),
        ssrcs: Vec::new(),
        participants: u32::try_from(known.members.len()).unwrap_or(u32::MAX),
        // A host that is not there must not become the host of a new life.
        host: known
            .members
            .contains_key(&known.host)
            .then(|| known.host.clone()),
    }
}

#[cfg(test)]
mod tests;
