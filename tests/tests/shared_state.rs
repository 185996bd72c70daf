//! A real agent on a real Redis and a real etcd that go away and come back: rooms live on, what is stuck is cut, and all is
//! stored in the end.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

use nix::sys::signal::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    thread,
    time::Duration,
};
use voice_agent::proto::v1::{MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::{Commons, LEASE, RECORD_TTL, key},
    etcd::direct::Direct,
    metrics,
    netns::{NODE_IP, Pair},
    peer::{Connection, Gateway, Identity},
    proxy::Proxy,
    stage::{ALPHA, BETA, SOON, Stage},
};

/// Long enough that no test sees its end.
const ISOLATION: Duration = Duration::from_secs(120);
/// What follows once servers are back: backoffs, claims, refreshes, on busy cores.
const BACK: Duration = Duration::from_secs(40);

fn settings() -> Settings {
    Settings::new(Times::TEST.isolated_for(ISOLATION))
}

/// Two live rooms, stored, on an agent that shares Redis and etcd.
fn shared() -> (Stage, Commons) {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let stage = Stage::on(pair, commons.shared(settings(), "n1")).unwrap();
    both_are_stored(&commons);
    (stage, commons)
}

/// The same, with Redis and a local registry.
fn alone() -> (Stage, Commons) {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let stage = Stage::on(pair, commons.stored(settings(), "n1")).unwrap();
    both_are_stored(&commons);
    (stage, commons)
}

fn both_are_stored(commons: &Commons) {
    for room in [ALPHA, BETA] {
        commons.wait_stored(room, "LIVEING", BACK).unwrap();
    }
}

/// The versions of a room's events in the store, in their order there.
fn stored_versions(agent: &Agent, room: &str) -> Vec<u64> {
    let told = agent.text(&["events", room, "--json"]).unwrap();
    let version = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["transition"]["version"].as_u64()
    };
    told.lines().map(|line| version(line).unwrap()).collect()
}

/// Takes servers away for longer than a record and a lease last, while a room gets stuck.
fn an_outage(away: impl Fn(&Commons), back: impl Fn(&Commons)) {
    let (mut stage, commons) = shared();
    away(&commons);
    // That time passes is what is tested.
    thread::sleep(RECORD_TTL.max(LEASE) + Duration::from_secs(2));
    for room in [ALPHA, BETA] {
        assert_eq!(stage.agent.state(room), "LIVEING", "{room} lives on");
    }
    stage.alpha.room.fail();
    let cut = stage.wait_cut(ALPHA, stage.patience());
    stage.gateway.wait_expired(ALPHA, SOON).unwrap();
    assert!(!stage.gateway.check_join(ALPHA).unwrap().allowed);
    stage.assert_alpha_cut_since(&cut);
    assert_eq!(stage.agent.state(BETA), "LIVEING");
    back(&commons);
    commons.wait_stored(ALPHA, "EXPIRED", BACK).unwrap();
    commons.wait_stored(BETA, "LIVEING", BACK).unwrap();
    let left = commons.isolation_left(ALPHA).expect("the isolation is stored");
    let really = cut.deadline.since(clock::now());
    assert!(
        left <= really + Duration::from_secs(3) && left + Duration::from_secs(3) >= really,
        "{left:?} of {really:?}"
    );
    clock::wait_for("nothing waits any more", BACK, || {
        stage.agent.json(&["status"]).unwrap()["rooms"]["unstored_changes"].as_u64() == Some(0)
    });
    for room in [ALPHA, BETA] {
        let versions = stored_versions(&stage.agent, room);
        assert!(versions.is_sorted_by(|a, b| a < b), "{room}: {versions:?}");
        let here = stage.agent.room(room).unwrap()["version"].as_u64();
        assert_eq!(versions.last().copied(), here, "{room}");
    }
    assert_eq!(stage.agent.state(BETA), "LIVEING");
    stage.assert_beta_lost_nothing();
}

#[test]
fn while_redis_is_down_live_rooms_stay_live_a_stuck_room_is_cut_and_all_is_stored_in_order_once_it_is_back() {
    an_outage(Commons::kill_redis, |commons| commons.run_redis().unwrap());
}

#[test]
fn while_etcd_is_down_live_rooms_stay_live_a_stuck_room_is_cut_and_all_is_stored_in_order_once_it_is_back() {
    an_outage(
        |commons| commons.kill_etcd().unwrap(),
        |commons| commons.run_etcd().unwrap(),
    );
}

#[test]
fn while_both_are_down_live_rooms_stay_live_a_stuck_room_is_cut_and_all_is_stored_in_order_once_they_are_back()
 {
    an_outage(
        |commons| {
            commons.kill_redis();
            commons.kill_etcd().unwrap();
        },
        |commons| {
            commons.run_etcd().unwrap();
            commons.run_redis().unwrap();
        },
    );
}

#[test]
fn after_kill_9_right_after_a_trip_with_redis_down_the_isolation_is_stored_with_its_remaining_time() {
    let (mut stage, commons) = alone();
    commons.kill_redis();
    // The store cannot confirm it; the cut does not wait for that.
    let block = ["block", ALPHA, "--for", "100s", "--reason", "a test"];
    let unconfirmed = stage.agent.cli(&block).unwrap();
    assert!(!unconfirmed.status.success());
    let cut = stage.wait_cut(ALPHA, SOON);
    stage.agent.kill().unwrap();
    // It starts without Redis, too.
    stage.agent.run().unwrap();
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let report = stage.agent.json(&["status"]).unwrap()["recovered"].to_string();
    assert!(report.contains("the store was away"), "{report}");
    commons.run_redis().unwrap();
    commons.wait_stored(ALPHA, "EXPIRED", BACK).unwrap();
    let left = commons.isolation_left(ALPHA).expect("the isolation is stored");
    let really = cut.deadline.since(clock::now());
    assert!(
        left <= really + Duration::from_secs(3) && left + Duration::from_secs(3) >= really,
        "{left:?} of {really:?}"
    );
    commons.wait_stored(BETA, "LIVEING", BACK).unwrap();
    assert_eq!(stage.agent.state(BETA), "LIVEING");
    stage.assert_alpha_cut_since(&cut);
    stage.assert_beta_lost_nothing();
}

const CROWD: usize = 10_000;

fn crowd(n: usize) -> ToAgent {
    let served = |n: usize| ServedRoom {
        room: format!("room-{n:05}"),
        participants: 1,
        ..ServedRoom::default()
    };
    ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms: (n..n + CROWD / 2).map(served).collect(),
        capacity: None,
    })
}

#[test]
fn after_kill_9_with_10_000_rooms_all_are_claimed_anew_and_agree_with_what_is_stored() {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let times = Times {
        heartbeat: Duration::from_secs(5),
        stuck_after: Duration::from_secs(600),
        isolation: ISOLATION,
        witness_window: Duration::from_secs(25),
    };
    let settings = commons
        .shared(Settings::new(times), "n1")
        .set("store.redis.record_ttl", "\"300s\"")
        .set("store.redis.timeout", "\"5s\"")
        .set("registry.etcd.ttl", "\"10s\"")
        .set("log.filter", "\"warn\"");
    let agent = Agent::start(&pair.node, &settings).unwrap();
    let media = |id: &str| Identity {
        role: "media",
        id: id.into(),
        rooms: vec![],
    };
    let servers = ["media-1", "media-2"].map(|id| Connection::open(&pair.node, media(id)).unwrap());
    let list = || {
        servers
            .iter()
            .enumerate()
            .for_each(|(n, server)| server.send(crowd(n * CROWD / 2)));
    };
    let counts = || agent.json(&["status"]).unwrap_or_default()["rooms"].clone();
    let settled = |_: &str| {
        let rooms = counts();
        rooms["liveing"].as_u64() == Some(CROWD as u64) && rooms["unstored_changes"].as_u64() == Some(0)
    };
    let long = Duration::from_secs(120);
    list();
    clock::wait_for("all rooms are live and stored", long, || settled("before"));
    let owners = |etcd: &Direct| etcd.list("/voice/owners/").unwrap();
    let (before, after) = pair
        .node
        .run(|| {
            let etcd = Direct::to(&commons.etcd.endpoints()[0]).unwrap();
            let before = owners(&etcd);
            agent.kill().unwrap();
            agent.run().unwrap();
            let newest = before.iter().map(|key| key.mod_revision).max().unwrap();
            let anew = || {
                owners(&etcd)
                    .iter()
                    .filter(|key| key.mod_revision > newest)
                    .count()
            };
            clock::wait_for("all are claimed anew", long, || anew() == CROWD);
            (before, owners(&etcd))
        })
        .unwrap();
    assert_eq!((before.len(), after.len()), (CROWD, CROWD));
    list();
    clock::wait_for("all agree", long, || settled("after"));
    let rooms = agent.json(&["rooms"]).unwrap();
    let rooms = rooms["rooms"].as_array().unwrap().clone();
    let names: BTreeSet<&str> = rooms.iter().map(|r| r["room"].as_str().unwrap()).collect();
    assert_eq!(names.len(), CROWD);
    let stored = stored_rooms(&commons);
    assert_eq!(stored.len(), CROWD);
    for room in &rooms {
        let name = room["room"].as_str().unwrap();
        let here = format!("{} {}", room["state"].as_str().unwrap(), room["version"]);
        assert_eq!(stored.get(name), Some(&here), "{name}");
    }
}

/// State and version of every stored room.
fn stored_rooms(commons: &Commons) -> BTreeMap<String, String> {
    let each = "local all = {} for _, key in ipairs(redis.call('KEYS', '{v*}:room:*')) do if redis.call('TYPE', key).ok == 'hash' \
                then all[#all + 1] = string.match(key, ':room:(.*)$') .. ' ' .. \
                table.concat(redis.call('HMGET', key, 'state', 'version'), ' ') end end return all";
    let told = commons.ask(&["EVAL", each, "0"]).unwrap();
    let room = |line: &str| {
        let (name, rest) = line.trim().split_once(' ').unwrap();
        (name.to_owned(), rest.to_owned())
    };
    told.lines().map(room).collect()
}

/// A second agent on the same host, out of the first one's way.
fn neighbour(pair: &Pair, commons: &Commons, name: &str, port: u16) -> Agent {
    let settings = commons
        .shared(settings(), name)
        .set("session.listen", &format!("\"127.0.0.1:{port}\""))
        .set("metrics.listen", "\"off\"")
        .set("kernel.xdp", "\"off\"");
    Agent::start(&pair.node, &settings).unwrap()
}

/// How often a room was expired because its owner was lost.
fn owner_lost(agent: &Agent, room: &str) -> usize {
    let told = agent.text(&["events", room, "--json"]).unwrap_or_default();
    told.lines().filter(|line| line.contains("OWNER_LOST")).count()
}

#[test]
fn the_rooms_of_a_node_lost_for_good_expire_only_with_the_second_witness_once_by_one_custodian() {
    let (stage, commons) = shared();
    let others =
        [("n2", 7410), ("n3", 7420)].map(|(name, port)| neighbour(&stage.pair, &commons, name, port));
    // The node and its media server are gone. Of beta the store still hears: somebody refreshes its record.
    stage.agent.kill().unwrap();
    let beta = key("room", BETA);
    let long = RECORD_TTL.as_secs().to_string();
    let expired = clock::poll(LEASE * 2 + BACK, || {
        commons.ask(&["EXPIRE", &beta, &long]).unwrap();
        (commons.stored_field(ALPHA, "state") == "EXPIRED").then_some(())
    });
    assert!(expired.is_some(), "alpha was not expired by a custodian");
    let until = clock::now() + LEASE * 3;
    while clock::now() < until {
        commons.ask(&["EXPIRE", &beta, &long]).unwrap();
        assert_eq!(
            commons.stored_field(BETA, "state"),
            "LIVEING",
            "without the second witness"
        );
        thread::sleep(Duration::from_millis(200));
    }
    let custodian = commons.stored_field(ALPHA, "owner");
    assert!(["n2", "n3"].contains(&custodian.as_str()), "{custodian}");
    assert_eq!(owner_lost(&others[0], ALPHA), 1, "once");
    assert_eq!(owner_lost(&others[0], BETA), 0);
    assert!(commons.isolation_left(ALPHA).is_some());
}

/// How often this agent was custodian of a room and left it alive.
fn left_alive(agent: &Agent) -> usize {
    agent.log().matches("yet it stays live").count()
}

#[test]
fn a_room_that_is_served_is_expired_by_nobody_however_long_its_agent_is_cut_off_from_etcd_also_if_redis_comes_back_empty()
 {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let proxy = pair.node.run(|| Proxy::to(commons.etcd.address(0)));
    let proxy = proxy.unwrap().unwrap();
    let through = format!("[\"http://{}\"]", proxy.address());
    let cut_off = commons
        .shared(settings(), "n1")
        .set("registry.etcd.endpoints", &through);
    let mut stage = Stage::on(pair, cut_off).unwrap();
    both_are_stored(&commons);
    let other = neighbour(&stage.pair, &commons, "n2", 7410);
    let live = |agent: &Agent| {
        for room in [ALPHA, BETA] {
            assert_eq!(agent.state(room), "LIVEING", "{room}");
            assert_ne!(commons.stored_field(room, "state"), "EXPIRED", "{room}");
        }
    };

    // Far beyond lease and grace: the other agent becomes custodian of both rooms, again and again.
    proxy.stall();
    clock::wait_for("custodians find that they are served", LEASE * 4 + BACK, || {
        live(&stage.agent);
        left_alive(&other) >= 4
    });
    for room in [ALPHA, BETA] {
        assert_eq!(commons.stored_field(room, "owner"), "n1", "its record lives on");
    }
    // Nothing is left in Redis, neither records nor what was told of them.
    commons.ask(&["FLUSHALL"]).unwrap();
    let so_far = left_alive(&other);
    clock::wait_for("custodians find it again", LEASE * 4 + BACK, || {
        live(&stage.agent);
        left_alive(&other) >= so_far + 4
    });

    proxy.open();
    for room in [ALPHA, BETA] {
        commons.wait_stored(room, "LIVEING", BACK).unwrap();
        assert_eq!(owner_lost(&other, room), 0);
    }
    live(&stage.agent);
    stage.alpha.assert_lost_nothing();
    stage.beta.assert_lost_nothing();
}

#[test]
fn a_redis_that_came_back_empty_is_told_and_counted_and_every_room_is_put_back() {
    let (stage, commons) = shared();
    let lost = || {
        let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
        metrics::value(&page, "voice_agent_store_lost_records_total").unwrap()
    };
    let before = lost();
    commons.ask(&["FLUSHALL"]).unwrap();
    both_are_stored(&commons);
    assert!(lost() >= before + 2, "{before}, then {}", lost());
    let told = stage
        .agent
        .log()
        .matches("the store does not hold rooms that it had taken")
        .count();
    assert!(told >= 1);
    let doctor = stage.agent.cli(&["doctor"]).unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains("of live rooms since the agent started"),
        "{doctor}"
    );
    let status = stage.agent.text(&["status"]).unwrap();
    assert!(status.contains("lost by it and put back"), "{status}");
}

#[test]
fn who_follows_events_and_whose_position_was_cut_off_is_told_of_the_gap_and_goes_on_behind_it() {
    let (stage, commons) = alone();
    let script = include_str!("../../voice-agent/src/store/redis/scripts/trim.lua");
    let events = key("events", ALPHA).replace(&format!(":{ALPHA}"), "");
    let (isolated, cut) = (events.replace("events", "isolated"), format!("{events}:cut"));
    let later = "99999999999999";
    let answer = commons.ask(&["EVAL", script, "3", &events, &isolated, &cut, later, "1", "0"]);
    assert!(answer.unwrap().starts_with("OK"));
    let args = [
        "events",
        ALPHA,
        "--follow",
        "--json",
        "--since",
        "2020-01-01T00:00:00Z",
    ];
    let mut follower = stage.agent.begin(&args).unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut line = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let gap = line();
    assert!(
        gap["gap"]
            .as_str()
            .unwrap()
            .contains("were cut off before they were read"),
        "{gap}"
    );
    let block = ["block", ALPHA, "--for", "60s", "--reason", "a test"];
    stage.agent.text(&block).unwrap();
    let next = line();
    assert_eq!(
        (next["room"].as_str(), next["transition"]["new_state"].as_str()),
        (Some(ALPHA), Some("EXPIRED"))
    );
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_gateway_of_another_agent_hears_of_a_trip_and_is_refused_joins_also_after_a_gap_in_which_nobody_could_tell()
 {
    let (stage, commons) = alone();
    // On the other side of the wire, with a gateway of its own.
    let address = format!("[\"{NODE_IP}:{}\"]", commons.redis.port());
    let far = commons
        .stored(settings(), "n2")
        .set("store.redis.addresses", &address)
        .set("kernel.xdp", "\"off\"");
    let far = Agent::start(&stage.pair.users, &far).unwrap();
    let gateway = Gateway::start(&stage.pair.users, "gateway-2", &[ALPHA, BETA]).unwrap();
    stage
        .agent
        .text(&["block", ALPHA, "--for", "100s", "--reason", "a test"])
        .unwrap();
    let (_, told) = gateway.wait_expired(ALPHA, BACK).unwrap();
    let (_, near) = stage.gateway.wait_expired(ALPHA, SOON).unwrap();
    assert_eq!((told.version, told.epoch), (near.version, near.epoch));
    clock::wait_for("joins are refused there too", SOON, || {
        !gateway.check_join(ALPHA).unwrap().allowed
    });
    assert_eq!(stage.gateway.expired(ALPHA).len(), 1, "own changes are told once");
    // The far agent is frozen while beta is blocked: it reads on where it was.
    far.signal(Signal::SIGSTOP).unwrap();
    stage
        .agent
        .text(&["block", BETA, "--for", "100s", "--reason", "a test"])
        .unwrap();
    commons.wait_stored(BETA, "EXPIRED", BACK).unwrap();
    far.signal(Signal::SIGCONT).unwrap();
    gateway.wait_expired(BETA, BACK).unwrap();
    assert!(!gateway.check_join(BETA).unwrap().allowed);
    stage
        .agent
        .text(&["release", BETA, "--reason", "a test"])
        .unwrap();
    clock::wait_for("the release is told there too", BACK, || {
        gateway.check_join(BETA).unwrap().allowed && !gateway.restored(BETA).is_empty()
    });
}
