//! The owner's side of the three-phase sync (DESIGN 6): others agree before a change that was asked for is made.
//!
//! PREPARE changes nothing here: the request waits in a line of its own. Once all have agreed it is judged again and applied
//! like any other; from then on only the store decides, and COMMIT is how what it took is told. Requests of one room take
//! their turns; facts (a trip, a timer, an operator's order) never wait, and end an attempt that runs.
//!
//! The line of a room is here; an attempt until the store is asked in `attempt`, what follows the store's yes in `ending`.

mod attempt;
mod ending;

pub(crate) use attempt::Agreed;

use super::{Core, request::MAX_WAITING, room::MAX_UNSTORED};
use crate::{
    Command, Epoch, Now, OpId, PeerId, Rejected, RoomId,
    input::{ReplyId, Request},
    sync::MAX_PARTICIPANTS,
    timeline::Actor,
};
use alloc::{collections::VecDeque, string::ToString, vec::Vec};
use attempt::Running;
use ending::Ending;

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

    fn refuse_asked(&mut self, asked: &Asked, rejected: &Rejected) {
        let id = &asked.request.room;
        self.note(rejected.code(), id, rejected.to_string());
        for to in asked.replies() {
            let result = Err(rejected.clone());
            self.out(Command::Reply { to, result });
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
