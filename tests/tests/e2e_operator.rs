//! What an operator can do, with the agent alive and with it dead.

use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    stage::{ALPHA, BETA, SOON, Stage},
};

fn stage() -> Stage {
    Stage::new(Settings::new(Times::TEST))
}

#[test]
fn a_room_is_blocked_and_released_by_the_cli_and_the_gateway_hears_both() {
    let mut stage = stage();
    let cut = stage.block(ALPHA, 60);
    assert_eq!(cut.rule, "operator");
    stage.gateway.wait_expired(ALPHA, SOON).unwrap();
    let blocked = stage.agent.json(&["rooms", "--blocked"]).unwrap();
    assert_eq!(blocked["rooms"].as_array().map(Vec::len), Some(1), "{blocked}");
    thread::sleep(Duration::from_millis(500));
    stage.assert_alpha_cut_since(&cut);
    stage
        .agent
        .text(&["release", ALPHA, "--reason", "a test"])
        .unwrap();
    stage.wait_alpha_flows(true, SOON);
    clock::wait_for("STATE_RESTORED", SOON, || {
        !stage.gateway.restored(ALPHA).is_empty()
    });
    stage.wait_state(ALPHA, "LIVEING", SOON);
    assert!(stage.gateway.check_join(ALPHA).unwrap().allowed);
    let lifted = &evidence::entries(&stage.agent, ALPHA, "lifted")[0];
    assert!(
        lifted["dropped_packets"].as_u64() > Some(100),
        "counted up to the lift: {lifted}"
    );
    stage.assert_beta_lost_nothing();
}

#[test]
fn the_kill_switch_works_with_the_agent_dead() {
    let mut stage = stage();
    stage.block(ALPHA, 60);
    stage.wait_alpha_flows(false, SOON);
    stage.agent.kill().unwrap();
    stage.agent.text(&["kill-switch", "on"]).unwrap();
    stage.wait_alpha_flows(true, SOON);
    let status = stage.agent.json(&["kill-switch", "status"]).unwrap();
    assert_eq!(status["kernel"], true, "{status}");
    stage.agent.run().unwrap();
    stage.wait_alpha_flows(true, SOON);
    let status = stage.agent.json(&["kernel", "status"]).unwrap();
    assert_eq!(
        status["kill_switch"], true,
        "a restarted agent leaves it on: {status}"
    );
    stage.agent.text(&["kill-switch", "off"]).unwrap();
    stage.wait_alpha_flows(false, SOON);
    stage.assert_beta_lost_nothing();
}

#[test]
fn release_all_with_the_agent_dead_lifts_every_cut_and_a_restarted_agent_honours_it() {
    let mut stage = stage();
    stage.block(ALPHA, 60);
    stage.block(BETA, 60);
    stage.wait_alpha_flows(false, SOON);
    stage.agent.kill().unwrap();
    let blocked = stage.agent.json(&["rooms", "--blocked"]).unwrap();
    assert_eq!(blocked["rooms"].as_array().map(Vec::len), Some(2), "{blocked}");
    stage.agent.text(&["release", "--all"]).unwrap();
    stage.wait_alpha_flows(true, SOON);
    let released = clock::now();
    let audit = std::fs::read_to_string(stage.agent.state_dir().join("audit.jsonl")).unwrap();
    let told = audit
        .lines()
        .filter(|l| l.contains(r#""action":"release_all""#) && l.contains(r#""agent":"away""#));
    assert_eq!(told.count(), 1, "{audit}");
    stage.agent.run().unwrap();
    for room in [ALPHA, BETA] {
        stage.wait_state(room, "LIVEING", SOON);
        assert!(stage.gateway.check_join(room).unwrap().allowed, "{room}");
    }
    let blocked = stage.agent.json(&["rooms", "--blocked"]).unwrap();
    assert_eq!(blocked["rooms"].as_array().map(Vec::len), Some(0), "{blocked}");
    stage.alpha.users.stop();
    thread::sleep(Duration::from_millis(200));
    let now = clock::now();
    assert_eq!(
        stage.alpha.room.delivered_within(released, now),
        stage.alpha.users.sent_between(released, now),
        "nothing was dropped after the release"
    );
}

#[test]
fn commands_that_need_the_agent_say_so_with_exit_code_3_and_unknown_rooms_with_4() {
    let stage = stage();
    let unknown = stage.agent.cli(&["show", "nobody"]).unwrap();
    assert_eq!(unknown.status.code(), Some(4));
    stage.agent.kill().unwrap();
    let dead = stage.agent.cli(&["show", ALPHA]).unwrap();
    assert_eq!(dead.status.code(), Some(3));
    let status = stage.agent.json(&["kernel", "status"]).unwrap();
    assert_eq!(status["rooms_armed"], 0, "{status}");
}
