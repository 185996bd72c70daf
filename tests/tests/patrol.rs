//! A field corrupted behind a real agent's back, in Redis, in etcd and in the kernel's maps, is found, named by its path and
//! repaired; what a higher epoch has written is not touched.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

use aya::maps::{Array, Map, MapData};
use serde_json::{Value, json};
use std::{thread, time::Duration};
use voice_agent::{
    kernel::pinned::{self, Pinned},
    proto::v1::{MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent},
};
use voice_common::RoomInfo;
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::{Commons, key},
    etcd::direct::Direct,
    evidence, metrics,
    netns::Pair,
    peer::{Connection, Identity},
    stage::{ALPHA, BETA, Stage},
};

type Corrupt = fn(&mut Value);

/// A round, on busy cores.
const ROUND: Duration = Duration::from_secs(1);
/// Two rounds and a repair.
const REPAIRED: Duration = Duration::from_secs(30);

fn settings(times: Times) -> Settings {
    let every = format!("\"{}s\"", ROUND.as_secs());
    Settings::new(times.isolated_for(Duration::from_secs(120))).set("patrol.every", &every)
}

/// Two live rooms, stored, on an agent that shares Redis and etcd.
fn shared() -> (Stage, Commons) {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let stage = Stage::on(pair, commons.shared(settings(Times::TEST), "n1")).unwrap();
    for room in [ALPHA, BETA] {
        commons.wait_stored(room, "LIVEING", REPAIRED).unwrap();
    }
    clock::wait_for("nothing differs", REPAIRED, || {
        differences(&stage.agent, ALPHA).is_empty()
    });
    (stage, commons)
}

fn differences(agent: &Agent, room: &str) -> Vec<Value> {
    let answer = agent.json(&["diff", room]).unwrap();
    assert_eq!(answer["unknown"], json!([]), "{answer}");
    answer["differences"].as_array().unwrap().clone()
}

/// Waits for the difference at `path` until `wanted` holds of it.
fn wait_difference(agent: &Agent, room: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Vec::new();
    let found = clock::poll(REPAIRED, || {
        last = differences(agent, room);
        last.iter().find(|d| d["path"] == path && wanted(d)).cloned()
    });
    found.unwrap_or_else(|| panic!("no such difference at {path}; last: {last:#?}"))
}

/// The recorded entries of this kind that name `path`.
fn recorded(agent: &Agent, room: &str, kind: &str, path: &str) -> Vec<Value> {
    let names = |entry: &Value| {
        let fields = entry["fields"].as_array().into_iter().flatten();
        fields.into_iter().any(|field| field["path"] == path)
    };
    let entries = evidence::entries(agent, room, kind);
    entries.into_iter().filter(names).collect()
}

fn repairs(stage: &Stage, place: &str, result: &str) -> u64 {
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
    let series = format!("voice_agent_patrol_repairs_total{{place=\"{place}\",result=\"{result}\"}}");
    metrics::value(&page, &series).expect("the counter is there from the start on")
}

fn corrupt(commons: &Commons, room: &str, field: &str, value: &str) {
    commons.ask(&["HSET", &key("room", room), field, value]).unwrap();
}

#[test]
fn a_corrupted_field_in_redis_is_found_named_and_repaired_by_command_only() {
    let (stage, commons) = shared();
    for (field, path, garbage) in [
        ("state", "/store/state", "EXPIRED"),
        ("owner", "/store/owner", "somebody"),
        ("incarnation", "/store/incarnation", "not a number"),
        ("data", "/store/data", "{"),
    ] {
        let before = commons.stored_field(ALPHA, field);
        corrupt(&commons, ALPHA, field, garbage);
        let stands = wait_difference(&stage.agent, ALPHA, path, |d| d["rounds"].as_u64() >= Some(2));
        assert_eq!(
            (&stands["class"], &stands["right"]),
            (&json!("repairable"), &json!("here")),
            "{stands}"
        );
        clock::wait_for("it is recorded", REPAIRED, || {
            !recorded(&stage.agent, ALPHA, "differs", path).is_empty()
        });
        // Rounds alone leave the store as it is.
        thread::sleep(ROUND * 3);
        assert_eq!(commons.stored_field(ALPHA, field), garbage);
        let would = stage.agent.json(&["repair", ALPHA, "--dry-run"]).unwrap();
        assert_eq!(would["results"][0]["outcome"], "would_repair", "{would}");
        assert_eq!(commons.stored_field(ALPHA, field), garbage);
        let version = commons.stored_field(ALPHA, "version");
        let done = stage.agent.json(&["repair", ALPHA]).unwrap();
        assert_eq!(done["results"][0]["outcome"], "repaired", "{done}");
        if field != "data" {
            assert_eq!(commons.stored_field(ALPHA, field), before);
        }
        let above = |text: String| text.parse::<u64>().unwrap();
        assert!(above(commons.stored_field(ALPHA, "version")) > above(version));
        assert_eq!(differences(&stage.agent, ALPHA), [] as [Value; 0]);
        let told = recorded(&stage.agent, ALPHA, "repaired", path);
        assert!(
            told[0]["actor"].as_str().unwrap().starts_with("operator") && told[0]["ok"] == true,
            "{told:?}"
        );
    }
    assert_eq!(
        (
            repairs(&stage, "store", "done"),
            repairs(&stage, "store", "failed")
        ),
        (4, 0)
    );
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
    assert_eq!(
        recorded(&stage.agent, BETA, "differs", "/store/state"),
        [] as [Value; 0]
    );
}

#[test]
fn an_isolation_that_was_changed_in_redis_is_found_and_stored_again_with_what_remains() {
    let (stage, commons) = shared();
    stage.block(ALPHA, 100);
    commons.wait_stored(ALPHA, "EXPIRED", REPAIRED).unwrap();
    commons.ask(&["DEL", &key("isolation", ALPHA)]).unwrap();
    wait_difference(&stage.agent, ALPHA, "/store/isolation/until", |d| {
        d["there"].is_null()
    });
    stage.agent.json(&["repair", ALPHA]).unwrap();
    let left = commons.isolation_left(ALPHA).expect("the isolation is stored");
    assert!(
        left <= Duration::from_secs(100) && left > Duration::from_secs(40),
        "{left:?}"
    );
}

#[test]
fn what_a_higher_epoch_has_written_in_redis_is_named_and_not_touched() {
    let (stage, commons) = shared();
    corrupt(&commons, ALPHA, "epoch", "7.1");
    corrupt(&commons, ALPHA, "state", "EXPIRED");
    let found = wait_difference(&stage.agent, ALPHA, "/store/epoch", |d| {
        d["rounds"].as_u64() >= Some(2)
    });
    assert_eq!(
        (&found["class"], &found["right"]),
        (&json!("human"), &json!("there"))
    );
    let done = stage.agent.json(&["repair", ALPHA]).unwrap();
    assert_eq!(done["results"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!(done["results"][0]["outcome"], "left");
    assert!(
        done["results"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("written under epoch 7.1")
    );
    let stored = ["epoch", "state"].map(|field| commons.stored_field(ALPHA, field));
    assert_eq!(stored, ["7.1", "EXPIRED"]);
    assert_eq!(repairs(&stage, "store", "done"), 0);
}

#[test]
fn what_the_next_refresh_ends_is_transient_and_does_not_count_and_a_store_that_is_away_is_said_to_be() {
    let (stage, commons) = shared();
    commons.ask(&["DEL", &key("room", ALPHA)]).unwrap();
    // The refresh may be faster than the look.
    let found = differences(&stage.agent, ALPHA);
    assert!(found.iter().all(|d| d["class"] == "transient"), "{found:?}");
    commons.wait_stored(ALPHA, "LIVEING", REPAIRED).unwrap();
    commons.kill_redis();
    let away = clock::poll(REPAIRED, || {
        let answer = stage.agent.json(&["diff"]).unwrap();
        (answer["unknown"][0]["place"] == "store").then_some(answer)
    });
    let away = away.expect("the store is said to be away");
    let of_store = |d: &&Value| d["place"] == "store";
    let differences = away["differences"].as_array().unwrap();
    assert_eq!(differences.iter().filter(of_store).count(), 0, "{away}");
    commons.run_redis().unwrap();
    commons.wait_stored(ALPHA, "LIVEING", REPAIRED).unwrap();
    assert_eq!(
        evidence::entries(&stage.agent, ALPHA, "differs"),
        [] as [Value; 0]
    );
}

/// What is told of a room in etcd, changed behind the agent's back.
fn retell(stage: &Stage, commons: &Commons, change: impl Fn(&mut Value) + Sync) -> (Value, Value) {
    let changed = stage.pair.node.run(|| {
        let etcd = Direct::to(&commons.etcd.endpoints()[0]).unwrap();
        let at = format!("/voice/rooms/{ALPHA}");
        let there = etcd.get(&at).unwrap().unwrap();
        let before: Value = serde_json::from_slice(&there.value).unwrap();
        let mut after = before.clone();
        change(&mut after);
        etcd.put(&at, &serde_json::to_vec(&after).unwrap(), there.lease)
            .unwrap();
        (before, after)
    });
    changed.unwrap()
}

fn told(stage: &Stage, commons: &Commons) -> Value {
    let read = stage.pair.node.run(|| {
        let etcd = Direct::to(&commons.etcd.endpoints()[0]).unwrap();
        let there = etcd.get(&format!("/voice/rooms/{ALPHA}")).unwrap();
        there.map_or(Value::Null, |kv| {
            serde_json::from_slice(&kv.value).unwrap_or_default()
        })
    });
    read.unwrap()
}

#[test]
fn a_corrupted_field_in_etcd_is_found_named_and_repaired_by_itself() {
    let (stage, commons) = shared();
    let corrupted: [(&str, Corrupt); 3] = [
        ("/registry/told/version", |v| v["version"] = json!(99)),
        ("/registry/told/state", |v| v["state"] = json!("EXPIRED")),
        ("/registry/told", |v| *v = json!({ "state": "garbage" })),
    ];
    for (n, (path, change)) in corrupted.into_iter().enumerate() {
        let (before, after) = retell(&stage, &commons, change);
        assert_ne!(before, after);
        clock::wait_for("it is told again", REPAIRED, || told(&stage, &commons) == before);
        clock::wait_for("the repair is recorded", REPAIRED, || {
            let repaired = recorded(&stage.agent, ALPHA, "repaired", path);
            repaired.iter().any(|r| r["actor"] == "agent" && r["ok"] == true)
        });
        assert!(!recorded(&stage.agent, ALPHA, "differs", path).is_empty());
        assert_eq!(repairs(&stage, "registry", "done"), n as u64 + 1);
    }
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
}

#[test]
fn what_is_told_in_etcd_under_a_higher_epoch_is_named_and_not_touched() {
    let (stage, commons) = shared();
    let (_, after) = retell(&stage, &commons, |v| {
        v["epoch"]["era"] = json!(7);
        v["version"] = json!(99);
    });
    let found = wait_difference(&stage.agent, ALPHA, "/registry/told/epoch", |d| {
        d["rounds"].as_u64() >= Some(3)
    });
    assert_eq!(found["class"], "human");
    let done = stage.agent.json(&["repair", "--all"]).unwrap();
    assert_eq!(done["results"][0]["outcome"], "left", "{done}");
    assert_eq!(told(&stage, &commons), after);
}

/// Long enough that a look comes before the next heartbeat's repair.
const SLOW: Times = Times {
    heartbeat: Duration::from_secs(3),
    stuck_after: Duration::from_secs(60),
    isolation: Duration::from_secs(60),
    witness_window: Duration::from_secs(15),
};

#[test]
fn a_port_and_a_deadline_corrupted_in_the_maps_are_found_named_and_set_right() {
    let stage = Stage::new(settings(SLOW));
    let tables = pinned::tables(&stage.agent.pin_dir()).unwrap();
    let slot = tables.port(50_000);
    tables.set_port(50_000, tables.port(50_010));
    tables.set_port(50_500, slot);
    let found = stage.agent.json(&["diff"]).unwrap();
    // A heartbeat may have come between.
    if tables.port(50_000) != slot {
        let all = found["differences"].as_array().unwrap();
        let at = |path: &str| {
            all.iter()
                .find(|d| d["path"] == path)
                .cloned()
                .unwrap_or_default()
        };
        let port = at("/kernel/ports/50000");
        assert_eq!(
            (&port["here"], &port["there"]),
            (&json!(ALPHA), &json!(BETA)),
            "{found}"
        );
        let stray = at("/kernel/ports/50500");
        assert_eq!(
            (&stray["here"], &stray["there"]),
            (&Value::Null, &json!(ALPHA)),
            "{found}"
        );
    }
    clock::wait_for("the ports are set right", REPAIRED, || {
        (tables.port(50_000), tables.port(50_500)) == (slot, 0)
    });
    stage.block(ALPHA, 50);
    let deadline = tables.room(slot).deadline;
    tables.disarm(slot);
    clock::wait_for("it is armed again, as it was", REPAIRED, || {
        tables.room(slot).deadline == deadline
    });
    for path in [
        "/kernel/ports/50000",
        "/kernel/ports/50500",
        "/kernel/verdict/deadline",
    ] {
        clock::wait_for("the repair is recorded", REPAIRED, || {
            let repaired = recorded(&stage.agent, ALPHA, "repaired", path);
            repaired.iter().any(|r| r["ok"] == true && r["place"] == "kernel")
        });
    }
    assert!(repairs(&stage, "kernel", "done") >= 2);
    assert_eq!(differences(&stage.agent, ALPHA), [] as [Value; 0]);
}

#[test]
fn a_slots_name_corrupted_in_the_maps_is_found_by_two_rounds_and_written_anew() {
    let stage = Stage::new(settings(Times::TEST));
    let pins = stage.agent.pin_dir();
    let slot = pinned::tables(&pins).unwrap().port(50_000);
    let map = Map::Array(MapData::from_pin(pins.join("ROOM_INFO")).unwrap());
    let mut names: Array<MapData, RoomInfo> = map.try_into().unwrap();
    let mut info = names.get(&slot, 0).unwrap();
    info.id[0] = b'x';
    names.set(slot, info, 0).unwrap();
    clock::wait_for("its name is back", REPAIRED, || {
        names.get(&slot, 0).unwrap().id[0] == ALPHA.as_bytes()[0]
    });
    clock::wait_for("the repair is recorded", REPAIRED, || {
        recorded(&stage.agent, ALPHA, "repaired", "/kernel/room")
            .iter()
            .any(|r| r["ok"] == true)
    });
    assert!(!recorded(&stage.agent, ALPHA, "differs", "/kernel/room").is_empty());
    let slots = Pinned::open(&pins).unwrap().slots().unwrap();
    assert!(
        slots
            .iter()
            .any(|s| s.room.as_ref().is_some_and(|(room, _)| room.as_str() == ALPHA))
    );
}

#[test]
fn a_healthy_node_has_no_difference_and_an_unknown_room_is_refused() {
    let stage = Stage::new(settings(Times::TEST));
    clock::wait_for("a round ends", REPAIRED, || {
        stage.agent.json(&["diff"]).unwrap()["last_round"]["rooms"].as_u64() == Some(2)
    });
    let answer = stage.agent.json(&["diff"]).unwrap();
    assert_eq!(
        (&answer["differences"], &answer["rooms"]),
        (&json!([]), &json!(2))
    );
    let said = stage.agent.text(&["repair", "--all"]).unwrap();
    assert_eq!(said, "No difference; nothing to repair.\n");
    let unknown = stage.agent.cli(&["diff", "nobody"]).unwrap();
    assert_eq!(unknown.status.code(), Some(4));
}

const CROWD: usize = 10_000;

#[test]
fn while_10_000_rooms_are_compared_the_driver_answers() {
    let pair = Pair::new().unwrap();
    let settings = settings(Times {
        heartbeat: Duration::from_secs(5),
        stuck_after: Duration::from_secs(600),
        isolation: Duration::from_secs(60),
        witness_window: Duration::from_secs(25),
    });
    let agent = Agent::start(&pair.node, &settings.set("log.filter", "\"warn\"")).unwrap();
    let media = Identity {
        role: "media",
        id: "media-1".into(),
        rooms: vec![],
    };
    let server = Connection::open(&pair.node, media).unwrap();
    let served = |n: usize| ServedRoom {
        room: format!("room-{n:05}"),
        participants: 1,
        ..ServedRoom::default()
    };
    server.send(ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms: (0..CROWD).map(served).collect(),
        capacity: None,
    }));
    clock::wait_for("all rooms are live and stored", Duration::from_secs(120), || {
        let rooms = agent.json(&["status"]).unwrap_or_default()["rooms"].clone();
        rooms["liveing"].as_u64() == Some(CROWD as u64) && rooms["unstored_changes"].as_u64() == Some(0)
    });
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let answers = (0..5).map(|_| agent.json(&["diff"]).unwrap());
            answers.collect::<Vec<Value>>()
        });
        let mut answered = 0;
        while !looks.is_finished() {
            agent.json(&["show", "room-00001"]).unwrap();
            answered += 1;
        }
        for answer in looks.join().unwrap() {
            assert_eq!(
                (&answer["rooms"], &answer["differences"]),
                (&json!(CROWD), &json!([])),
                "{answer}"
            );
        }
        assert!(answered > 0);
    });
    let page = metrics::page(&pair.node, "/metrics").unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("voice_agent_patrol_longest_slice_seconds "));
    let longest: f64 = line.expect("a round has ended").parse().unwrap();
    assert!(longest < 0.25, "a slice kept the driver for {longest} s");
}
