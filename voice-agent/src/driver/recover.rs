//! What a start finds: in the store, on this host, in the kernel; what is right where they differ, and the report of it. A store
//! that is away is no reason not to start: this host's copy serves until it is back.

use crate::{
    config::{Config, StoreKind},
    kernel,
    store::{
        Embedded, JournalHandle, Redis, RoomStore, StoreError, Stored,
        aside::{self, Opened},
        journal::Journalled,
        trial,
    },
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::Arc,
    time::Duration,
};
use voice_room::{Core, Epoch, RoomId, RoomRecord, State, Version, input::Restored};

/// How long a start waits for a shared store before it goes on without.
const LOAD_WITHIN: Duration = Duration::from_secs(10);

/// The configured store, and the journal.
pub(super) struct Keeping {
    pub(super) store: Arc<dyn RoomStore>,
    /// To be closed in order.
    pub(super) embedded: Option<Embedded>,
    /// To be followed for what other agents store.
    pub(super) redis: Option<Redis>,
    pub(super) journal: JournalHandle,
    pub(super) stored: Stored,
    pub(super) journalled: Journalled,
    /// Not every epoch that was given is known.
    pub(super) begun_anew: bool,
    /// Why the store is not part of what was found.
    pub(super) away: Option<StoreError>,
}

impl Keeping {
    /// Opens what the configuration names, and reads it.
    pub(super) async fn open(config: &Config, redis: Option<Redis>) -> anyhow::Result<Keeping> {
        let program = Path::new(trial::THIS_PROGRAM);
        match (config.store.kind, redis) {
            (StoreKind::Redis, Some(redis)) => {
                let (journal, journalled, begun_anew) =
                    aside::open_journal_alone(&config.paths.state, program)
                        .await
                        .context("cannot read the journal")?;
                let (stored, away) = load(&redis, &journalled).await;
                Ok(Keeping {
                    store: Arc::new(redis.clone()),
                    embedded: None,
                    redis: Some(redis),
                    journal,
                    stored,
                    journalled,
                    begun_anew,
                    away,
                })
            }
            _ => {
                let Opened {
                    store,
                    stored,
                    journal,
                    journalled,
                    begun_anew,
                } = aside::open(&config.paths.state, program)
                    .await
                    .context("cannot read what is stored")?;
                Ok(Keeping {
                    store: Arc::new(store.clone()),
                    embedded: Some(store),
                    redis: None,
                    journal,
                    stored,
                    journalled,
                    begun_anew,
                    away: None,
                })
            }
        }
    }
}

impl Keeping {
    /// Every record that is known, for the epochs in them.
    pub(super) fn known(&self) -> Stored {
        let rooms = self.stored.rooms.iter().chain(&self.journalled.rooms);
        Stored {
            rooms: rooms.cloned().collect(),
            ..Stored::default()
        }
    }
}

async fn load(redis: &Redis, journalled: &Journalled) -> (Stored, Option<StoreError>) {
    let known: Vec<RoomId> = journalled
        .rooms
        .iter()
        .map(|record| record.room.clone())
        .collect();
    let loaded = tokio::time::timeout(LOAD_WITHIN, redis.load(known)).await;
    let late = || {
        let within = humantime::format_duration(LOAD_WITHIN);
        Err(StoreError::Unavailable(format!(
            "not everything was read within {within}"
        )))
    };
    match loaded.unwrap_or_else(|_| late()) {
        Ok(stored) => (stored, None),
        Err(error) => {
            tracing::warn!(%error, "the store is away: started with what this host has kept");
            (Stored::default(), Some(error))
        }
    }
}

/// A number that no other start of any agent has: it names this start's changes.
pub(super) fn run_number() -> u64 {
    // The standard library seeds it from the operating system's random numbers.
    RandomState::new().hash_one(std::process::id())
}

/// What was found, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recovery {
    /// Rooms that this host had kept of a shared store.
    pub kept: usize,
    /// Rooms found in the store.
    pub stored: usize,
    /// Why the store was not asked, if it was not.
    pub store_away: Option<String>,
    /// Rooms of which this host has a later version than the store: they are put back there.
    pub put_back: usize,
    /// Rooms that somebody else changed meanwhile: what is stored is taken over.
    pub taken_over: usize,
    /// Journalled trips.
    pub intents: usize,
    /// Blocks found armed in the kernel.
    pub blocks: usize,
    /// What could not be read; left as it is.
    pub damaged: usize,
    /// Rooms in each state, once all was put together.
    pub rooms: BTreeMap<&'static str, usize>,
    /// Isolations that last, of every agent.
    pub isolated: usize,
}

/// What the store has of rooms that ended here, where that is the version before the end.
fn ends_not_stored(stored: &[RoomRecord], kept: &[RoomRecord]) -> Vec<RoomRecord> {
    let ended: BTreeMap<&RoomId, Version> = kept
        .iter()
        .filter(|kept| kept.state == State::Destroyed)
        .map(|kept| (&kept.room, kept.version))
        .collect();
    let before = |stored: &&RoomRecord| ended.get(&stored.room) == Some(&stored.version.next());
    stored.iter().filter(before).cloned().collect()
}

impl Recovery {
    /// What store, journal and pinned maps hold, put together.
    pub(super) fn of(keeping: &mut Keeping, found: kernel::Found) -> (Recovery, Restored) {
        let stored = std::mem::take(&mut keeping.stored);
        let journalled = std::mem::take(&mut keeping.journalled);
        for damaged in stored.damaged.iter().chain(&journalled.damaged) {
            tracing::error!(%damaged, "left as it is");
        }
        let mut recovery = Recovery {
            kept: journalled.rooms.len(),
            stored: stored.rooms.len(),
            store_away: keeping.away.as_ref().map(ToString::to_string),
            intents: journalled.intents.len(),
            blocks: found.blocks.len(),
            damaged: stored.damaged.len() + journalled.damaged.len(),
            ..Recovery::default()
        };
        let restored = Restored {
            unstored: ends_not_stored(&stored.rooms, &journalled.rooms),
            rooms: recovery.put_together(stored.rooms, journalled.rooms),
            isolations: stored.isolations,
            maintenance: journalled.maintenance,
            intents: journalled.intents,
            blocks: found.blocks,
            bindings: found.bindings,
        };
        (recovery, restored)
    }

    /// The later version of each room. This host's copy is at least as new as what it stored, so a higher number there is of
    /// somebody else.
    fn put_together(&mut self, stored: Vec<RoomRecord>, kept: Vec<RoomRecord>) -> Vec<RoomRecord> {
        let mut rooms: BTreeMap<RoomId, RoomRecord> = stored
            .into_iter()
            .map(|record| (record.room.clone(), record))
            .collect();
        for record in kept {
            match rooms.get(&record.room) {
                Some(stored) if stored.version > record.version => self.taken_over += 1,
                Some(stored) if stored.version == record.version => {
                    // The same, but for ports and media server, which this host knows better.
                    if stored.op_id == record.op_id {
                        rooms.insert(record.room.clone(), record);
                    }
                }
                older => {
                    let lives = record.state != State::Destroyed && self.store_away.is_none();
                    if lives || older.is_some() {
                        self.put_back += 1;
                    }
                    rooms.insert(record.room.clone(), record);
                }
            }
        }
        rooms.into_values().collect()
    }

    /// Looks at what the core made of it, and tells it in one line.
    pub(super) fn tell(&mut self, core: &Core, epoch: Option<Epoch>) {
        let now = super::clock::now();
        self.rooms = State::ALL
            .into_iter()
            .map(|state| (state.name(), core.count(state)))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.isolated = core.isolations(now).len();
        let epoch = epoch.map_or("of each room".to_owned(), |epoch| epoch.to_string());
        let maintenance = core.maintenance(now).len();
        tracing::info!(epoch, maintenance, "restored: {}", self.words());
    }

    /// For people, on one line.
    pub fn words(&self) -> String {
        let rooms: Vec<String> = self
            .rooms
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        let rooms = if rooms.is_empty() {
            "no rooms".to_owned()
        } else {
            rooms.join(", ")
        };
        let mut words = format!("{rooms}; {} isolated", self.isolated);
        let also = [
            (self.kept, "kept on this host"),
            (self.stored, "in the store"),
            (self.put_back, "put back into the store"),
            (self.taken_over, "changed by others meanwhile"),
            (self.intents, "journalled trips"),
            (self.blocks, "cuts in the kernel"),
            (self.damaged, "damaged and left as they are"),
        ];
        for (count, what) in also.into_iter().filter(|(count, _)| *count > 0) {
            words += &format!("; {count} {what}");
        }
        if let Some(problem) = &self.store_away {
            words += &format!("; the store was away ({problem}): this host's copy serves until it is back");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::change;
    use voice_room::{OpId, Version};

    fn record(name: &str, version: u64, op: &str) -> RoomRecord {
        let mut record = change(name).into_parts().record;
        (record.version, record.op_id) = (Version(version), OpId::new(op).unwrap());
        record
    }

    #[test]
    fn of_two_copies_the_later_one_counts_and_the_report_tells_which() {
        let kept = vec![
            record("a", 3, "x"),
            record("b", 3, "x"),
            record("c", 3, "x"),
            record("d", 3, "x"),
        ];
        let stored = vec![record("a", 2, "w"), record("b", 4, "y"), record("c", 3, "z")];
        let mut recovery = Recovery::default();
        let rooms = recovery.put_together(stored, kept);
        let found: Vec<(&str, u64, &str)> = rooms
            .iter()
            .map(|r| (r.room.as_str(), r.version.0, r.op_id.as_str()))
            .collect();
        assert_eq!(
            found,
            [("a", 3, "x"), ("b", 4, "y"), ("c", 3, "z"), ("d", 3, "x")]
        );
        assert_eq!((recovery.put_back, recovery.taken_over), (2, 1));
        assert!(
            recovery
                .words()
                .contains("2 put back into the store; 1 changed by others meanwhile")
        );
    }

    #[test]
    fn without_the_store_nothing_is_said_to_be_lost_there() {
        let mut recovery = Recovery {
            store_away: Some("no answer".into()),
            ..Recovery::default()
        };
        assert_eq!(recovery.put_together(vec![], vec![record("a", 3, "x")]).len(), 1);
        assert_eq!(recovery.put_back, 0);
        assert!(recovery.words().contains("the store was away (no answer)"));
    }
}
