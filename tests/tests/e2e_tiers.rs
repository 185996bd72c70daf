//! What the agent still does while Redis and etcd are Degraded and then Broken (docs/OPERATIONS.md, `dependency_tier`): real
//! servers that are killed and come back, real peers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;
use voice_agent::{
    proto::v1::{MediaHeartbeat, ServedRoom},
    session::Role,
};
use voice_client::{Peer, Why};
use voice_room::State;
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::Commons,
    member::Member,
    metrics,
    netns::{Netns, Pair},
    peer::AGENT_URL,
};

const ROOM: &str = "r";
const SOON: Duration = Duration::from_secs(60);
const DEPENDENCIES: [&str; 2] = ["redis", "etcd"];

fn gateway(id: &str) -> voice_client::Builder {
    Peer::builder(Role::Gateway, id).endpoint(AGENT_URL).room(ROOM)
}

fn media(ns: &Netns, id: &str, room: &'static str) -> Member {
    let serves = move || MediaHeartbeat {
        rooms: vec![ServedRoom {
            room: room.into(),
            participants: 2,
            ..ServedRoom::default()
        }],
        capacity: None,
    };
    let media = Peer::builder(Role::Media, id)
        .endpoint(AGENT_URL)
        .heartbeat(serves)
        .heartbeat_every(Duration::from_secs(1));
    Member::start(ns, media).unwrap()
}

fn tier(agent: &Agent, dependency: &str) -> String {
    let status = agent.json(&["status"]).unwrap_or_default();
    let all = status["dependencies"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|d| d["name"].as_str() == Some(dependency));
    found
        .and_then(|d| d["tier"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn wait_tier(agent: &Agent, wanted: &str) {
    for dependency in DEPENDENCIES {
        clock::wait_for(&format!("{dependency} is {wanted}"), SOON, || {
            tier(agent, dependency) == wanted
        });
    }
}

#[test]
fn while_redis_and_etcd_are_degraded_all_goes_on_and_while_they_are_broken_only_who_is_new_is_sent_away() {
    let pair = Pair::new().unwrap();
    let ns = &pair.node;
    let commons = Commons::start(&pair).unwrap();
    let times = Times {
        heartbeat: Duration::from_secs(1),
        stuck_after: Duration::from_secs(300),
        isolation: Duration::from_secs(120),
        witness_window: Duration::from_secs(5),
    };
    let agent = Agent::start(ns, &commons.shared(Settings::new(times), "n1")).unwrap();
    let sfu = media(ns, "sfu-1", ROOM);
    commons.wait_stored(ROOM, "LIVEING", SOON).unwrap();
    let known = Member::start(ns, gateway("gw-known")).unwrap();
    wait_tier(&agent, "Healthy");

    commons.kill_redis();
    commons.kill_etcd().unwrap();
    wait_tier(&agent, "Degraded");
    let early = Member::start(ns, gateway("gw-early")).unwrap();
    wait_tier(&agent, "Broken");

    // Who is new is sent to another agent, and told when it is worth coming again.
    let late = Member::begin(ns, gateway("gw-late")).unwrap();
    late.wait("it is sent away", SOON, |heard| {
        heard.disconnected.iter().any(|end| {
            let said = matches!(&end.why, Why::Status { said, .. } if said.contains("is Broken"));
            said && end.again_in.is_some_and(|wait| wait > Duration::from_secs(1))
        })
    });
    // Who was here comes back, and so does every media server: their rooms would be judged for it.
    drop(known);
    let known = Member::start(ns, gateway("gw-known")).unwrap();
    let _other = media(ns, "sfu-2", "r-2");
    // A trip needs this host only.
    let block = ["block", ROOM, "--for", "120s", "--reason", "a test"];
    let unconfirmed = agent.cli(&block).unwrap();
    assert!(!unconfirmed.status.success(), "the store cannot confirm it");
    for gateway in [&known, &early] {
        gateway.wait("STATE_EXPIRED", SOON, |heard| !heard.expired.is_empty());
    }
    assert_eq!(agent.state(ROOM), "EXPIRED");
    assert_eq!(sfu.heard().connected.len(), 1, "nothing that runs was ended");
    // All of it is told.
    let doctor = agent.cli(&["doctor"]).unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let page = metrics::page(ns, "/metrics").unwrap();
    let value = |series: &str| metrics::value(&page, series);
    for dependency in DEPENDENCIES {
        assert!(said.contains(&format!("{dependency} is Broken")), "{said}");
        let series = format!("voice_agent_dependency_tier{{dependency=\"{dependency}\"}}");
        assert_eq!(value(&series), Some(2));
        for tier in ["Degraded", "Broken"] {
            let line = format!("{dependency} is {tier}");
            assert!(agent.log().contains(&line), "the log does not say {line:?}");
        }
    }
    assert!(!doctor.status.success());
    assert_eq!(value("voice_agent_dependency_degraded_total"), Some(2));
    assert_eq!(value("voice_agent_dependency_broken_total"), Some(2));
    assert!(value("voice_agent_session_not_now_total").is_some_and(|n| n > 0));

    commons.run_etcd().unwrap();
    commons.run_redis().unwrap();
    wait_tier(&agent, "Healthy");
    late.wait("it is let in", SOON * 2, |heard| !heard.connected.is_empty());
    commons.wait_stored(ROOM, "EXPIRED", SOON).unwrap();
    clock::wait_for("it knows what the room is", SOON, || {
        late.holds(ROOM).map(|(state, _)| state) == Some(State::Expired)
    });
}

#[test]
fn media_servers_that_fall_silent_are_degraded_and_then_broken_and_that_keeps_nobody_out() {
    let pair = Pair::new().unwrap();
    let ns = &pair.node;
    let times = Times {
        heartbeat: Duration::from_secs(1),
        stuck_after: Duration::from_secs(300),
        isolation: Duration::from_secs(120),
        witness_window: Duration::from_secs(5),
    };
    let agent = Agent::start(ns, &Settings::new(times)).unwrap();
    let sfu = media(ns, "sfu-1", ROOM);
    clock::wait_for("the room is live", SOON, || agent.state(ROOM) == "LIVEING");
    assert_eq!(tier(&agent, "media"), "Healthy");
    drop(sfu);
    clock::wait_for("media is Degraded", SOON, || tier(&agent, "media") == "Degraded");
    let _early = Member::start(ns, gateway("gw-early")).unwrap();
    clock::wait_for("media is Broken", SOON, || tier(&agent, "media") == "Broken");
    let gateway = Member::start(ns, gateway("gw-late")).unwrap();
    // Silence of its media server alone is the trip rule's to judge.
    assert_eq!(agent.state(ROOM), "LIVEING");
    gateway.join(ROOM, "alice").unwrap();
    let _back = media(ns, "sfu-1", ROOM);
    clock::wait_for("media is Healthy again", SOON, || {
        tier(&agent, "media") == "Healthy"
    });
}
