//! The streams that are open now, those without a Hello included: bounded in all, and for each peer id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use voice_room::PeerId;

/// Streams of one peer id at a time. It needs one, and one more while the old one ends; more are a fault of the peer, whose
/// streams without a Hello must not take the places of others.
const MAX_OF_ONE_PEER: usize = 16;

/// How many are open. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: HashMap<PeerId, usize>,
}

/// Why a stream has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Too many in all.
    All,
    /// Too many of this peer id.
    OfThisPeer,
}

/// A stream's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    open: Open,
    peer: PeerId,
}

impl Open {
    /// A place for a stream of `peer`: `most` may be open in all, and 16 of one peer.
    pub(super) fn take(&self, peer: &PeerId, most: usize) -> Result<Place, NoPlace> {
        let mut counts = self.counts();
        let of_this = counts.of.get(peer).copied().unwrap_or_default();
        if of_this >= MAX_OF_ONE_PEER {
            return Err(NoPlace::OfThisPeer);
        }
        if counts.all >= most {
            return Err(NoPlace::All);
        }
        counts.all += 1;
        counts.of.insert(peer.clone(), of_this + 1);
        Ok(Place {
            open: self.clone(),
            peer: peer.clone(),
        })
    }

    /// How many are open in all.
    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.counts().all
    }

    /// A panic while it was held left whole numbers behind.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.counts();
        counts.all = counts.all.saturating_sub(1);
        match counts.of.get_mut(&self.peer) {
            Some(of_this) if *of_this > 1 => *of_this -= 1,
            _ => drop(counts.of.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_peer_and_come_back() {
        let (open, a, b) = (
            Open::default(),
            PeerId::new("a").unwrap(),
            PeerId::new("b").unwrap(),
        );
        let mut places: Vec<Place> = (0..16).map(|_| open.take(&a, 17).unwrap()).collect();
        assert_eq!(open.take(&a, 17).unwrap_err(), NoPlace::OfThisPeer);
        places.push(open.take(&b, 17).unwrap());
        assert_eq!(open.take(&b, 17).unwrap_err(), NoPlace::All);
        places.clear();
        assert_eq!((open.all(), open.counts().of.len()), (0, 0));
        assert!(open.take(&a, 17).is_ok());
    }
}
