//! `voice-agent doctor` of the real binary, with and without an agent.

use serde_json::Value;
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    netns::{self, NODE_DEV, Pair},
    occupant::{self, Occupant},
    stage::Stage,
};

/// The report, and the exit code.
fn doctor(agent: &Agent, args: &[&str]) -> (Value, Option<i32>) {
    let out = agent.cli(&[&["doctor", "--json"], args].concat());
    let out = out.unwrap_or_else(|e| panic!("{e:#}"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let report = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (report, out.status.code())
}

fn check(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().into_iter().flatten();
    let mut named = checks.filter(|c| c["check"] == name);
    named
        .next()
        .cloned()
        .unwrap_or_else(|| panic!("no check {name} in {report:#}"))
}

fn says(finding: &Value, field: &str, words: &str) {
    let text = finding[field].as_str().unwrap_or_default();
    assert!(text.contains(words), "no {words:?} in {finding:#}");
}

#[test]
fn a_healthy_node_with_live_rooms_has_no_failing_check() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let (report, code) = doctor(&stage.agent, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    for name in [
        "agent",
        "bpffs",
        "routes",
        "sockets",
        "store",
        "session listener",
        "media source",
    ] {
        assert_eq!(check(&report, name)["level"], "ok", "{report:#}");
    }
    says(
        &check(&report, &format!("tc {NODE_DEV}")),
        "said",
        "ours are attached, alone",
    );
}

/// Each line begins with what a person looks for, and what is wrong says what to do; the exit code is that of `--json`.
#[test]
fn on_a_terminal_each_check_has_a_line_and_what_fails_says_what_to_do() {
    let mut stage = Stage::new(Settings::new(Times::TEST));
    let (shown, code) = stage.agent.on_terminal(&["doctor"]).unwrap();
    assert_eq!(code, Some(0), "{shown}");
    let (report, _) = doctor(&stage.agent, &[]);
    for finding in report["checks"].as_array().unwrap() {
        let name = finding["check"].as_str().unwrap();
        assert!(shown.contains(name), "no {name} in {shown}");
    }
    stage.agent.signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let (shown, code) = stage.agent.on_terminal(&["doctor"]).unwrap();
    stage.agent.signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("fail") && shown.contains("see its log"), "{shown}");
    // Being looked at costs nobody a packet.
    stage.alpha.assert_lost_nothing();
    stage.beta.assert_lost_nothing();
}

#[test]
fn media_of_bound_ports_that_can_leave_by_an_unattached_interface_fails_and_names_it() {
    let settings = Settings::new(Times::TEST).set("kernel.interfaces", &format!("[\"{NODE_DEV}\"]"));
    let stage = Stage::new(settings);
    let node = &stage.pair.node;
    assert_eq!(doctor(&stage.agent, &[]).1, Some(0));
    netns::veth(node, "side0", &stage.pair.users, "side1").unwrap();
    node.address("side0", "10.99.0.1/24").unwrap();
    node.wait_up("side0").unwrap();
    node.ip("route add default via 10.99.0.2 dev side0").unwrap();
    let (report, code) = doctor(&stage.agent, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let routes = check(&report, "routes");
    assert_eq!(routes["level"], "fail");
    says(&routes, "said", "side0");
    says(&routes, "advice", "add side0 to kernel.interfaces");
}

#[test]
fn without_an_agent_anothers_xdp_program_is_named_and_nothing_fails() {
    let pair = Pair::new().unwrap();
    let _theirs = Occupant::attach(&pair.node, NODE_DEV).unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let (report, code) = doctor(&agent, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    let xdp = check(&report, &format!("xdp {NODE_DEV}"));
    assert_eq!(xdp["level"], "warn");
    says(&xdp, "said", occupant::NAME);
    assert_eq!(check(&report, "agent")["level"], "warn");
    says(&check(&report, "store"), "said", "opens");
}

#[test]
fn a_bpffs_that_is_not_mounted_fails_with_the_command_that_mounts_it() {
    let pair = Pair::new().unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let dir = agent.dir().join("state");
    let set = format!("paths.bpffs={}", dir.display());
    let (report, code) = doctor(&agent, &["--set", &set]);
    assert_eq!((code, &report["verdict"]), (Some(1), &Value::from("fail")));
    let bpffs = check(&report, "bpffs");
    assert_eq!(bpffs["level"], "fail");
    says(&bpffs, "advice", &format!("mount -t bpf bpf {}", dir.display()));
    assert!(!dir.join("voice-agent").exists(), "doctor made a directory");
}

#[test]
fn a_frozen_agent_fails_and_its_store_is_left_alone() {
    let pair = Pair::new().unwrap();
    let agent = Agent::start(&pair.node, &Settings::new(Times::TEST)).unwrap();
    agent.signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let (report, code) = doctor(&agent, &[]);
    agent.signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(check(&report, "agent")["level"], "fail");
    says(
        &check(&report, "store"),
        "said",
        &format!("pid {}", agent.pid().unwrap()),
    );
}
