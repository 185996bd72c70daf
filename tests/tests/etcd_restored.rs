//! A real etcd put back from a backup: its revisions go back, and so would the epochs. No agent uses a lower one than before.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::time::Duration;
use voice_agent::{config::EtcdConfig, telemetry::counters::Counter};
use voice_room::{Epoch, Input, RoomId, State};
use voice_tests::{
    clock::wait_for,
    etcd::{Etcd, direct::Direct},
    registrant::{Registrant, config},
};

/// For what takes milliseconds on a machine that is not loaded.
const SOON: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(6);
const GRACE: Duration = Duration::from_secs(300);

fn rooms() -> Vec<RoomId> {
    (0..100)
        .map(|n| RoomId::new(&format!("room-{n}")).unwrap())
        .collect()
}

fn holds_all(registrant: &Registrant) -> Vec<Epoch> {
    wait_for("every room is held", SOON, || {
        rooms().iter().all(|room| registrant.epoch(room).is_some())
    });
    rooms().iter().filter_map(|room| registrant.epoch(room)).collect()
}

fn claimed(inputs: &[Input]) -> Vec<Epoch> {
    let epoch = |input: &Input| match input {
        Input::Claimed { epoch, .. } => Some(*epoch),
        _ => None,
    };
    inputs.iter().filter_map(epoch).collect()
}

fn says(registrant: &Registrant, words: &str) -> bool {
    let told = registrant.all_inputs();
    told.iter()
        .any(|input| matches!(input, Input::NotClaimed { problem, .. } if problem.contains(words)))
}

/// Takes a backup, lets more be written after it, and puts the backup in place of what the member has. The highest epoch that
/// was used.
fn put_back(etcd: &Etcd, agent: &Registrant) -> Epoch {
    let backup = etcd.dir().join("backup");
    etcd.ctl(&["snapshot", "save", backup.to_str().unwrap()]).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    // All is claimed anew, and more is written, so that the claims lie above everything in the backup.
    agent.take_inputs();
    direct
        .revoke(agent.handle().authority().lease().unwrap())
        .unwrap();
    wait_for("every room is claimed anew", SOON, || {
        claimed(&agent.all_inputs()).len() == rooms().len()
    });
    for room in rooms() {
        agent.describe(&room, State::Liveing, 2);
    }
    for _ in 0..500 {
        direct.put("/others", b"x", 0).unwrap();
    }
    direct
        .revoke(agent.handle().authority().lease().unwrap())
        .unwrap();
    agent.take_inputs();
    wait_for("and once more", SOON, || {
        claimed(&agent.all_inputs()).len() == rooms().len()
    });
    let highest = claimed(&agent.all_inputs()).into_iter().max().unwrap();
    etcd.kill(0).unwrap();
    etcd.restore(&backup).unwrap();
    etcd.run(0).unwrap();
    etcd.wait_ready().unwrap();
    let now = Direct::to(&etcd.endpoints()[0])
        .unwrap()
        .put("/others", b"x", 0)
        .unwrap();
    assert!(
        u64::try_from(now).unwrap() < highest.revision,
        "the revisions went back"
    );
    highest
}

#[test]
fn after_a_restore_no_lower_epoch_is_used_until_the_era_is_raised_and_then_every_room_is_claimed_above_all() {
    let etcd = Etcd::start(1).unwrap();
    let config = config(etcd.endpoints(), TTL, GRACE);
    let barred = Counter::RegistryBarred.value();
    let agent = Registrant::start(&config, "n1", "a").unwrap();
    agent.claim(&rooms());
    holds_all(&agent);
    let highest = put_back(&etcd, &agent);
    agent.take_inputs();

    wait_for("it is told what to do", SOON, || {
        says(&agent, "Raise registry.etcd.era")
    });
    assert!(Counter::RegistryBarred.value() > barred);
    // Long enough for a new lease and a claim of everything, were they made.
    std::thread::sleep(TTL * 2);
    assert_eq!(
        claimed(&agent.all_inputs()),
        [],
        "under an epoch that others have seen used"
    );
    drop(agent);

    let raised = EtcdConfig {
        era: config.era + 1,
        ..config.clone()
    };
    let agent = Registrant::start(&raised, "n1", "a").unwrap();
    agent.claim(&rooms());
    assert!(holds_all(&agent).into_iter().all(|epoch| epoch > highest));
    // Who still has the old era waits, and is told why.
    let behind = Registrant::start(&config, "n2", "b").unwrap();
    behind.claim(&[RoomId::new("free").unwrap()]);
    wait_for("it is told what to do", SOON, || {
        says(&behind, "raise it here to 1")
    });
    assert_eq!(behind.held(), 0);
}

#[test]
fn an_agent_that_starts_after_a_restore_knows_from_its_records_that_the_revisions_went_back() {
    let etcd = Etcd::start(1).unwrap();
    let config = config(etcd.endpoints(), TTL, GRACE);
    let agent = Registrant::start(&config, "n1", "a").unwrap();
    agent.claim(&rooms());
    holds_all(&agent);
    let highest = put_back(&etcd, &agent);
    drop(agent);

    let agent = Registrant::start(&config, "n1", "a").unwrap();
    agent.handle().known(highest);
    agent.claim(&rooms());
    wait_for("it is told what to do", SOON, || {
        says(&agent, "Raise registry.etcd.era")
    });
    assert_eq!(claimed(&agent.all_inputs()), []);
}
