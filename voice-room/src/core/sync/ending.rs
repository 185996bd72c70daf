//! The end of an attempt that the store has taken: COMMIT is out, and who takes note of it is kept for the timeline.

use super::{Agreed, Line};
use crate::{
    Change, Epoch, Mono, Now, PeerId, RoomId, Version,
    core::Core,
    timeline::{Synced, What},
};
use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

/// COMMIT is out.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) told: Mono,
    pub(super) epoch: Epoch,
    pub(super) missing: BTreeSet<PeerId>,
    pub(super) entry: Synced,
}

impl Core {
    /// The store has taken what was agreed to, and COMMIT is out.
    pub(in crate::core) fn synced(&mut self, now: Now, id: &RoomId, agreed: Agreed, change: &Change) {
        let entry = agreed.entry(now.mono, change.record.version, Ok(()));
        let missing = agreed.to.into_iter().filter(|p| !agreed.gone.contains(p));
        let ending = Ending {
            told: now.mono,
            epoch: change.record.epoch,
            missing: missing.collect(),
            entry,
        };
        self.end_commit(now, id);
        self.syncs.entry(id.clone()).or_default().ending = Some(ending);
    }

    pub(in crate::core) fn commit_acked(
        &mut self,
        now: Now,
        id: &RoomId,
        peer: PeerId,
        epoch: Epoch,
        version: Version,
    ) {
        let ending = self.syncs.get_mut(id).and_then(|l| l.ending.as_mut());
        let Some(ending) = ending.filter(|e| (e.epoch, e.entry.version) == (epoch, version)) else {
            return;
        };
        if ending.missing.remove(&peer) {
            ending.entry.committed.push(peer);
        }
        if ending.missing.is_empty() {
            self.end_commit(now, id);
        }
    }

    pub(super) fn end_commits(&mut self, now: Now, over: impl Fn(&Ending) -> bool) {
        let ended =
            |(id, line): (&RoomId, &Line)| line.ending.as_ref().is_some_and(&over).then(|| id.clone());
        let ended: Vec<RoomId> = self.syncs.iter().filter_map(ended).collect();
        for id in ended {
            self.end_commit(now, &id);
        }
    }

    /// Keeps what is known of the last sync of a room: it is over.
    pub(super) fn end_commit(&mut self, now: Now, id: &RoomId) {
        if let Some(ending) = self.syncs.get_mut(id).and_then(|l| l.ending.take()) {
            self.record(now, id, What::Synced(Box::new(ending.entry)));
        }
    }
}
