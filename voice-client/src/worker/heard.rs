//! What the agent says, taken one by one. The rules (what is old, what is void, what refuses) are `voice_room::sync`'s.

use super::{Taken, Worker};
use crate::{
    desk::Meant,
    event::{Event, Expired},
    proto::v1::{
        self, AgentMessage, KeepaliveKind, agent_message::Message as FromAgent, peer_message::Message,
    },
    wire::{self, Unreadable},
};
use voice_room::{
    ClientId, RoomId, State,
    command::RoomUpdate,
    sync::{NotTaken, Proposal, Rollback, Taken as News},
    tier::Outcome,
};

impl Worker {
    pub(super) fn heard(&mut self, message: AgentMessage) {
        self.call(Outcome::Answered);
        let Some(message) = message.message else {
            return; // Of a later protocol.
        };
        if let Err(unreadable) = self.take(message) {
            tracing::warn!(peer = %self.settings.caller.id, "a message of the agent is ignored: {unreadable}");
        }
    }

    fn take(&mut self, message: FromAgent) -> Result<(), Unreadable> {
        match message {
            FromAgent::Welcome(_) => {} // It was said already.
            FromAgent::Keepalive(beat) if beat.kind == KeepaliveKind::Ping as i32 => {
                self.beat(KeepaliveKind::Pong, beat.nonce);
            }
            FromAgent::Keepalive(_) => {} // Like any frame, it was life.
            FromAgent::StateExpired(told) => self.expired(&told)?,
            FromAgent::StateRestored(told) => self.restored(wire::restored(told)?),
            FromAgent::RoomUpdate(told) => drop(self.committed(wire::update(told, 0)?)),
            FromAgent::Commit(told) => self.commit(wire::commit(told)?),
            FromAgent::Prepare(told) => self.prepare(wire::prepare(told)?),
            FromAgent::Rollback(told) => self.rollback(wire::rollback(told)?),
            FromAgent::EventResult(result) => self.result(result),
            FromAgent::Goodbye(goodbye) => {
                if let Some(live) = self.link.live() {
                    live.goodbye = Some(goodbye);
                }
            }
        }
        Ok(())
    }

    /// What is new is told to the application, and acknowledged once it has dealt with it. What is not is acknowledged at once:
    /// unless the application still has it in hand.
    fn expired(&mut self, told: &v1::StateExpired) -> Result<(), Unreadable> {
        let (expired, lasts) = wire::expired(told)?;
        let news = {
            let now = self.clock.now();
            self.memory.lock().rooms.expired(now, &expired, lasts)
        };
        let taken = Taken {
            room: expired.room.clone(),
            version: expired.version,
            epoch: expired.epoch,
        };
        match news {
            // A bound of ours must not keep a trip from the application.
            Ok(News::Anew) | Err(NotTaken::Full { .. }) => {
                self.close(&expired.room);
                self.unacked.insert(taken);
                self.tell(Event::Expired(Expired {
                    room: expired.room,
                    incarnation: expired.incarnation,
                    version: expired.version,
                    epoch: expired.epoch,
                    reason: expired.reason,
                    isolated_for: lasts,
                }));
            }
            Ok(News::Before) | Err(_) if self.unacked.contains(&taken) => {}
            Ok(News::Before) => self.ack_expired(&taken),
            Err(old) => {
                tracing::info!(room = %expired.room, "STATE_EXPIRED is ignored: {old}");
                self.ack_expired(&taken);
            }
        }
        Ok(())
    }

    fn restored(&mut self, update: RoomUpdate) {
        let now = self.clock.now();
        let news = self.memory.lock().rooms.restored(now, &update);
        match news {
            Ok(News::Anew) => {
                self.over_if_destroyed(&update);
                self.tell(Event::Restored(update));
            }
            Ok(News::Before) => {}
            Err(old) => tracing::info!(room = %update.room, "STATE_RESTORED is ignored: {old}"),
        }
    }

    /// A state as committed. True: it is what is held now, or something later is.
    fn committed(&mut self, update: RoomUpdate) -> bool {
        let now = self.clock.now();
        let news = self.memory.lock().rooms.commit(now, &update);
        match news {
            Ok(News::Anew) => {
                self.close_if_void(&update.room);
                self.over_if_destroyed(&update);
                self.tell(Event::Changed(update));
                true
            }
            Ok(News::Before) => true,
            Err(old) => {
                tracing::info!(room = %update.room, version = update.version.0, "a state is ignored: {old}");
                false
            }
        }
    }

    fn commit(&mut self, update: RoomUpdate) {
        let ack = v1::CommitAck {
            room: update.room.to_string(),
            epoch: Some(wire::to_epoch(update.epoch)),
            version: update.version.0,
        };
        if self.committed(update) {
            self.send(Message::CommitAck(ack));
        }
    }

    fn prepare(&mut self, proposal: Proposal) {
        let asked_already = self
            .open
            .get(&proposal.room)
            .is_some_and(|open| open.proposal.attempt == proposal.attempt);
        if asked_already {
            return;
        }
        if !self.settings.decides || self.agreed_already(&proposal) {
            self.vote(&proposal, Ok(()));
            return;
        }
        // What the rules refuse is not worth a question. Refusing it for the application's sake changes nothing that is held.
        let now = self.clock.now();
        let undecided = Err("not decided".to_owned());
        let refused = self.memory.lock().rooms.prepare(now, &proposal, undecided);
        match refused {
            Ok(()) | Err(NotTaken::Declined(_)) => self.open(proposal),
            Err(not_taken) => {
                self.answer_prepare(&proposal.room, proposal.attempt, &not_taken.to_string());
            }
        }
    }

    fn agreed_already(&self, proposal: &Proposal) -> bool {
        let prepared = self.memory.lock().rooms.prepared(&proposal.room);
        prepared.is_some_and(|prepared| prepared.attempt == proposal.attempt)
    }

    fn rollback(&mut self, rollback: Rollback) {
        let now = self.clock.now();
        let news = self.memory.lock().rooms.rollback(now, &rollback);
        let was_open = self
            .open
            .get(&rollback.room)
            .is_some_and(|open| open.proposal.attempt <= rollback.attempt);
        if was_open {
            self.open.remove(&rollback.room);
        }
        if was_open || news == Ok(News::Anew) {
            self.tell(Event::RolledBack {
                room: rollback.room,
                attempt: rollback.attempt,
                reason: rollback.reason,
            });
        }
    }

    fn result(&mut self, result: v1::EventResult) {
        if result.request_id == 0 {
            if let Some(v1::event_result::Result::Rejected(refused)) = result.result {
                self.tell(Event::Refused {
                    code: refused.code,
                    message: refused.message,
                });
            }
            return;
        }
        let Some((room, meant, accepted)) = self.desk.answered(result) else {
            return;
        };
        match meant {
            Meant::Leave(client) => self.left(&room, &client),
            _ if wire::state(accepted.state) == Ok(State::Destroyed) => self.served.forget(&room),
            Meant::Name => self.served.name(&room),
            Meant::Join(client) => self.served.join(&room, &client),
        }
    }

    fn left(&mut self, room: &RoomId, client: &ClientId) {
        if self.served.leave(room, client) {
            let now = self.clock.now();
            self.memory.lock().rooms.leave(now, room);
        }
    }

    /// A room that is over is served by nobody.
    fn over_if_destroyed(&mut self, update: &RoomUpdate) {
        if update.state == State::Destroyed {
            self.served.forget(&update.room);
        }
    }

    /// A state was told: what was asked before it is void. A question that came before that state, and is later than it, stays: a
    /// new owner asks, and answers what we said that we know, in either order.
    fn close_if_void(&mut self, room: &RoomId) {
        let Some(open) = self.open.get(room) else {
            return;
        };
        let (now, undecided) = (self.clock.now(), Err("not decided".to_owned()));
        let refused = self.memory.lock().rooms.prepare(now, &open.proposal, undecided);
        if !matches!(refused, Ok(()) | Err(NotTaken::Declined(_))) {
            self.close(room);
        }
    }

    /// What was asked about this room is decided otherwise.
    fn close(&mut self, room: &RoomId) {
        self.open.remove(room);
    }
}
