//! The audit log of a real agent: what is in it, over a kill, and on a disk that is full.

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use voice_tests::{
    agent::{Settings, settings::Times},
    bpffs::Scratch,
    clock,
    stage::{ALPHA, BETA, SOON, Stage},
};

/// Every whole line; each must be JSON.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

fn find(file: &Path, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    lines(file).into_iter().find(wanted)
}

/// Waits for a line with this action and this value of a field, by its JSON pointer.
fn wait(file: &Path, action: &str, pointer: &str, value: &Value) -> Value {
    let wanted = |line: &Value| line["action"] == action && line.pointer(pointer) == Some(value);
    clock::poll(SOON, || find(file, wanted))
        .unwrap_or_else(|| panic!("no {action} with {pointer} = {value} in {:#?}", lines(file)))
}

fn file(stage: &Stage) -> PathBuf {
    stage.agent.dir().join("state/audit.jsonl")
}

#[test]
fn what_operators_do_and_are_refused_is_in_the_audit_log_with_their_uid() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let (file, agent) = (file(&stage), &stage.agent);
    let uid = json!(nix::unistd::getuid().as_raw());
    stage.block(ALPHA, 60);
    let block = wait(&file, "block", "/room", &json!(ALPHA));
    assert_eq!((&block["actor"], &block["uid"]), (&json!("operator"), &uid));
    assert_eq!(
        (&block["reason"], &block["result"]["ok"]),
        (&json!("a test"), &json!(true))
    );
    assert_eq!(block["arguments"]["lasts_ms"], 60_000);
    assert_eq!(
        wait(&file, "transition", "/result/event", &json!("STUCK"))["uid"],
        uid
    );
    assert_eq!(
        wait(&file, "step", "/reason", &json!("arm"))["result"]["ok"],
        true
    );

    agent.cli(&["block", "nobody", "--reason", "a mistake"]).unwrap();
    let refused = wait(&file, "block", "/room", &json!("nobody"));
    assert_eq!((&refused["uid"], &refused["result"]["ok"]), (&uid, &json!(false)));
    assert_eq!(refused["result"]["code"], "unknown_room", "{refused}");

    agent.text(&["release", ALPHA, "--reason", "enough"]).unwrap();
    assert_eq!(wait(&file, "release", "/reason", &json!("enough"))["uid"], uid);
    let lifted = wait(&file, "lifted", "/room", &json!(ALPHA));
    assert!(lifted["result"]["dropped_packets"].as_u64() > Some(0), "{lifted}");

    agent.text(&["kill-switch", "on"]).unwrap();
    assert_eq!(
        wait(&file, "kill_switch", "/arguments/on", &json!(true))["uid"],
        uid
    );
    fs::remove_file(agent.dir().join("run/kill-switch")).unwrap();
    let found = wait(&file, "kill_switch_found", "/result/on", &json!(false));
    assert_eq!(
        (&found["actor"], &found["uid"]),
        (&json!("operator"), &Value::Null)
    );

    let on = ["maintenance", "on", BETA, "--for", "1h", "--reason", "a switch"];
    agent.text(&on).unwrap();
    let on = wait(&file, "maintenance_on", "/room", &json!(BETA));
    assert_eq!((&on["uid"], &on["reason"]), (&uid, &json!("a switch")));
    agent.text(&["maintenance", "off", BETA]).unwrap();
    assert_eq!(wait(&file, "maintenance_off", "/room", &json!(BETA))["uid"], uid);
}

#[test]
fn a_trip_has_its_evidence_and_a_killed_agents_successor_says_what_it_took_over() {
    let stage = Stage::new(Settings::new(Times::TEST.isolated_for(SOON * 4)));
    let file = file(&stage);
    stage.alpha.room.fail();
    stage.wait_cut(ALPHA, stage.patience());
    let trip = wait(&file, "trip", "/room", &json!(ALPHA));
    assert_eq!(
        (&trip["actor"], &trip["result"]["rule"]),
        (&json!("agent"), &json!("omitted"))
    );
    assert!(trip["evidence"]["misses"].as_u64() >= Some(5), "{trip}");
    assert!(
        trip["evidence"]["progress_age_ms"].as_u64() >= Some(3000),
        "{trip}"
    );
    assert!(trip["incarnation"].is_u64(), "{trip}");
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    stage.agent.kill().unwrap();
    let before = lines(&file).len();
    // As a kill in the middle of a write leaves it.
    let mut torn = fs::read_to_string(&file).unwrap();
    torn.push_str("{\"time\":\"20");
    fs::write(&file, torn).unwrap();
    stage.agent.run().unwrap();
    clock::wait_for("the successor's lines", SOON * 2, || {
        fs::read_to_string(&file).unwrap().contains("block_adopted")
    });
    let text = fs::read_to_string(&file).unwrap();
    let (old, new) = text.split_once("{\"time\":\"20\n").unwrap();
    assert_eq!(old.lines().count(), before);
    let new: Vec<Value> = new
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(new[0]["action"], "agent_started", "{new:#?}");
    let adopted = new.iter().find(|line| line["action"] == "block_adopted").unwrap();
    assert_eq!(adopted["room"], ALPHA);
    assert_eq!(
        adopted["result"]["until_unix_ms"],
        trip["result"]["until_unix_ms"]
    );
}

#[test]
fn the_file_is_rotated_and_every_line_of_every_file_is_json() {
    let settings = Settings::new(Times::TEST)
        .set("audit.max_bytes", "4096")
        .set("audit.keep", "100");
    let stage = Stage::new(settings);
    let file = file(&stage);
    let numbered = |n: u32| file.with_file_name(format!("audit.jsonl.{n}"));
    let mut done = 0;
    clock::wait_for("three rotated files", SOON * 4, || {
        let reason = format!("number {done}");
        stage
            .agent
            .text(&["block", BETA, "--for", "60s", "--reason", &reason])
            .unwrap();
        stage.agent.text(&["release", BETA]).unwrap();
        stage.wait_state(BETA, "LIVEING", SOON);
        done += 1;
        numbered(3).exists()
    });
    assert_eq!(stage.agent.terminate().unwrap(), Some(0));
    let rotated = (1..).map(numbered).take_while(|path| path.exists());
    let files: Vec<PathBuf> = rotated.chain([file.clone()]).collect();
    assert!(files.iter().all(|f| fs::metadata(f).unwrap().len() <= 4096));
    let all: Vec<Value> = files.iter().flat_map(|f| lines(f)).collect();
    let blocks = all.iter().filter(|line| line["action"] == "block").count();
    assert_eq!(blocks, done, "none is lost");
    let ended = |line: &Value| line["action"] == "agent_stopped";
    assert!(
        lines(&file).last().is_some_and(ended),
        "the last line is the agent's stop"
    );
}

/// A file system of 64 KiB. Unmounted when dropped.
fn small() -> anyhow::Result<Scratch> {
    let dir = Scratch::new("audit")?;
    let size = Some("size=64k");
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), size)?;
    Ok(dir)
}

#[test]
fn on_a_full_disk_the_agent_cuts_as_before_says_so_and_the_lines_follow_when_there_is_room() {
    let small = small().unwrap();
    let (file, filler) = (small.path().join("audit.jsonl"), small.path().join("filler"));
    let settings = Settings::new(Times::TEST).set("audit.file", &format!("\"{}\"", file.display()));
    let stage = Stage::new(settings);
    // As much as fits; that it is not all is the point.
    drop(fs::write(&filler, vec![0; 1 << 20]));
    let reason = "x".repeat(250);
    let mut tried = 0;
    clock::wait_for("the failure is shown", SOON * 4, || {
        let room = format!("nobody-{tried}");
        stage.agent.cli(&["release", &room, "--reason", &reason]).unwrap();
        tried += 1;
        let status = stage.agent.json(&["status"]).unwrap();
        status["audit_problem"]
            .as_str()
            .is_some_and(|p| p.contains("No space left"))
    });
    stage.block(ALPHA, 60);
    stage.wait_alpha_flows(false, SOON);
    assert!(stage.agent.text(&["status"]).unwrap().contains("NOT WRITTEN"));
    let doctor = String::from_utf8(stage.agent.cli(&["doctor"]).unwrap().stdout).unwrap();
    assert!(
        doctor.contains("audit log") && doctor.contains("No space left"),
        "{doctor}"
    );
    let counted = stage.agent.log().contains("the audit log is not written");
    assert!(counted, "{}", stage.agent.log());
    fs::remove_file(&filler).unwrap();
    wait(&file, "block", "/room", &json!(ALPHA));
    let asked = lines(&file)
        .iter()
        .filter(|line| line["action"] == "release")
        .count();
    assert_eq!(asked, tried, "each is there once");
    clock::wait_for("nothing is wrong any more", SOON, || {
        stage.agent.json(&["status"]).unwrap()["audit_problem"].is_null()
    });
}
