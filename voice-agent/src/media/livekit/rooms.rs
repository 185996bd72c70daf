//! The pure half of the adapter: what LiveKit answers, as inputs of the core. It remembers who is in which room, so that joins and
//! leaves are told once. Nothing here judges life: a room is served when LiveKit just listed it with somebody in it. A heartbeat of
//! a room comes before every other fact about it: by it the core adopts a room, or starts one that was only announced.

use super::wire::{Listed, Participant};
use crate::media::facts;
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{
    ClientId, Input, RoomId, SourceId, State,
    core::RoomView,
    input::{Ask, ClientAct, Heartbeat, Served},
};

/// How many rooms are looked at after one listing, those that changed first: each costs a question of a millisecond or two.
pub(super) const LOOKS: usize = 200;

/// The rooms of one LiveKit.
#[derive(Debug)]
pub(super) struct Rooms {
    source: SourceId,
    rooms: BTreeMap<RoomId, Room>,
    /// Counts listings. What was seen first while one is under way may be missing in it.
    listing: u64,
}

#[derive(Debug, Default)]
struct Room {
    /// As the latest answer has it.
    participants: u32,
    /// The host the core has on record; without one, the first to join: LiveKit itself knows no host.
    host: Option<ClientId>,
    members: BTreeSet<ClientId>,
    /// The listing that was the latest when it was seen first.
    since: u64,
    /// The listing that was the latest when its participants were asked for; none: never.
    looked: Option<u64>,
}

impl Room {
    /// Whether its members are not those of the latest answer, by their number.
    fn differs(&self) -> bool {
        usize::try_from(self.participants) != Ok(self.members.len())
    }

    fn served(&self, room: &RoomId) -> Served {
        Served {
            room: room.clone(),
            ports: Vec::new(),
            flows: Vec::new(),
            ssrcs: Vec::new(),
            participants: self.participants,
            // A host that is not there must not become the host of a new life.
            host: self.host.clone().filter(|host| self.members.contains(host)),
        }
    }
}

impl Rooms {
    /// Nothing known yet.
    pub(super) fn new(source: SourceId) -> Rooms {
        Rooms {
            source,
            rooms: BTreeMap::new(),
            listing: 0,
        }
    }

    /// A listing is about to be asked for. What is looked at until it is answered is newer than it.
    pub(super) fn listing_begins(&mut self) {
        self.listing += 1;
    }

    /// Whether somebody is known to be in the room. If not, the core is asked for its host before it is looked at.
    pub(super) fn knows(&self, room: &RoomId) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|known| !known.members.is_empty())
    }

    /// All rooms were listed: the heartbeat of every one, then the ends of those that are gone.
    pub(super) fn listed(&mut self, listed: Vec<Listed>) -> Vec<Input> {
        let latest = self.listing;
        let mut there = BTreeSet::new();
        for Listed { room, participants } in listed {
            let known = self.rooms.entry(room.clone()).or_insert_with(|| Room {
                since: latest,
                ..Room::default()
            });
            known.participants = participants;
            there.insert(room);
        }
        let is_gone = |(room, known): &(&RoomId, &Room)| {
            let newer = known.since >= latest || known.looked.is_some_and(|looked| looked >= latest);
            !newer && !there.contains(*room)
        };
        let gone: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(is_gone)
            .map(|(room, _)| room.clone())
            .collect();
        let mut told = Vec::new();
        for room in &gone {
            told.extend(self.leave_missing(room, &[], None));
            self.rooms.remove(room);
        }
        told.insert(0, self.heartbeat(self.rooms.iter()));
        told
    }

    /// The rooms to look at after a listing: those whose members are not as it says, then those that were looked at longest ago.
    pub(super) fn due(&self) -> Vec<RoomId> {
        let somebody = |(_, known): &(&RoomId, &Room)| known.participants > 0 || !known.members.is_empty();
        let mut due: Vec<_> = self.rooms.iter().filter(somebody).collect();
        due.sort_by_key(|(_, known)| (!known.differs(), known.looked));
        due.into_iter()
            .take(LOOKS)
            .map(|(room, _)| room.clone())
            .collect()
    }

    /// After the first listing: rooms of this LiveKit that were live on record, and that it shows nobody in. They ended while
    /// nobody listened. RTP that still flows there keeps them from being over; then they are judged.
    pub(super) fn ended_unseen(&self, on_record: &[RoomView]) -> Vec<Input> {
        let ours = on_record
            .iter()
            .filter(|view| view.source.as_ref() == Some(&self.source) && view.state == State::Liveing);
        let served = |room: &RoomId| self.rooms.get(room).is_some_and(|known| known.participants > 0);
        ours.filter(|view| !served(&view.room))
            .map(|view| {
                let reason = "nobody was in it when the agent came back".into();
                facts::request(&self.source, &view.room, Ask::HostDisconnect { reason })
            })
            .collect()
    }

    /// The participants of a room were asked for. `host`: whom the core has on record, of a room that was not known. `left`: who
    /// left by a webhook, and why.
    pub(super) fn looked(
        &mut self,
        room: &RoomId,
        mut present: Vec<Participant>,
        host: Option<ClientId>,
        left: Option<&(ClientId, String)>,
    ) -> Vec<Input> {
        present.sort_by_key(|participant| participant.joined_at);
        let latest = self.listing;
        let known = self.rooms.entry(room.clone()).or_insert_with(|| Room {
            since: latest,
            ..Room::default()
        });
        known.participants = u32::try_from(present.len()).unwrap_or(u32::MAX);
        known.looked = Some(latest);
        if known.members.is_empty() {
            known.host = host.or_else(|| present.first().map(|first| first.id.clone()));
        }
        let mut told = Vec::new();
        for participant in &present {
            let what = match known.members.insert(participant.id.clone()) {
                true => ClientAct::Join,
                false => ClientAct::Keepalive,
            };
            let is_host = known.host.as_ref() == Some(&participant.id);
            told.push(facts::client(&self.source, room, &participant.id, what, is_host));
        }
        let gone = self.leave_missing(room, &present, left);
        // Told first, and with those who are gone taken out: it must not name a host who left.
        if !present.is_empty() {
            let served = self.rooms.get_key_value(room);
            told.insert(0, self.heartbeat(served.into_iter()));
        }
        told.extend(gone);
        told
    }

    /// Tells who is a member and not present any more.
    fn leave_missing(
        &mut self,
        room: &RoomId,
        present: &[Participant],
        left: Option<&(ClientId, String)>,
    ) -> Vec<Input> {
        let Some(known) = self.rooms.get_mut(room) else {
            return Vec::new();
        };
        let is_present = |id: &ClientId| present.iter().any(|participant| participant.id == *id);
        let gone: Vec<ClientId> = known
            .members
            .iter()
            .filter(|id| !is_present(id))
            .cloned()
            .collect();
        let mut told = Vec::new();
        for id in &gone {
            known.members.remove(id);
            let is_host = known.host.as_ref() == Some(id);
            if is_host {
                let why = left.filter(|(who, _)| who == id);
                let why = why.map_or("it is no longer listed", |(_, why)| why);
                let reason = format!("host {id}: {why}");
                told.push(facts::request(&self.source, room, Ask::HostDisconnect { reason }));
            }
            told.push(facts::client(&self.source, room, id, ClientAct::Leave, is_host));
        }
        if !gone.is_empty() && known.members.is_empty() {
            told.push(facts::request(&self.source, room, Ask::NoActiveUser));
        }
        told
    }

    fn heartbeat<'a>(&self, rooms: impl Iterator<Item = (&'a RoomId, &'a Room)>) -> Input {
        Input::Heartbeat(Heartbeat {
            source: self.source.clone(),
            rooms: rooms.map(|(room, known)| known.served(room)).collect(),
            capacity: None,
        })
    }
}

#[cfg(test)]
mod tests;
