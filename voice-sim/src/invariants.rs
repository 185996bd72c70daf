//! What must hold in every run, one invariant a file. They see what happens and know nothing of how it came about.

mod agreement;
mod converges;
mod ends;
mod epochs;
mod isolation;
mod rollback;
mod served;

use crate::{Ms, world::World};
use voice_room::{
    Change, Epoch, Mono, RoomId,
    input::ReplyId,
    sync::{Attempt, Proposal, Rollback, participant::Committed},
    timeline::Rule,
};

/// Something that happened. Peers and agents by their number.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A peer took a state as committed; before, this was the highest epoch it had heard.
    Took(usize, &'a RoomId, Option<Epoch>, Committed),
    /// A peer refused what it was told.
    Refused(usize, &'a RoomId, &'a str),
    /// A peer agreed to an attempt; before, this was the highest epoch it had heard.
    Agreed(usize, &'a RoomId, Attempt, Option<Epoch>),
    /// A peer took note of an isolation that lasts until then, on its clock.
    Isolated(usize, &'a RoomId, Mono),
    /// A peer heard that a room was released.
    Released(usize, &'a RoomId),
    /// A client wanted to get in at that time of the peer's clock, and was let in or not.
    Knocked(usize, &'a RoomId, Mono, bool),
    /// A peer lost all it knew.
    PeerDied(usize),
    /// An agent asks others.
    Prepares(usize, &'a Proposal),
    /// An agent says that an attempt is over.
    RollsBack(&'a Rollback),
    /// An agent sends a change to the store.
    Sent(usize, &'a Change),
    /// The store has taken a change; before, the room was isolated until then.
    Stored(&'a Change, Option<Ms>),
    /// An agent tripped a room by a rule; its media server had really served it for so long.
    Tripped(usize, &'a RoomId, Rule, Option<Ms>),
    /// A custodian's change that ends a room was stored; its node's agent could tell that it is served for so long.
    Lost(&'a RoomId, Option<Ms>),
    /// A request was answered; whether anybody waited.
    Answered(ReplyId, bool),
}

trait Invariant {
    /// Something happened.
    fn see(&mut self, now: Ms, seen: &Seen<'_>) -> Result<(), String>;

    /// All is healed and has come to rest.
    fn end(&self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    rollback: rollback::NoCommitAfterRollback,
    ends: ends::EveryTransitionEnds,
    epochs: epochs::NoLowerEpoch,
    converges: converges::Converges,
    isolation: isolation::IsolationRefuses,
    served: served::ServedIsNotExpired,
}

impl Invariants {
    fn all(&mut self) -> [(&'static str, &mut dyn Invariant); 7] {
        [
            (
                "no two participants commit different states for one version",
                &mut self.agreement,
            ),
            ("no commit after rollback", &mut self.rollback),
            ("every transition ends", &mut self.ends),
            ("nobody acts on a lower epoch", &mut self.epochs),
            ("a healed system converges", &mut self.converges),
            ("isolation always refuses", &mut self.isolation),
            (
                "a room that its media server serves is never expired",
                &mut self.served,
            ),
        ]
    }

    pub(crate) fn see(&mut self, now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        for (name, invariant) in self.all() {
            invariant.see(now, seen).map_err(|how| format!("{name}: {how}"))?;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, world: &World) -> Result<(), String> {
        for (name, invariant) in self.all() {
            invariant.end(world).map_err(|how| format!("{name}: {how}"))?;
        }
        Ok(())
    }
}
