//! The registry on a real etcd, behind a proxy that cuts, stalls and delays: leases, claims, epochs, the watch, custodians.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::time::Duration;
use voice_room::{Epoch, RoomId, State};
use voice_tests::{
    clock::wait_for,
    etcd::{Etcd, direct::Direct},
    registrant::{Registrant, config},
};

/// For what takes milliseconds on a machine that is not loaded.
const SOON: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(300);

fn rooms(count: usize) -> Vec<RoomId> {
    (0..count)
        .map(|n| RoomId::new(&format!("room-{n}")).unwrap())
        .collect()
}

fn ttl(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn holds_all(registrant: &Registrant, rooms: &[RoomId]) {
    wait_for("every room is held", SOON, || {
        rooms.iter().all(|room| registrant.epoch(room).is_some())
    });
}

/// Who owns each room by etcd itself: the node's name.
fn owners(direct: &Direct) -> Vec<(String, String)> {
    let owner = |kv: voice_agent::proto::mvccpb::KeyValue| {
        let value: serde_json::Value = serde_json::from_slice(&kv.value).unwrap();
        let room = String::from_utf8(kv.key).unwrap().replace("/voice/owners/", "");
        (room, value["node"].as_str().unwrap().to_owned())
    };
    direct
        .list("/voice/owners/")
        .unwrap()
        .into_iter()
        .map(owner)
        .collect()
}

#[test]
fn a_claimed_room_is_on_the_lease_with_its_revision_as_epoch_and_a_restart_claims_it_higher() {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let config = config(etcd.endpoints(), ttl(30), GRACE);
    let rooms = rooms(200);
    let first = Registrant::start(&config, "n1", "a").unwrap();
    first.claim(&rooms);
    holds_all(&first, &rooms);
    let lease = first.handle().authority().lease().unwrap();
    for kv in direct.list("/voice/owners/").unwrap() {
        assert_eq!(kv.lease, lease);
    }
    let epoch = first.epoch(&rooms[7]).unwrap();
    let key = format!("/voice/owners/{}", rooms[7]);
    let there = direct.get(&key).unwrap().unwrap();
    assert_eq!(
        epoch,
        Epoch {
            era: 0,
            revision: u64::try_from(there.mod_revision).unwrap()
        }
    );
    first.describe(&rooms[7], State::Liveing, 3);
    let key = format!("/voice/rooms/{}", rooms[7]);
    wait_for("metadata", SOON, || {
        direct.get(&key).unwrap().is_some_and(|kv| kv.lease == lease)
    });
    first.cede(&rooms[7]);
    wait_for("both keys go", SOON, || {
        direct.get(&key).unwrap().is_none() && owners(&direct).len() == 199
    });
    drop(first);

    let second = Registrant::start(&config, "n1", "a").unwrap();
    second.claim(&rooms);
    holds_all(&second, &rooms);
    assert!(rooms.iter().all(|room| second.epoch(room).unwrap() > epoch));
    assert_eq!(owners(&direct).len(), 200);
}
