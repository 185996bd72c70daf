//! Rooms whose owner's lease ended, and when one survivor may become their custodian. No I/O; the time is an argument.
//!
//! A lost lease alone kills no room: its owner may come back, or another agent may serve it and claim it. Only a room that
//! nobody claimed for all of the grace is taken care of, and that ends it only if the store agrees (the core asks).

use super::view::Diff;
use std::{collections::BTreeMap, time::Duration};
use voice_room::{Mono, RoomId, command::Meta};

/// Rooms that are waited for. Beyond it they are left to their records' expiry, and told.
const MOST: usize = 262_144;

/// The rooms without an owner.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    gone: BTreeMap<RoomId, Gone>,
}

#[derive(Debug)]
struct Gone {
    meta: Meta,
    since: Mono,
    /// On top of the grace, by chance: survivors do not all try at once.
    extra: Duration,
}

/// A room whose grace is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) meta: Meta,
    pub(super) lost_for: Duration,
}

impl Vigil {
    /// Takes note of how ownership changed. False: there are too many to wait for.
    pub(super) fn saw(&mut self, diff: &Diff, now: Mono, extra: Duration) -> bool {
        match (&diff.after, &diff.meta) {
            (None, Some(meta)) if diff.ended && meta.state.is_live() => self.wait(meta.clone(), now, extra),
            _ => {
                self.gone.remove(&diff.room);
                true
            }
        }
    }

    /// Waits for this room, from now.
    pub(super) fn wait(&mut self, meta: Meta, now: Mono, extra: Duration) -> bool {
        if self.gone.len() >= MOST {
            return false;
        }
        let gone = Gone {
            meta,
            since: now,
            extra,
        };
        self.gone.insert(gone.meta.room.clone(), gone);
        true
    }

    /// Something was missed: whether these rooms had an owner meanwhile is not known, so their grace begins anew.
    pub(super) fn missed_something(&mut self, now: Mono) {
        self.gone.values_mut().for_each(|gone| gone.since = now);
    }

    /// Somebody serves or owns the room.
    pub(super) fn forget(&mut self, room: &RoomId) {
        self.gone.remove(room);
    }

    /// A room whose grace is over; it is still waited for until somebody is seen to own it.
    pub(super) fn due(&self, room: &RoomId, now: Mono, grace: Duration) -> Option<Due> {
        let gone = self.gone.get(room)?;
        let lost_for = now.since(gone.since);
        (lost_for >= grace + gone.extra).then(|| Due {
            meta: gone.meta.clone(),
            lost_for,
        })
    }

    /// Every such room.
    pub(super) fn all_due(&self, now: Mono, grace: Duration) -> Vec<RoomId> {
        let due = self
            .gone
            .iter()
            .filter(|(_, gone)| now.since(gone.since) >= grace + gone.extra);
        due.map(|(room, _)| room.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::etcd::{records::Owner, view::At};
    use voice_room::{Epoch, Incarnation, NodeName, State, Version};

    const GRACE: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn room() -> RoomId {
        RoomId::new("a").unwrap()
    }

    fn owner() -> At<Owner> {
        At {
            value: Owner {
                node: NodeName::new("n").unwrap(),
                incarnation: Incarnation(1),
                era: 0,
                custodian: false,
                room: None,
            },
            revision: 1,
            lease: 1,
        }
    }

    fn gone(state: State, ended: bool) -> Diff {
        let meta = Meta {
            room: room(),
            incarnation: Incarnation(1),
            state,
            version: Version(2),
            epoch: Epoch::default(),
            source: None,
        };
        Diff {
            room: room(),
            before: Some(owner()),
            after: None,
            ended,
            meta: Some(meta),
        }
    }

    fn due(vigil: &Vigil, seconds: u64) -> Option<u64> {
        vigil
            .due(&room(), at(seconds), GRACE)
            .map(|due| due.lost_for.as_secs())
    }

    #[test]
    fn a_room_is_due_only_when_its_lease_has_been_over_for_the_whole_grace() {
        let mut vigil = Vigil::default();
        vigil.saw(&gone(State::Liveing, true), at(100), Duration::from_secs(7));
        assert_eq!(
            (due(&vigil, 399), due(&vigil, 406), due(&vigil, 407)),
            (None, None, Some(307))
        );
        assert_eq!(vigil.all_due(at(407), GRACE), [room()]);
    }

    #[test]
    fn a_room_that_was_given_up_or_has_ended_is_not_waited_for() {
        let mut vigil = Vigil::default();
        vigil.saw(&gone(State::Liveing, false), at(100), Duration::ZERO);
        vigil.saw(&gone(State::Destroyed, true), at(100), Duration::ZERO);
        vigil.saw(&gone(State::Expired, true), at(100), Duration::ZERO);
        vigil.saw(
            &Diff {
                meta: None,
                ..gone(State::Liveing, true)
            },
            at(100),
            Duration::ZERO,
        );
        assert_eq!(due(&vigil, 9_999), None);
    }

    #[test]
    fn an_owner_that_comes_back_ends_the_wait_and_a_gap_in_what_is_seen_begins_it_anew() {
        let mut vigil = Vigil::default();
        vigil.saw(&gone(State::Liveing, true), at(100), Duration::ZERO);
        vigil.missed_something(at(300));
        assert_eq!((due(&vigil, 500), due(&vigil, 600)), (None, Some(300)));
        let back = Diff {
            before: None,
            after: Some(owner()),
            ..gone(State::Liveing, false)
        };
        vigil.saw(&back, at(601), Duration::ZERO);
        assert_eq!(due(&vigil, 9_999), None);
    }
}
