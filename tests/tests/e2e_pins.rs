//! The real binary on pins that it cannot use: it does not start, says which pin and what to do, doctor shows it beforehand,
//! and the cut that is in force stays. Once they are put right, the next start adopts it.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock,
    pins::{self, Aside, Shape},
    stage::{ALPHA, SOON, Stage},
};

/// The finding of doctor, its words and its level.
fn finding(stage: &Stage, check: &str) -> (String, String) {
    let out = stage.agent.cli(&["doctor", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let found = checks
        .rfind(|c| c["check"] == check)
        .unwrap_or_else(|| panic!("{report:#}"));
    (
        found["level"].as_str().unwrap().into(),
        found["said"].as_str().unwrap().into(),
    )
}

/// A cut room, and an agent that was killed.
fn cut() -> Stage {
    let times = Times::TEST.isolated_for(Duration::from_secs(300));
    let stage = Stage::new(Settings::new(times));
    stage.block(ALPHA, 300);
    stage.agent.kill().unwrap();
    stage
}

/// A start is refused in these words, doctor says the same, and alpha stays cut.
fn assert_refused(stage: &Stage, words: &[&str]) {
    let (level, said) = finding(stage, "pinned maps");
    assert_eq!(level, "fail", "{said}");
    let refused = stage.agent.run().map(drop).unwrap_err();
    let refused = format!("{refused:#}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in doctor's {said:?}");
        assert!(refused.contains(word), "no {word:?} in {refused}");
    }
    stage.wait_alpha_flows(false, SOON);
}

/// The next start takes the cut over, and beta has lost nothing.
fn assert_adopted(mut stage: Stage) {
    assert_eq!(finding(&stage, "pinned maps").0, "ok");
    stage.agent.run().unwrap();
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    stage.wait_alpha_flows(false, SOON);
    clock::wait_for("alpha's block is shown", SOON, || {
        !stage.agent.room(ALPHA).unwrap_or_default()["block"].is_null()
    });
    stage.assert_beta_lost_nothing();
}

#[test]
fn on_a_map_of_another_shape_the_agent_does_not_start_and_the_cut_stays() {
    let stage = cut();
    let pin = stage.agent.pin_dir().join("COUNTS");
    {
        let _aside = Aside::new(&pin, &stage.agent.dir().join("bpffs/aside")).unwrap();
        let other = Shape {
            kind: 2,
            key: 4,
            value: 8,
            entries: 3,
            flags: 0,
        };
        pins::pin(pins::map(other).unwrap(), &pin).unwrap();
        let named = format!(
            "pin {} is a Array map with key size 4, value size 8",
            pin.display()
        );
        assert_refused(&stage, &[&named, "`voice-agent kernel detach`"]);
    }
    assert_adopted(stage);
}

/// Root without CAP_DAC_OVERRIDE, which the agent gives up before it opens a pin.
#[test]
fn pins_of_another_user_are_named_with_their_owner_although_doctor_runs_as_root() {
    let stage = cut();
    let nobody = |path: &Path, mode| {
        chown(path, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let back = |path: &Path, mode| {
        chown(path, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let dir = stage.agent.pin_dir();
    for (path, mode) in [(dir.join("ROOM_INFO"), 0o600), (dir.clone(), 0o700)] {
        nobody(&path, mode);
        let named = format!("{} belongs to uid 65534 with mode {mode:04o}", path.display());
        assert_refused(&stage, &[&named, "`chown -R 0`"]);
        back(&path, mode);
    }
    assert_adopted(stage);
}
