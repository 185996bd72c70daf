//! The agent as a service of a host: the systemd unit as systemd judges it, what a service manager hears, reloads, a stop that
//! leaves nothing behind, and the bpf file system.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use nix::sys::{
    signal::Signal,
    statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};
use voice_tests::{
    agent::{Agent, Settings, binary, settings::Times},
    bpffs::Scratch,
    clock, evidence,
    manager::Manager,
    metrics,
    netns::Pair,
    stage::{ALPHA, SOON, Stage},
};

const UNIT: &str = include_str!("../../deploy/systemd/voice-agent.service");

/// `systemd-analyze` on a unit, whose program is the one that was built.
fn analyze(args: &[&str], unit: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("voice-agent.service");
    let built = binary::path().unwrap();
    let unit = unit.replace("/usr/bin/voice-agent", built.to_str().unwrap());
    fs::write(&file, unit).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(args).arg(&file).output().unwrap()
}

#[test]
fn systemd_finds_nothing_to_say_of_the_unit() {
    let verify = |unit: &str| analyze(&["verify", "--man=no"], unit);
    let out = verify(UNIT);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    assert!(out.status.success());
    // It exits with 0 for a key that it does not know: what it says is what counts.
    let misspelt = verify(&UNIT.replace("WatchdogSec=", "WatchdogSecs="));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("WatchdogSecs"));
}

#[test]
fn its_exposure_is_3_at_most() {
    let judge = |unit: &str| {
        analyze(
            &["security", "--offline=true", "--threshold=30", "--no-pager"],
            unit,
        )
    };
    let out = judge(UNIT);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    assert!(
        !judge("[Service]\nExecStart=/usr/bin/voice-agent run\n")
            .status
            .success()
    );
}

#[test]
fn a_manager_hears_that_the_agent_is_ready_only_when_it_serves_and_of_each_tick_its_status_and_its_stop() {
    let pair = Pair::new().unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let manager = Manager::in_dir(agent.dir()).unwrap();
    agent
        .run_in(&[("NOTIFY_SOCKET", manager.socket()), ("WATCHDOG_USEC", "800000")])
        .unwrap();
    let ready = manager.wait("READY=1", 0, SOON).unwrap();
    let kernel = agent.json(&["kernel", "status"]).unwrap();
    assert_eq!(kernel["interfaces"][0]["tc_ingress"], "tcx", "{kernel}");
    let mut at = ready;
    for _ in 0..3 {
        at = manager.wait("WATCHDOG=1", at, Duration::from_secs(2)).unwrap();
    }
    manager
        .wait("STATUS=0 live rooms, 0 cut, mode enforce", 0, SOON)
        .unwrap();
    agent.terminate().unwrap();
    let heard = manager.heard();
    let position = |word: &str| heard.iter().position(|m| m == word);
    assert!(position("READY=1") < position("STOPPING=1"), "{heard:?}");
    assert_eq!(heard.iter().filter(|m| *m == "READY=1").count(), 1, "{heard:?}");
}

#[test]
fn a_frozen_agent_tells_the_watchdog_nothing() {
    let pair = Pair::new().unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let manager = Manager::in_dir(agent.dir()).unwrap();
    agent
        .run_in(&[("NOTIFY_SOCKET", manager.socket()), ("WATCHDOG_USEC", "400000")])
        .unwrap();
    manager.wait("WATCHDOG=1", 0, SOON).unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    // What was sent before it stopped.
    std::thread::sleep(Duration::from_millis(200));
    let before = manager.heard().len();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(manager.heard().len(), before);
    agent.signal(Signal::SIGCONT).unwrap();
    manager.wait("WATCHDOG=1", before, SOON).unwrap();
}

/// Rewrites the agent's configuration and sends SIGHUP; returns once the counter has risen.
fn reload(stage: &Stage, settings: &Settings, counter: &str) {
    let count = || {
        let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
        metrics::value(&page, counter).unwrap()
    };
    let before = count();
    stage.agent.configure(settings).unwrap();
    stage.agent.signal(Signal::SIGHUP).unwrap();
    clock::wait_for(counter, SOON, || count() > before);
}

#[test]
fn a_reload_takes_the_agent_from_shadow_to_enforce_and_a_stuck_room_is_then_cut_while_the_other_notices_nothing()
 {
    let shadow = Settings::new(Times::TEST).set("trip.mode", "\"shadow\"");
    let mut stage = Stage::new(shadow.clone());
    stage.alpha.room.fail();
    clock::wait_for("alpha would have tripped", stage.patience(), || {
        stage.agent.room(ALPHA).unwrap_or_default()["would_trip"] == true
    });
    assert!(evidence::cut(&stage.agent, ALPHA).is_none());
    let enforce = Settings::new(Times::TEST);
    reload(&stage, &enforce, "voice_agent_config_reloaded_total");
    let cut = stage.wait_cut(ALPHA, SOON);
    stage.assert_alpha_lifts(&cut);
    let status = stage.agent.json(&["status"]).unwrap();
    assert_eq!(status["mode"], "enforce");
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
    assert_eq!(
        metrics::value(&page, "voice_agent_trip_mode{mode=\"enforce\"}"),
        Some(1)
    );
    let audit = fs::read_to_string(stage.agent.state_dir().join("audit.jsonl")).unwrap();
    let line = audit
        .lines()
        .find(|line| line.contains("config_reloaded"))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let changed = &line["arguments"]["changed"][0];
    assert_eq!(
        [&changed["key"], &changed["from"], &changed["to"]],
        ["trip.mode", "shadow", "enforce"]
    );
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_reload_of_a_configuration_with_a_mistake_changes_nothing_is_logged_counted_and_told_to_the_manager() {
    let pair = Pair::new().unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let manager = Manager::in_dir(agent.dir()).unwrap();
    agent.run_in(&[("NOTIFY_SOCKET", manager.socket())]).unwrap();
    let ready = manager.wait("READY=1", 0, SOON).unwrap();
    let wrong = Settings::new(Times::TEST)
        .set("trip.mode", "\"shadow\"")
        .set("rooms.misses", "0");
    agent.configure(&wrong).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    let reloading = manager.wait("RELOADING=1\nMONOTONIC_USEC=", ready, SOON).unwrap();
    manager.wait("READY=1", reloading, SOON).unwrap();
    manager
        .wait(
            "STATUS=0 live rooms, 0 cut, mode enforce; the last reload was refused",
            ready,
            SOON,
        )
        .unwrap();
    let page = metrics::page(&pair.node, "/metrics").unwrap();
    for (counter, count) in [("refused", 1), ("reloaded", 0)] {
        let name = format!("voice_agent_config_{counter}_total");
        assert_eq!(metrics::value(&page, &name), Some(count), "{name}");
    }
    let log = agent.log();
    assert!(
        log.contains("nothing was changed") && log.contains("rooms.misses"),
        "{log}"
    );
    let mode = metrics::value(&page, "voice_agent_trip_mode{mode=\"enforce\"}");
    assert_eq!(mode, Some(1), "{page}");
    wait_for_waiting(&agent, &manager);
}

/// A key that only a restart takes is named, and what is live beside it is taken.
fn wait_for_waiting(agent: &Agent, manager: &Manager) {
    let settings = Settings::new(Times::TEST)
        .set("trip.mode", "\"off\"")
        .set("session.max_peers", "7");
    agent.configure(&settings).unwrap();
    let before = manager.heard().len();
    agent.signal(Signal::SIGHUP).unwrap();
    let line = "STATUS=0 live rooms, 0 cut, mode off; waits for a restart: session.max_peers";
    manager.wait(line, before, SOON).unwrap();
}

#[test]
fn a_reload_of_the_log_filter_takes_effect_at_once() {
    let quiet = Settings::new(Times::TEST).set("log.filter", "\"error\"");
    let stage = Stage::new(quiet);
    assert_eq!(stage.agent.log(), "");
    let loud = Settings::new(Times::TEST).set("log.filter", "\"debug\"");
    reload(&stage, &loud, "voice_agent_config_reloaded_total");
    clock::wait_for("a line of the log", SOON, || !stage.agent.log().is_empty());
}

#[test]
fn an_agent_that_is_to_detach_leaves_nothing_in_the_kernel_when_it_is_told_to_stop_and_a_cut_ends() {
    let stage = Stage::new(Settings::new(Times::TEST));
    stage.block(ALPHA, 300);
    stage.wait_alpha_flows(false, SOON);
    let detach = Settings::new(Times::TEST).set("kernel.detach_on_stop", "true");
    reload(&stage, &detach, "voice_agent_config_reloaded_total");
    stage.agent.terminate().unwrap();
    let pins = stage.agent.pin_dir();
    assert!(!pins.exists(), "{} is still there", pins.display());
    stage.wait_alpha_flows(true, SOON);
    let said = stage.agent.text(&["kernel", "detach"]).unwrap();
    assert!(said.contains("nothing to detach"), "{said}");
}

#[test]
fn an_agent_that_is_told_to_stop_leaves_cuts_in_force_unless_it_is_to_detach() {
    let stage = Stage::new(Settings::new(Times::TEST));
    stage.block(ALPHA, 300);
    stage.agent.terminate().unwrap();
    assert!(stage.agent.pin_dir().exists());
    stage.wait_alpha_flows(false, SOON);
}

/// `mount-bpffs` for a folder, by a program in front of it.
fn mount_bpffs(before: &[&str], at: &Scratch) -> Output {
    let program = binary::path().unwrap();
    let set = format!("paths.bpffs={}", at.path().display());
    let line: Vec<&str> = before
        .iter()
        .copied()
        .chain([program.to_str().unwrap()])
        .collect();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["--set", &set, "mount-bpffs"]);
    command.output().unwrap()
}

#[test]
fn mount_bpffs_mounts_one_closed_to_others_and_leaves_it_when_called_again() {
    let at = Scratch::new("mount").unwrap();
    for said in ["Mounted a bpf file system on ", "There is a bpf file system on "] {
        let out = mount_bpffs(&[], &at);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            text.starts_with(said),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert_eq!(statfs(at.path()).unwrap().filesystem_type(), BPF_FS_MAGIC);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let ours: Vec<&str> = mounts
        .lines()
        .filter(|m| m.contains(at.path().to_str().unwrap()))
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(
        ours[0].contains("mode=700") && ours[0].contains("nosuid"),
        "{ours:?}"
    );
}

#[test]
fn mount_bpffs_without_the_right_says_what_it_needs_and_exits_with_5() {
    let at = Scratch::new("mount").unwrap();
    let out = mount_bpffs(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], &at);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(5), "{said}");
    assert!(said.contains("CAP_SYS_ADMIN"), "{said}");
    let nowhere = Command::new(binary::path().unwrap())
        .args(["--set", "paths.bpffs=/nowhere/bpf", "mount-bpffs"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
}
