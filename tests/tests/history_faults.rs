//! A history that fails under a real agent: its disk is full, its database overloaded, hanging or refusing. Rooms notice nothing,
//! it is counted and told, what can be kept is kept, and it goes on by itself.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    disk::Disk,
    influx::{
        Influxd,
        front::{Front, Way},
    },
    metrics,
    netns::Pair,
    peer::Gateway,
    stage::{ALPHA, SOON, Stage},
};

/// The longest pause of the sender, and busy cores.
const BACK: Duration = Duration::from_secs(60);
/// A tier is Broken 15 s after it became Degraded, and Healthy again after 30 s at the soonest.
const TIER: Duration = Duration::from_secs(90);
/// An answer, or that there is none: 5 s, and busy cores.
const ANSWERED: Duration = Duration::from_secs(12);
const TIMES: Times = Times::TEST.isolated_for(Duration::from_secs(120));

fn settings() -> Settings {
    Settings::new(TIMES).set("history.every", "\"1s\"")
}

fn on_influx(address: &str) -> Settings {
    settings()
        .set("history.kind", "\"influx\"")
        .set("history.influx.address", &format!("{address:?}"))
}

/// A stage whose agent has `dir` of its state on this disk.
fn stage_on(disk: &mut Disk, dir: &str, pair: Pair, settings: Settings) -> Stage {
    let agent = Agent::prepare(&pair.node, &settings).unwrap();
    let dir = agent.state_dir().join(dir);
    fs::create_dir(&dir).unwrap();
    disk.mount(&dir).unwrap();
    agent.run().unwrap();
    Stage::around(agent, pair, settings).unwrap()
}

fn snapshots(stage: &Stage) -> Vec<Value> {
    let answer = stage.agent.json(&["history", ALPHA, "--since", "1h"]);
    let answer = answer.unwrap_or_default();
    answer["snapshots"].as_array().cloned().unwrap_or_default()
}

fn figure(stage: &Stage, name: &str) -> u64 {
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
    metrics::value(&page, &format!("voice_agent_{name}")).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

fn tier(stage: &Stage) -> u64 {
    figure(stage, "dependency_tier{dependency=\"history\"}")
}

/// What doctor says of it, when it says something.
fn doctor(stage: &Stage) -> String {
    let out = stage.agent.cli(&["doctor"]).unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("history is "));
    line.unwrap_or_default().to_owned()
}

/// Asks for alpha, which must be refused in one line, soon; the line.
fn refused(agent: &Agent) -> String {
    let begun = Instant::now();
    let out = agent.cli(&["history", ALPHA]).unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(begun.elapsed() < ANSWERED, "{:?}: {said}", begun.elapsed());
    assert!(said.contains("the history cannot be read now: "), "{said}");
    said
}

/// The largest gap between snapshots of alpha, ms.
fn largest_gap(stage: &Stage) -> u64 {
    let all = snapshots(stage);
    let times: Vec<u64> = all.iter().filter_map(|s| s["at"].as_u64()).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// Alpha fails, and is cut with everything that belongs to it.
fn assert_cut(stage: &Stage) {
    stage.alpha.room.fail();
    stage.wait_cut(ALPHA, stage.patience());
    stage.gateway.wait_expired(ALPHA, SOON).unwrap();
    stage.wait_alpha_flows(false, SOON);
    assert_eq!(figure(stage, "store_failed_total"), 0);
    assert_eq!(figure(stage, "store_answers"), 1);
}

fn assert_way_is_known(stage: &Stage) {
    clock::wait_for("the cut made meanwhile is in the history", BACK, || {
        let ways = stage.agent.json(&["history", "--path", "LIVEING>EXPIRED"]);
        let ways = ways.unwrap_or_default();
        ways["trips"].as_array().is_some_and(|trips| trips.len() == 1)
    });
    assert_eq!(figure(stage, "history_changes_lost_total"), 0);
}

/// While its disk is full: told everywhere, Broken in the end, and alpha is cut. Then there is room again.
fn full_and_free(stage: &mut Stage, disk: &Disk) {
    clock::wait_for("snapshots", BACK, || snapshots(stage).len() > 1);
    clock::wait_for("nothing is kept", BACK, || {
        // What the history frees is taken, too.
        disk.fill().unwrap();
        figure(stage, "history_health") == 2 && figure(stage, "history_ticks_dropped_total") > 2
    });
    assert_cut(stage);
    clock::wait_for("the history is Broken", TIER, || tier(stage) == 2);
    let said = doctor(stage);
    assert!(said.contains("history is Broken"), "{said:?}");
    // Nobody new is sent away for it.
    let new = Gateway::start(&stage.pair.node, "gateway-new", &[ALPHA]).unwrap();
    assert!(!new.check_join(ALPHA).unwrap().allowed);
    disk.free().unwrap();
    clock::wait_for("snapshots are kept again", BACK, || {
        figure(stage, "history_health") == 0
    });
    assert_way_is_known(stage);
    clock::wait_for("the history is Healthy again", TIER, || {
        tier(stage) == 0 && doctor(stage).is_empty()
    });
    let log = stage.agent.log();
    for said in [
        "snapshots are not written",
        "snapshots are written again",
        "history is Broken",
        "history is Healthy again",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_full_disk_of_the_history_keeps_no_room_from_its_cut_and_the_cut_is_in_the_history_once_there_is_room() {
    let mut disk = Disk::small().unwrap();
    let settings = settings().set("history.reserve_mib", "0");
    let mut stage = stage_on(&mut disk, "history", Pair::new().unwrap(), settings);
    full_and_free(&mut stage, &disk);
}

#[test]
fn a_disk_below_the_reserve_is_left_to_others_and_what_was_kept_can_still_be_asked_for() {
    let mut disk = Disk::small().unwrap();
    let settings = settings().set("history.reserve_mib", "2");
    let stage = stage_on(&mut disk, "history", Pair::new().unwrap(), settings);
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 1);
    disk.fill().unwrap();
    clock::wait_for("none are written", BACK, || figure(&stage, "history_health") == 2);
    assert!(
        stage
            .agent
            .log()
            .contains("are left to others: no snapshots are written"),
        "{}",
        stage.agent.log()
    );
    let kept = snapshots(&stage).len();
    assert!(kept > 0);
    disk.free().unwrap();
    clock::wait_for("snapshots are kept again", BACK, || {
        figure(&stage, "history_health") == 0 && snapshots(&stage).len() > kept
    });
}

#[test]
fn a_full_disk_of_the_spool_loses_no_change_of_state_and_what_waits_is_sent_once_the_database_is_back() {
    let pair = Pair::new().unwrap();
    let mut influxd = Influxd::start(&pair.node).unwrap();
    let mut disk = Disk::small().unwrap();
    let settings = on_influx(&influxd.address());
    let mut stage = stage_on(&mut disk, "history-spool", pair, settings);
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 1);
    influxd.kill();
    clock::wait_for("some wait", BACK, || figure(&stage, "history_spool_bytes") > 0);
    clock::wait_for("nothing is kept", BACK, || {
        disk.fill().unwrap();
        figure(&stage, "history_health") == 2 && figure(&stage, "history_ticks_dropped_total") > 2
    });
    refused(&stage.agent);
    assert_cut(&stage);
    influxd.run().unwrap();
    // Sending frees room, which the disk's other user may take.
    disk.free().unwrap();
    clock::wait_for("all is sent", BACK, || {
        figure(&stage, "history_spool_bytes") == 0 && figure(&stage, "history_health") == 0
    });
    assert_way_is_known(&stage);
    for lost in ["history_lost_batches_total", "history_refused_batches_total"] {
        assert_eq!(figure(&stage, lost), 0, "{lost}");
    }
    stage.assert_beta_lost_nothing();
}

#[test]
fn an_agent_whose_spool_cannot_be_made_starts_all_the_same_and_sends_snapshots_once_it_can() {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let settings = on_influx(&influxd.address());
    let agent = Agent::prepare(&pair.node, &settings).unwrap();
    let spool = agent.state_dir().join("history-spool");
    fs::write(&spool, "in the way").unwrap();
    agent.run().unwrap();
    let stage = Stage::around(agent, pair, settings).unwrap();
    clock::wait_for("it is told", BACK, || figure(&stage, "history_health") == 2);
    assert!(figure(&stage, "history_ticks_dropped_total") > 0);
    fs::remove_file(&spool).unwrap();
    clock::wait_for("snapshots are sent", BACK, || !snapshots(&stage).is_empty());
    assert_eq!(figure(&stage, "history_changes_lost_total"), 0);
}

#[test]
fn a_database_that_is_overloaded_fails_or_hangs_loses_nothing_and_holds_nobody_up() {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let front = Front::before(&pair.node, influxd.port()).unwrap();
    let mut stage = Stage::on(pair, on_influx(&front.address())).unwrap();
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 1);
    for (way, answer) in [
        (Way::Status(429), "429: said by a test"),
        (Way::Status(500), "500: said by a test"),
        (Way::Hang, "does not answer in time"),
        (Way::Trickle, "does not answer in time"),
    ] {
        let (failed, asked) = (figure(&stage, "history_send_failed_total"), front.asked());
        let begun = Instant::now();
        front.set(way);
        clock::wait_for("it fails and snapshots wait", BACK, || {
            figure(&stage, "history_send_failed_total") > failed
                && figure(&stage, "history_spool_bytes") > 0
                && figure(&stage, "history_health") == 1
        });
        let said = refused(&stage.agent);
        assert!(said.contains(answer), "{way:?}: {said}");
        clock::wait_for("the history is Degraded", TIER, || tier(&stage) > 0);
        // Ever more slowly: 200 ms, doubled, up to 10 s.
        let most = 10 + begun.elapsed().as_secs();
        assert!(front.asked() - asked < most, "{way:?}: {}", front.asked() - asked);
        if way == Way::Hang {
            assert_cut(&stage);
        }
        front.set(Way::Through);
        clock::wait_for("all is sent", BACK, || {
            figure(&stage, "history_spool_bytes") == 0 && figure(&stage, "history_health") == 0
        });
    }
    for lost in [
        "history_lost_batches_total",
        "history_refused_batches_total",
        "history_ticks_dropped_total",
        "history_changes_lost_total",
    ] {
        assert_eq!(figure(&stage, lost), 0, "{lost}");
    }
    // One a second, on busy cores.
    let gap = largest_gap(&stage);
    assert!(gap < 2_500, "a gap of {gap} ms");
    assert_way_is_known(&stage);
    stage.assert_beta_lost_nothing();
}

#[test]
fn what_the_database_refuses_for_good_is_set_aside_counted_and_bounded_and_the_rest_goes_on() {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let front = Front::before(&pair.node, influxd.port()).unwrap();
    let stage = Stage::on(pair, on_influx(&front.address())).unwrap();
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 1);
    front.set(Way::Status(400));
    clock::wait_for("more are refused than are kept", BACK, || {
        figure(&stage, "history_refused_batches_total") > 17
    });
    let said = refused(&stage.agent);
    assert!(said.contains("400: said by a test"), "{said}");
    let aside = stage.agent.state_dir().join("history-spool/refused");
    assert_eq!(fs::read_dir(aside).unwrap().count(), 16);
    assert!(
        stage
            .agent
            .log()
            .contains("the history's database refuses a batch"),
        "{}",
        stage.agent.log()
    );
    front.set(Way::Through);
    let before = snapshots(&stage).len();
    clock::wait_for("what comes then is taken", BACK, || {
        snapshots(&stage).len() > before + 2
    });
    assert_eq!(figure(&stage, "history_spool_bytes"), 0);
}

#[test]
fn an_agent_ends_in_time_while_its_database_hangs_and_questions_wait_for_it() {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let front = Front::before(&pair.node, influxd.port()).unwrap();
    let stage = Stage::on(pair, on_influx(&front.address())).unwrap();
    clock::wait_for("snapshots", BACK, || snapshots(&stage).len() > 1);
    front.set(Way::Trickle);
    let mut asking: Vec<_> = (0..20)
        .map(|_| stage.agent.begin(&["history", ALPHA]).unwrap())
        .collect();
    let begun = Instant::now();
    // Others are answered meanwhile.
    stage.agent.json(&["status"]).unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    for asked in &mut asking {
        assert_eq!(asked.wait().unwrap().code(), Some(1));
    }
    assert!(begun.elapsed() < ANSWERED * 2, "{:?}", begun.elapsed());
    let mut late = stage.agent.begin(&["history", ALPHA]).unwrap();
    assert_eq!(stage.agent.terminate().unwrap(), Some(0));
    assert!(late.wait().unwrap().code().is_some());
}
