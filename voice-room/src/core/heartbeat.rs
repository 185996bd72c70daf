//! Facts about media: heartbeats, lost sources, sockets, the kernel's counters.

use super::{
    Core, Sockets, Source,
    change::Cause,
    ports::{Claim, Mark},
    room::Room,
    told::{MarksBy, may_tell},
};
use crate::{
    EventType, Mono, Now, Port, Rejected, RoomId, SourceId, State,
    input::{Heartbeat, Served, Traffic},
    timeline::{Actor, Progress, What},
};
use alloc::{collections::BTreeSet, format, vec::Vec};

impl Core {
    pub(super) fn heartbeat(&mut self, now: Now, heartbeat: &Heartbeat) {
        let source = self.sources.entry(heartbeat.source.clone()).or_insert(Source {
            last_answer: now.mono,
            lost: false,
            capacity: None,
            sockets: None,
        });
        source.last_answer = now.mono;
        source.lost = false;
        source.capacity = heartbeat.capacity.or(source.capacity);
        for served in &heartbeat.rooms {
            self.served(now, &heartbeat.source, served);
        }
    }

    fn served(&mut self, now: Now, source: &SourceId, served: &Served) {
        let actor = Actor::Source(source.clone());
        let id = served.room.clone();
        if let Some(room) = self.rooms.get(&id).filter(|r| r.state().is_some()) {
            if may_tell(room, source, served) {
                return self.told(now, &id, served);
            }
            if let Err(rejected) = self.own_room(now.mono, room, &actor) {
                self.note(
                    rejected.code(),
                    &id,
                    format!("heartbeat of {source} ignored: {rejected}"),
                );
                return self.listed_elsewhere(now, &id, served);
            }
        } else if served.participants == 0 || !self.adopt(now, &id, &actor) {
            return self.listed_elsewhere(now, &id, served);
        }
        self.marks(now, &id, source, served);
        if served.participants > 0 {
            self.beat(now, &id, source, served);
            self.ask_again(now, &id);
        }
    }

    /// What the room's packets are known by, in a listing of who serves it. One that names nothing takes nothing away that
    /// others told.
    fn marks(&mut self, now: Now, id: &RoomId, source: &SourceId, served: &Served) {
        let Some(room) = self.rooms.get(id) else {
            return;
        };
        if !served.names_marks() && room.marks_by != MarksBy::Source {
            return;
        }
        let is_its = served.participants > 0 || room.record.source.as_ref() == Some(source);
        self.give_way(now, id, served);
        if let Some(room) = self.rooms.get_mut(id).filter(|_| is_its) {
            room.marks_by = MarksBy::Source;
        }
        self.listed(now, id, served);
    }

    /// A room that its media server lists and nobody owns becomes ours.
    fn adopt(&mut self, now: Now, id: &RoomId, actor: &Actor) -> bool {
        if let Err(rejected) = self.may_adopt(now, id) {
            self.note(rejected.code(), id, format!("not adopted: {rejected}"));
            return false;
        }
        // A listing may be as old as the interval it comes in: right after the end of a life it speaks of that life.
        let settling = self.settling();
        let just_over = |r: &Room| r.record.version.0 > 0 && now.mono.since(r.progress.0) < settling;
        if self.rooms.get(id).is_some_and(just_over) {
            return false;
        }
        let cause = Cause::by(actor.clone(), "its media server lists it live and nobody owns it");
        self.begin(now, id, EventType::Adopt, State::Liveing, &cause);
        true
    }

    fn may_adopt(&self, now: Now, id: &RoomId) -> Result<(), Rejected> {
        self.not_isolated(now, id)?;
        self.has_quota()?;
        self.has_room_for_another()?;
        if self.waits_full(id) {
            return Err(Rejected::Limit(
                "too many of its changes wait for the store".into(),
            ));
        }
        Ok(())
    }

    fn beat(&mut self, now: Now, id: &RoomId, source: &SourceId, served: &Served) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        room.heartbeat = Some(now.mono);
        let before = room.record.source.replace(source.clone());
        let untold = before.as_ref() != Some(source) && room.unstored.is_empty();
        if let (None, Some(host)) = (&room.record.host, &served.host) {
            room.record.host = Some(host.clone());
            self.record(now, id, What::Host { host: host.clone() });
        }
        if untold {
            self.describe(id);
        }
        let Some(room) = self
            .rooms
            .get_mut(id)
            .filter(|r| r.record.state != State::Expired)
        else {
            return;
        };
        room.progress = (now.mono, Progress::Heartbeat);
        let created = room.record.state == State::Created;
        let watch = core::mem::take(&mut room.watch);
        if watch.would_trip {
            self.out(crate::Command::Disarm { room: id.clone() });
        }
        if watch.warned || watch.held.is_some() || watch.would_trip {
            self.record(now, id, What::Recovered);
        }
        let may_start = || self.not_isolated(now, id).is_ok() && self.has_quota().is_ok();
        if created && !self.waits_full(id) && may_start() {
            let cause = Cause::by(Actor::Source(source.clone()), "its media server serves it");
            self.transition(now, id, EventType::StartLive, State::Liveing, &cause);
        }
    }

    /// Which rooms the source serves is not known, so none of them is judged for what was refused; nor those that were
    /// not heard of since start, which may be its own.
    pub(super) fn heartbeat_refused(&mut self, now: Now, source: &SourceId) {
        let may_be_its =
            |r: &&mut Room| r.is_judged() && r.record.source.as_ref().is_none_or(|s| s == source);
        for room in self.rooms.values_mut().filter(may_be_its) {
            room.progress = (now.mono, Progress::MediaRefused);
            // What was refused may have told of the host, too.
            room.host_seen = room.host_seen.map(|_| now.mono);
        }
    }

    pub(super) fn source_lost(&mut self, source: &SourceId) {
        if let Some(source) = self.sources.get_mut(source) {
            source.lost = true;
        }
    }

    /// Whether the source as a whole is silent: lost, or no answer for as many heartbeats as a room may miss. A room
    /// that was never listed since start has no source; nobody answers for it.
    pub(super) fn is_silent(&self, now: Mono, source: Option<&SourceId>) -> bool {
        let limit = self.rules.heartbeat * self.rules.misses;
        match source.and_then(|s| self.sources.get(s)) {
            Some(source) => source.lost || now.since(source.last_answer) >= limit,
            None => true,
        }
    }

    pub(super) fn sockets(&mut self, now: Mono, open: &[Port]) {
        let have_ports = self.sources_of(self.claims.values());
        let seen = self.sources_of(open.iter().filter_map(|port| self.claims.get(&Mark::Port(*port))));
        for (id, source) in &mut self.sources {
            let open = seen.contains(id);
            if !have_ports.contains(id) {
                source.sockets = None;
                continue;
            }
            // A socket that was never seen cannot be missed: the media server may live in another namespace.
            if open || source.sockets.is_some() {
                source.sockets = Some(Sockets { open, at: now });
            }
        }
    }

    /// Who serves the rooms of these ports; a port that several rooms list is a socket of each one's source.
    fn sources_of<'a>(&self, claims: impl Iterator<Item = &'a Claim>) -> BTreeSet<SourceId> {
        let rooms = claims.flat_map(|c| c.listed_by.iter().chain(&c.owner));
        let sources = rooms.filter_map(|id| self.rooms.get(id)?.record.source.clone());
        sources.collect()
    }

    /// Whether the source's sockets are gone; `None` when that is not known, or was not looked at lately.
    pub(super) fn sockets_gone(&self, now: Mono, source: Option<&SourceId>) -> Option<bool> {
        let sockets = self.sources.get(source?)?.sockets?;
        (now.since(sockets.at) <= 2 * self.rules.heartbeat).then_some(!sockets.open)
    }

    pub(super) fn traffic(&mut self, now: Now, traffic: Vec<Traffic>) {
        for sample in traffic {
            if let Some(room) = self.rooms.get_mut(&sample.room)
                && room.record.incarnation == sample.incarnation
            {
                room.witness.push(
                    now.mono,
                    sample.incarnation,
                    &sample.counts,
                    self.rules.witness_window,
                );
            }
        }
    }
}
