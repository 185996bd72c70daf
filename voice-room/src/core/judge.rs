//! The stuck detector and the trip rule (DESIGN 3.2). A false cut silences people who are talking, a missed cut spreads
//! the outage; what cannot be known passes.

use super::{
    Core,
    cap::Cap,
    change::Cause,
    room::{Moment, Room},
    trip::Order,
};
use crate::{
    Now, RoomId, Rules, SourceId,
    config::Mode,
    timeline::{Evidence, Hold, Rule, What},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::time::Duration;

/// What the rule says of a stuck room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Trip(Rule),
    Hold(Hold),
}

/// What is known of a room besides its evidence.
#[derive(Debug, Clone, Copy)]
struct Context {
    /// The source as a whole is silent.
    source_silent: bool,
    /// RTP leaves for any room of that source.
    source_sends: bool,
    /// The source lists any room as served.
    source_serves: bool,
    /// How long RTP has moved both ways while the room was stuck.
    contradiction: Option<Duration>,
}

/// What a source does for its rooms.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    /// RTP leaves for one of them.
    sends: bool,
    /// It lists one of them as served.
    serves: bool,
}

impl Core {
    pub(super) fn judge(&mut self, now: Now) {
        let mut silent: Vec<RoomId> = Vec::new();
        let mut stuck: Vec<(Moment, RoomId)> = Vec::new();
        for (id, room) in self.rooms.iter().filter(|(_, r)| r.is_judged()) {
            let misses = room.misses(now.mono, self.progress, self.rules.heartbeat);
            if misses >= self.rules.warn_misses {
                if !room.watch.warned {
                    silent.push(id.clone());
                }
                if self.is_stuck(now, room, misses) {
                    stuck.push((room.progress, id.clone()));
                }
            }
        }
        if silent.is_empty() && stuck.is_empty() {
            return;
        }
        let rooms = self.node_rooms(now);
        self.warn(now, &silent, rooms);
        if stuck.is_empty() {
            return;
        }
        // The longest stuck first: where the cap holds some back, it holds back the youngest.
        stuck.sort_by_key(|(progress, _)| *progress);
        let sources = self.sources_at_work(now);
        for (_, id) in stuck {
            self.decide(now, &id, &sources, rooms);
        }
    }

    /// Rooms of this node as the cap counts them: live, or tripped within its window. A trip moves a room from one to the
    /// other, so one count serves a whole pass.
    fn node_rooms(&mut self, now: Now) -> u32 {
        self.cap.used(now.mono, self.rules.cap_window);
        let live = |id: &RoomId| self.rooms.get(id).is_some_and(Room::is_judged);
        self.live().saturating_add(self.cap.gone(live))
    }

    fn is_stuck(&self, now: Now, room: &Room, misses: u32) -> bool {
        let age = now.mono.since(room.progress(self.progress).0);
        misses >= self.rules.misses && age >= self.rules.stuck_after && !room.watch.would_trip
    }

    fn warn(&mut self, now: Now, silent: &[RoomId], rooms: u32) {
        for id in silent {
            let evidence = self.evidence(now, id, rooms);
            if let (Some(room), Some(evidence)) = (self.rooms.get_mut(id), evidence) {
                room.watch.warned = true;
                self.record(now, id, What::Warning(evidence));
            }
        }
    }

    /// For each source, what it does for its rooms.
    fn sources_at_work(&self, now: Now) -> BTreeMap<Option<SourceId>, Work> {
        let limit = self.rules.heartbeat * self.rules.misses;
        let mut sources: BTreeMap<Option<SourceId>, Work> = BTreeMap::new();
        for room in self.rooms.values().filter(|r| r.state().is_some()) {
            let work = sources.entry(room.record.source.clone()).or_default();
            work.sends |= self.testimony(now, room).is_some_and(|t| t.rtp_out > 0);
            work.serves |= room.heartbeat.is_some_and(|t| now.mono.since(t) < limit);
        }
        sources
    }

    pub(super) fn testimony(&self, now: Now, room: &Room) -> Option<crate::timeline::Testimony> {
        room.witness
            .testimony(now.mono, self.rules.witness_window, 2 * self.rules.heartbeat)
    }

    fn decide(&mut self, now: Now, id: &RoomId, sources: &BTreeMap<Option<SourceId>, Work>, rooms: u32) {
        let Some(evidence) = self.evidence(now, id, rooms) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        let both_ways = evidence
            .witness
            .as_ref()
            .is_some_and(|w| w.saw_egress && w.rtp_in > 0 && w.rtp_out > 0);
        if both_ways {
            room.watch.contradiction_since.get_or_insert(now.mono);
        } else {
            room.watch.contradiction_since = None;
        }
        let contradiction = room.watch.contradiction_since.map(|t| now.mono.since(t));
        let flows = |w: &crate::timeline::Testimony| w.rtp_in > 0 || w.rtp_out > 0;
        if room.authority.ceded_to().is_some() && !evidence.witness.as_ref().is_some_and(flows) {
            return self.has_gone_to_owner(id);
        }
        let source = room.record.source.clone();
        let work = sources.get(&source).copied().unwrap_or_default();
        let context = Context {
            source_silent: self.is_silent(now.mono, source.as_ref()),
            source_sends: work.sends,
            source_serves: work.serves,
            contradiction,
        };
        let verdict = match self.exempt(now, id) {
            Some(hold) => Verdict::Hold(hold),
            None => verdict(&self.rules, &evidence, context),
        };
        match verdict {
            Verdict::Hold(hold) => self.hold(now, id, hold, evidence),
            Verdict::Trip(rule) => self.execute(now, id, rule, evidence),
        }
    }

    /// Holds that need no evidence.
    fn exempt(&self, now: Now, id: &RoomId) -> Option<Hold> {
        if self.killed {
            Some(Hold::KillSwitch)
        } else if self.rules.mode == Mode::Off {
            Some(Hold::ModeOff)
        } else if self.rules.never_cut.contains(id) {
            Some(Hold::NeverCut)
        } else if self.maintained(now, id).is_some() {
            Some(Hold::Maintenance)
        } else {
            None
        }
    }

    fn hold(&mut self, now: Now, id: &RoomId, hold: Hold, evidence: Evidence) {
        let Some(room) = self.rooms.get_mut(id) else {
            return;
        };
        if room.watch.held.replace(hold) != Some(hold) {
            if hold == Hold::Maintenance {
                self.tell_of_maintenance(now, id);
            }
            self.record(now, id, What::Held { hold, evidence });
        }
    }

    fn execute(&mut self, now: Now, id: &RoomId, rule: Rule, evidence: Evidence) {
        self.cap.count(now.mono, id.clone());
        let lasts = self.rules.isolation;
        if self.rules.mode == Mode::Shadow {
            return self.would_trip(now, id, rule, evidence, lasts);
        }
        let cause = Cause::agent(reason(rule, &evidence));
        self.trip(
            now,
            id,
            Order {
                rule,
                evidence: Some(evidence),
                lasts,
                cause,
            },
        );
    }

    /// What is known of a room when somebody else decides on it.
    pub(super) fn known_of(&mut self, now: Now, id: &RoomId) -> Option<Evidence> {
        let rooms = self.node_rooms(now);
        self.evidence(now, id, rooms)
    }

    /// Everything a decision on this room stands on.
    fn evidence(&mut self, now: Now, id: &RoomId, rooms: u32) -> Option<Evidence> {
        let used = self.cap.used(now.mono, self.rules.cap_window);
        let room = self.rooms.get(id)?;
        let (progress_at, progress) = room.progress(self.progress);
        let answered = room
            .record
            .source
            .as_ref()
            .and_then(|s| self.sources.get(s))
            .map(|s| s.last_answer);
        Some(Evidence {
            misses: room.misses(now.mono, self.progress, self.rules.heartbeat),
            heartbeat_age: room.heartbeat.map(|t| now.mono.since(t)),
            progress_age: now.mono.since(progress_at),
            progress,
            source: room.record.source.clone(),
            source_silent_for: answered.map(|t| now.mono.since(t)),
            sockets_gone: self.sockets_gone(now.mono, room.record.source.as_ref()),
            witness: self.testimony(now, room),
            cap: (used, Cap::allowed(rooms, self.rules.cap_percent)),
            mode: self.rules.mode,
        })
    }
}

/// The trip rule, on a room that is stuck by its heartbeats.
fn verdict(rules: &Rules, evidence: &Evidence, context: Context) -> Verdict {
    let capped = |rule: Rule| match evidence.cap {
        (used, allowed) if used < allowed => Verdict::Trip(rule),
        _ => Verdict::Hold(Hold::BlastCap),
    };
    if let Some(lasted) = context.contradiction {
        // A broken control path contradicts for every room of the node at once: this trip is one the cap is for.
        return match rules.trip_on_contradiction_after {
            Some(limit) if lasted >= limit => capped(Rule::ContradictionTooLong),
            _ => Verdict::Hold(Hold::Contradiction),
        };
    }
    let has_witness = evidence.witness.as_ref().is_some_and(|w| w.saw_egress);
    let sends = evidence.witness.as_ref().is_some_and(|w| w.rtp_out > 0);
    match (context.source_silent, context.source_sends) {
        (true, true) => Verdict::Hold(Hold::SourceStillSends),
        (true, false) if evidence.sockets_gone == Some(true) => Verdict::Trip(Rule::SocketsGone),
        (true, false) => capped(Rule::SourceSilent),
        // A listing that names none of its rooms, while RTP still leaves for this one, may be the listing's fault.
        (false, _) if !context.source_serves && sends => capped(Rule::Omitted),
        (false, _) if has_witness => Verdict::Trip(Rule::Omitted),
        (false, _) => capped(Rule::NoWitness),
    }
}

fn reason(rule: Rule, evidence: &Evidence) -> String {
    let what = match rule {
        Rule::Omitted => "its media server answers but no longer serves it",
        Rule::SocketsGone => "its media server is silent and its sockets are gone",
        Rule::SourceSilent => "its media server is silent and sends nothing",
        Rule::NoWitness => "its heartbeats ended and there is no other witness",
        Rule::ContradictionTooLong => "its heartbeats ended; RTP still moves, but for longer than allowed",
        Rule::Operator => "blocked by an operator",
    };
    let (misses, age) = (evidence.misses, evidence.progress_age);
    // To the nearest second.
    let seconds = (age + Duration::from_millis(500)).as_secs();
    format!("stuck: {misses} media heartbeats missed, {seconds} s without progress; {what}")
}
