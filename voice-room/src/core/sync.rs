//! The owner's side of the three-phase sync (DESIGN 6): others agree before a change that was asked for is made.
//!
//! PREPARE changes nothing here: the request waits in a line of its own. Once all have agreed it is judged again and applied
//! like any other; from then on only the store decides, and COMMIT is how what it took is told. Requests of one room take
//! their turns; facts (a trip, a timer, an operator's order) never wait, and end an attempt that runs.

use super::{
    Core,
    request::MAX_WAITING,
    room::{MAX_UNSTORED, Room},
};
use crate::{
    Change, Command, Epoch, EventType, Mono, Now, OpId, PeerId, Rejected, RoomId, State, Version,
    input::{ReplyId, Request},
    sync::{Attempt, MAX_PARTICIPANTS, Proposal, Rollback},
    timeline::{Actor, Synced, What},
};
use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    string::{String, ToString},
    vec::Vec,
};

/// The requests of one room that others have a say in.
#[derive(Debug, Default)]
pub(super) struct Line {
    running: Option<Running>,
    waiting: VecDeque<Asked>,
    /// The one that was stored last, until all have taken note or another begins.
    ending: Option<Ending>,
}

/// A request, and who else waits for its answer.
#[derive(Debug)]
struct Asked {
    request: Request,
    more: Vec<ReplyId>,
}

/// PREPARE is out.
#[derive(Debug)]
struct Running {
    asked: Asked,
    agreed: Agreed,
    version: Version,
    silent: BTreeSet<PeerId>,
    refused: Vec<(PeerId, String)>,
}

/// Who was asked, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    attempt: Attempt,
    event: EventType,
    begun: Mono,
    to: Vec<PeerId>,
    agreed: Vec<(PeerId, core::time::Duration)>,
    gone: Vec<PeerId>,
}

/// COMMIT is out.
#[derive(Debug)]
struct Ending {
    told: Mono,
    epoch: Epoch,
    missing: BTreeSet<PeerId>,
    entry: Synced,
}

impl Line {
    fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty() && self.ending.is_none()
    }

    fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }
}

impl Asked {
    fn replies(&self) -> impl Iterator<Item = ReplyId> {
        self.request.reply.into_iter().chain(self.more.iter().copied())
    }
}

impl Agreed {
    fn entry(&self, now: Mono, version: Version, result: Result<(), String>) -> Synced {
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
    /// Whether others must agree to it first, or requests before it are not decided yet. Agents and operators wait for nobody.
    pub(super) fn waits_its_turn(&self, r: &Request) -> bool {
        let asked = matches!(r.actor, Actor::Peer(_) | Actor::Source(_));
        let others = !r.participants.is_empty() && r.ask.to_be_agreed().is_some();
        asked && (others || self.syncs.get(&r.room).is_some_and(Line::is_busy))
    }

    pub(super) fn line_up(&mut self, r: &Request) {
        let waiting = &mut self.syncs.entry(r.room.clone()).or_default().waiting;
        if waiting.len() >= MAX_UNSTORED {
            let many = alloc::format!("{MAX_UNSTORED} requests for this room wait for their turn, the most");
            return self.refuse(&r.room, r.reply, Rejected::Limit(many));
        }
        let mut request = r.clone();
        request.participants.truncate(MAX_PARTICIPANTS);
        request
            .participants
            .retain(|p| request.actor != Actor::Peer(p.clone()));
        waiting.push_back(Asked {
            request,
            more: Vec::new(),
        });
    }

    /// The same op_id again, while the first is not decided: both are answered then.
    pub(super) fn in_line_already(&mut self, r: &Request, op: &OpId) -> bool {
        let Some(line) = self.syncs.get_mut(&r.room) else {
            return false;
        };
        let running = line.running.as_mut().map(|r| &mut r.asked);
        let mut all = running.into_iter().chain(&mut line.waiting);
        let Some(asked) = all.find(|a| a.request.op_id.as_ref() == Some(op)) else {
            return false;
        };
        if asked.more.len() < MAX_WAITING {
            asked.more.extend(r.reply);
        } else {
            self.too_many_wait(r);
        }
        true
    }

    /// Takes each line as far as it goes: those of one room, or all.
    pub(super) fn settle(&mut self, now: Now, about: Option<&RoomId>) {
        match about {
            Some(id) => self.settle_line(now, id),
            None => {
                let all: Vec<RoomId> = self.syncs.keys().cloned().collect();
                all.iter().for_each(|id| self.settle_line(now, id));
            }
        }
    }

    fn settle_line(&mut self, now: Now, id: &RoomId) {
        while let Some(line) = self.syncs.get(id) {
            let goes_on = match &line.running {
                Some(running) => self.conclude(now, id, self.outcome(id, running)),
                None => self.next_in_line(now, id),
            };
            if !goes_on {
                break;
            }
        }
        if self.syncs.get(id).is_some_and(Line::is_idle) {
            self.syncs.remove(id);
        }
    }

    /// What the attempt has come to; `None`: nothing yet.
    fn outcome(&self, id: &RoomId, running: &Running) -> Option<Result<(), Rejected>> {
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
    fn conclude(&mut self, now: Now, id: &RoomId, outcome: Option<Result<(), Rejected>>) -> bool {
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

    fn roll_back(&mut self, now: Now, running: Running, rejected: &Rejected) {
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

    fn refuse_asked(&mut self, asked: &Asked, rejected: &Rejected) {
        let id = &asked.request.room;
        self.note(rejected.code(), id, rejected.to_string());
        for to in asked.replies() {
            let result = Err(rejected.clone());
            self.out(Command::Reply { to, result });
        }
    }

    /// Begins with the next request, if there is one and the room is ready for it.
    fn next_in_line(&mut self, now: Now, id: &RoomId) -> bool {
        let Some(line) = self.syncs.get(id) else {
            return false;
        };
        let Some(next) = line.waiting.front() else {
            return false;
        };
        let agreement = next.request.ask.to_be_agreed();
        let agreement = agreement.filter(|_| !next.request.participants.is_empty());
        if agreement.is_some() && !self.is_ready(id) {
            return false;
        }
        let Some(asked) = self.syncs.get_mut(id).and_then(|l| l.waiting.pop_front()) else {
            return false;
        };
        match (self.permits(now, &asked.request), agreement) {
            (Err(rejected), _) => self.refuse_asked(&asked, &rejected),
            (Ok(()), None) => self.apply_in_turn(now, asked),
            (Ok(()), Some(state)) => self.prepare(now, asked, state),
        }
        true
    }

    /// Whether the next change can be prepared now: the room is held, and what came before is decided. A room that will refuse
    /// every request need not be waited for.
    fn is_ready(&self, id: &RoomId) -> bool {
        self.rooms.get(id).is_none_or(|room| {
            let decided = room.unstored.is_empty() && room.authority.epoch().is_some();
            decided || room.state().is_none() || room.authority.ceded_to().is_some()
        })
    }

    /// Nobody has to agree to this one; it only had to wait.
    fn apply_in_turn(&mut self, now: Now, asked: Asked) {
        let mut request = asked.request;
        let op = request.op_id.take().unwrap_or_else(|| self.next_op());
        request.op_id = Some(op.clone());
        self.apply(now, &request);
        let unstored = self.rooms.get_mut(&request.room).map(|r| &mut r.unstored);
        let applied = unstored
            .into_iter()
            .flatten()
            .find(|p| p.change.record.op_id == op);
        if let Some(pending) = applied {
            pending.replies.extend(asked.more);
        }
    }

    fn prepare(&mut self, now: Now, mut asked: Asked, state: State) {
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

    pub(super) fn vote(
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

    /// It is not waited for any more. What it missed it is told when it is back.
    pub(super) fn peer_gone(&mut self, now: Now, peer: &PeerId) {
        for line in self.syncs.values_mut() {
            for asked in &mut line.waiting {
                asked.request.participants.retain(|p| p != peer);
            }
            if let Some(running) = &mut line.running
                && running.silent.remove(peer)
            {
                running.agreed.gone.push(peer.clone());
            }
            if let Some(ending) = &mut line.ending
                && ending.missing.remove(peer)
            {
                ending.entry.gone.push(peer.clone());
            }
        }
        self.end_commits(now, |ending| ending.missing.is_empty());
    }

    /// Ends what took too long.
    pub(super) fn time_syncs(&mut self, now: Now) {
        let within = self.rules.prepare_within;
        let late = |line: &Line| {
            let running = line.running.as_ref();
            running.is_some_and(|r| now.mono.since(r.agreed.begun) >= within && !r.silent.is_empty())
        };
        let over: Vec<RoomId> = self
            .syncs
            .iter()
            .filter(|(_, l)| late(l))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some(running) = self.syncs.get_mut(&id).and_then(|l| l.running.take()) {
                let silent = running.silent.iter().cloned().collect();
                let refused = running.refused.clone();
                self.roll_back(now, running, &Rejected::NotAgreed { refused, silent });
            }
        }
        self.end_commits(now, |ending| now.mono.since(ending.told) >= within);
    }

    /// The store has taken what was agreed to, and COMMIT is out.
    pub(super) fn synced(&mut self, now: Now, id: &RoomId, agreed: Agreed, change: &Change) {
        let entry = agreed.entry(now.mono, change.record.version, Ok(()));
        let missing = agreed.to.into_iter().filter(|p| !agreed.gone.contains(p));
        let ending = Ending {
            told: now.mono,
            epoch: change.record.epoch,
            missing: missing.collect(),
            entry,
        };
        self.end_commit(now, id);
        self.syncs.entry(id.clone()).or_default().ending = Some(ending);
    }

    /// The store has not taken it, or that is not known.
    pub(super) fn sync_refused(
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

    pub(super) fn commit_acked(
        &mut self,
        now: Now,
        id: &RoomId,
        peer: PeerId,
        epoch: Epoch,
        version: Version,
    ) {
        let ending = self.syncs.get_mut(id).and_then(|l| l.ending.as_mut());
        let Some(ending) = ending.filter(|e| (e.epoch, e.entry.version) == (epoch, version)) else {
            return;
        };
        if ending.missing.remove(&peer) {
            ending.entry.committed.push(peer);
        }
        if ending.missing.is_empty() {
            self.end_commit(now, id);
        }
    }

    fn end_commits(&mut self, now: Now, over: impl Fn(&Ending) -> bool) {
        let ended =
            |(id, line): (&RoomId, &Line)| line.ending.as_ref().is_some_and(&over).then(|| id.clone());
        let ended: Vec<RoomId> = self.syncs.iter().filter_map(ended).collect();
        for id in ended {
            self.end_commit(now, &id);
        }
    }

    /// Keeps what is known of the last sync of a room: it is over.
    fn end_commit(&mut self, now: Now, id: &RoomId) {
        if let Some(ending) = self.syncs.get_mut(id).and_then(|l| l.ending.take()) {
            self.record(now, id, What::Synced(Box::new(ending.entry)));
        }
    }

    /// Up to which number the attempts of this epoch are over, now that the room's state is told.
    pub(super) fn over(&self, id: &RoomId, epoch: Epoch) -> u64 {
        let running = self.syncs.get(id).and_then(|l| l.running.as_ref());
        let running = running.into_iter().map(|r| r.agreed.attempt);
        let unstored = self.rooms.get(id).into_iter().flat_map(|r| &r.unstored);
        let unstored = unstored.filter_map(|p| Some(p.sync.as_ref()?.attempt));
        let open = running.chain(unstored).filter(|a| a.epoch == epoch);
        let before = open.map(|a| a.number.saturating_sub(1)).min();
        before.unwrap_or(self.ops)
    }
}
