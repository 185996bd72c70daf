//! Interfaces that are somebody else's, and interfaces that come and go.

use serde_json::Value;
use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock,
    netns::{NODE_DEV, Pair},
    occupant::{self, Occupant},
    stage::{ALPHA, SOON, Stage},
};

fn interface(stage: &Stage) -> Value {
    let status = stage.agent.json(&["kernel", "status"]).unwrap_or_default();
    let interfaces = status["interfaces"].as_array().into_iter().flatten();
    let mut named = interfaces.filter(|i| i["name"] == NODE_DEV);
    named.next().cloned().unwrap_or_default()
}

#[test]
fn xdp_is_attached_at_the_first_trip_and_the_other_room_loses_nothing_by_it() {
    let mut stage = Stage::new(Settings::new(Times::TEST));
    assert_eq!(interface(&stage)["tc_ingress"], "tcx");
    assert_eq!(occupant::xdp_program(&stage.pair.node, NODE_DEV).unwrap(), None);
    let cut = stage.block(ALPHA, 3);
    clock::wait_for("XDP is attached", SOON, || interface(&stage)["xdp"] == "native");
    assert!(
        occupant::xdp_program(&stage.pair.node, NODE_DEV)
            .unwrap()
            .is_some()
    );
    stage.assert_alpha_lifts(&cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn anothers_xdp_program_stays_untouched_while_tc_does_the_work_and_status_names_it() {
    let pair = Pair::new().unwrap();
    let _theirs = Occupant::attach(&pair.node, NODE_DEV).unwrap();
    let before = occupant::xdp_program(&pair.node, NODE_DEV).unwrap();
    let settings = Settings::new(Times::TEST).set("kernel.xdp", "\"always\"");
    let mut stage = Stage::on(pair, settings).unwrap();
    let xdp = interface(&stage)["xdp"].as_str().unwrap_or_default().to_owned();
    assert!(xdp.contains("occupied") && xdp.contains(occupant::NAME), "{xdp}");
    let cut = stage.block(ALPHA, 3);
    stage.assert_alpha_lifts(&cut);
    assert_eq!(occupant::xdp_program(&stage.pair.node, NODE_DEV).unwrap(), before);
    stage.assert_beta_lost_nothing();
}

#[test]
fn an_interface_removed_and_made_again_is_attached_again_and_the_block_holds_on_it() {
    let stage = Stage::new(Settings::new(Times::TEST));
    stage.block(ALPHA, 60);
    stage.wait_alpha_flows(false, SOON);
    stage.pair.node.delete(NODE_DEV).unwrap();
    thread::sleep(Duration::from_millis(500));
    stage.pair.connect().unwrap();
    let index = stage.pair.node.index(NODE_DEV).unwrap();
    let mut seen = Value::Null;
    let attached = clock::poll(SOON, || {
        seen = interface(&stage);
        let at_work = ["tc_ingress", "tc_egress"].map(|hook| seen[hook] == "tcx") == [true; 2];
        (seen["index"] == index && at_work).then_some(())
    });
    assert!(attached.is_some(), "interface {index} is not attached: {seen}");
    let beta = stage.beta.room.delivered();
    clock::wait_for("beta's packets arrive again", SOON, || {
        stage.beta.room.delivered() > beta
    });
    stage.wait_alpha_flows(false, SOON);
}
