//! The history of real rooms: snapshots with real counters, a cut and its way, also after kill -9, asked by the CLI.

use serde_json::Value;
use std::{fs, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, picture,
    stage::{ALPHA, SOON, Stage},
};

fn stage() -> Stage {
    let settings = Settings::new(Times::TEST)
        .set("history.every", "\"1s\"")
        .set("history.reserve_mib", "0")
        .set("history.probes", "[\"nobody=tcp://127.0.0.1:9\"]");
    Stage::new(settings)
}

fn snapshots(stage: &Stage) -> Vec<Value> {
    let answer = stage.agent.json(&["history", ALPHA, "--since", "100y"]);
    let answer = answer.unwrap_or_default();
    answer["snapshots"].as_array().cloned().unwrap_or_default()
}

fn wait_for_snapshot(stage: &Stage, what: &str, holds: impl Fn(&Value) -> bool) {
    clock::wait_for(what, SOON, || snapshots(stage).last().is_some_and(&holds));
}

#[test]
fn a_cut_is_found_by_its_way_and_by_its_time_and_drawn_also_after_kill_9() {
    let stage = stage();
    stage.wait_alpha_flows(true, SOON);
    wait_for_snapshot(&stage, "a live snapshot with packets", |s| {
        s["state"] == "LIVEING" && s["media"]["in.rtp.pass"]["packets"].as_u64() > Some(0)
    });
    stage.block(ALPHA, 60);
    wait_for_snapshot(&stage, "a snapshot of the cut", |s| {
        s["state"] == "EXPIRED" && s["media"]["in.rtp.drop"]["packets"].as_u64() > Some(0)
    });
    let before = snapshots(&stage);

    stage.agent.kill().unwrap();
    stage.agent.run().unwrap();
    let after = snapshots(&stage);
    assert_eq!(
        after[..before.len()],
        before[..],
        "nothing that was answered is lost"
    );

    let by_path = stage
        .agent
        .json(&["history", "--path", "LIVEING>EXPIRED"])
        .unwrap();
    let trips = by_path["trips"].as_array().unwrap();
    assert_eq!(trips.len(), 1, "{by_path}");
    assert_eq!(trips[0]["room"], ALPHA);
    let none = stage
        .agent
        .json(&["history", "--path", "EXPIRED>CREATED"])
        .unwrap();
    assert_eq!(none["trips"].as_array().unwrap().len(), 0);

    let live = before.iter().rfind(|s| s["state"] == "LIVEING").unwrap();
    let at = rfc3339(live["at"].as_u64().unwrap());
    let moment = stage.agent.json(&["history", ALPHA, "--at", &at]).unwrap();
    assert_eq!(moment["snapshot"]["state"], "LIVEING", "{moment}");
    assert_eq!(moment["health"]["nobody"], "broken", "{moment}");
    assert_eq!(moment["health"]["store"], "healthy", "{moment}");
    assert!(!moment["transitions"].as_array().unwrap().is_empty(), "{moment}");

    let file = stage.agent.dir().join("alpha.svg");
    stage
        .agent
        .text(&["history", ALPHA, "--plot", file.to_str().unwrap()])
        .unwrap();
    let svg = fs::read_to_string(&file).unwrap();
    assert!(
        svg.contains("class=\"EXPIRED\"") && svg.contains("class=\"trip\""),
        "{svg}"
    );
    for dark in [false, true] {
        let picture = picture::render(&file, dark).unwrap();
        let part =
            |colour: [u8; 3]| picture.colours.get(&colour).copied().unwrap_or(0) * 1_000 / picture.pixels;
        let (paper, live, expired) = match dark {
            false => ([0xff, 0xff, 0xff], [0x74, 0xc6, 0x9d], [0xe5, 0x69, 0x5e]),
            true => ([0x12, 0x16, 0x1c], [0x2d, 0x6a, 0x4f], [0xa4, 0x30, 0x2a]),
        };
        // Mostly paper; bands of both states wide enough to be seen; lines and letters besides.
        let said = format!("{}: {} colours", picture.png.display(), picture.colours.len());
        assert!(part(paper) > 500, "{said}");
        assert!(part(live) > 2 && part(expired) > 2, "{said}");
        assert!(picture.colours.len() > 50, "{said}");
    }
    let text = stage.agent.text(&["history", ALPHA]).unwrap();
    assert!(
        text.contains("EXPIRED") && text.contains("STUCK by operator"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_answered_is_said_in_a_line_with_its_exit_code() {
    let stage = stage();
    wait_for_snapshot(&stage, "a snapshot", |_| true);
    for (args, code, said) in [
        (&["history", "never"][..], 4, "knows no room never"),
        (&["history", "--path", "LIVEING"], 2, "one state only"),
        (&["history", "--path", "LIVEING>GONE"], 2, "no state"),
        (
            &["history", ALPHA, "--from", "1m", "--to", "2m"],
            2,
            "ends before it begins",
        ),
        (&["history", ALPHA, "--at", "noon"], 2, "RFC 3339"),
        (&["history"], 2, "<ROOM>"),
    ] {
        let out = stage.agent.cli(args).unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    let years = stage
        .agent
        .json(&["history", ALPHA, "--from", "1999-01-01T00:00:00Z"]);
    assert!(years.is_ok(), "a range of years is bounded by what there is");
}

#[test]
fn an_agent_without_history_says_so_and_one_whose_history_is_damaged_begins_a_new_one() {
    let stage = stage();
    wait_for_snapshot(&stage, "a snapshot", |_| true);
    stage.agent.kill().unwrap();
    fs::write(stage.agent.state_dir().join("history/version"), "nonsense").unwrap();
    stage.agent.run().unwrap();
    wait_for_snapshot(&stage, "a snapshot in the new history", |_| true);
    assert!(stage.agent.state_dir().join("history.damaged").is_dir());

    stage.agent.kill().unwrap();
    let off = Settings::new(Times::TEST).set("history.kind", "\"off\"");
    stage.agent.configure(&off).unwrap();
    stage.agent.run().unwrap();
    let out = stage.agent.cli(&["history", ALPHA]).unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the history is off"), "{stderr}");
}

fn rfc3339(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}
