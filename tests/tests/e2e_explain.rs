//! `explain` answers from the recorded evidence also when the room and the agent that cut it are long gone.

use serde_json::Value;
use std::time::Duration;
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    stage::{ALPHA, SOON, Stage},
};

#[test]
fn the_whole_story_of_a_cut_is_told_after_the_room_was_destroyed_and_the_agent_was_started_again() {
    let stage = Stage::new(Settings::new(Times::TEST));
    stage.alpha.room.fail();
    let cut = stage.wait_cut(ALPHA, stage.patience());
    stage.wait_state(ALPHA, "DESTROYED", Times::TEST.isolation + SOON * 2);
    clock::sleep_until(cut.deadline);
    stage.agent.terminate().unwrap();
    stage.agent.run().unwrap();
    let of = |kind: &str| evidence::entries(&stage.agent, ALPHA, kind);
    let transitions = of("transition");
    let states: Vec<&str> = transitions
        .iter()
        .filter_map(|t| t["new_state"].as_str())
        .collect();
    assert_eq!(states, ["LIVEING", "EXPIRED", "DESTROYED"]);
    assert!(
        of("warning")[0]["evidence"]["misses"].as_u64() >= Some(3),
        "{:?}",
        of("warning")
    );
    let trip = &of("trip")[0];
    assert!(trip["evidence"]["misses"].as_u64() >= Some(5), "{trip}");
    assert!(
        trip["evidence"]["witness"]["rtp_in_packets"].as_u64() > Some(0),
        "{trip}"
    );
    let steps = of("step");
    let ended: Vec<&str> = steps
        .iter()
        .filter(|s| s["ok"] == true)
        .filter_map(|s| s["step"].as_str())
        .collect();
    for step in ["journal", "arm", "push", "store", "audit"] {
        assert!(ended.contains(&step), "{step}: {steps:?}");
    }
    let push = steps.iter().find(|s| s["step"] == "push").expect("who was told");
    assert!(push["detail"].as_str().unwrap().contains("gateway-1"), "{push}");
    let acknowledged: Vec<Value> = of("acknowledged");
    assert!(
        acknowledged
            .iter()
            .any(|a| a["peers"].to_string().contains("gateway-1")),
        "{acknowledged:?}"
    );
    assert!(!of("first_drop").is_empty());
    let lifted = &of("lifted")[0];
    assert!(lifted["dropped_packets"].as_u64() > Some(0), "{lifted}");
    assert_eq!(lifted["reason"], "the isolation is over");
    let told = stage.agent.text(&["explain", ALPHA]).unwrap();
    for words in [
        "TRIPPED: ",
        "sessions: ",
        "gateway-1",
        "took note of STATE_EXPIRED",
        "The cut is over: the isolation is over; ",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(Duration::from_micros(cut.first_drop_us) < SOON);
}

#[test]
fn an_operators_block_is_told_with_what_was_known_of_the_room_then() {
    let stage = Stage::new(Settings::new(Times::TEST));
    stage.block(ALPHA, 60);
    let trip = &evidence::entries(&stage.agent, ALPHA, "trip")[0];
    assert_eq!(trip["rule"], "operator");
    let known = &trip["evidence"];
    assert!(known["misses"].as_u64() < Some(5), "{trip}");
    for moved in ["rtp_in_packets", "rtp_out_packets"] {
        assert!(known["witness"][moved].as_u64() > Some(0), "{moved}: {trip}");
    }
    let told = stage.agent.text(&["explain", ALPHA]).unwrap();
    for words in [
        "TRIPPED: an operator said so.",
        "What was known then",
        "The kernel counted",
        "Media server peer/media-1 last answered",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
