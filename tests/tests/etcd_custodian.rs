//! Rooms of a node that is gone for good, on a real etcd: who becomes their custodian, when, and what it is told of them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::time::Duration;
use voice_room::{Input, RoomId, State, Version};
use voice_tests::{
    clock::wait_for,
    etcd::{Etcd, direct::Direct},
    proxy::Proxy,
    registrant::{Registrant, SOON, config, rooms},
};

/// Of those that die.
const TTL: Duration = Duration::from_secs(3);
/// Of those that survive, also on a starved machine.
const LONG: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(4);

fn keys(direct: &Direct, prefix: &str) -> usize {
    direct.list(prefix).unwrap().len()
}

/// The rooms that a survivor was told it is custodian of, with the version it was told.
fn custody(survivor: &Registrant) -> Vec<(RoomId, Version)> {
    let gone = |input| match input {
        Input::OwnerGone { meta, lost_for, .. } => {
            assert!(lost_for >= GRACE, "{lost_for:?}");
            assert_eq!(meta.state, State::Liveing);
            Some((meta.room, meta.version))
        }
        _ => None,
    };
    survivor.take_inputs().into_iter().filter_map(gone).collect()
}

#[test]
fn the_rooms_of_a_lost_node_get_one_custodian_each_after_the_grace_and_none_if_it_comes_back() {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let config = |ttl| config(etcd.endpoints(), ttl, GRACE);
    let survivors = ["n2", "n3"].map(|node| Registrant::start(&config(LONG), node, node).unwrap());
    let lost = Registrant::start(&config(TTL), "n1", "n1").unwrap();
    let rooms = rooms("room", 0..60);
    lost.claim(&rooms);
    lost.wait_held(&rooms);
    rooms
        .iter()
        .for_each(|room| lost.describe(room, State::Liveing, 5));
    wait_for("metadata", SOON, || {
        let told = direct.list("/voice/rooms/").unwrap();
        let newest = |value: &[u8]| String::from_utf8_lossy(value).contains("\"version\":5");
        told.iter().filter(|kv| newest(&kv.value)).count() == rooms.len()
    });
    wait_for("the watches", SOON, || {
        survivors.iter().all(|s| s.handle().standing().follows)
    });
    drop(lost);
    wait_for("the lease ends", SOON, || keys(&direct, "/voice/owners/") == 0);
    // Ten of them are served elsewhere and claimed there before the grace is over.
    survivors[0].claim(&rooms[50..]);
    let custodians = || survivors.iter().map(Registrant::held).sum::<usize>();
    wait_for("custodians", SOON, || custodians() == rooms.len());
    let mut all = survivors.each_ref().map(custody).concat();
    all.sort();
    let mut expected: Vec<(RoomId, Version)> = rooms[..50]
        .iter()
        .map(|room| (room.clone(), Version(5)))
        .collect();
    expected.sort();
    assert_eq!(
        all, expected,
        "each once, by one custodian, and none that was claimed"
    );
    let status = direct
        .get(&format!("/voice/rooms/{}/status", rooms[0]))
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(&status.value).contains("degraded") && status.lease != 0);

    // It comes back and serves its rooms: it takes them from their custodians, under a higher epoch.
    let back = Registrant::start(&config(LONG), "n1", "n1").unwrap();
    back.claim(&rooms[..50]);
    back.wait_held(&rooms[..50]);
    wait_for("the custodians hear of it", SOON, || custodians() == 10);
}

#[test]
fn rooms_that_a_node_had_claimed_and_not_told_of_yet_when_it_died_get_a_custodian_however_much_that_one_has_to_tell()
 {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let config = |ttl| config(etcd.endpoints(), ttl, GRACE);
    let survivor = Registrant::start(&config(LONG), "n2", "n2").unwrap();
    let lost = Registrant::start(&config(TTL), "n1", "n1").unwrap();
    let (rooms, own) = (rooms("lost", 0..1000), rooms("own", 0..1000));
    survivor.claim(&own);
    survivor.wait_held(&own);
    lost.claim(&rooms);
    lost.wait_held(&rooms);
    wait_for("the watch", SOON, || survivor.handle().standing().follows);
    drop(lost);
    let told = keys(&direct, "/voice/rooms/lost-");
    assert!(told < rooms.len(), "all were told of: it died too late");
    let mut version = 2;
    wait_for("custody", SOON, || {
        // More than there is time to tell.
        version += 1;
        own[..200]
            .iter()
            .for_each(|room| survivor.describe(room, State::Liveing, version));
        survivor.held() == own.len() + rooms.len()
    });
    let mut all = custody(&survivor);
    all.sort();
    // What it said with its claims.
    let mut expected: Vec<(RoomId, Version)> = rooms.iter().map(|room| (room.clone(), Version(2))).collect();
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn the_rooms_of_a_custodian_that_dies_too_get_another_one() {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let config = |ttl| config(etcd.endpoints(), ttl, GRACE);
    let lost = Registrant::start(&config(TTL), "n1", "n1").unwrap();
    let rooms = rooms("room", 0..20);
    lost.claim(&rooms);
    lost.wait_held(&rooms);
    let first = Registrant::start(&config(TTL), "n2", "n2").unwrap();
    wait_for("the watch", SOON, || first.handle().standing().follows);
    drop(lost);
    wait_for("custody", SOON, || first.held() == rooms.len());
    // It comes when what the lost node told is long gone.
    let second = Registrant::start(&config(LONG), "n3", "n3").unwrap();
    wait_for("the watch", SOON, || second.handle().standing().follows);
    assert_eq!(keys(&direct, "/voice/rooms/room-0"), 1, "its status, for a while");
    drop(first);
    wait_for("custody again", SOON, || second.held() == rooms.len());
    let again = custody(&second);
    // Somebody deletes its keys by hand: nobody is in charge, and it takes them once more.
    for room in &rooms {
        direct.delete(&format!("/voice/owners/{room}")).unwrap();
    }
    wait_for("custody is over", SOON, || second.held() == 0);
    wait_for("custody once more", SOON, || second.held() == rooms.len());
    assert_eq!(custody(&second).len(), again.len());
    let mut all: Vec<RoomId> = again.into_iter().map(|(room, _)| room).collect();
    all.sort();
    let mut expected = rooms;
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn custody_that_was_taken_and_not_answered_is_taken_note_of_once() {
    let etcd = Etcd::start(1).unwrap();
    let proxy = Proxy::to(etcd.address(0)).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let lost = Registrant::start(&config(etcd.endpoints(), TTL, GRACE), "n1", "n1").unwrap();
    let rooms = rooms("room", 0..20);
    lost.claim(&rooms);
    lost.wait_held(&rooms);
    let through = vec![format!("http://{}", proxy.address())];
    let survivor = Registrant::start(&config(through, LONG, GRACE), "n2", "n2").unwrap();
    let own = RoomId::new("own").unwrap();
    survivor.claim(std::slice::from_ref(&own));
    wait_for("the watch", SOON, || survivor.handle().standing().follows);
    drop(lost);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    wait_for("the survivor sees the lease end", SOON, || {
        let seen = runtime.block_on(survivor.handle().look(rooms.clone()));
        seen.is_ok_and(|seen| seen.iter().all(|room| room.owner.is_none()))
    });
    // With this it has its lease for statuses, which custody needs too. Of what is asked after it no answer arrives.
    survivor.handle().degraded(own, "a test".into());
    wait_for("a status", SOON, || keys(&direct, "/voice/rooms/own/status") == 1);
    proxy.hold_answers_after(0);
    let in_custody = || {
        let owners = direct.list("/voice/owners/").unwrap();
        owners
            .iter()
            .filter(|kv| String::from_utf8_lossy(&kv.value).contains("\"custodian\":true"))
            .count()
    };
    wait_for("custody in etcd", SOON, || in_custody() == rooms.len());
    assert_eq!(survivor.held(), 1, "it cannot know");
    proxy.cut();
    proxy.open();
    wait_for("it knows", SOON, || survivor.held() == 1 + rooms.len());
    let mut all: Vec<RoomId> = custody(&survivor).into_iter().map(|(room, _)| room).collect();
    all.sort();
    let mut expected = rooms;
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(in_custody(), expected.len());
}
