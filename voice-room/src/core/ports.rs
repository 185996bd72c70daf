//! Which port belongs to which room.
//!
//! A port stays with its room until another room or a new socket takes it, or the room's life ends: a media server may
//! close its sockets, or forget a room, while senders go on. A port that two rooms list at the same time belongs to
//! neither, so that none is cut for the other.

use super::{Core, room::Room};
use crate::{Command, Mono, Now, Port, RoomId, State, timeline::What};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// Who claims a port.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// The room it is bound to.
    pub(super) owner: Option<RoomId>,
    /// Rooms that list it; more than one makes it shared.
    pub(super) listed_by: BTreeSet<RoomId>,
}

impl Core {
    /// Takes a source's list of a room's ports.
    pub(super) fn listed(&mut self, now: Now, id: &RoomId, ports: &[Port]) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let listed: BTreeSet<Port> = ports.iter().copied().collect();
        let all_ours = |(_, claim): (&Port, &Claim)| claim.owner.as_ref() == Some(id);
        if room.listed == listed
            && listed
                .iter()
                .filter_map(|p| self.ports.get_key_value(p))
                .all(all_ours)
        {
            return;
        }
        let before = core::mem::replace(&mut room.listed, listed.clone());
        let mut changed: BTreeSet<RoomId> = BTreeSet::new();
        for port in before.difference(&listed) {
            self.no_longer_listed(id, *port, &mut changed);
        }
        for port in &listed {
            self.claim(now, id, *port, &mut changed);
        }
        // The room that was listed may take ports of others, so these are told first: no port is ever bound to two.
        let itself = changed.remove(id);
        for room in changed.into_iter().chain(itself.then(|| id.clone())) {
            self.bind(now, &room);
        }
    }

    fn claim(&mut self, now: Now, id: &RoomId, port: Port, changed: &mut BTreeSet<RoomId>) {
        let claim = self.ports.entry(port).or_default();
        let news = claim.listed_by.insert(id.clone());
        let rivals: Vec<RoomId> = claim.listed_by.iter().filter(|r| *r != id).cloned().collect();
        let (stale, live): (Vec<RoomId>, Vec<RoomId>) =
            rivals.into_iter().partition(|r| !self.lists_now(now.mono, r));
        let Some(claim) = self.ports.get_mut(&port) else {
            return;
        };
        claim.listed_by.retain(|r| !stale.contains(r));
        let owner = if live.is_empty() { Some(id.clone()) } else { None };
        let previous = core::mem::replace(&mut claim.owner, owner.clone());
        if previous != owner {
            changed.extend(previous);
            changed.insert(id.clone());
        }
        for other in live.into_iter().filter(|_| news) {
            self.record(
                now,
                id,
                What::PortShared {
                    port,
                    other: other.clone(),
                },
            );
            self.record(
                now,
                &other,
                What::PortShared {
                    port,
                    other: id.clone(),
                },
            );
        }
    }

    /// A room that is not followed here lists these ports. They are not the room's that had them before and does not
    /// list them now: else its cut would silence the other.
    pub(super) fn listed_elsewhere(&mut self, now: Now, id: &RoomId, ports: &[Port]) {
        let mut changed: BTreeSet<RoomId> = BTreeSet::new();
        for port in ports {
            let kept = |owner: &RoomId, listed_by: &BTreeSet<RoomId>| {
                owner == id || (listed_by.contains(owner) && self.lists_now(now.mono, owner))
            };
            let owner = self
                .ports
                .get(port)
                .and_then(|c| Some((c.owner.as_ref()?, &c.listed_by)));
            let Some(loser) = owner.filter(|(o, l)| !kept(o, l)).map(|(o, _)| o.clone()) else {
                continue;
            };
            if let Some(claim) = self.ports.get_mut(port) {
                claim.owner = None;
                claim.listed_by.remove(&loser);
            }
            changed.insert(loser);
        }
        for room in changed {
            self.bind(now, &room);
        }
    }

    /// Whether a room's list of ports still speaks of the present.
    fn lists_now(&self, now: Mono, id: &RoomId) -> bool {
        let fresh = |room: &Room| {
            room.heartbeat
                .is_some_and(|t| now.since(t) < 3 * self.rules.heartbeat)
        };
        self.rooms
            .get(id)
            .is_some_and(|room| room.state().is_some() && fresh(room))
    }

    /// The room keeps a port it no longer lists, unless others list it: then it is theirs.
    fn no_longer_listed(&mut self, id: &RoomId, port: Port, changed: &mut BTreeSet<RoomId>) {
        let Some(claim) = self.ports.get_mut(&port) else {
            return;
        };
        claim.listed_by.remove(id);
        if claim.listed_by.len() == 1 && claim.owner.as_ref() != claim.listed_by.first() {
            changed.extend(claim.owner.take());
            claim.owner = claim.listed_by.first().cloned();
            changed.extend(claim.owner.clone());
        }
    }

    /// Gives back every port of a life that is over.
    pub(super) fn unclaim_all(&mut self, id: &RoomId) {
        for claim in self.ports.values_mut() {
            claim.listed_by.remove(id);
            if claim.owner.as_ref() == Some(id) {
                claim.owner = None;
            }
        }
        self.ports
            .retain(|_, claim| claim.owner.is_some() || !claim.listed_by.is_empty());
        if let Some(room) = self.rooms.get_mut(id) {
            room.listed.clear();
            room.record.ports.clear();
        }
    }

    /// Takes ports a restart found in a record, if nobody else has them.
    pub(super) fn reclaim(&mut self, now: Now, id: &RoomId, ports: &[Port]) {
        for port in ports {
            let claim = self.ports.entry(*port).or_default();
            claim.owner.get_or_insert_with(|| id.clone());
        }
        self.bind(now, id);
    }

    /// Tells the kernel side which ports a room has, and keeps them in its record.
    pub(super) fn bind(&mut self, now: Now, id: &RoomId) {
        if let Some(ports) = self.tell_ports(id) {
            self.record(now, id, What::Ports { ports });
        }
    }

    /// The same without an entry for `explain`.
    pub(super) fn tell_ports(&mut self, id: &RoomId) -> Option<Vec<Port>> {
        let ports = owned(&self.ports, id);
        let room = self
            .rooms
            .get_mut(id)
            .filter(|r| r.record.state != State::Destroyed)?;
        room.bound = true;
        room.record.ports.clone_from(&ports);
        let incarnation = room.record.incarnation;
        self.out(Command::Bind {
            room: id.clone(),
            incarnation,
            ports: ports.clone(),
        });
        Some(ports)
    }
}

fn owned(ports: &BTreeMap<Port, Claim>, id: &RoomId) -> Vec<Port> {
    ports
        .iter()
        .filter(|(_, c)| c.owner.as_ref() == Some(id))
        .map(|(p, _)| *p)
        .collect()
}
