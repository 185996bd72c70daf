//! `voice-agent doctor` of the real binary, with and without an agent.

use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    netns::{self, NODE_DEV, Pair},
    occupant::{self, Occupant},
    stage::{SOON, Stage},
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
fn a_routing_rule_that_sends_a_bound_port_out_by_an_unattached_interface_fails_and_names_rule_and_interface()
{
    let settings = Settings::new(Times::TEST).set("kernel.interfaces", &format!("[\"{NODE_DEV}\"]"));
    let stage = Stage::new(settings);
    let node = &stage.pair.node;
    netns::veth(node, "side0", &stage.pair.users, "side1").unwrap();
    node.address("side0", "10.99.0.1/24").unwrap();
    node.wait_up("side0").unwrap();
    node.ip("route del 10.99.0.0/24 dev side0").unwrap();
    node.ip("route add default dev side0 table 100").unwrap();
    let (report, code) = doctor(&stage.agent, &[]);
    assert_eq!(code, Some(0), "no rule leads to that table: {report:#}");
    node.ip("rule add from all lookup 100 priority 100").unwrap();
    let (report, code) = doctor(&stage.agent, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let routes = check(&report, "routes");
    assert_eq!(routes["level"], "fail");
    says(&routes, "said", "side0");
    says(&routes, "said", "of table 100 (a rule leads there)");
    says(&routes, "advice", "add side0 to kernel.interfaces");
}

#[test]
fn an_address_for_the_metrics_that_another_has_warns_with_and_without_an_agent() {
    let pair = Pair::new().unwrap();
    let taken = pair
        .node
        .run(|| TcpListener::bind("127.0.0.1:7402"))
        .unwrap()
        .unwrap();
    let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let (report, code) = doctor(&agent, &[]);
    let finding = check(&report, "metrics listener");
    assert_eq!(
        (code, &finding["level"]),
        (Some(0), &Value::from("warn")),
        "{report:#}"
    );
    says(&finding, "said", "127.0.0.1:7402 cannot be listened on");
    agent.run().unwrap();
    let (report, _) = doctor(&agent, &[]);
    let finding = check(&report, "metrics listener");
    assert_eq!(finding["level"], "warn", "{report:#}");
    says(&finding, "advice", "ss -ltnp");
    drop(taken);
    clock::wait_for("the agent gets its address", SOON * 2, || {
        check(&doctor(&agent, &[]).0, "metrics listener")["level"] == "ok"
    });
}

#[test]
fn a_database_file_that_somebody_else_owns_fails_with_the_command_that_mends_it() {
    let pair = Pair::new().unwrap();
    let agent = Agent::start(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let (report, _) = doctor(&agent, &[]);
    assert_eq!(check(&report, "state files")["level"], "ok", "{report:#}");
    agent.terminate().unwrap();
    let file = fs::read_dir(agent.state_dir().join("rooms")).unwrap();
    let file = file
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(12_345), None).unwrap();
    let (report, code) = doctor(&agent, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let finding = check(&report, "state files");
    assert_eq!(finding["level"], "fail");
    says(&finding, "said", "owner uid 12345, mode 0600");
    says(&finding, "advice", "chown -R 0 ");
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
