//! The history of real rooms in a real InfluxDB: asked as the one on disk is, and whole after an outage of the database.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use serde_json::Value;
use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock,
    influx::Influxd,
    metrics,
    netns::Pair,
    stage::{ALPHA, SOON, Stage},
};

/// A restart of influxd, and the sender's longest pause.
const BACK: Duration = Duration::from_secs(60);

fn stage() -> (Stage, Influxd) {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let settings = Settings::new(Times::TEST)
        .set("history.kind", "\"influx\"")
        .set("history.every", "\"1s\"")
        .set("history.influx.address", &format!("{:?}", influxd.address()));
    (Stage::on(pair, settings).unwrap(), influxd)
}

fn snapshots(stage: &Stage) -> Vec<Value> {
    let answer = stage.agent.json(&["history", ALPHA, "--since", "1h"]);
    let answer = answer.unwrap_or_default();
    answer["snapshots"].as_array().cloned().unwrap_or_default()
}

fn figure(stage: &Stage, name: &str) -> u64 {
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
    metrics::value(&page, name).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

#[test]
fn a_cut_is_found_by_its_way_and_its_time_in_a_real_database() {
    let (stage, _influxd) = stage();
    clock::wait_for("a live snapshot with packets", BACK, || {
        snapshots(&stage).last().is_some_and(|s| {
            s["state"] == "LIVEING" && s["media"]["in.rtp.pass"]["packets"].as_u64() > Some(0)
        })
    });
    stage.block(ALPHA, 60);
    clock::wait_for("a snapshot of the cut", SOON * 3, || {
        snapshots(&stage).last().is_some_and(|s| {
            s["state"] == "EXPIRED" && s["media"]["in.rtp.drop"]["packets"].as_u64() > Some(0)
        })
    });
    let ways = stage
        .agent
        .json(&["history", "--path", "LIVEING>EXPIRED"])
        .unwrap();
    let trips = ways["trips"].as_array().unwrap();
    assert_eq!(
        (trips.len(), &trips[0]["room"]),
        (1, &Value::from(ALPHA)),
        "{ways}"
    );
    let now = stage.agent.json(&["history", ALPHA, "--at", "1s"]).unwrap();
    for dependency in ["store", "media", "history"] {
        assert_eq!(now["health"][dependency], "healthy", "{now}");
    }
    let never = stage.agent.cli(&["history", "never"]).unwrap();
    assert_eq!(never.status.code(), Some(4));
    assert!(figure(&stage, "voice_agent_history_sent_batches_total") > 0);
    assert!(figure(&stage, "voice_agent_history_query_seconds_count") > 0);
    assert_eq!(figure(&stage, "voice_agent_history_health"), 0);
}

#[test]
fn an_outage_of_the_database_is_told_and_loses_no_snapshot() {
    let (stage, mut influxd) = stage();
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 3);
    influxd.kill();
    clock::wait_for("the history waits", BACK, || {
        figure(&stage, "voice_agent_history_health") == 1
            && figure(&stage, "voice_agent_history_spool_bytes") > 0
    });
    let away = stage.agent.cli(&["history", ALPHA]).unwrap();
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert_eq!(away.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    stage.block(ALPHA, 60);
    thread::sleep(Duration::from_secs(3));
    influxd.run().unwrap();
    clock::wait_for("all is sent", BACK, || {
        figure(&stage, "voice_agent_history_spool_bytes") == 0
            && figure(&stage, "voice_agent_history_health") == 0
    });
    assert!(figure(&stage, "voice_agent_history_send_failed_total") > 0);
    for lost in [
        "history_lost_batches",
        "history_refused_batches",
        "history_ticks_dropped",
    ] {
        assert_eq!(figure(&stage, &format!("voice_agent_{lost}_total")), 0);
    }
    let all = snapshots(&stage);
    let times: Vec<u64> = all.iter().filter_map(|s| s["at"].as_u64()).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    // One a second, on busy cores.
    assert!(gap < 2_500, "a gap of {gap} ms in {times:?}");
    let cut = all.iter().find(|s| s["state"] == "EXPIRED");
    assert!(cut.is_some(), "what happened meanwhile is there");
}
