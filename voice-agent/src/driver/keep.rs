//! The copy on this host of rooms that a shared store holds: each is handed to the journal before its change is sent, so that
//! a start knows what it had, and no version is used twice.

use super::Driver;
use crate::telemetry::counters;
use futures::future::{BoxFuture, FutureExt, Shared};
use std::collections::BTreeMap;
use voice_room::{Command, RoomId, RoomRecord};

/// Ends when what was last handed over is kept, or is known not to be.
pub(super) type Kept = Shared<BoxFuture<'static, ()>>;

impl Driver {
    /// Hands over what a batch of commands keeps and forgets. Commits that are carried out later wait for it.
    pub(super) fn keep_rooms(&mut self, commands: &[Command]) {
        let mut last: BTreeMap<&RoomId, Option<&RoomRecord>> = BTreeMap::new();
        for command in commands {
            match command {
                Command::Keep(record) => drop(last.insert(&record.room, Some(record))),
                Command::ForgetRoom { room } => drop(last.insert(room, None)),
                _ => {}
            }
        }
        if last.is_empty() {
            return;
        }
        let rooms = last.values().flatten().map(|record| (*record).clone()).collect();
        let over = last.iter().filter(|(_, record)| record.is_none());
        let over = over.map(|(room, _)| (*room).clone()).collect();
        let kept = self.journal.keep(rooms, over);
        let told = async move {
            if let Err(error) = kept.await {
                // Stored all the same: this copy is needed only when the store loses its own at the time of a restart.
                counters::note("rooms_not_kept");
                tracing::warn!(%error, "rooms are not kept on this host");
            }
        };
        let kept = told.boxed().shared();
        // Done also when no change waits for it.
        self.tasks.spawn(kept.clone());
        self.kept = Some(kept);
    }
}
