//! A participant's side: what a gateway, a signalling or a media server holds of the rooms it serves.
//!
//! Pure: its messages are calls, its clock is an argument. Whatever is lost, repeated, late or out of order, what it holds
//! only goes forward: by epoch first, then by life, then by version.

use super::{Attempt, Known, Proposal, Rollback};
use crate::{
    Epoch, Incarnation, Mono, RoomId, State, Version,
    command::{Expired, RoomUpdate},
};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

/// A room that is over is remembered this long, so that late messages of its life are known as such. As the core does.
const TOMBSTONE: Duration = Duration::from_secs(300);

/// What one peer holds of its rooms.
#[derive(Debug, Clone)]
pub struct Participant {
    rooms: BTreeMap<RoomId, Held>,
    most: usize,
}

/// A state as committed. What comes later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Committed {
    /// Under which epoch it was told.
    pub epoch: Epoch,
    /// Which life.
    pub incarnation: Incarnation,
    /// The record's version.
    pub version: Version,
    /// The state.
    pub state: State,
}

/// A change that was agreed to, and whose end is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Which attempt.
    pub attempt: Attempt,
    /// Which life.
    pub incarnation: Incarnation,
    /// The version it would have.
    pub version: Version,
    /// The state it would be in.
    pub state: State,
    /// Since when.
    pub since: Mono,
}

/// Rejoins are refused until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolated {
    /// In words.
    pub reason: String,
    /// The end, on this peer's own monotonic clock.
    pub until: Mono,
}

#[derive(Debug, Clone, Default)]
struct Held {
    /// The highest that was heard of. Who speaks under a lower one is not the owner any more.
    epoch: Epoch,
    committed: Option<Committed>,
    prepared: Option<Prepared>,
    /// Every attempt up to this one is over.
    over: Attempt,
    isolated: Option<Isolated>,
    /// Since when there is nothing to hold: it was told of as DESTROYED, or never told of at all.
    ended: Option<Mono>,
}

/// What became of a message that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It changed what is held: act on it.
    Anew,
    /// It was known already, or something later is: do nothing. To be acknowledged all the same.
    Before,
}

/// Why a message changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Another owner has spoken since.
    #[error("epoch {given} is below {known}, the highest heard of this room")]
    OldEpoch {
        /// The message's.
        given: Epoch,
        /// The highest.
        known: Epoch,
    },
    /// The attempt is over.
    #[error("attempt {given} is over: {known} was heard of")]
    OldAttempt {
        /// The message's.
        given: Attempt,
        /// The last that is over.
        known: Attempt,
    },
    /// What is proposed is not later than what is committed.
    #[error("version {given} is not above {known}, which is committed")]
    OldVersion {
        /// The message's.
        given: Version,
        /// The committed one.
        known: Version,
    },
    /// Two states for one version: a fault of the owner.
    #[error("version {version} was committed as {known} and is now told as {given}")]
    Contradiction {
        /// The version.
        version: Version,
        /// The state held.
        known: State,
        /// The state told.
        given: State,
    },
    /// The room was tripped.
    #[error("the room is isolated for another {} s: {reason}", .left.as_secs_f32())]
    Isolated {
        /// Why.
        reason: String,
        /// For how long still.
        left: Duration,
    },
    /// This peer does not agree.
    #[error("{0}")]
    Declined(String),
    /// No more rooms are held.
    #[error("{most} rooms are held, the most")]
    Full {
        /// How many.
        most: usize,
    },
}

impl Held {
    fn heard(&mut self, epoch: Epoch) -> Result<(), NotTaken> {
        if epoch < self.epoch {
            return Err(NotTaken::OldEpoch {
                given: epoch,
                known: self.epoch,
            });
        }
        self.epoch = epoch;
        Ok(())
    }

    /// Ends what is prepared under an attempt up to `over`.
    fn end_attempts(&mut self, over: Attempt) {
        self.over = self.over.max(over);
        self.prepared = self.prepared.filter(|p| p.attempt > self.over);
    }

    /// Takes a state that is later than what is held.
    fn take(&mut self, now: Mono, next: Committed) -> Result<Taken, NotTaken> {
        self.heard(next.epoch)?;
        let key = |c: &Committed| (c.epoch, c.incarnation, c.version);
        // What is decided up to here is decided, also of what was proposed for it.
        self.prepared = self
            .prepared
            .filter(|p| (p.attempt.epoch, p.incarnation, p.version) > key(&next));
        if let Some(held) = self.committed {
            if key(&held) == key(&next) && held.state != next.state {
                return Err(NotTaken::Contradiction {
                    version: next.version,
                    known: held.state,
                    given: next.state,
                });
            }
            if key(&next) <= key(&held) {
                return Ok(Taken::Before);
            }
        }
        self.committed = Some(next);
        self.ended = (next.state == State::Destroyed).then_some(now);
        if next.state.is_live() {
            // An owner makes no isolated room live: it was released.
            self.isolated = None;
        }
        Ok(Taken::Anew)
    }

    /// One that is held stays if it ends later: better refused for too long than not at all.
    fn isolate(&mut self, reason: &str, until: Mono) {
        if self.isolated.as_ref().is_none_or(|held| held.until < until) {
            self.isolated = Some(Isolated {
                reason: reason.to_string(),
                until,
            });
        }
    }
}

impl Participant {
    /// One that holds at most so many rooms.
    pub fn new(most: usize) -> Participant {
        Participant {
            rooms: BTreeMap::new(),
            most,
        }
    }

    /// PREPARE came, and this peer's own answer is `decision`. What is returned is the vote to send.
    pub fn prepare(
        &mut self,
        now: Mono,
        proposal: &Proposal,
        decision: Result<(), String>,
    ) -> Result<(), NotTaken> {
        let held = self.held(now, &proposal.room)?;
        let (attempt, version) = (proposal.attempt, proposal.version);
        held.heard(attempt.epoch)?;
        let known = held
            .over
            .max(held.prepared.map(|p| p.attempt).unwrap_or_default());
        let again = held.prepared.is_some_and(|p| p.attempt == attempt);
        if attempt <= known && !again {
            return Err(NotTaken::OldAttempt {
                given: attempt,
                known,
            });
        }
        if let Some(c) = held.committed
            && (attempt.epoch, proposal.incarnation, version) <= (c.epoch, c.incarnation, c.version)
        {
            return Err(NotTaken::OldVersion {
                given: version,
                known: c.version,
            });
        }
        if let Some(isolated) = held.isolated.as_ref().filter(|i| i.until > now) {
            let (reason, left) = (isolated.reason.clone(), isolated.until.since(now));
            return Err(NotTaken::Isolated { reason, left });
        }
        decision.map_err(NotTaken::Declined)?;
        held.prepared = Some(Prepared {
            attempt,
            incarnation: proposal.incarnation,
            version,
            state: proposal.state,
            since: now,
        });
        Ok(())
    }

    /// COMMIT came (or, from an agent of protocol version 1, ROOM_UPDATE).
    pub fn commit(&mut self, now: Mono, update: &RoomUpdate) -> Result<Taken, NotTaken> {
        let held = self.held(now, &update.room)?;
        let taken = held.take(now, committed(update))?;
        held.end_attempts(Attempt {
            epoch: update.epoch,
            number: update.over,
        });
        Ok(taken)
    }

    /// ROLLBACK came: what was agreed to is void.
    pub fn rollback(&mut self, now: Mono, rollback: &Rollback) -> Result<Taken, NotTaken> {
        let held = self.held(now, &rollback.room)?;
        held.heard(rollback.attempt.epoch)?;
        let before = held.prepared;
        held.end_attempts(rollback.attempt);
        Ok(if held.prepared == before {
            Taken::Before
        } else {
            Taken::Anew
        })
    }

    /// STATE_EXPIRED came; its isolation has `lasts` to go. Voids what is prepared up to its version.
    pub fn expired(&mut self, now: Mono, expired: &Expired, lasts: Duration) -> Result<Taken, NotTaken> {
        let held = self.held(now, &expired.room)?;
        let next = Committed {
            epoch: expired.epoch,
            incarnation: expired.incarnation,
            version: expired.version,
            state: State::Expired,
        };
        let taken = held.take(now, next)?;
        // A COMMIT that came before it told of the state, not of the isolation.
        let unheard = held.committed == Some(next) && held.isolated.is_none();
        if taken == Taken::Anew || unheard {
            held.isolate(&expired.reason, now + lasts);
            return Ok(Taken::Anew);
        }
        Ok(taken)
    }

    /// STATE_RESTORED came: an operator released the room.
    pub fn restored(&mut self, now: Mono, update: &RoomUpdate) -> Result<Taken, NotTaken> {
        let held = self.held(now, &update.room)?;
        let taken = held.take(now, committed(update))?;
        if taken == Taken::Anew {
            held.isolated = None;
        }
        Ok(taken)
    }

    /// WELCOME came, with an isolation that lasts.
    pub fn isolated(
        &mut self,
        now: Mono,
        room: &RoomId,
        reason: &str,
        lasts: Duration,
    ) -> Result<(), NotTaken> {
        self.held(now, room)?.isolate(reason, now + lasts);
        Ok(())
    }

    /// Whether a client may be let into this room, as far as this peer knows.
    pub fn admits(&self, now: Mono, room: &RoomId) -> Result<(), NotTaken> {
        let isolated = self.rooms.get(room).and_then(|held| held.isolated.as_ref());
        match isolated.filter(|i| i.until > now) {
            Some(isolated) => Err(NotTaken::Isolated {
                reason: isolated.reason.clone(),
                left: isolated.until.since(now),
            }),
            None => Ok(()),
        }
    }

    /// What to say of the rooms held, when a stream begins.
    pub fn known(&self) -> Vec<Known> {
        let known = |(room, held): (&RoomId, &Held)| {
            let committed = held.committed;
            if committed.is_none() && held.prepared.is_none() {
                return None;
            }
            Some(Known {
                room: room.clone(),
                epoch: committed.map_or(Epoch::default(), |c| c.epoch),
                incarnation: committed.map_or(Incarnation::default(), |c| c.incarnation),
                version: committed.map_or(Version::default(), |c| c.version),
                prepared: held.prepared.is_some(),
            })
        };
        self.rooms.iter().filter_map(known).collect()
    }

    /// What is held as committed.
    pub fn committed(&self, room: &RoomId) -> Option<Committed> {
        self.rooms.get(room)?.committed
    }

    /// What was agreed to and has no end yet.
    pub fn prepared(&self, room: &RoomId) -> Option<Prepared> {
        self.rooms.get(room)?.prepared
    }

    /// The highest epoch heard of this room.
    pub fn epoch(&self, room: &RoomId) -> Option<Epoch> {
        Some(self.rooms.get(room)?.epoch)
    }

    /// Rooms of which anything is held.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys()
    }

    /// This peer serves the room no more: nothing of it need be held but its isolation.
    pub fn leave(&mut self, now: Mono, room: &RoomId) {
        if let Some(held) = self.rooms.get_mut(room) {
            held.ended = Some(now);
        }
    }

    /// Forgets what has served: rooms long over, without an isolation that lasts. Call it now and then.
    pub fn sweep(&mut self, now: Mono) {
        self.rooms.retain(|_, held| {
            let isolated = held.isolated.as_ref().is_some_and(|i| i.until > now);
            let over = held.ended.is_some_and(|t| now.since(t) >= TOMBSTONE);
            isolated || held.prepared.is_some() || !over
        });
    }

    fn held(&mut self, now: Mono, room: &RoomId) -> Result<&mut Held, NotTaken> {
        if !self.rooms.contains_key(room) && self.rooms.len() >= self.most {
            self.sweep(now);
            if self.rooms.len() >= self.most {
                return Err(NotTaken::Full { most: self.most });
            }
        }
        Ok(self.rooms.entry(room.clone()).or_insert_with(|| Held {
            ended: Some(now),
            ..Held::default()
        }))
    }
}

fn committed(update: &RoomUpdate) -> Committed {
    Committed {
        epoch: update.epoch,
        incarnation: update.incarnation,
        version: update.version,
        state: update.state,
    }
}
