//! Ownership without a registry: this host owns what it serves. Each start is a claim of its own, with a higher epoch.

use crate::store::{JournalHandle, StoreError, Stored};
use voice_room::Epoch;

/// The registry of one node.
#[derive(Debug, Clone, Copy)]
pub struct LocalRegistry;

impl LocalRegistry {
    /// Claims every room of this node. The epoch is above each one claimed before, and above those of `stored`, should
    /// the journal have been lost while the store was not.
    pub async fn claim(journal: &JournalHandle, stored: &Stored) -> Result<Epoch, StoreError> {
        let known = stored.rooms.iter().map(|record| record.epoch.revision).max();
        let revision = journal.next_epoch(known.unwrap_or(0)).await?;
        Ok(Epoch { era: 0, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::change;

    #[tokio::test]
    async fn every_start_claims_a_higher_epoch_also_when_the_journal_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = Stored::default();
        let mut last = Epoch::default();
        for _ in 0..3 {
            let journal = JournalHandle::open(&dir.path().join("journal")).unwrap();
            let epoch = LocalRegistry::claim(&journal, &stored).await.unwrap();
            assert!(epoch > last);
            last = epoch;
            journal.close().await.unwrap();
        }
        let mut record = change("a").record;
        record.epoch = Epoch { era: 0, revision: 70 };
        stored.rooms.push(record);
        let journal = JournalHandle::open(&dir.path().join("new")).unwrap();
        let epoch = LocalRegistry::claim(&journal, &stored).await.unwrap();
        assert_eq!(epoch, Epoch { era: 0, revision: 71 });
    }
}
