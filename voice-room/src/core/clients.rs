//! Facts about clients: who signals, and whether the host does.

use super::{
    Core,
    change::Cause,
    request::accepted,
    room::{MAX_CLIENTS, Room},
};
use crate::{
    Command, EventType, Now, Rejected, RoomId, State,
    input::{ClientAct, ClientFact},
    record::Member,
    timeline::{Actor, What},
};
use alloc::{format, vec::Vec};

impl Core {
    pub(super) fn client(&mut self, now: Now, fact: &ClientFact) {
        match self.client_permitted(now, fact) {
            Ok(()) => self.take_client(now, fact),
            Err(rejected) => return self.refuse(&fact.room, fact.reply, rejected),
        }
        if let (Some(to), Some(room)) = (fact.reply, self.rooms.get(&fact.room)) {
            let result = Ok(accepted(&room.record));
            self.out(Command::Reply { to, result });
        }
    }

    fn client_permitted(&self, now: Now, fact: &ClientFact) -> Result<(), Rejected> {
        // Leaving is always allowed; joining or staying is what isolation refuses.
        if fact.what != ClientAct::Leave {
            self.not_isolated(now, &fact.room)?;
        }
        let unknown = || Rejected::UnknownRoom(fact.room.clone());
        let room = self
            .rooms
            .get(&fact.room)
            .filter(|r| r.state().is_some())
            .ok_or_else(unknown)?;
        if let Some(given) = fact.incarnation.filter(|i| *i != room.record.incarnation) {
            return Err(Rejected::OldIncarnation {
                given,
                current: room.record.incarnation,
            });
        }
        self.own_room(now.mono, room, &fact.actor)?;
        let host = room.record.host.as_ref();
        if fact.is_host && host.is_some_and(|h| *h != fact.client) {
            return Err(Rejected::NotTheHost {
                given: fact.client.clone(),
            });
        }
        let new = fact.what != ClientAct::Leave && !room.clients.contains_key(&fact.client);
        if new && room.clients.len() >= MAX_CLIENTS {
            return Err(Rejected::Limit(format!(
                "{MAX_CLIENTS} clients of this room are remembered, the most"
            )));
        }
        Ok(())
    }

    fn take_client(&mut self, now: Now, fact: &ClientFact) {
        let Some(room) = self.rooms.get_mut(&fact.room) else {
            return;
        };
        let first_sight_of_host = fact.is_host && room.record.host.is_none();
        if fact.is_host {
            room.record.host = Some(fact.client.clone());
        }
        let is_host = room.record.host.as_ref() == Some(&fact.client);
        let joined = fact.what != ClientAct::Leave;
        let changed = if joined {
            room.clients.insert(fact.client.clone(), now.mono).is_none()
        } else {
            room.clients.remove(&fact.client).is_some()
        };
        if joined {
            room.last_signal = Some(now.mono);
            if is_host {
                room.host_seen = Some(now.mono);
            }
        }
        if changed {
            self.member(Member {
                room: fact.room.clone(),
                client: fact.client.clone(),
                joined,
            });
        }
        if first_sight_of_host {
            self.record(
                now,
                &fact.room,
                What::Host {
                    host: fact.client.clone(),
                },
            );
        }
        if is_host {
            self.host_moved(now, fact);
        }
    }

    /// The host's leaving closes the room; its return through a trusted source opens it again. A gateway shows a
    /// token for that, by HOST_RETURN.
    fn host_moved(&mut self, now: Now, fact: &ClientFact) {
        let state = self.rooms.get(&fact.room).and_then(Room::state);
        let trusted = matches!(fact.actor, Actor::Source(_));
        match (fact.what, state) {
            (ClientAct::Leave, Some(State::Liveing)) => {
                self.host_gone(now, &fact.room, &fact.actor, "host left");
            }
            (ClientAct::Join | ClientAct::Keepalive, Some(State::GraceClosing))
                if trusted && !self.waits_full(&fact.room) =>
            {
                let cause = Cause::by(fact.actor.clone(), "host came back");
                self.transition(now, &fact.room, EventType::HostReturn, State::Liveing, &cause);
            }
            _ => {}
        }
    }

    fn host_gone(&mut self, now: Now, id: &RoomId, actor: &Actor, reason: &str) {
        if self.waits_full(id) {
            return;
        }
        let cause = Cause::by(actor.clone(), self.with_audience(now, id, reason));
        self.transition(now, id, EventType::HostDisconnect, State::GraceClosing, &cause);
    }

    /// What the core finds by itself: a host silent too long, a closing room that ran empty.
    pub(super) fn watch_hosts(&mut self, now: Now) {
        let silence = self.rules.host_silence;
        let silent = |room: &Room| {
            let seen = room.host_seen.map(|t| t.max(self.progress.0));
            // Only while the room is heard of at all: without its heartbeats the stuck detector judges it, not this.
            let heard = room.misses(now.mono, self.progress, self.rules.heartbeat) < self.rules.warn_misses;
            let ours = room.authority.ceded_to().is_none();
            room.record.state == State::Liveing
                && ours
                && heard
                && seen.is_some_and(|t| now.mono.since(t) > silence)
        };
        let gone: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, r)| silent(r))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            let reason = format!("host silent for more than {} s", silence.as_secs_f32());
            self.host_gone(now, &id, &Actor::Agent, &reason);
        }
        let empty = |room: &Room| {
            let entered = now.mono.since(room.progress.0) >= self.rules.idle;
            let ours = room.authority.ceded_to().is_none();
            let closes = room.record.state == State::GraceClosing && ours && !room.is_full();
            closes && entered && self.nobody_active(now.mono, room).is_ok()
        };
        let over: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, r)| empty(r))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            let cause = Cause::agent("no user signalling and no RTP");
            self.destroy(now, &id, EventType::NoActiveUser, &cause);
        }
    }
}
