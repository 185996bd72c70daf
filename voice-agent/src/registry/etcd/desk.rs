//! What the driver asked for and nobody has taken up yet: by room, the last word on each. It never waits, and is bounded by
//! the rooms that the core keeps.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};
use voice_room::{Epoch, RoomId, command::Meta, patrol::RegistrySight};

/// What is asked for one room, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) cede: bool,
    pub(super) claim: Option<Meta>,
    pub(super) describe: Option<Meta>,
    pub(super) degraded: Option<String>,
}

/// A question about what is held of rooms.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) rooms: Vec<RoomId>,
    pub(super) to: oneshot::Sender<Result<Vec<RegistrySight>, String>>,
}

/// The driver's wishes.
#[derive(Debug, Default)]
pub(super) struct Desk {
    asks: Mutex<BTreeMap<RoomId, Ask>>,
    known: Mutex<Epoch>,
    looks: Mutex<Vec<Look>>,
    new: Notify,
}

impl Desk {
    pub(super) fn claim(&self, rooms: Vec<Meta>) {
        let mut asks = self.asks();
        for meta in rooms {
            let ask = asks.entry(meta.room.clone()).or_default();
            // What was said before is in it.
            ask.describe = None;
            ask.claim = Some(meta);
        }
        drop(asks);
        self.new.notify_one();
    }

    /// What was asked before for the room is void.
    pub(super) fn cede(&self, room: RoomId) {
        let ask = Ask {
            cede: true,
            ..Ask::default()
        };
        self.asks().insert(room, ask);
        self.new.notify_one();
    }

    pub(super) fn describe(&self, meta: Meta) {
        let room = meta.room.clone();
        self.asks().entry(room).or_default().describe = Some(meta);
        self.new.notify_one();
    }

    pub(super) fn degraded(&self, room: RoomId, reason: String) {
        self.asks().entry(room).or_default().degraded = Some(reason);
        self.new.notify_one();
    }

    /// Asks what is held of rooms. Whoever asks waits, so that there are never many questions.
    pub(super) fn look(&self, look: Look) {
        self.looks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(look);
        self.new.notify_one();
    }

    /// Takes the questions.
    pub(super) fn take_looks(&self) -> Vec<Look> {
        mem::take(&mut *self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An epoch that was used before this start.
    pub(super) fn know(&self, epoch: Epoch) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = epoch.max(*known);
    }

    /// The highest epoch that was used before this start, as far as is known here.
    pub(super) fn known(&self) -> Epoch {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something was asked since it was taken last.
    pub(super) async fn asked(&self) {
        self.new.notified().await;
    }

    /// Takes everything.
    pub(super) fn take(&self) -> BTreeMap<RoomId, Ask> {
        mem::take(&mut *self.asks())
    }

    fn asks(&self) -> MutexGuard<'_, BTreeMap<RoomId, Ask>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voice_room::{Incarnation, State, Version};

    #[test]
    fn the_last_word_on_a_room_counts_and_ceding_voids_what_was_asked_before() {
        let (desk, room) = (Desk::default(), RoomId::new("a").unwrap());
        let meta = |incarnation| Meta {
            room: room.clone(),
            incarnation: Incarnation(incarnation),
            state: State::Liveing,
            version: Version(1),
            epoch: Epoch::default(),
            source: None,
        };
        desk.claim(vec![meta(1)]);
        desk.cede(room.clone());
        desk.claim(vec![meta(2)]);
        let expected = Ask {
            cede: true,
            claim: Some(meta(2)),
            ..Ask::default()
        };
        assert_eq!(desk.take(), BTreeMap::from([(room.clone(), expected)]));
        desk.describe(meta(1));
        desk.claim(vec![meta(2)]);
        let expected = Ask {
            claim: Some(meta(2)),
            ..Ask::default()
        };
        assert_eq!(desk.take(), BTreeMap::from([(room.clone(), expected)]));
        assert!(desk.take().is_empty());
    }
}
