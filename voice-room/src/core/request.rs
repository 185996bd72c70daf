//! Requests: recognised if repeated, guarded, then applied.

use super::{Core, change::Cause, guard::released_to, trip::Order};
use crate::{
    ClientId, Command, EventType, Now, Rejected, RoomId, RoomRecord, State,
    command::Accepted,
    input::{Ask, Credential, Intent, ReplyId, Request},
    timeline::{Progress, Rule},
};
use alloc::{format, string::String};

/// Repeats of one request that may wait for the store at a time.
pub(super) const MAX_WAITING: usize = 256;

impl Core {
    pub(super) fn request(&mut self, now: Now, r: &Request) {
        if self.repeats(r) {
            return;
        }
        if self.waits_its_turn(r) {
            return self.line_up(r);
        }
        match self.permits(now, r) {
            Ok(()) => self.apply(now, r),
            Err(rejected) => self.refuse(&r.room, r.reply, rejected),
        }
    }

    pub(super) fn refuse(&mut self, room: &RoomId, reply: Option<ReplyId>, rejected: Rejected) {
        let (code, detail) = (rejected.code(), format!("{rejected}"));
        self.note(code, room, detail);
        if let Some(to) = reply {
            self.out(Command::Reply {
                to,
                result: Err(rejected),
            });
        }
    }

    /// The same op_id again is answered with what it led to, not applied; if it is not stored yet, once it is.
    fn repeats(&mut self, r: &Request) -> bool {
        let Some(op) = &r.op_id else { return false };
        if self.in_line_already(r, op) {
            return true;
        }
        let Some(room) = self.rooms.get_mut(&r.room) else {
            return false;
        };
        if let Some(pending) = room.unstored.iter_mut().find(|p| p.change.record.op_id == *op) {
            if pending.replies.len() < MAX_WAITING {
                pending.replies.extend(r.reply);
            } else {
                self.too_many_wait(r);
            }
            return true;
        }
        let Some(led_to) = room.led_to(op).cloned() else {
            return false;
        };
        if let Some(to) = r.reply {
            let result = Ok(led_to);
            self.out(Command::Reply { to, result });
        }
        true
    }

    pub(super) fn too_many_wait(&mut self, r: &Request) {
        let many = format!("{MAX_WAITING} wait for the answer to this op_id, the most");
        self.refuse(&r.room, r.reply, Rejected::Limit(many));
    }

    pub(super) fn apply(&mut self, now: Now, r: &Request) {
        let mut cause = Cause {
            op_id: r.op_id.clone(),
            trace_id: r.trace_id.clone(),
            reply: r.reply,
            ..Cause::by(r.actor.clone(), r.ask.reason())
        };
        if r.ask == Ask::Create {
            self.begin(now, &r.room, EventType::Create, State::Created, &cause);
        }
        if let (Some(room), Some(sequence)) = (self.rooms.get_mut(&r.room), r.sequence) {
            room.take_sequence(&r.actor, sequence);
        }
        match &r.ask {
            Ask::Create => {}
            Ask::StartLive { host, credential } => {
                self.name_host(now, &r.room, host.as_ref(), credential);
                self.transition(now, &r.room, EventType::StartLive, State::Liveing, &cause);
            }
            Ask::HostReturn { host, credential } => {
                self.name_host(now, &r.room, host.as_ref(), credential);
                self.transition(now, &r.room, EventType::HostReturn, State::Liveing, &cause);
            }
            Ask::HostDisconnect { .. } => {
                cause.reason = self.with_audience(now, &r.room, &cause.reason);
                self.transition(
                    now,
                    &r.room,
                    EventType::HostDisconnect,
                    State::GraceClosing,
                    &cause,
                );
            }
            Ask::NoActiveUser => self.destroy(now, &r.room, EventType::NoActiveUser, &cause),
            Ask::Close { .. } => self.destroy(now, &r.room, EventType::Close, &cause),
            Ask::Block { lasts, .. } => {
                let lasts = lasts.unwrap_or(self.rules.isolation);
                let evidence = self.known_of(now, &r.room);
                self.trip(
                    now,
                    &r.room,
                    Order {
                        rule: Rule::Operator,
                        evidence,
                        lasts,
                        cause,
                    },
                );
            }
            Ask::OwnerLost { .. } => self.owner_lost(now, &r.room, cause),
            Ask::Release { .. } => self.release(now, &r.room, cause),
        }
    }

    fn name_host(&mut self, now: Now, id: &RoomId, host: Option<&ClientId>, credential: &Credential) {
        let shown = match credential {
            Credential::Token { host } => Some(host),
            Credential::Trusted | Credential::Invalid(_) => None,
        };
        if let (Some(room), Some(host)) = (self.rooms.get_mut(id), host.or(shown)) {
            room.record.host = Some(host.clone());
            room.host_seen = Some(now.mono);
        }
    }

    /// Records whether the audience still signals when the host is gone.
    pub(super) fn with_audience(&self, now: Now, id: &RoomId, reason: &str) -> String {
        let Some(room) = self.rooms.get(id) else {
            return reason.into();
        };
        let host = room.record.host.as_ref();
        let idle = self.rules.idle;
        let alive = |(client, seen): &(&ClientId, &crate::Mono)| {
            Some(*client) != host && now.mono.since(**seen) < idle
        };
        let audience = room.clients.iter().filter(alive).count();
        let audience = format!("{audience} of the audience still signal");
        if reason.is_empty() {
            audience
        } else {
            format!("{reason}; {audience}")
        }
    }

    /// Ends a life: the record, then the kernel's slot and the ports.
    pub(super) fn destroy(&mut self, now: Now, id: &RoomId, event: EventType, cause: &Cause) {
        self.transition(now, id, event, State::Destroyed, cause);
        self.retire(id);
    }

    /// Gives back what a life held.
    pub(super) fn retire(&mut self, id: &RoomId) {
        self.unclaim_all(id);
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        room.clients.clear();
        if core::mem::take(&mut room.bound) {
            self.out(Command::Unbind { room: id.clone() });
        }
    }

    fn release(&mut self, now: Now, id: &RoomId, mut cause: Cause) {
        let Some(room) = self.rooms.get(id) else { return };
        let to = released_to(room, now.mono, self.rules.release_fresh);
        cause.isolation = crate::record::IsolationChange::Clear;
        let trip = room.trip.as_ref().map(|t| t.change.clone());
        self.lift(now, id, &cause.reason);
        // Until the store has the release, the journal says that the trip is over: a restart must not cut again.
        if let Some(change) = trip.filter(|c| c.event.event_type == EventType::Stuck) {
            self.out(Command::Journal(Intent {
                change,
                deadline: now.mono,
                until: now.wall,
            }));
        }
        self.transition(now, id, EventType::Release, to, &cause);
        if let Some(room) = self.rooms.get_mut(id) {
            room.progress = (now.mono, Progress::Release);
        }
        self.push_restored(id, &cause.reason);
        if to == State::Destroyed {
            self.retire(id);
        }
    }
}

pub(super) fn accepted(r: &RoomRecord) -> Accepted {
    Accepted {
        state: r.state,
        version: r.version,
        epoch: r.epoch,
        incarnation: r.incarnation,
    }
}
