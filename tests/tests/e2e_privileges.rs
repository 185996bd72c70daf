//! What the running agent may do: three capabilities in every thread, and with these all it has to do later.

use std::{collections::BTreeSet, fs};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    netns::NODE_DEV,
    stage::{ALPHA, SOON, Stage},
};

/// CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON.
const THREE: u64 = 1 << 39 | 1 << 12 | 1 << 38;

/// The names of the agent's threads. Each has what is needed and no more.
fn assert_three(agent: &Agent) -> BTreeSet<String> {
    let statuses = statuses(agent).unwrap_or_else(|e| panic!("{e:#}"));
    statuses.iter().map(|status| assert_thread(status)).collect()
}

/// Of each thread that does not end just now.
fn statuses(agent: &Agent) -> anyhow::Result<Vec<String>> {
    let mut statuses = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", agent.pid()?))? {
        statuses.extend(fs::read_to_string(task?.path().join("status")).ok());
    }
    Ok(statuses)
}

fn assert_thread(status: &str) -> String {
    let field = |name: &str| {
        let mut found = status.lines().filter_map(|line| line.strip_prefix(name));
        found.next().unwrap_or_default().trim().to_owned()
    };
    for (set, expected) in [
        ("CapEff:", THREE),
        ("CapPrm:", THREE),
        ("CapBnd:", THREE),
        ("CapInh:", 0),
        ("CapAmb:", 0),
    ] {
        assert_eq!(
            u64::from_str_radix(&field(set), 16),
            Ok(expected),
            "{set} in {status}"
        );
    }
    assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    field("Name:")
}

#[test]
fn every_thread_holds_three_capabilities_and_xdp_and_a_new_interface_are_still_attached() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let threads = assert_three(&stage.agent);
    assert!(
        threads.contains("driver") && threads.contains("kernel-attach"),
        "{threads:?}"
    );
    let interface = || {
        let status = stage.agent.json(&["kernel", "status"]).unwrap_or_default();
        let mut all = status["interfaces"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
        all.find(|i| i["name"] == NODE_DEV).unwrap_or_default()
    };
    stage.block(ALPHA, 60);
    clock::wait_for("XDP is attached", SOON, || interface()["xdp"] == "native");
    stage.pair.node.delete(NODE_DEV).unwrap();
    stage.pair.connect().unwrap();
    let index = stage.pair.node.index(NODE_DEV).unwrap();
    clock::wait_for("the new interface is attached", SOON, || {
        let seen = interface();
        seen["index"] == index
            && seen["tc_ingress"] == "tcx"
            && seen["tc_egress"] == "tcx"
            && seen["xdp"] == "native"
    });
    assert_three(&stage.agent);
}
