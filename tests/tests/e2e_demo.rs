//! The demo as people run it: its last line, its exit code, and what it leaves behind (nothing).

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use voice_tests::{agent::binary, clock};

/// The demo, its agent built once for all tests.
fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env(
        "XTASK_VOICE_AGENT",
        binary::path().unwrap_or_else(|e| panic!("{e:#}")),
    );
    demo.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    demo
}

/// Namespaces and scratch directories that carry this pid.
fn left_by(pid: u32) -> Vec<String> {
    let mine = format!("vl-{pid}-");
    let dirs = [Path::new("/run/netns").to_owned(), std::env::temp_dir()];
    let entries = dirs
        .iter()
        .filter_map(|d| std::fs::read_dir(d).ok())
        .flatten()
        .flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names.filter(|n| n.starts_with(&mine)).collect()
}

/// Runs the demo to its end; its last line and all it told. Whatever the options, nothing of the stuck room may pass the
/// cut and nothing of the healthy one may be lost.
fn run(options: &[&str]) -> anyhow::Result<(Value, String)> {
    let child = demo().arg("--json").args(options).spawn()?;
    let pid = child.id();
    let out = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{}\n{told}\n{said}", out.status);
    let last: Value = serde_json::from_str(told.lines().last().unwrap_or_default())?;
    assert_eq!(last["stuck"]["delivered_after_trip"], 0, "{last}");
    assert_eq!(last["healthy"]["sent"], last["healthy"]["delivered"], "{last}");
    assert_eq!(last["rejoin"]["refused"], true, "{last}");
    assert_eq!(last["lifted"]["at_deadline"], true, "{last}");
    assert_eq!(left_by(pid), Vec::<String>::new());
    Ok((last, told))
}

#[test]
#[ignore = "seven minutes"]
fn the_demo_at_real_times_cuts_for_300_seconds_and_refuses_rejoins_as_long() {
    let (last, _) = run(&["--real-times"]).unwrap();
    assert!(
        last["stuck"]["sent_after_trip"].as_u64() > Some(2_500_000),
        "{last}"
    );
    assert!(last["rejoin"]["retry_after_s"].as_u64() > Some(290), "{last}");
}

#[test]
#[ignore = "a minute, and the same path as the end-to-end tests on Janus"]
fn the_demo_shows_the_same_with_a_real_janus() {
    let (last, _) = run(&["--janus"]).unwrap();
    assert!(last["stuck"]["sent_after_trip"].as_u64() > Some(1_000), "{last}");
}

#[test]
fn the_demo_shows_a_cut_and_prints_its_measurements_as_the_last_line() {
    let (last, told) = run(&[]).unwrap();
    assert!(
        last["stuck"]["sent_after_trip"].as_u64() > Some(100_000),
        "{last}"
    );
    assert!(!told.contains('\x1b'), "colours without a terminal: {told}");
    for line in [
        "failure",
        "TRIP",
        "STATE_EXPIRED",
        "refused",
        "explain",
        "the cut ended by itself",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
}

#[test]
fn the_demo_interrupted_cleans_up_and_exits_with_130() {
    let mut child = demo().spawn().unwrap();
    let pid = child.id();
    // Its namespaces are there: from now on there is something to clean up.
    clock::wait_for("it has begun", Duration::from_secs(20), || {
        left_by(pid).len() >= 3
    });
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    let status = clock::poll(Duration::from_secs(30), || child.try_wait().unwrap());
    let status = status.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("the demo did not end within 30 s of SIGINT")
    });
    assert_eq!(status.code(), Some(130));
    assert_eq!(left_by(pid), Vec::<String>::new());
}
