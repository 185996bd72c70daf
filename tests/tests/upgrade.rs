//! From one build to another and back, under traffic whose packets are counted. The other builds are made from these sources,
//! with another version, and with another number of the map layout.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{path::PathBuf, time::Duration};
use voice_common::ABI_VERSION;
use voice_tests::{
    agent::{
        Agent, Settings, binary,
        next::{self, NEXT_LAYOUT, SAME_LAYOUT},
        settings::Times,
    },
    clock,
    evidence::{self, Cut},
    netns::{self, NODE_DEV},
    occupant::xdp_program,
    stage::{ALPHA, BETA, SOON, Stage},
};

/// This build.
fn ours() -> PathBuf {
    binary::path().unwrap()
}

/// Alpha and beta with an agent of `program`.
fn stage(program: PathBuf, xdp: &str, isolated: Duration) -> Stage {
    let settings = Settings::new(Times::TEST.isolated_for(isolated)).set("kernel.xdp", &format!("\"{xdp}\""));
    let pair = netns::Pair::new().unwrap();
    let agent = Agent::prepare_with(&pair.node, &settings, program).unwrap();
    agent.run().unwrap();
    Stage::around(agent, pair, settings).unwrap()
}

const LONG: Duration = Duration::from_secs(300);

/// Killed, and the next start is of another program.
fn change(stage: &mut Stage, program: PathBuf) {
    stage.agent.kill().unwrap();
    stage.agent.replace(program);
    stage.agent.run().unwrap();
}

/// The agent that runs is of this version, holds the cut with its own deadline, and not a packet of alpha came through.
fn assert_holds(stage: &Stage, version: &str, cut: &Cut) {
    let status = stage.agent.json(&["status"]).unwrap();
    assert_eq!(status["version"], version);
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    stage.wait_state(BETA, "LIVEING", SOON);
    let (_, deadline) = evidence::armed(&stage.agent, ALPHA).unwrap();
    // Armed from the journal it is one of the wall clock too, which has milliseconds.
    assert!(
        deadline <= cut.deadline && cut.deadline.since(deadline) < Duration::from_millis(2),
        "{deadline:?}, not {:?}",
        cut.deadline
    );
    assert!(!stage.gateway.check_join(ALPHA).unwrap().allowed);
    std::thread::sleep(Duration::from_millis(300));
    stage.assert_alpha_cut_since(cut);
}

/// Neither towards the media server nor from it.
fn assert_beta_whole(stage: &mut Stage) {
    stage.assert_beta_lost_nothing();
    stage.beta.assert_heard_everything();
}

#[test]
#[ignore = "builds the agent anew, which takes minutes"]
fn a_new_version_with_the_same_maps_and_the_way_back_leak_no_packet_of_a_cut_room_and_lose_none_of_an_open_one()
 {
    let mut stage = stage(ours(), "always", LONG);
    let cut = stage.block(ALPHA, 300);
    for (program, version) in [
        (next::program(SAME_LAYOUT).unwrap(), SAME_LAYOUT.version),
        (ours(), env!("CARGO_PKG_VERSION")),
    ] {
        change(&mut stage, program);
        assert_holds(&stage, version, &cut);
        let (_, deadline) = evidence::armed(&stage.agent, ALPHA).unwrap();
        assert_eq!(deadline, cut.deadline);
        assert!(!stage.agent.pins_of(NEXT_LAYOUT.layout).exists());
    }
    assert_beta_whole(&mut stage);
    stage
        .agent
        .text(&["release", ALPHA, "--reason", "a test"])
        .unwrap();
    stage.wait_alpha_flows(true, SOON);
}

fn starts_beside(xdp: &str) {
    let next = next::program(NEXT_LAYOUT).unwrap();
    let mut stage = stage(ours(), xdp, LONG);
    let cut = stage.block(ALPHA, 12);
    change(&mut stage, next);
    assert_holds(&stage, NEXT_LAYOUT.version, &cut);
    assert!(!stage.agent.pins_of(ABI_VERSION).exists());
    assert!(stage.agent.pins_of(NEXT_LAYOUT.layout).exists());
    let log = stage.agent.log();
    let said = format!("programs and maps of ABI version {ABI_VERSION} removed");
    assert!(log.contains(&said), "{log}");
    if xdp == "always" {
        clock::wait_for("XDP has room for ours", SOON * 2, || {
            let kernel = stage.agent.json(&["kernel", "status"]).unwrap();
            kernel["interfaces"][0]["xdp"] == "native"
        });
    }
    stage.assert_alpha_lifts(&cut);
    assert_beta_whole(&mut stage);
}

#[test]
#[ignore = "builds the agent anew, which takes minutes"]
fn a_new_map_layout_starts_beside_the_old_one_and_carries_the_cut_across_through_tc() {
    starts_beside("off");
}

#[test]
#[ignore = "builds the agent anew, which takes minutes"]
fn a_new_map_layout_starts_beside_the_old_one_and_carries_the_cut_across_through_xdp_and_tc() {
    starts_beside("always");
}

#[test]
#[ignore = "builds the agent anew, which takes minutes"]
fn the_kill_switch_is_on_over_a_change_of_layout_and_no_packet_is_dropped_meanwhile() {
    let next = next::program(NEXT_LAYOUT).unwrap();
    let mut stage = stage(ours(), "always", LONG);
    stage.block(ALPHA, 300);
    stage.agent.text(&["kill-switch", "on"]).unwrap();
    stage.wait_alpha_flows(true, SOON);
    let since = clock::now();
    change(&mut stage, next);
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let until = clock::now();
    stage.alpha.users.stop();
    let sent = stage.alpha.users.sent_between(since, until);
    let arrived = clock::poll(SOON, || {
        (stage.alpha.room.delivered_within(since, until) == sent).then_some(())
    });
    let delivered = stage.alpha.room.delivered_within(since, until);
    assert!(arrived.is_some() && sent > 0, "{delivered} of {sent}");
}

/// Every program on the node's interface, ours or not.
fn attached(stage: &Stage) -> String {
    let index = stage.pair.node.index(NODE_DEV).unwrap();
    let ask = || voice_agent::kernel::attached::attachments(index, NODE_DEV).unwrap();
    stage.pair.node.run(ask).unwrap()
}

#[test]
#[ignore = "builds the agent anew, which takes minutes"]
fn going_back_below_a_newer_map_layout_is_refused_in_words_until_detach_which_leaves_nothing_behind() {
    let next = next::program(NEXT_LAYOUT).unwrap();
    let mut stage = stage(next.clone(), "always", LONG);
    let cut = stage.block(ALPHA, 300);
    stage.agent.kill().unwrap();
    stage.agent.replace(ours());
    let refused = format!("{:#}", stage.agent.run().unwrap_err());
    let words = format!(
        "a newer voice-agent attached (map layout {}, this one has {ABI_VERSION})",
        NEXT_LAYOUT.layout
    );
    assert!(refused.contains(&words), "{refused}");
    let doctor = stage.agent.cli(&["doctor"]).unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("a newer voice-agent"), "{doctor}");
    stage.assert_alpha_cut_since(&cut);

    stage.agent.replace(next);
    stage.agent.run().unwrap();
    assert_holds(&stage, NEXT_LAYOUT.version, &cut);
    stage.agent.kill().unwrap();
    stage.agent.replace(ours());
    assert!(attached(&stage).contains("voice_"), "{}", attached(&stage));
    stage.agent.text(&["kernel", "detach"]).unwrap();
    assert!(!stage.agent.pin_root().exists());
    clock::wait_for("nothing of ours is attached", SOON, || {
        !attached(&stage).contains("voice_") && xdp_program(&stage.pair.node, NODE_DEV).unwrap().is_none()
    });
    stage.wait_alpha_flows(true, SOON);
    stage.agent.run().unwrap();
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    stage.wait_alpha_flows(false, SOON);
    assert_beta_whole(&mut stage);
}
