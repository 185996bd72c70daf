//! What must hold before a request may change a state (DESIGN 3.1). Reads only; answers with a typed reason.

use super::{Core, room::Room};
use crate::{
    Mono, Now, Rejected, RoomId, State,
    input::{Ask, Credential, Request},
    state::knows,
    timeline::Actor,
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

/// The longest block an operator may set: a day. Longer is a decision for the business, not for a circuit breaker.
const MAX_BLOCK: Duration = Duration::from_secs(24 * 3600);

impl Core {
    /// Whether `r` may be applied now.
    pub(super) fn permits(&self, now: Now, r: &Request) -> Result<(), Rejected> {
        if matches!(
            r.ask,
            Ask::Create | Ask::StartLive { .. } | Ask::HostReturn { .. }
        ) {
            self.not_isolated(now, &r.room)?;
        }
        let room = self.rooms.get(&r.room);
        let from = room.and_then(Room::state);
        if !knows(from, r.ask.event()) {
            return Err(match from {
                None => Rejected::UnknownRoom(r.room.clone()),
                Some(_) => Rejected::NotInTable {
                    from,
                    event: r.ask.event(),
                },
            });
        }
        if let (Some(room), Some(_)) = (room, from) {
            same_life(room, r)?;
            in_sequence(room, r)?;
            self.own_room(now.mono, room, &r.actor)?;
            if !matches!(r.ask, Ask::Block { .. } | Ask::Release { .. }) {
                Core::not_ceded(room)?;
            }
        }
        if let Some(room) = room {
            takes_more(room, r)?;
        }
        self.ask_permits(now, room, r)
    }

    fn ask_permits(&self, now: Now, room: Option<&Room>, r: &Request) -> Result<(), Rejected> {
        match (&r.ask, room) {
            (Ask::Create, _) => self.has_room_for_another(),
            (Ask::StartLive { host, credential }, Some(room)) => {
                let shown = credential_holds(credential)?;
                same_host(room, host.as_ref().or(shown))?;
                agrees(host.as_ref(), shown)?;
                self.has_quota()
            }
            (Ask::HostReturn { host, credential }, Some(room)) => {
                let shown = credential_holds(credential)?;
                agrees(host.as_ref(), shown)?;
                same_host(room, host.as_ref().or(shown))
            }
            (Ask::NoActiveUser, Some(room)) => self.nobody_active(now.mono, room),
            (Ask::Block { lasts, .. }, _) => self.may_block(&r.room, &r.actor, *lasts),
            (Ask::Release { .. }, _) => operator(&r.actor, "release"),
            (
                Ask::OwnerLost {
                    record_stale,
                    unserved,
                },
                _,
            ) => owner_lost(&r.actor, *record_stale, *unserved),
            (Ask::Close { version, .. }, Some(room)) if *version != room.record.version => {
                Err(Rejected::VersionMismatch {
                    given: *version,
                    current: room.record.version,
                })
            }
            (Ask::HostDisconnect { .. } | Ask::Close { .. }, Some(_)) => Ok(()),
            (_, None) => Err(Rejected::UnknownRoom(r.room.clone())),
        }
    }

    pub(super) fn not_isolated(&self, now: Now, room: &RoomId) -> Result<(), Rejected> {
        match self.isolation(room, now) {
            Some((isolation, retry_after)) => Err(Rejected::Isolated {
                reason: isolation.reason,
                retry_after,
            }),
            None => Ok(()),
        }
    }

    /// A media server speaks for the rooms it serves; another's room is another's while its heartbeats come.
    pub(super) fn own_room(&self, now: Mono, room: &Room, actor: &Actor) -> Result<(), Rejected> {
        let (Actor::Source(given), Some(owner)) = (actor, &room.record.source) else {
            return Ok(());
        };
        let fresh = room
            .heartbeat
            .is_some_and(|t| now.since(t) < self.rules.heartbeat * self.rules.misses);
        if given != owner && fresh {
            return Err(Rejected::NotYourRoom {
                owner: owner.to_string(),
            });
        }
        Ok(())
    }

    /// Media quota: what the configuration allows, and what the media servers say they can take if all of them do.
    pub(super) fn has_quota(&self) -> Result<(), Rejected> {
        let add = |sum: u32, s: &super::Source| Some(sum.saturating_add(s.capacity?));
        let said = self.sources.values().try_fold(0, add);
        let quota = said
            .filter(|_| !self.sources.is_empty())
            .map_or(self.rules.quota, |s| s.min(self.rules.quota));
        let live = self.live();
        if live >= quota {
            Err(Rejected::NoQuota { live, quota })
        } else {
            Ok(())
        }
    }

    /// Announced rooms are bounded too, and so are those whose end waits for the store: twice the quota.
    pub(super) fn has_room_for_another(&self) -> Result<(), Rejected> {
        let bound = self.rules.quota.saturating_mul(2);
        let held = self.counts.held;
        if held >= bound {
            return Err(Rejected::Limit(format!(
                "{held} rooms are announced, live or wait for the store on this node, the most is {bound}"
            )));
        }
        Ok(())
    }

    /// Whether no more changes of this room may wait for the store; the core's own then come later.
    pub(super) fn waits_full(&self, id: &RoomId) -> bool {
        self.rooms.get(id).is_some_and(Room::is_full)
    }

    /// No user signalling and no RTP for the idle time. Without counters, a media heartbeat stands for RTP.
    pub(super) fn nobody_active(&self, now: Mono, room: &Room) -> Result<(), Rejected> {
        let idle = self.rules.idle;
        let media = if room.witness.counts().is_some() {
            room.witness.last_rtp()
        } else {
            room.heartbeat
        };
        // Before the agent started, or while it slept, it saw nobody: that is not knowing, not idleness.
        // A heartbeat says that somebody is in the room.
        let signal = room.last_signal.max(room.heartbeat).max(Some(self.progress.0));
        let media = media.max(Some(self.progress.0));
        for (what, last) in [("user signalling", signal), ("RTP", media)] {
            if let Some(age) = last.map(|t| now.since(t)).filter(|age| *age < idle) {
                let (age, idle) = (age.as_secs_f32(), idle.as_secs_f32());
                return Err(Rejected::NotYet(format!(
                    "{what} was seen {age:.1} s ago, {idle:.1} s without is needed"
                )));
            }
        }
        Ok(())
    }

    fn may_block(&self, room: &RoomId, actor: &Actor, lasts: Option<Duration>) -> Result<(), Rejected> {
        operator(actor, "block")?;
        if self.killed {
            return Err(Rejected::Forbidden(
                "the kill switch is on: nothing is cut until it is turned off".into(),
            ));
        }
        if self.rules.never_cut.contains(room) {
            return Err(Rejected::Forbidden(
                "the room is on the never-cut list (trip.never_cut)".into(),
            ));
        }
        if lasts.is_some_and(|d| d.is_zero() || d > MAX_BLOCK) {
            return Err(Rejected::Forbidden(
                "a block lasts more than zero and at most 24 hours".into(),
            ));
        }
        Ok(())
    }
}

fn same_life(room: &Room, r: &Request) -> Result<(), Rejected> {
    match r.incarnation {
        Some(given) if given != room.record.incarnation => Err(Rejected::OldIncarnation {
            given,
            current: room.record.incarnation,
        }),
        _ => Ok(()),
    }
}

fn in_sequence(room: &Room, r: &Request) -> Result<(), Rejected> {
    match (r.sequence, room.last_sequence(&r.actor)) {
        (Some(given), Some(last)) if given < last => Err(Rejected::OldSequence { given, last }),
        _ => Ok(()),
    }
}

/// While the store is away changes wait in memory; that is bounded, except for what an operator does.
fn takes_more(room: &Room, r: &Request) -> Result<(), Rejected> {
    let waiting = room.unstored.len();
    if room.is_full() && !matches!(r.actor, Actor::Operator { .. }) {
        return Err(Rejected::Limit(format!(
            "{waiting} changes of this room wait for the store"
        )));
    }
    Ok(())
}

fn credential_holds(credential: &Credential) -> Result<Option<&crate::ClientId>, Rejected> {
    match credential {
        Credential::Trusted => Ok(None),
        Credential::Token { host } => Ok(Some(host)),
        Credential::Invalid(problem) => Err(Rejected::Token(problem.clone())),
    }
}

fn agrees(named: Option<&crate::ClientId>, shown: Option<&crate::ClientId>) -> Result<(), Rejected> {
    match (named, shown) {
        (Some(named), Some(shown)) if named != shown => Err(Rejected::Token(format!(
            "it was issued to {shown}, not to {named}"
        ))),
        _ => Ok(()),
    }
}

fn same_host(room: &Room, given: Option<&crate::ClientId>) -> Result<(), Rejected> {
    match (&room.record.host, given) {
        (Some(host), Some(given)) if host != given => Err(Rejected::NotTheHost { given: given.clone() }),
        _ => Ok(()),
    }
}

fn operator(actor: &Actor, what: &str) -> Result<(), Rejected> {
    match actor {
        Actor::Operator { .. } => Ok(()),
        other => Err(Rejected::Forbidden(format!(
            "{what} is for operators, not for {other}"
        ))),
    }
}

fn owner_lost(actor: &Actor, record_stale: bool, unserved: bool) -> Result<(), Rejected> {
    if *actor != Actor::Agent {
        return Err(Rejected::Forbidden(format!(
            "OWNER_LOST is found by agents, not told by {actor}"
        )));
    }
    let missing: Option<String> = match (record_stale, unserved) {
        (true, true) => None,
        (false, _) => Some("the record was refreshed since the lease ended".into()),
        (true, false) => Some("a session reports the room served".into()),
    };
    missing.map_or(Ok(()), |m| Err(Rejected::NotYet(m)))
}

/// Which state RELEASE leads to.
pub(super) fn released_to(room: &Room, now: Mono, fresh: Duration) -> State {
    if room.heartbeat.is_some_and(|t| now.since(t) <= fresh) {
        State::Liveing
    } else {
        State::Destroyed
    }
}
