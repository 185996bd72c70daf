//! What is written to the store only while this agent's lease is certain: by the clock, looked at last of all, so that a process
//! that was frozen up to here writes nothing for rooms that may be another's by now.

use crate::{
    registry::Registry,
    store::{Member, Refresh, Refreshed, RoomStore, StoreError},
};
use std::sync::Arc;
use voice_room::{Change, RoomId, record::Committed};

/// Told instead of an answer; the core asks again.
const NO_LEASE: &str = "not sent: the lease is not certain; it waits until the room is held again";

/// The store, for writing.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) store: Arc<dyn RoomStore>,
    pub(super) registry: Registry,
}

impl Held {
    /// A change of a room.
    pub(super) async fn commit(&self, change: Change) -> Result<Committed, String> {
        self.check()?;
        said(self.store.commit(change).await)
    }

    /// That rooms live. Kept alive without a lease, a record would tell a custodian that its owner lives.
    pub(super) async fn refresh(&self, rooms: Vec<Refresh>) -> Result<Vec<(RoomId, Refreshed)>, String> {
        self.check()?;
        said(self.store.refresh(rooms).await)
    }

    /// Who joined and left. Told late, it would undo what the next owner has told since.
    pub(super) async fn members(&self, changes: Vec<Member>) -> Result<(), String> {
        self.check()?;
        said(self.store.members(changes).await)
    }

    fn check(&self) -> Result<(), String> {
        match self.registry.authority() {
            true => Ok(()),
            false => Err(NO_LEASE.into()),
        }
    }
}

/// An answer as the core is told it.
pub(super) fn said<T>(result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::EtcdConfig,
        registry::etcd::{About, Etcd},
        store::{Cursor, Embedded, testing::change},
    };
    use std::time::Duration;

    /// A registry whose lease was not granted yet, or is over: nobody runs it.
    fn without_a_lease() -> Registry {
        let config = EtcdConfig {
            endpoints: vec!["http://127.0.0.1:1".into()],
            era: 0,
            ttl: Duration::from_secs(30),
            grace: Duration::from_secs(300),
            username: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        };
        let about = About {
            node: "node-1".parse().unwrap(),
            identity: "one".into(),
            address: "127.0.0.1:7400".into(),
            capacity: 1,
        };
        Registry::Etcd(Etcd::prepare(&config, about).unwrap().handle())
    }

    fn refresh(change: &Change) -> Vec<Refresh> {
        vec![Refresh {
            room: change.record.room.clone(),
            version: change.record.version,
            op_id: change.record.op_id.clone(),
            epoch: change.record.epoch,
        }]
    }

    fn joined(change: &Change) -> Vec<Member> {
        vec![Member {
            room: change.record.room.clone(),
            client: "one".parse().unwrap(),
            joined: true,
        }]
    }

    #[tokio::test]
    async fn without_a_certain_lease_no_change_no_refresh_and_no_member_is_sent_and_with_one_each_is() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn RoomStore> = Arc::new(Embedded::open(dir.path()).unwrap());
        let held = |registry| Held {
            store: store.clone(),
            registry,
        };
        let created = change("a");
        let events = async || store.events(Cursor::default(), 10).await.unwrap().len();
        let frozen = held(without_a_lease());
        assert_eq!(frozen.commit(created.clone()).await, Err(NO_LEASE.into()));
        assert_eq!(frozen.refresh(refresh(&created)).await, Err(NO_LEASE.into()));
        assert_eq!(frozen.members(joined(&created)).await, Err(NO_LEASE.into()));
        assert_eq!(events().await, 0);
        let alive = held(Registry::Local);
        assert_eq!(alive.commit(created.clone()).await, Ok(Committed::Ok));
        let kept = (created.record.room.clone(), Refreshed::Kept);
        assert_eq!(alive.refresh(refresh(&created)).await, Ok(vec![kept]));
        assert_eq!(alive.members(joined(&created)).await, Ok(()));
        assert_eq!(events().await, 1);
    }
}
