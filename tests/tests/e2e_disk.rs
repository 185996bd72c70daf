//! A disk that is full or fails its syncs: rooms are cut all the same, nothing is taken for stored that is not, and all is
//! stored once the disk works again.

use serde_json::Value;
use std::time::Duration;
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    disk::Disk,
    evidence::{self, Cut},
    metrics,
    stage::{ALPHA, SOON, Stage},
};

/// Long enough that the cut is in force until the test has seen everything.
const TIMES: Times = Times::TEST.isolated_for(Duration::from_secs(120));
/// The store gives up a commit after 5 s, and is opened anew a second after it failed.
const STORED: Duration = Duration::from_secs(30);

/// The room whose changes the disk takes no more.
const GAMMA: &str = "gamma";

fn counter(stage: &Stage, name: &str) -> u64 {
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap_or_default();
    metrics::value(&page, &format!("voice_agent_{name}_total")).unwrap_or(0)
}

fn unstored(agent: &Agent) -> u64 {
    let status = agent.json(&["status"]).unwrap_or_default();
    status["rooms"]["unstored_changes"].as_u64().unwrap_or(0)
}

/// What doctor says of the store.
fn doctor(agent: &Agent) -> Value {
    let out = agent
        .cli(&["doctor", "--json"])
        .unwrap_or_else(|e| panic!("{e:#}"));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let mut checks = report["checks"].as_array().cloned().unwrap_or_default();
    checks.retain(|c| c["check"] == "store");
    checks
        .pop()
        .unwrap_or_else(|| panic!("no check of the store in {report:#}"))
}

/// The stored changes of alpha to EXPIRED.
fn stored_expiries(agent: &Agent) -> usize {
    let lines = agent.text(&["events", ALPHA, "--json"]).unwrap_or_default();
    let events = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|e| e["transition"]["new_state"] == "EXPIRED")
        .count()
}

/// Another room changes until the store has failed and the agent says so: a first change may still find room in what its
/// file has already, and a database that is opened anew may free some.
fn change_until_the_store_fails(stage: &Stage, disk: &Disk) {
    let gamma = stage.server.open(&stage.pair.node, GAMMA, &[50020]);
    gamma.unwrap_or_else(|e| panic!("{e:#}"));
    stage.wait_state(GAMMA, "LIVEING", SOON);
    clock::wait_for("the failure is counted and told", STORED, || {
        disk.fill().unwrap_or_else(|e| panic!("{e:#}"));
        for args in [
            &["block", GAMMA, "--for", "60s", "--reason", "a test"][..],
            &["release", GAMMA],
        ] {
            // Refused while the last one is under way.
            let _ = stage.agent.cli(args);
        }
        counter(stage, "store_failed") > 0
            && unstored(&stage.agent) > 0
            && doctor(&stage.agent)["level"] == "warn"
    });
}

/// Alpha fails while the disk does, and is cut.
fn assert_cut(stage: &Stage, disk: &Disk) -> Cut {
    change_until_the_store_fails(stage, disk);
    stage.alpha.room.fail();
    stage.wait_state(ALPHA, "EXPIRED", stage.patience());
    stage
        .gateway
        .wait_expired(ALPHA, SOON)
        .unwrap_or_else(|e| panic!("{e:#}"));
    stage.wait_alpha_flows(false, SOON);
    let (armed, deadline) = evidence::armed(&stage.agent, ALPHA).unwrap_or_else(|| panic!("not armed"));
    Cut {
        armed,
        deadline,
        first_drop_us: 0,
        rule: "omitted".into(),
        old_state: "LIVEING".into(),
    }
}

/// All of it is on the disk, once, and a new agent finds it there.
fn assert_stored(stage: &Stage) {
    clock::wait_for("everything is stored", STORED, || {
        unstored(&stage.agent) == 0 && stored_expiries(&stage.agent) == 1
    });
    clock::wait_for("the trip is recorded", STORED, || {
        evidence::entries(&stage.agent, ALPHA, "trip").len() == 1
            && !evidence::entries(&stage.agent, ALPHA, "transition").is_empty()
    });
    assert_eq!(doctor(&stage.agent)["level"], "ok");
}

/// The cut a restarted agent finds is the same one.
fn assert_same_cut(stage: &Stage, cut: &Cut) {
    stage.agent.run().unwrap_or_else(|e| panic!("{e:#}"));
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let deadline = evidence::armed(&stage.agent, ALPHA).map(|(_, deadline)| deadline);
    assert_eq!(deadline, Some(cut.deadline));
    assert_eq!(stored_expiries(&stage.agent), 1);
    assert!(!stage.agent.log().contains("panicked"), "{}", stage.agent.log());
    stage.assert_alpha_cut_since(cut);
}

#[test]
fn with_a_full_disk_a_stuck_room_is_cut_and_once_there_is_room_everything_is_stored() {
    let mut disk = Disk::small().unwrap();
    let mut stage = Stage::on_disk(&mut disk, Settings::new(TIMES)).unwrap();
    let cut = assert_cut(&stage, &disk);
    disk.free().unwrap();
    assert_stored(&stage);
    stage.agent.kill().unwrap();
    assert_same_cut(&stage, &cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn with_a_disk_that_fails_its_syncs_nothing_is_taken_for_stored_that_a_loss_of_power_takes_away() {
    let mut disk = Disk::failing_syncs().unwrap();
    let mut stage = Stage::on_disk(&mut disk, Settings::new(TIMES)).unwrap();
    let cut = assert_cut(&stage, &disk);
    assert!(unstored(&stage.agent) > 0, "every sync fails");
    disk.free().unwrap();
    assert_stored(&stage);
    stage.agent.kill().unwrap();
    // What the store answered for is on the disk. The journal does not promise as much, see its head; its intents are gone
    // if the kernel has not written them yet, and the record explains the cut.
    disk.lose_power(&stage.agent.state_dir()).unwrap();
    assert_same_cut(&stage, &cut);
    stage.assert_beta_lost_nothing();
}
