//! Ownership without a registry: this host owns what it serves. Each start is a claim of its own, with a higher epoch.

use crate::store::{JournalHandle, StoreError, Stored};
use std::time::{SystemTime, UNIX_EPOCH};
use voice_room::Epoch;

/// The registry of one node.
#[derive(Debug, Clone, Copy)]
pub struct LocalRegistry;

impl LocalRegistry {
    /// Claims every room of this node. The epoch is above each one claimed before, and above those of `stored`, should
    /// the journal have been lost while the store was not. When one of them was `begun_anew`, not all are known: then it is
    /// also above the seconds since 1970, which no agent reaches by starting, and each later loss begins higher.
    pub async fn claim(
        journal: &JournalHandle,
        stored: &Stored,
        begun_anew: bool,
    ) -> Result<Epoch, StoreError> {
        let known = stored.rooms.iter().map(|record| record.epoch.revision).max();
        let floor = if begun_anew { seconds() } else { 0 };
        let revision = journal.next_epoch(known.unwrap_or(0).max(floor)).await?;
        Ok(Epoch { era: 0, revision })
    }
}

fn seconds() -> u64 {
    // A clock before 1970 gives none; then the epoch is above what is known, as ever.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::change;

    #[tokio::test]
    async fn every_start_claims_a_higher_epoch_also_when_the_journal_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = Stored::default();
        let mut last = Epoch::default();
        for _ in 0..3 {
            let journal = JournalHandle::open(&dir.path().join("journal")).unwrap();
            let epoch = LocalRegistry::claim(&journal, &stored, false).await.unwrap();
            assert!(epoch > last);
            last = epoch;
            journal.close().await.unwrap();
        }
        let mut record = change("a").into_parts().record;
        record.epoch = Epoch { era: 0, revision: 70 };
        stored.rooms.push(record);
        let journal = JournalHandle::open(&dir.path().join("new")).unwrap();
        let epoch = LocalRegistry::claim(&journal, &stored, false).await.unwrap();
        assert_eq!(epoch, Epoch { era: 0, revision: 71 });
    }

    #[tokio::test]
    async fn after_a_loss_the_epoch_is_above_all_that_may_have_been_given_also_after_a_second_loss() {
        let dir = tempfile::tempdir().unwrap();
        let claim = async |name: &str, begun_anew| {
            let journal = JournalHandle::open(&dir.path().join(name)).unwrap();
            let epoch = LocalRegistry::claim(&journal, &Stored::default(), begun_anew).await;
            journal.close().await.unwrap();
            epoch.unwrap().revision
        };
        let lost = claim("first", true).await;
        assert!(lost > 1_700_000_000);
        assert_eq!(claim("first", false).await, lost + 1);
        assert!(claim("second", true).await >= lost);
    }
}
