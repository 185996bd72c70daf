//! The registry on a real etcd, behind a proxy that cuts, stalls and delays: leases, claims, epochs, the watch.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{collections::BTreeSet, thread, time::Duration};
use voice_agent::{proto::mvccpb::KeyValue, telemetry::counters::Counter};
use voice_room::{Epoch, Input, NodeName, RoomId, State, Version};
use voice_tests::{
    clock::wait_for,
    etcd::{Etcd, direct::Direct},
    proxy::Proxy,
    registrant::{Registrant, SOON, config, rooms},
};

const GRACE: Duration = Duration::from_secs(300);

fn ttl(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Who owns each room by etcd itself: the node's name.
fn owners(direct: &Direct) -> Vec<(String, String)> {
    let owner = |kv: KeyValue| {
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
    let rooms = rooms("room", 0..200);
    let first = Registrant::start(&config, "n1", "a").unwrap();
    first.claim(&rooms);
    first.wait_held(&rooms);
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
    let newest = |kv: &KeyValue| String::from_utf8_lossy(&kv.value).contains("\"version\":3");
    wait_for("metadata", SOON, || {
        direct
            .get(&key)
            .unwrap()
            .is_some_and(|kv| kv.lease == lease && newest(&kv))
    });
    first.cede(&rooms[7]);
    wait_for("both keys go", SOON, || {
        direct.get(&key).unwrap().is_none() && owners(&direct).len() == 199
    });
    drop(first);

    let second = Registrant::start(&config, "n1", "a").unwrap();
    second.claim(&rooms);
    second.wait_held(&rooms);
    assert!(rooms.iter().all(|room| second.epoch(room).unwrap() > epoch));
    assert_eq!(owners(&direct).len(), 200);
}

/// Waits by the agent's own word: to list many keys again and again would be felt.
fn has_told_all(registrant: &Registrant) {
    wait_for("there is nothing more to tell", SOON, || {
        let standing = registrant.handle().standing();
        (standing.waiting, standing.untold) == (0, 0)
    });
}

#[test]
fn a_lease_of_the_life_before_that_ends_while_rooms_are_still_told_of_takes_none_of_them() {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let config = config(etcd.endpoints(), ttl(60), GRACE);
    let rooms = rooms("room", 0..3000);
    let begin = || {
        let registrant = Registrant::start(&config, "n1", "a").unwrap();
        registrant.claim(&rooms);
        registrant.wait_held(&rooms);
        for room in &rooms {
            registrant.describe(room, State::Liveing, 2);
        }
        let lease = registrant.handle().authority().lease().unwrap();
        (registrant, lease)
    };
    let told_on = |lease: i64| {
        let told = direct.list("/voice/rooms/").unwrap();
        told.iter().filter(|kv| kv.lease == lease).count()
    };
    let (first, old) = begin();
    has_told_all(&first);
    wait_for("every room is told of", SOON, || told_on(old) == rooms.len());
    drop(first);
    let (second, lease) = begin();
    let held = second.all_told().held;
    let left = told_on(old);
    assert!(
        left > 100,
        "only {left} rooms were still to be told of: the old lease ends too late"
    );
    direct.revoke(old).unwrap();
    has_told_all(&second);
    wait_for("every room is told of again", SOON, || {
        told_on(lease) == rooms.len()
    });
    assert_eq!(second.handle().authority().lease(), Some(lease));
    assert_eq!(second.all_told().held, held);
}

/// The inputs of a registrant, by the room they are about.
fn told_of(inputs: &[Input]) -> BTreeSet<&str> {
    let room = |input| match input {
        &Input::Claimed { ref room, .. } | &Input::NotClaimed { ref room, .. } => Some(room.as_str()),
        _ => None,
    };
    inputs.iter().filter_map(room).collect()
}

fn lost_leases(inputs: &[Input]) -> usize {
    inputs.iter().filter(|input| **input == Input::LeaseLost).count()
}

#[test]
fn a_keep_alive_stream_that_is_cut_again_and_again_keeps_its_lease_and_every_room_stays_registered() {
    let etcd = Etcd::start(1).unwrap();
    let proxy = Proxy::to(etcd.address(0)).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let through = vec![format!("http://{}", proxy.address())];
    let registrant = Registrant::start(&config(through, ttl(12), GRACE), "n1", "a").unwrap();
    let rooms = rooms("room", 0..100);
    registrant.claim(&rooms);
    registrant.wait_held(&rooms);
    let before = direct.list("/voice/owners/").unwrap();
    let lease = registrant.handle().authority().lease();
    registrant.take_inputs();
    // Longer than the lease would last without a renewal.
    for _ in 0..16 {
        let had = proxy.connections();
        proxy.cut();
        wait_for("a new connection", SOON, || proxy.connections() > had);
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(registrant.handle().authority().lease(), lease);
    assert_eq!(
        direct.list("/voice/owners/").unwrap(),
        before,
        "not one key was deleted or written anew"
    );
    assert_eq!(registrant.take_inputs(), []);
}

#[test]
fn a_keep_alive_stream_that_stays_half_open_is_replaced_by_another_way_before_the_lease_ends() {
    let etcd = Etcd::start(1).unwrap();
    let proxy = Proxy::to(etcd.address(0)).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let ways = vec![format!("http://{}", proxy.address()), etcd.endpoints()[0].clone()];
    let registrant = Registrant::start(&config(ways, ttl(12), GRACE), "n1", "a").unwrap();
    let rooms = rooms("room", 0..100);
    registrant.claim(&rooms);
    registrant.wait_held(&rooms);
    let before = direct.list("/voice/owners/").unwrap();
    let lease = registrant.handle().authority().lease();
    registrant.take_inputs();
    proxy.stall();
    thread::sleep(Duration::from_secs(20));
    assert_eq!(registrant.handle().authority().lease(), lease);
    assert_eq!(
        direct.list("/voice/owners/").unwrap(),
        before,
        "not one key was deleted or written anew"
    );
    assert_eq!(registrant.take_inputs(), []);
}

#[test]
fn with_its_only_way_half_open_authority_ends_before_the_keys_do_and_every_room_is_claimed_anew_after() {
    let etcd = Etcd::start(1).unwrap();
    let proxy = Proxy::to(etcd.address(0)).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let through = vec![format!("http://{}", proxy.address())];
    let registrant = Registrant::start(&config(through, ttl(6), GRACE), "n1", "a").unwrap();
    let rooms = rooms("room", 0..100);
    registrant.claim(&rooms);
    registrant.wait_held(&rooms);
    let before: Vec<Epoch> = rooms.iter().map(|room| registrant.epoch(room).unwrap()).collect();
    registrant.take_inputs();
    proxy.stall();
    wait_for("etcd ends the lease", SOON, || {
        let there = direct.list("/voice/owners/").unwrap().len();
        // By the clock alone, and so also in the moment after a freeze.
        assert!(there == rooms.len() || !registrant.handle().authority().holds());
        there == 0
    });
    proxy.open();
    registrant.wait_held(&rooms);
    assert!(
        rooms
            .iter()
            .zip(&before)
            .all(|(room, before)| registrant.epoch(room).unwrap() > *before)
    );
    assert_eq!(lost_leases(&registrant.take_inputs()), 1);
    wait_for("every room is registered", SOON, || {
        owners(&direct).len() == rooms.len()
    });
}

/// An owner's value as an agent writes it.
fn owned_by(node: &str) -> Vec<u8> {
    format!("{{\"node\":\"{node}\",\"incarnation\":1,\"era\":0}}").into_bytes()
}

#[test]
fn a_listing_of_several_pages_of_owners_and_of_rooms_has_every_one() {
    let etcd = Etcd::start(1).unwrap();
    let config = config(etcd.endpoints(), ttl(120), GRACE);
    let rooms = rooms("room", 0..2300);
    let other = Registrant::start(&config, "n2", "b").unwrap();
    other.claim(&rooms);
    other.wait_held(&rooms);
    for room in &rooms {
        other.describe(room, State::Liveing, 2);
    }
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    wait_for("every room is told of", SOON, || {
        direct.list("/voice/rooms/").unwrap().len() == rooms.len()
    });

    let registrant = Registrant::start(&config, "n1", "a").unwrap();
    wait_for("the watch", SOON, || registrant.handle().standing().follows);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seen = runtime.block_on(registrant.handle().look(rooms.clone())).unwrap();
    assert_eq!(seen.len(), rooms.len());
    for (room, sight) in rooms.iter().zip(seen) {
        let owner = sight.owner.unwrap().unwrap();
        assert_eq!(Some(owner.epoch), other.epoch(room), "{room}");
        assert_eq!(sight.told.unwrap().unwrap().version, Version(2), "{room}");
    }
}

#[test]
fn after_a_compaction_while_the_watch_was_down_the_listing_finds_the_exact_difference() {
    let etcd = Etcd::start(1).unwrap();
    let proxy = Proxy::to(etcd.address(0)).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let through = vec![format!("http://{}", proxy.address())];
    // Long enough for the lease to outlast this on a loaded machine.
    let registrant = Registrant::start(&config(through, ttl(120), GRACE), "n1", "a").unwrap();
    let rooms = rooms("room", 0..20);
    registrant.claim(&rooms);
    registrant.wait_held(&rooms);
    wait_for("the watch", SOON, || registrant.handle().standing().follows);
    // Else an answer to what is still to be told brings the difference before the listing does.
    has_told_all(&registrant);
    let before = registrant.all_told().held;
    let listed = Counter::RegistryListed.value();
    registrant.take_inputs();

    proxy.refuse();
    let key = |n: usize| format!("/voice/owners/{}", rooms[n]);
    direct.delete(&key(0)).unwrap();
    direct.delete(&key(1)).unwrap();
    let lease = direct.grant(ttl(600)).unwrap();
    direct.put(&key(2), &owned_by("n2"), lease).unwrap();
    direct.put(&key(3), b"not ours", 0).unwrap();
    // Of others, and none of our business.
    direct
        .put("/voice/owners/elsewhere", &owned_by("n2"), lease)
        .unwrap();
    let newest = direct
        .put("/voice/owners/gone-again", &owned_by("n2"), lease)
        .unwrap();
    direct.compact(newest).unwrap();
    proxy.open();

    let held = |n: usize| registrant.epoch(&rooms[n]);
    wait_for("the difference", SOON, || {
        held(0) > before.get(&rooms[0]).copied()
            && held(1) > before.get(&rooms[1]).copied()
            && held(2).is_none()
            && held(3).is_none()
    });
    let inputs = registrant.take_inputs();
    let changed: BTreeSet<&str> = rooms[..4].iter().map(|room| room.as_str()).collect();
    assert_eq!(told_of(&inputs), changed, "{inputs:?}");
    let other = Some(NodeName::new("n2").unwrap());
    assert!(inputs.iter().any(
        |input| matches!(input, Input::NotClaimed { room, owner, .. } if *room == rooms[2] && *owner == other)
    ));
    assert_eq!(lost_leases(&inputs), 0);
    let now = registrant.all_told().held;
    assert!(rooms[4..].iter().all(|room| now.get(room) == before.get(room)));
    assert_eq!(direct.get(&key(3)).unwrap().unwrap().value, b"not ours");
    assert!(Counter::RegistryListed.value() > listed);
}

#[test]
fn without_a_leader_listings_are_paced_and_every_room_is_registered_once_there_is_one() {
    let etcd = Etcd::start(3).unwrap();
    let registrant = Registrant::start(&config(etcd.endpoints(), ttl(120), GRACE), "n1", "a").unwrap();
    let rooms = rooms("room", 0..50);
    registrant.claim(&rooms);
    registrant.wait_held(&rooms);
    wait_for("the watch", SOON, || registrant.handle().standing().follows);
    etcd.kill(0).unwrap();
    etcd.kill(1).unwrap();
    wait_for("the watch is told", SOON, || {
        !registrant.handle().standing().follows
    });
    let listed = Counter::RegistryListed.value();
    thread::sleep(Duration::from_secs(6));
    let tries = Counter::RegistryListed.value() - listed;
    assert!(tries <= 15, "{tries} listings in 6 s without a leader");
    etcd.run(0).unwrap();
    etcd.run(1).unwrap();
    etcd.wait_ready().unwrap();
    wait_for("the watch goes on", SOON, || {
        registrant.handle().standing().follows
    });
    let direct = Direct::to(&etcd.endpoints()[2]).unwrap();
    wait_for("every room is registered", SOON, || {
        owners(&direct).len() == rooms.len()
    });
    registrant.wait_held(&rooms);
}

#[test]
fn with_the_leader_killed_in_the_middle_of_claims_no_room_has_two_owners_in_any_epoch() {
    let etcd = Etcd::start(3).unwrap();
    let config = config(etcd.endpoints(), ttl(20), GRACE);
    let both = ["n1", "n2"].map(|node| Registrant::start(&config, node, node).unwrap());
    let rooms = rooms("room", 0..3000);
    both.iter().for_each(|registrant| registrant.claim(&rooms));
    let held = || both.iter().map(Registrant::held).sum::<usize>();
    wait_for("the first claims", SOON, || held() > 300);
    let leader = etcd.leader().unwrap();
    etcd.kill(leader).unwrap();
    let when_killed = held();
    // Each room ends up with one of them: the other has been told whose it is.
    let settled = || {
        let told = both.each_ref().map(Registrant::all_told);
        told.iter().map(|told| told.held.len()).sum::<usize>() == rooms.len()
            && told.iter().all(|told| told.wanted.len() == told.held.len())
    };
    wait_for("each room has an owner", SOON * 2, settled);
    assert!(
        when_killed < rooms.len(),
        "the claims were over before the leader was killed"
    );
    etcd.run(leader).unwrap();
    etcd.wait_ready().unwrap();

    let claims = both.each_ref().map(|registrant| {
        let inputs = registrant.all_told().inputs.into_iter();
        let claim = |(_, input)| match input {
            Input::Claimed { room, epoch } => Some((room, epoch)),
            _ => None,
        };
        inputs.filter_map(claim).collect::<BTreeSet<_>>()
    });
    assert_eq!(
        claims[0].intersection(&claims[1]).collect::<Vec<_>>(),
        Vec::<&(RoomId, Epoch)>::new()
    );
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    for (room, node) in owners(&direct) {
        let room = RoomId::new(&room).unwrap();
        let holders: Vec<&str> = ["n1", "n2"]
            .into_iter()
            .zip(&both)
            .filter(|(_, r)| r.epoch(&room).is_some())
            .map(|(n, _)| n)
            .collect();
        assert_eq!(holders, [node.as_str()], "{room}");
    }
}

#[test]
fn a_node_whose_name_another_agent_has_claims_nothing_until_that_one_is_gone() {
    let etcd = Etcd::start(1).unwrap();
    let config = config(etcd.endpoints(), ttl(3), GRACE);
    let rooms = rooms("room", 0..1);
    let first = Registrant::start(&config, "n1", "one host").unwrap();
    first.claim(&rooms);
    first.wait_held(&rooms);
    let epoch = first.epoch(&rooms[0]);
    let second = Registrant::start(&config, "n1", "another host").unwrap();
    second.claim(&rooms);
    let why = |input: &Input| matches!(input, Input::NotClaimed { owner: None, problem, .. } if problem.contains("node.name"));
    wait_for("it is told why", SOON, || {
        second.all_told().inputs.iter().any(|(_, input)| why(input))
    });
    assert_eq!((second.held(), first.epoch(&rooms[0])), (0, epoch));
    drop(first);
    second.wait_held(&rooms);
}

#[test]
fn an_agent_with_an_era_that_others_have_left_behind_claims_nothing() {
    let etcd = Etcd::start(1).unwrap();
    let old = config(etcd.endpoints(), ttl(10), GRACE);
    let new = voice_agent::config::EtcdConfig {
        era: 1,
        ..old.clone()
    };
    let rooms = rooms("room", 0..2);
    let raised = Registrant::start(&new, "n1", "n1").unwrap();
    raised.claim(&rooms[..1]);
    raised.wait_held(&rooms[..1]);
    assert_eq!(raised.epoch(&rooms[0]).unwrap().era, 1);
    let behind = Registrant::start(&old, "n2", "n2").unwrap();
    behind.claim(&rooms);
    let why = |input: &Input| matches!(input, Input::NotClaimed { owner: None, problem, .. } if problem.contains("era"));
    wait_for("it is told why", SOON, || {
        behind.all_told().inputs.iter().any(|(_, input)| why(input))
    });
    assert_eq!(behind.held(), 0);
}

#[test]
fn a_room_that_is_seen_to_be_anothers_is_never_claimed_over_however_often_it_is_asked_for() {
    let etcd = Etcd::start(1).unwrap();
    let config = config(etcd.endpoints(), ttl(10), GRACE);
    let rooms = rooms("room", 0..20);
    let first = Registrant::start(&config, "n1", "n1").unwrap();
    first.claim(&rooms);
    first.wait_held(&rooms);
    let second = Registrant::start(&config, "n2", "n2").unwrap();
    wait_for("the watch", SOON, || second.handle().standing().follows);
    let before = Direct::to(&etcd.endpoints()[0])
        .unwrap()
        .list("/voice/owners/")
        .unwrap();
    for _ in 0..3 {
        second.take_inputs();
        second.claim(&rooms);
        wait_for("each is refused", SOON, || {
            told_of(&second.all_inputs()).len() == rooms.len()
        });
    }
    assert_eq!(second.held(), 0);
    assert_eq!(
        Direct::to(&etcd.endpoints()[0])
            .unwrap()
            .list("/voice/owners/")
            .unwrap(),
        before
    );
}
