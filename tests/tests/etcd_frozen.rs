//! The real agent on a real etcd, frozen past its lease while its media server goes on.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use nix::sys::signal::Signal;
use std::{thread, time::Duration};
use voice_room::RoomId;
use voice_tests::{
    agent::{Settings, settings::Times},
    clock::wait_for,
    etcd::{Etcd, direct::Direct},
    netns::{Netns, Pair},
    redis::Server,
    registrant::{Registrant, config},
    stage::{ALPHA, BETA, Stage},
};

const SOON: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(6);

/// Who owns a room by etcd itself, and by the claim of which revision.
fn owner(direct: &Direct, room: &str) -> Option<(String, i64)> {
    let kv = direct.get(&format!("/voice/owners/{room}")).unwrap()?;
    let value: serde_json::Value = serde_json::from_slice(&kv.value).unwrap();
    Some((value["node"].as_str().unwrap().to_owned(), kv.mod_revision))
}

fn frozen(pair: Pair) {
    let etcd = Etcd::start(1).unwrap();
    let direct = Direct::to(&etcd.endpoints()[0]).unwrap();
    let redis = Server::start().unwrap();
    let settings = Settings::new(Times::TEST)
        .set("store.kind", "\"redis\"")
        .set("store.redis.addresses", &format!("[\"{}\"]", redis.address()))
        .set("node.name", "\"frozen\"")
        .set("registry.kind", "\"etcd\"")
        .set("registry.etcd.endpoints", &format!("{:?}", etcd.endpoints()))
        .set("registry.etcd.ttl", "\"6s\"");
    let mut stage = Stage::on(pair, settings).unwrap();
    let is_owner = |room, node: &str| owner(&direct, room).is_some_and(|(owner, _)| owner == node);
    wait_for("both rooms are owned", SOON, || {
        [ALPHA, BETA].iter().all(|room| is_owner(room, "frozen"))
    });
    let (_, before) = owner(&direct, ALPHA).unwrap();

    stage.agent.signal(Signal::SIGSTOP).unwrap();
    wait_for("its lease ends", SOON, || {
        owner(&direct, ALPHA).is_none() && owner(&direct, BETA).is_none()
    });
    let other = Registrant::start(&config(etcd.endpoints(), TTL, SOON), "other", "other").unwrap();
    other.claim(&[RoomId::new(BETA).unwrap()]);
    wait_for("another agent owns beta", SOON, || is_owner(BETA, "other"));
    let taken = owner(&direct, BETA).unwrap();
    stage.agent.signal(Signal::SIGCONT).unwrap();

    wait_for("alpha is claimed anew", SOON, || {
        owner(&direct, ALPHA).is_some_and(|(node, now)| node == "frozen" && now > before)
    });
    // Heartbeats of both go on: it asks for beta again and again, and never takes it.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(owner(&direct, BETA), Some(taken));
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
    assert_ne!(stage.agent.state(BETA), "EXPIRED");
    stage.alpha.assert_lost_nothing();

    // What is stored from now on has the new epoch.
    let revision = u64::try_from(owner(&direct, ALPHA).unwrap().1).unwrap();
    let block = ["block", ALPHA, "--for", "60s", "--reason", "test"];
    stage.agent.text(&block).unwrap();
    wait_for("the trip is stored under the new epoch", SOON, || {
        stage
            .agent
            .room(ALPHA)
            .is_some_and(|room| room["state"] == "EXPIRED" && room["epoch"] == format!("0.{revision}"))
    });
}

#[test]
fn an_agent_frozen_past_its_lease_does_nothing_under_the_old_epoch_and_each_room_is_claimed_anew_or_ceded_never_both()
 {
    let pair = Pair::new().unwrap();
    // Everything that speaks to etcd is made inside, and so stays inside.
    let inside = Netns::existing(pair.node.name()).unwrap();
    inside.run(|| frozen(pair)).unwrap();
}
