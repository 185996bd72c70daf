//! What a room's packets are known by when its own media server does not say: then another source may tell it.
//!
//! A port is never one that a source names for its room and one that was told at the same time: what is told never reaches
//! what another room is known by, and gives way as soon as a room's source names the port.

use super::{Core, few::Few, ports::Mark, room::Room};
use crate::{Now, Port, RoomId, SourceId, input::Served};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};

/// Who says what a room's packets are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MarksBy {
    /// Nobody since its life or the agent began.
    #[default]
    Nobody,
    /// Another source than the one that serves it.
    Others,
    /// The source that serves it. That stays so while the room lives, also when it names none for a while.
    Source,
}

/// Rooms that were told something on a port.
pub(super) type Told = BTreeMap<Port, BTreeSet<RoomId>>;

impl Core {
    /// Takes what another source than its own says of a room, without a word on whether it lives. Not taken is what
    /// another room is known by.
    pub(super) fn told(&mut self, now: Now, id: &RoomId, served: &Served) {
        let Some(room) = self.rooms.get(id) else {
            return;
        };
        let said = marks(served, room).into_iter();
        let (anothers, its): (Vec<Mark>, Vec<Mark>) = said.partition(|mark| self.is_anothers(id, mark));
        let its: Few<Mark> = its.into_iter().collect();
        let is_known = room.marks_by == MarksBy::Others && room.listed == its;
        if let Some(mark) = anothers.first() {
            let detail = format!(
                "{} was told of it, and is another room's: not bound",
                mark.words()
            );
            self.note("told_anothers", id, detail);
        }
        if is_known && its.iter().all(|mark| self.owner(mark) == Some(id)) {
            return;
        }
        self.unclaim_all(id);
        for mark in its.iter() {
            let claim = self.claims.entry(*mark).or_default();
            claim.owner = Some(id.clone());
            claim.listed_by.insert(id.clone());
            self.told.entry(mark.port()).or_default().insert(id.clone());
        }
        if let Some(room) = self.rooms.get_mut(id) {
            room.listed = its;
            room.marks_by = MarksBy::Others;
        }
        self.bind(now, id);
    }

    /// Whether binding this room by the mark could reach packets of a room that is known by something there.
    fn is_anothers(&self, id: &RoomId, mark: &Mark) -> bool {
        let port = mark.port();
        let taken = || self.is_claimed(mark, |other| other != id);
        let told = || {
            self.told
                .get(&port)
                .is_some_and(|rooms| rooms.iter().any(|r| r != id))
        };
        let owned = || self.owner(&Mark::Port(port)).is_some_and(|other| other != id);
        let is_named = |other: &RoomId| other != id && self.marks_by(other) == MarksBy::Source;
        // The odd port carries the RTCP of the even one below.
        let named = [port, Port(port.0 & !1)].map(Mark::Port);
        taken()
            || owned()
            || (*mark == Mark::Port(port) && told())
            || named.iter().any(|mark| self.is_claimed(mark, is_named))
    }

    fn is_claimed(&self, mark: &Mark, by: impl Fn(&RoomId) -> bool) -> bool {
        let claim = self.claims.get(mark);
        claim.is_some_and(|claim| claim.owner.iter().chain(claim.listed_by.iter()).any(by))
    }

    fn owner(&self, mark: &Mark) -> Option<&RoomId> {
        self.claims.get(mark)?.owner.as_ref()
    }

    fn marks_by(&self, id: &RoomId) -> MarksBy {
        self.rooms.get(id).map(|room| room.marks_by).unwrap_or_default()
    }

    /// A room's own source names these: the room forgets what it was told, and so do others on these ports.
    pub(super) fn give_way(&mut self, now: Now, id: &RoomId, served: &Served) {
        if self.told.is_empty() {
            return;
        }
        if self.marks_by(id) == MarksBy::Others {
            self.unclaim_all(id);
            self.bind(now, id);
        }
        let flows = served.flows.iter().map(|f| f.port);
        let ssrcs = served.ssrcs.iter().map(|s| s.port);
        let named = served.ports.iter().copied().chain(flows).chain(ssrcs);
        // With an even port goes the odd one above, which carries its RTCP.
        let ports: BTreeSet<Port> = named.flat_map(|port| [port, Port(port.0 | 1)]).collect();
        let mut losers: BTreeSet<RoomId> = BTreeSet::new();
        for port in ports {
            for other in self.told.remove(&port).unwrap_or_default() {
                self.untell_port(&other, port);
                losers.insert(other);
            }
        }
        for other in losers {
            let detail = format!("what was told of it is room {id}'s, as its source says: no longer bound");
            self.note("told_anothers", &other, detail);
            self.bind(now, &other);
        }
    }

    fn untell_port(&mut self, id: &RoomId, port: Port) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let gone: Vec<Mark> = room.listed.iter().copied().filter(|m| m.port() == port).collect();
        room.listed.retain(|mark| mark.port() != port);
        room.record.ports.retain(|p| *p != port);
        for mark in gone {
            self.unclaim(id, mark);
        }
    }

    /// Forgets on which ports the room was told something.
    pub(super) fn forget_told(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id).filter(|r| r.marks_by == MarksBy::Others) else {
            return;
        };
        for port in room.listed.iter().map(Mark::port) {
            if let Some(rooms) = self.told.get_mut(&port) {
                rooms.remove(id);
                if rooms.is_empty() {
                    self.told.remove(&port);
                }
            }
        }
    }
}

/// Whether this source, which does not serve the room, may tell what its packets are.
pub(super) fn may_tell(room: &Room, source: &SourceId, served: &Served) -> bool {
    let is_others = room.record.source.as_ref().is_some_and(|own| own != source);
    is_others && served.participants == 0 && served.names_marks() && room.marks_by != MarksBy::Source
}

/// What is told. A flow or SSRC does not stand for its port: who tells may not know all rooms on it. Without any, those
/// told before stay.
fn marks(served: &Served, room: &Room) -> Vec<Mark> {
    let kept = |wanted: fn(&Mark) -> bool| room.listed.iter().copied().filter(wanted);
    let mut marks: Vec<Mark> = served.flows.iter().map(|f| Mark::Flow(*f)).collect();
    if marks.is_empty() {
        marks.extend(kept(|m| matches!(m, Mark::Flow(_))));
    }
    marks.extend(served.ssrcs.iter().map(|s| Mark::Ssrc(*s)));
    if served.ssrcs.is_empty() {
        marks.extend(kept(|m| matches!(m, Mark::Ssrc(_))));
    }
    marks.extend(served.ports.iter().map(|p| Mark::Port(*p)));
    marks
}
