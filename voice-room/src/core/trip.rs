//! What a trip does, in its order (DESIGN 3.3), and how it ends. A failed step is tried again and never stops the others.

use super::{
    Core, Isolated,
    change::Cause,
    room::{Room, Trip},
    view::StepState,
};
use crate::{
    Change, Command, Entry, EventType, Isolation, Mono, Now, PeerId, RoomId, State, Version,
    command::{Expired, RoomUpdate},
    input::{Intent, StepResult},
    record::IsolationChange,
    timeline::{Evidence, Rule, Step, What},
};
use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

/// A failed step is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// A trip that is in force here, and that nobody was told of yet.
#[derive(Debug)]
pub(super) struct Untold {
    at: Now,
    change: Change,
    /// It waits for the store; else it is its owner's to store.
    queued: bool,
    /// Its own entry of the timeline; none where an owner is lost.
    entry: Option<What>,
}

/// A trip to carry out.
pub(super) struct Order {
    pub(super) rule: Rule,
    pub(super) evidence: Option<Evidence>,
    pub(super) lasts: Duration,
    pub(super) cause: Cause,
}

impl Core {
    pub(super) fn trip(&mut self, now: Now, id: &RoomId, order: Order) {
        let Order {
            rule,
            evidence,
            lasts,
            cause,
        } = order;
        self.expire(now, id, EventType::Stuck, Some((rule, evidence)), lasts, cause);
    }

    /// The owner is lost: EXPIRED for everybody, but no kernel cut, since the ports are on another host.
    pub(super) fn owner_lost(&mut self, now: Now, id: &RoomId, cause: Cause) {
        let lasts = self.rules.isolation;
        self.expire(now, id, EventType::OwnerLost, None, lasts, cause);
    }

    /// Expires the room: here at once, and with `cut` in the kernel next of all. Whoever else must know is told by
    /// [`Core::tell_of_trips`].
    fn expire(
        &mut self,
        now: Now,
        id: &RoomId,
        event: EventType,
        cut: Option<(Rule, Option<Evidence>)>,
        lasts: Duration,
        mut cause: Cause,
    ) {
        let (until, deadline) = (now.wall + lasts, now.mono + lasts);
        cause.isolation = IsolationChange::Set(Isolation {
            room: id.clone(),
            reason: cause.reason.clone(),
            until,
        });
        let Some(change) = self.advance(now, id, event, State::Expired, &cause) else {
            return;
        };
        let isolated = Isolated {
            reason: cause.reason,
            until,
            deadline,
            here_only: false,
        };
        self.isolations.insert(id.clone(), isolated);
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let mut trip = Trip::new(change.clone(), until, deadline, now.mono);
        let is_cut = cut.is_some();
        let entry = cut.map(|(rule, evidence)| {
            trip.rule = Some(rule);
            trip.evidence.clone_from(&evidence);
            let version = change.record.version;
            What::Trip {
                rule,
                evidence,
                until,
                version,
            }
        });
        if !is_cut {
            trip.leave_to_its_host();
        }
        room.trip = Some(Box::new(trip));
        if is_cut {
            let change = change.clone();
            self.out(Command::Journal(Intent {
                change,
                deadline,
                until,
            }));
            self.arm(id);
        }
        let queued = self.enqueue(change.clone(), cause.reply);
        self.untold.push(Untold {
            at: now,
            change,
            queued,
            entry,
        });
    }

    /// Tells everybody else of the trips since last asked: sessions, the store, the timeline. Only when the kernel was told of
    /// each of them, so that in a storm no room's cut waits for what is said about another's; and before anything else
    /// is looked at.
    pub(super) fn tell_of_trips(&mut self) {
        for Untold {
            at,
            change,
            queued,
            entry,
        } in core::mem::take(&mut self.untold)
        {
            let id = &change.record.room;
            self.push_expired(id);
            if queued {
                self.keep(id);
                self.send_front(at, id);
            }
            self.record_transition(&change);
            if let Some(entry) = entry {
                self.record(at, id, entry);
            }
        }
    }

    /// Arms the verdict of the trip the room is under; a room the kernel does not know yet gets its slot first.
    pub(super) fn arm(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get(id) else { return };
        let Some(trip) = &room.trip else { return };
        let (incarnation, deadline) = (room.record.incarnation, trip.deadline);
        if !room.bound {
            self.tell_ports(id);
        }
        self.out(Command::Arm {
            room: id.clone(),
            incarnation,
            shadow: false,
            deadline,
        });
    }

    /// Shadow mode: the kernel counts what it would drop. One `would_trip` an episode.
    pub(super) fn would_trip(
        &mut self,
        now: Now,
        id: &RoomId,
        rule: Rule,
        evidence: Evidence,
        lasts: Duration,
    ) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        room.watch.would_trip = true;
        let (incarnation, deadline) = (room.record.incarnation, now.mono + lasts);
        self.out(Command::Arm {
            room: id.clone(),
            incarnation,
            shadow: true,
            deadline,
        });
        self.record(now, id, What::WouldTrip { rule, evidence });
    }

    /// Peers hear of it before the store does: its number is taken from here on.
    pub(super) fn push_expired(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(trip) = &room.trip else { return };
        let told = &trip.change.record;
        let expired = Expired {
            room: id.clone(),
            incarnation: room.record.incarnation,
            version: told.version,
            epoch: room.record.epoch,
            reason: trip.reason.clone(),
            isolated_until: trip.until,
        };
        let op = told.op_id.clone();
        room.used(expired.version, &op);
        self.out(Command::PushExpired(expired));
    }

    /// As with [`Core::push_expired`], its number is taken.
    pub(super) fn push_restored(&mut self, id: &RoomId, reason: &str) {
        if let Some(room) = self.rooms.get_mut(id) {
            let (version, op) = (room.record.version, room.record.op_id.clone());
            room.used(version, &op);
        }
        if let Some(update) = self.update(id, reason) {
            self.out(Command::PushRestored(update));
        }
    }

    /// What a room is, as told under the epoch that it is held under; else under the highest it was told under here, below which
    /// nobody takes it.
    pub(super) fn update(&self, id: &RoomId, reason: &str) -> Option<RoomUpdate> {
        let room = self.rooms.get(id)?;
        let record = &room.record;
        let told_under = record.epoch.max(room.held_under);
        // Another's end under a number that was told as a change of ours: under its own epoch it contradicts nothing.
        let contradicts = room.state().is_none()
            && room.highest >= record.version
            && room.highest_op.as_ref() != Some(&record.op_id);
        let epoch = match room.authority.epoch() {
            _ if contradicts => record.epoch,
            Some(held) => held,
            None => told_under,
        };
        Some(RoomUpdate {
            room: id.clone(),
            incarnation: record.incarnation,
            state: record.state,
            version: record.version,
            epoch,
            reason: reason.to_string(),
            trace_id: None,
            over: self.over(id, epoch),
        })
    }

    pub(super) fn step(&mut self, now: Now, result: StepResult) {
        let StepResult {
            room: id,
            incarnation,
            step,
            at,
            result,
        } = result;
        let Some(room) = self
            .rooms
            .get_mut(&id)
            .filter(|r| r.record.incarnation == incarnation)
        else {
            return;
        };
        let Some(trip) = &mut room.trip else { return };
        let state = match &result {
            Ok(detail) => StepState::Done(detail.clone()),
            Err(problem) => {
                trip.retry_at = now.mono + RETRY;
                StepState::Failed(problem.clone())
            }
        };
        trip.armed_at = at.unwrap_or(trip.armed_at);
        let before = trip.steps.insert(step, state.clone());
        // Said once: a step that fails again and again is one line, and one more when it succeeds.
        if before.is_none_or(|b| core::mem::discriminant(&b) != core::mem::discriminant(&state)) {
            self.record(now, &id, What::Step { step, result });
        }
    }

    /// Kept at once, and recorded with the others of the same second: a storm is acknowledged by every gateway for every
    /// room.
    pub(super) fn acked(&mut self, id: &RoomId, peer: PeerId, version: Version) {
        let Some(trip) = self.rooms.get_mut(id).and_then(|r| r.trip.as_mut()) else {
            return;
        };
        let news = trip.change.record.version == version && trip.acked.insert(peer.clone());
        if news {
            trip.acked_anew.push(peer);
        }
    }

    pub(super) fn record_acked(&mut self, now: Now) {
        let news = |(id, room): (&RoomId, &mut Room)| {
            let trip = room.trip.as_mut().filter(|t| !t.acked_anew.is_empty())?;
            Some((id.clone(), core::mem::take(&mut trip.acked_anew)))
        };
        let acked: Vec<(RoomId, Vec<PeerId>)> = self.rooms.iter_mut().filter_map(news).collect();
        for (id, peers) in acked {
            self.record(now, &id, What::Acked { peers });
        }
    }

    pub(super) fn first_drop(&mut self, now: Now, id: &RoomId, deadline: Mono, ingress: bool, at: Mono) {
        let Some(trip) = self.rooms.get(id).and_then(|r| r.trip.as_ref()) else {
            return;
        };
        if trip.deadline == deadline {
            let after = at.since(trip.armed_at);
            self.record(now, id, What::FirstDrop { ingress, after });
        }
    }

    /// Takes the room out of its trip: verdict, isolation and view. The intent goes when the store has the change.
    pub(super) fn lift(&mut self, now: Now, id: &RoomId, reason: &str) {
        self.isolations.remove(id);
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let Some(trip) = room.trip.take() else {
            return;
        };
        let peers = trip.acked_anew;
        let dropped = room.witness.counts().map(|c| c.dropped);
        self.out(Command::Disarm { room: id.clone() });
        if !peers.is_empty() {
            self.record(now, id, What::Acked { peers });
        }
        self.record(
            now,
            id,
            What::Lifted {
                dropped,
                reason: reason.into(),
            },
        );
    }

    pub(super) fn end_isolations(&mut self, now: Now) {
        let ended = self.isolations.iter().filter(|(_, i)| i.deadline <= now.mono);
        let over: Vec<RoomId> = ended.map(|(id, _)| id.clone()).collect();
        for id in over {
            let mut cause = Cause::agent("the isolation is over");
            cause.isolation = IsolationChange::Clear;
            self.lift(now, &id, &cause.reason);
            if self
                .rooms
                .get(&id)
                .is_some_and(|r| r.record.state == State::Expired)
            {
                self.destroy(now, &id, EventType::IsolationOver, &cause);
            }
        }
    }

    /// Tries again what failed: changes the store did not take, and failed steps of trips.
    pub(super) fn retry(&mut self, now: Now) {
        let mut again: Vec<RoomId> = Vec::new();
        let mut steps: Vec<(RoomId, Step)> = Vec::new();
        for (id, room) in &mut self.rooms {
            let front = room.unstored.front();
            if front.is_some_and(|p| !p.sent && p.retry_at.is_some_and(|t| t <= now.mono)) {
                again.push(id.clone());
            }
            if let Some(trip) = room.trip.as_mut().filter(|t| t.retry_at <= now.mono) {
                let failed = trip
                    .steps
                    .iter()
                    .filter(|(_, s)| matches!(s, StepState::Failed(_)));
                let failed: Vec<Step> = failed.map(|(s, _)| *s).collect();
                if !failed.is_empty() {
                    trip.retry_at = now.mono + RETRY;
                }
                steps.extend(failed.into_iter().map(|s| (id.clone(), s)));
            }
        }
        for id in again {
            self.send_front(now, &id);
        }
        for (id, step) in steps {
            self.retry_step(&id, step);
        }
    }

    pub(super) fn retry_step(&mut self, id: &RoomId, step: Step) {
        let Some(trip) = self.rooms.get(id).and_then(|r| r.trip.as_ref()) else {
            return;
        };
        let change = trip.change.clone();
        let (deadline, until, rule) = (trip.deadline, trip.until, trip.rule);
        let evidence = trip.evidence.clone();
        match step {
            Step::Journal => self.out(Command::Journal(Intent {
                change,
                deadline,
                until,
            })),
            Step::Arm => self.arm(id),
            Step::Push => self.push_expired(id),
            // The store's own retry is in the room's queue.
            Step::Store => {}
            Step::Audit => {
                let Some(rule) = rule else { return };
                let version = change.record.version;
                let what = What::Trip {
                    rule,
                    evidence,
                    until,
                    version,
                };
                self.out(Command::RecordAgain(Entry {
                    room: id.clone(),
                    incarnation: change.record.incarnation,
                    at: change.event.timestamp,
                    what,
                }));
            }
        }
    }
}

/// The text of a step that is done, for `explain`.
pub(super) fn stored_detail(version: Version) -> String {
    alloc::format!("version {version}")
}
