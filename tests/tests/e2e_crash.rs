//! A block outlives its agent: killed, stopped or restarted, the kernel drops until the deadline and no longer.

use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    stage::{ALPHA, SOON, Stage},
};

fn stage() -> Stage {
    Stage::new(Settings::new(Times::TEST))
}

#[test]
fn after_kill_9_of_the_agent_drops_go_on_and_end_at_the_deadline() {
    let mut stage = stage();
    let cut = stage.block(ALPHA, 5);
    stage.agent.kill().unwrap();
    stage.assert_alpha_lifts(&cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn an_agent_restarted_during_a_block_adopts_the_pins_and_leaks_no_packet() {
    let mut stage = stage();
    let cut = stage.block(ALPHA, 8);
    stage.agent.kill().unwrap();
    thread::sleep(Duration::from_millis(300));
    stage.agent.run().unwrap();
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let (_, deadline) = evidence::armed(&stage.agent, ALPHA).unwrap();
    assert_eq!(deadline, cut.deadline, "the block keeps its deadline");
    assert!(!stage.gateway.check_join(ALPHA).unwrap().allowed);
    stage.assert_alpha_lifts(&cut);
    clock::wait_for("the room may be joined again", SOON, || {
        stage.gateway.check_join(ALPHA).unwrap().allowed
    });
    stage.assert_beta_lost_nothing();
}

#[test]
fn sigterm_ends_the_agent_with_its_blocks_in_force_and_its_state_kept() {
    let mut stage = stage();
    let before = stage.agent.room(ALPHA).unwrap();
    let cut = stage.block(ALPHA, 7);
    assert_eq!(stage.agent.terminate().unwrap(), Some(0), "exit code");
    thread::sleep(Duration::from_millis(300));
    stage.assert_alpha_cut_since(&cut);
    stage.agent.run().unwrap();
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let after = stage.agent.room(ALPHA).unwrap();
    assert_eq!(after["incarnation"], before["incarnation"]);
    assert!(after["version"].as_u64() > before["version"].as_u64());
    assert_eq!(after["block"]["deadline_monotonic_ns"], cut.deadline.0);
    stage.assert_alpha_lifts(&cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_room_that_fails_while_the_agent_is_away_is_cut_by_the_next_one() {
    let mut stage = stage();
    stage.agent.kill().unwrap();
    stage.alpha.room.fail();
    stage.agent.run().unwrap();
    let cut = stage.wait_cut(ALPHA, stage.patience());
    stage.assert_alpha_cut_since(&cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn an_agent_that_lost_its_state_lifts_the_block_it_cannot_explain_and_adopts_the_room() {
    let mut stage = stage();
    let cut = stage.block(ALPHA, 60);
    let before = stage.agent.room(ALPHA).unwrap();
    stage.agent.kill().unwrap();
    let state = stage.agent.dir().join("state");
    for database in ["rooms", "journal"] {
        std::fs::remove_dir_all(state.join(database)).unwrap();
    }
    stage.agent.run().unwrap();
    stage.wait_alpha_flows(true, SOON);
    assert!(
        clock::now() < cut.deadline,
        "lifted by the agent, not by the deadline"
    );
    stage.wait_state(ALPHA, "LIVEING", SOON);
    let after = stage.agent.room(ALPHA).unwrap();
    assert!(after["incarnation"].as_u64() > before["incarnation"].as_u64());
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_second_agent_on_the_same_state_names_the_first_and_changes_nothing() {
    let mut stage = stage();
    let pid = stage.agent.pid().unwrap().to_string();
    let second = stage.agent.cli(&["run"]).unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&pid), "does not name pid {pid}: {said}");
    let cut = stage.block(ALPHA, 2);
    stage.assert_alpha_lifts(&cut);
    stage.assert_beta_lost_nothing();
}
