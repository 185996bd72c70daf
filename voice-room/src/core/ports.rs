//! Which port belongs to which room, and on ports that rooms share, which flow and which SSRC.
//!
//! A port stays with its room until another room or a new socket takes it, or the room's life ends: a media server may
//! close its sockets, or forget a room, while senders go on. A port that two rooms list at the same time is shared: it
//! belongs to neither, and each is known there by its flows and SSRCs. What two rooms claim at the same time belongs to
//! neither, so that none is cut for the other.

use super::{Core, few::Few, room::Room, told::MarksBy};
use crate::{Binding, Command, Flow, Mono, Now, Port, RoomId, Ssrc, State, input::Served, timeline::What};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

/// What a room's packets are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Port(Port),
    Flow(Flow),
    Ssrc(Ssrc),
}

impl Mark {
    /// The port of a flow or SSRC.
    fn shares(&self) -> Option<Port> {
        match self {
            Mark::Port(_) => None,
            Mark::Flow(flow) => Some(flow.port),
            Mark::Ssrc(ssrc) => Some(ssrc.port),
        }
    }

    /// The port it is on.
    pub(super) fn port(&self) -> Port {
        match self {
            Mark::Port(port) => *port,
            Mark::Flow(flow) => flow.port,
            Mark::Ssrc(ssrc) => ssrc.port,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Mark::Port(port) => format!("port {}", port.0),
            Mark::Flow(flow) => flow.to_string(),
            Mark::Ssrc(ssrc) => ssrc.to_string(),
        }
    }
}

/// Who claims a port, flow or SSRC.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// The room it is bound to.
    pub(super) owner: Option<RoomId>,
    /// Rooms that list it; more than one makes it shared.
    pub(super) listed_by: Few<RoomId>,
}

impl Core {
    /// Takes a source's list of what a room is known by.
    pub(super) fn listed(&mut self, now: Now, id: &RoomId, served: &Served) {
        let Some(room) = self.rooms.get(id) else {
            return;
        };
        let listed = listing(served, &room.listed);
        if room.listed == listed && listed.iter().all(|mark| self.is_settled(now.mono, id, mark)) {
            return;
        }
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let before = core::mem::replace(&mut room.listed, listed.clone());
        let mut changed: BTreeSet<RoomId> = BTreeSet::new();
        for mark in before.iter().filter(|mark| !listed.contains(mark)) {
            self.no_longer_listed(id, *mark, &mut changed);
        }
        // A port that others share with it may have been its own until now.
        for mark in listed.iter() {
            if !self.is_settled(now.mono, id, mark) {
                self.claim(now, id, *mark, &mut changed);
            }
        }
        // The room that was listed may take ports of others, so these are told first: no port is ever bound to two.
        let itself = changed.remove(id);
        for room in changed.into_iter().chain(itself.then(|| id.clone())) {
            self.bind(now, &room);
        }
    }

    /// Whether a listing of `mark` by this room changes nothing.
    fn is_settled(&self, now: Mono, id: &RoomId, mark: &Mark) -> bool {
        let Some(claim) = self.claims.get(mark).filter(|c| c.listed_by.contains(id)) else {
            return false;
        };
        match &claim.owner {
            Some(owner) => owner == id,
            None => self.rival(now, id, mark, claim).is_some(),
        }
    }

    /// Another room whose claim counts: it lists it now, or is known on that port by a flow or SSRC that it keeps.
    fn rival<'a>(&self, now: Mono, id: &RoomId, mark: &Mark, claim: &'a Claim) -> Option<&'a RoomId> {
        let keeps = |room: &Room| match mark {
            Mark::Port(port) => room.listed.iter().any(|m| m.shares() == Some(*port)),
            _ => false,
        };
        let counts = |other: &RoomId| self.lists_now(now, other) || self.rooms.get(other).is_some_and(keeps);
        claim.listed_by.iter().find(|other| *other != id && counts(other))
    }

    fn claim(&mut self, now: Now, id: &RoomId, mark: Mark, changed: &mut BTreeSet<RoomId>) {
        let claim = self.claims.entry(mark).or_default();
        let news = claim.listed_by.insert(id.clone());
        let rival = self
            .claims
            .get(&mark)
            .and_then(|claim| self.rival(now.mono, id, &mark, claim).cloned());
        let Some(claim) = self.claims.get_mut(&mark) else {
            return;
        };
        if rival.is_none() {
            claim.listed_by.retain(|r| r == id);
        }
        let owner = rival.is_none().then(|| id.clone());
        let previous = core::mem::replace(&mut claim.owner, owner.clone());
        if previous != owner {
            changed.extend(previous.clone());
            changed.insert(id.clone());
        }
        let Some(rival) = rival else {
            return;
        };
        if news || previous.is_some() {
            self.shared(now, id, &mark, &rival);
        }
        if let Some(previous) = previous.filter(|p| p != id) {
            self.shared(now, &previous, &mark, id);
        }
    }

    /// Says to `id` that another room claims the same.
    fn shared(&mut self, now: Now, id: &RoomId, mark: &Mark, other: &RoomId) {
        let other = other.clone();
        let what = match mark {
            Mark::Port(port) => What::PortShared { port: *port, other },
            _ => {
                let mark = mark.words();
                let detail = format!("{mark} is claimed by room {other} too; it is bound to neither");
                self.note("mark_clash", id, detail);
                What::MarkShared { mark, other }
            }
        };
        self.record(now, id, what);
    }

    /// A room that is not followed here lists these. They are not the room's that had them before and does not list them
    /// now: else its cut would silence the other. What is its now stays so, and that is said.
    pub(super) fn listed_elsewhere(&mut self, now: Now, id: &RoomId, served: &Served) {
        let mut changed: BTreeSet<RoomId> = BTreeSet::new();
        let mut clash: Option<(RoomId, Mark)> = None;
        for mark in listing(served, &Few::default()).iter() {
            let Some(claim) = self.claims.get(mark) else {
                continue;
            };
            let Some(loser) = claim.owner.clone().filter(|owner| owner != id) else {
                continue;
            };
            if claim.listed_by.contains(&loser) && self.lists_now(now.mono, &loser) {
                clash.get_or_insert((loser, *mark));
                continue;
            }
            if let Some(claim) = self.claims.get_mut(mark) {
                claim.owner = None;
                claim.listed_by.remove(&loser);
            }
            changed.insert(loser);
        }
        if let Some((owner, mark)) = clash {
            let detail = format!(
                "{} is listed by room {id} too, which is not followed here: a cut of this room reaches that one",
                mark.words()
            );
            self.note("listed_unfollowed", &owner, detail);
        }
        for room in changed {
            self.bind(now, &room);
        }
    }

    /// Whether a room's list still speaks of the present.
    fn lists_now(&self, now: Mono, id: &RoomId) -> bool {
        let fresh = |room: &Room| {
            room.heartbeat
                .is_some_and(|t| now.since(t) < 3 * self.rules.heartbeat)
        };
        self.rooms
            .get(id)
            .is_some_and(|room| room.state().is_some() && fresh(room))
    }

    /// The room keeps a port it no longer lists, unless others list it: then it is theirs. Flows and SSRCs come and go with
    /// participants, so they are not kept.
    fn no_longer_listed(&mut self, id: &RoomId, mark: Mark, changed: &mut BTreeSet<RoomId>) {
        let Some(claim) = self.claims.get_mut(&mark) else {
            return;
        };
        claim.listed_by.remove(id);
        if mark.shares().is_some() && claim.owner.as_ref() == Some(id) {
            changed.extend(claim.owner.take());
        }
        if claim.listed_by.len() == 1 && claim.owner.as_ref() != claim.listed_by.first() {
            changed.extend(claim.owner.take());
            claim.owner = claim.listed_by.first().cloned();
            changed.extend(claim.owner.clone());
        }
        if claim.owner.is_none() && claim.listed_by.is_empty() {
            self.claims.remove(&mark);
        }
    }

    /// Gives back everything of a life that is over.
    pub(super) fn unclaim_all(&mut self, id: &RoomId) {
        self.forget_told(id);
        for mark in self.marks_of(id) {
            self.unclaim(id, mark);
        }
        if let Some(room) = self.rooms.get_mut(id) {
            room.listed.clear();
            room.record.ports.clear();
            room.marks_by = MarksBy::Nobody;
        }
    }

    pub(super) fn unclaim(&mut self, id: &RoomId, mark: Mark) {
        let Some(claim) = self.claims.get_mut(&mark) else {
            return;
        };
        claim.listed_by.remove(id);
        claim.owner.take_if(|owner| owner == id);
        if claim.owner.is_none() && claim.listed_by.is_empty() {
            self.claims.remove(&mark);
        }
    }

    /// Takes what a restart found, if nobody else has it.
    pub(super) fn reclaim(&mut self, now: Now, id: &RoomId, binding: &Binding) {
        let served = Served {
            room: id.clone(),
            ports: Vec::new(),
            flows: binding.flows.clone(),
            ssrcs: binding.ssrcs.clone(),
            participants: 0,
            host: None,
        };
        let shared = listing(&served, &Few::default());
        for mark in binding.ports.iter().map(|p| Mark::Port(*p)) {
            let claim = self.claims.entry(mark).or_default();
            claim.owner.get_or_insert_with(|| id.clone());
        }
        for mark in shared.iter() {
            let claim = self.claims.entry(*mark).or_default();
            claim.listed_by.insert(id.clone());
            if mark.shares().is_some() {
                claim.owner.get_or_insert_with(|| id.clone());
            }
        }
        if let Some(room) = self.rooms.get_mut(id) {
            room.record.ports.clone_from(&binding.ports);
            room.listed = shared;
        }
        self.bind(now, id);
    }

    /// Tells the kernel side what a room is bound by, and keeps its ports in its record.
    pub(super) fn bind(&mut self, now: Now, id: &RoomId) {
        if let Some(binding) = self.tell_ports(id) {
            let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let what = What::Ports {
                flows: size(binding.flows.len()),
                ssrcs: size(binding.ssrcs.len()),
                ports: binding.ports,
            };
            self.record(now, id, what);
        }
    }

    /// The same without an entry for `explain`.
    pub(super) fn tell_ports(&mut self, id: &RoomId) -> Option<Binding> {
        let binding = self.binding(id);
        let room = self
            .rooms
            .get_mut(id)
            .filter(|r| r.record.state != State::Destroyed)?;
        room.bound = true;
        room.record.ports.clone_from(&binding.ports);
        let incarnation = room.record.incarnation;
        self.out(Command::Bind {
            room: id.clone(),
            incarnation,
            binding: binding.clone(),
        });
        Some(binding)
    }

    /// What the room owns. A flow or SSRC says nothing more on a port that is one room's.
    pub(super) fn binding(&self, id: &RoomId) -> Binding {
        let mut binding = Binding::default();
        let owner = |mark: &Mark| self.claims.get(mark).and_then(|c| c.owner.as_ref());
        for mark in self.marks_of(id).iter().filter(|mark| owner(mark) == Some(id)) {
            if mark
                .shares()
                .is_some_and(|port| owner(&Mark::Port(port)).is_some())
            {
                continue;
            }
            match *mark {
                Mark::Port(port) => binding.ports.push(port),
                Mark::Flow(flow) => binding.flows.push(flow),
                Mark::Ssrc(ssrc) => binding.ssrcs.push(ssrc),
            }
        }
        binding
    }

    /// What the room lists, or had and nobody took since.
    fn marks_of(&self, id: &RoomId) -> BTreeSet<Mark> {
        let Some(room) = self.rooms.get(id) else {
            return BTreeSet::new();
        };
        let had = room.record.ports.iter().map(|p| Mark::Port(*p));
        room.listed.iter().copied().chain(had).collect()
    }
}

/// A listing as marks. Flows and SSRCs stand for their port too. Without any, those listed before stay: a media server that
/// forgets participants does not stop their senders.
fn listing(served: &Served, before: &Few<Mark>) -> Few<Mark> {
    let mut marks: Vec<Mark> = served.flows.iter().map(|f| Mark::Flow(*f)).collect();
    if marks.is_empty() {
        marks.extend(before.iter().filter(|m| matches!(m, Mark::Flow(_))));
    }
    if served.ssrcs.is_empty() {
        marks.extend(before.iter().filter(|m| matches!(m, Mark::Ssrc(_))));
    }
    marks.extend(served.ssrcs.iter().map(|s| Mark::Ssrc(*s)));
    let implied: Vec<Mark> = marks.iter().filter_map(|m| m.shares().map(Mark::Port)).collect();
    marks.extend(implied);
    marks.extend(served.ports.iter().map(|p| Mark::Port(*p)));
    marks.into_iter().collect()
}

/// Claims by what is claimed.
pub(super) type Claims = BTreeMap<Mark, Claim>;
