//! One attempt: PREPARE is out, then all have agreed and the store is asked, or ROLLBACK says that nothing changes.

use super::Asked;
use crate::{
    Change, Command, EventType, Mono, Now, PeerId, Rejected, RoomId, State, Version,
    core::{Core, room::Room},
    sync::{Attempt, Proposal, Rollback},
    timeline::{Synced, What},
};
use alloc::{
    boxed::Box,
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};

/// PREPARE is out.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) asked: Asked,
    pub(super) agreed: Agreed,
    pub(super) version: Version,
    pub(super) silent: BTreeSet<PeerId>,
    pub(super) refused: Vec<(PeerId, String)>,
}

/// Who was asked, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(super) attempt: Attempt,
    pub(super) event: EventType,
    pub(super) begun: Mono,
    pub(super) to: Vec<PeerId>,
    pub(super) agreed: Vec<(PeerId, core::time::Duration)>,
    pub(super) gone: Vec<PeerId>,
}

impl Agreed {
    pub(super) fn entry(&self, now: Mono, version: Version, result: Result<(), String>) -> Synced {
        Synced {
            event: self.event,
            attempt: self.attempt,
            version,
            result,
            agreed: self.agreed.clone(),
            refused: Vec::new(),
            silent: Vec::new(),
            gone: self.gone.clone(),
            committed: Vec::new(),
            took: now.since(self.begun),
        }
    }
}

impl Core {
    pub(super) fn prepare(&mut self, now: Now, mut asked: Asked, state: State) {
        let id = asked.request.room.clone();
        let op = asked.request.op_id.take().unwrap_or_else(|| self.next_op());
        asked.request.op_id = Some(op);
        self.ops += 1;
        let number = self.ops;
        let Some(room) = self.rooms.get(&id) else { return };
        let Some(epoch) = room.authority.epoch() else {
            return;
        };
        let attempt = Attempt { epoch, number };
        let (event, version) = (asked.request.ask.event(), room.record.version.next());
        let to = asked.request.participants.clone();
        let proposal = Proposal {
            to: to.clone(),
            room: id.clone(),
            incarnation: room.record.incarnation,
            event,
            state,
            version,
            attempt,
            reason: asked.request.ask.reason(),
            trace_id: asked.request.trace_id.clone(),
            within: self.rules.prepare_within,
        };
        self.end_commit(now, &id);
        let silent = to.iter().cloned().collect();
        let agreed = Agreed {
            attempt,
            event,
            begun: now.mono,
            to,
            agreed: Vec::new(),
            gone: Vec::new(),
        };
        let running = Running {
            asked,
            agreed,
            version,
            silent,
            refused: Vec::new(),
        };
        self.syncs.entry(id).or_default().running = Some(running);
        self.out(Command::Prepare(proposal));
    }

    pub(in crate::core) fn vote(
        &mut self,
        now: Now,
        id: &RoomId,
        peer: PeerId,
        attempt: Attempt,
        vote: Result<(), String>,
    ) {
        let running = self.syncs.get_mut(id).and_then(|l| l.running.as_mut());
        let Some(running) = running.filter(|r| r.agreed.attempt == attempt) else {
            return;
        };
        // Late answers, and those of peers that were not asked, count for nothing.
        if !running.silent.remove(&peer) {
            return;
        }
        match vote {
            Ok(()) => {
                let after = now.mono.since(running.agreed.begun);
                running.agreed.agreed.push((peer, after));
            }
            Err(why) => running.refused.push((peer, why)),
        }
    }

    /// What the attempt has come to; `None`: nothing yet.
    pub(super) fn outcome(&self, id: &RoomId, running: &Running) -> Option<Result<(), Rejected>> {
        let next = |r: &Room| {
            let as_prepared = r.record.version.next() == running.version && r.unstored.is_empty();
            as_prepared && r.authority.epoch() == Some(running.agreed.attempt.epoch)
        };
        if !self.rooms.get(id).is_some_and(next) {
            let changed = "the room changed while others were asked".to_string();
            return Some(Err(Rejected::Conflict(changed)));
        }
        if !running.refused.is_empty() {
            let (refused, silent) = (running.refused.clone(), Vec::new());
            return Some(Err(Rejected::NotAgreed { refused, silent }));
        }
        running.silent.is_empty().then_some(Ok(()))
    }

    /// Ends the attempt, if it has an outcome.
    pub(super) fn conclude(&mut self, now: Now, id: &RoomId, outcome: Option<Result<(), Rejected>>) -> bool {
        let Some(outcome) = outcome else { return false };
        let Some(running) = self.syncs.get_mut(id).and_then(|l| l.running.take()) else {
            return false;
        };
        // Meanwhile its guards may have come to say no.
        match outcome.and_then(|()| self.permits(now, &running.asked.request)) {
            Ok(()) => self.apply_agreed(now, running),
            Err(rejected) => self.roll_back(now, running, &rejected),
        }
        true
    }

    fn apply_agreed(&mut self, now: Now, running: Running) {
        let id = running.asked.request.room.clone();
        self.apply(now, &running.asked.request);
        let op = &running.asked.request.op_id;
        let unstored = self.rooms.get_mut(&id).map(|r| &mut r.unstored);
        let applied = unstored
            .into_iter()
            .flatten()
            .find(|p| op.as_ref() == Some(&p.change.record.op_id));
        match applied {
            Some(pending) => {
                pending.sync = Some(Box::new(running.agreed));
                pending.replies.extend(running.asked.more);
            }
            None => {
                let lost = "what was agreed to could not be applied".to_string();
                self.roll_back(now, running, &Rejected::Conflict(lost));
            }
        }
    }

    pub(super) fn roll_back(&mut self, now: Now, running: Running, rejected: &Rejected) {
        let Running {
            asked,
            agreed,
            version,
            silent,
            refused,
        } = running;
        let reason = rejected.to_string();
        let id = &asked.request.room;
        self.out(Command::Rollback(Rollback {
            to: agreed.to.clone(),
            room: id.clone(),
            attempt: agreed.attempt,
            reason: reason.clone(),
        }));
        let mut entry = agreed.entry(now.mono, version, Err(reason));
        entry.silent = silent.into_iter().collect();
        entry.refused = refused;
        self.record(now, id, What::Synced(Box::new(entry)));
        self.refuse_asked(&asked, rejected);
    }

    /// The store has not taken it, or that is not known.
    pub(in crate::core) fn sync_refused(
        &mut self,
        now: Now,
        agreed: Agreed,
        change: &Change,
        doubtful: bool,
        why: &str,
    ) {
        let id = &change.record.room;
        let entry = agreed.entry(now.mono, change.record.version, Err(why.to_string()));
        self.record(now, id, What::Synced(Box::new(entry)));
        if doubtful {
            // It may be stored all the same: they stay prepared until somebody who knows tells them the state.
            return self.announce(id);
        }
        self.out(Command::Rollback(Rollback {
            to: agreed.to,
            room: id.clone(),
            attempt: agreed.attempt,
            reason: why.to_string(),
        }));
    }
}
