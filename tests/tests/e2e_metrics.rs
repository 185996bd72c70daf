//! The metrics of a real agent, as Prometheus and a liveness probe read them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{
    io::Write,
    process::{Command, Stdio},
};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, metrics,
    stage::{ALPHA, SOON, Stage},
};

fn get(stage: &Stage, path: &str) -> String {
    metrics::page(&stage.pair.node, path).unwrap()
}

fn value(page: &str, series: &str) -> u64 {
    metrics::value(page, series).unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

fn promtool_finds_nothing_wrong(page: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "{said}\n{page}");
}

const DROPPED: &str = r#"voice_agent_room_packets_total{class="rtp",direction="in",verdict="drop"}"#;
const PASSED: &str = r#"voice_agent_room_packets_total{class="rtp",direction="in",verdict="pass"}"#;

#[test]
fn a_cut_shows_in_the_metrics_which_name_no_room_and_never_go_down_when_its_slot_is_freed() {
    let stage = Stage::new(Settings::new(Times::TEST));
    assert!(get(&stage, "/livez").starts_with("alive"));
    let before = get(&stage, "/metrics");
    assert_eq!(value(&before, r#"voice_agent_trips_total{rule="operator"}"#), 0);
    assert_eq!(value(&before, r#"voice_agent_rooms{state="LIVEING"}"#), 2);
    assert_eq!(value(&before, r#"voice_agent_sessions{role="media"}"#), 1);
    assert_eq!(value(&before, "voice_agent_driver_answered"), 1);

    stage.alpha.room.set_listed(false);
    stage.block(ALPHA, 4);
    clock::wait_for("drops are counted", SOON, || {
        value(&get(&stage, "/metrics"), DROPPED) > 100
    });
    let cut = get(&stage, "/metrics");
    assert_eq!(value(&cut, r#"voice_agent_trips_total{rule="operator"}"#), 1);
    assert_eq!(value(&cut, r#"voice_agent_blocks_in_force{mode="enforced"}"#), 1);
    assert_eq!(value(&cut, "voice_agent_kernel_slots_used"), 2);
    assert!(value(&cut, "voice_agent_store_commit_seconds_count") > 0);
    promtool_finds_nothing_wrong(&cut);
    for name in [ALPHA, "beta", "gateway-1", "media-1"] {
        assert!(!cut.contains(name), "{name} is named in\n{cut}");
    }

    // Its isolation ends, nobody lists it any more, and its slot goes back: what it counted stays.
    clock::wait_for("the slot is free", SOON * 2, || {
        value(&get(&stage, "/metrics"), "voice_agent_kernel_slots_used") == 1
    });
    let after = get(&stage, "/metrics");
    for series in [DROPPED, PASSED] {
        assert!(value(&after, series) >= value(&cut, series), "{series} went down");
    }
}
