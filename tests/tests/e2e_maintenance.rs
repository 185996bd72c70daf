//! Maintenance holds a stuck room, also over a restart of the agent, and ends by itself.

use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    stage::{ALPHA, SOON, Stage},
};

#[test]
fn a_stuck_room_under_maintenance_is_not_cut_by_a_restarted_agent_either_and_is_cut_once_it_ends() {
    let mut stage = Stage::new(Settings::new(Times::TEST));
    let on = [
        "maintenance",
        "on",
        ALPHA,
        "--for",
        "1h",
        "--reason",
        "kernel upgrade",
    ];
    stage.agent.text(&on).unwrap();
    stage.agent.kill().unwrap();
    stage.agent.run().unwrap();
    let listed = stage.agent.json(&["maintenance", "list"]).unwrap();
    assert_eq!(listed["maintenance"][0]["room"], ALPHA, "{listed}");
    assert_eq!(listed["maintenance"][0]["reason"], "kernel upgrade", "{listed}");
    clock::wait_for("its media server lists alpha again", SOON, || {
        stage.agent.room(ALPHA).unwrap_or_default()["ports"][0].is_u64()
    });
    stage.alpha.room.fail();
    stage.wait_held();
    thread::sleep(stage.settings.times.stuck_after);
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
    assert!(evidence::cut(&stage.agent, ALPHA).is_none());
    let shown = stage.agent.text(&["show", ALPHA]).unwrap();
    assert!(shown.contains("kernel upgrade"), "{shown}");

    let soon = [
        "maintenance",
        "on",
        ALPHA,
        "--for",
        "2s",
        "--reason",
        "nearly done",
    ];
    stage.agent.text(&soon).unwrap();
    stage.wait_cut(ALPHA, SOON + Duration::from_secs(2));
    stage.wait_state(ALPHA, "EXPIRED", SOON);
    let told = stage.agent.text(&["explain", ALPHA]).unwrap();
    let at = |words: &str| {
        told.find(words)
            .unwrap_or_else(|| panic!("no {words:?} in:\n{told}"))
    };
    let uid = nix::unistd::getuid();
    assert!(at(&format!("By operator uid={uid}: kernel upgrade")) < at("the room is under maintenance"));
    assert!(at("By agent: its time is over") < at("TRIPPED"), "{told}");
    stage.assert_beta_lost_nothing();
}

#[test]
fn every_room_under_maintenance_holds_all_until_it_is_turned_off() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let on = [
        "maintenance",
        "on",
        "--all",
        "--for",
        "10m",
        "--reason",
        "a new switch",
    ];
    stage.agent.text(&on).unwrap();
    stage.alpha.room.fail();
    stage.wait_held();
    let status = stage.agent.text(&["status"]).unwrap();
    assert!(status.contains("a new switch"), "{status}");
    stage.agent.text(&["maintenance", "off", "--all"]).unwrap();
    stage.wait_cut(ALPHA, SOON);
}

trait Held {
    fn wait_held(&self);
}

impl Held for Stage {
    /// Waits until alpha is stuck and held by maintenance.
    fn wait_held(&self) {
        clock::wait_for("held by maintenance", self.patience(), || {
            self.agent.room(ALPHA).unwrap_or_default()["held"] == "maintenance"
        });
    }
}
