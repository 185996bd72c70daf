//! The whole agent on simulated media servers: what a trip does, and the cases in which there must be none.

use nix::sys::signal::Signal;
use std::{thread, time::Duration};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    stage::{ALPHA, BETA, SOON, Stage},
};

fn settings() -> Settings {
    Settings::new(Times::TEST)
}

#[test]
fn a_stuck_room_is_cut_pushed_and_refused_and_lifted_at_its_deadline_while_the_other_loses_nothing() {
    let mut stage = Stage::new(settings());
    stage.alpha.room.fail();

    let (pushed_at, expired) = stage.gateway.wait_expired(ALPHA, stage.patience()).unwrap();
    let cut = stage.wait_cut(ALPHA, SOON);
    assert_eq!(cut.rule, "omitted", "its media server answers but leaves it out");
    assert!(
        cut.first_drop_us < 50_000,
        "first drop after {} us",
        cut.first_drop_us
    );
    let pushed = pushed_at.since(cut.armed);
    assert!(pushed < Duration::from_secs(1), "STATE_EXPIRED after {pushed:?}");
    assert!(expired.reason.contains("stuck"), "{}", expired.reason);
    stage.wait_state(ALPHA, "EXPIRED", SOON);

    let refused = stage.gateway.check_join(ALPHA).unwrap();
    assert!(!refused.allowed);
    let isolation = stage.settings.times.isolation;
    assert!((1..=u64::try_from(isolation.as_millis()).unwrap()).contains(&refused.retry_after_ms));
    assert!(stage.gateway.check_join(BETA).unwrap().allowed);

    stage.assert_alpha_lifts(&cut);
    clock::wait_for("a join is allowed again", SOON, || {
        stage.gateway.check_join(ALPHA).unwrap().allowed
    });
    assert_eq!(
        stage.gateway.expired(ALPHA).len(),
        1,
        "STATE_EXPIRED is pushed once"
    );
    assert_eq!(stage.gateway.expired(BETA).len(), 0);
    stage.assert_beta_lost_nothing();
}

#[test]
fn explain_tells_a_trip_in_order_with_its_evidence_and_the_gateways_acknowledgement() {
    let stage = Stage::new(settings());
    stage.alpha.room.fail();
    stage.gateway.wait_expired(ALPHA, stage.patience()).unwrap();
    stage.wait_cut(ALPHA, SOON);
    clock::wait_for("the acknowledgement is recorded", SOON, || {
        !evidence::entries(&stage.agent, ALPHA, "acknowledged").is_empty()
    });
    let kinds = evidence::kinds(&stage.agent, ALPHA);
    let place = |kind: &str| {
        let found = kinds.iter().position(|k| k == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {kinds:?}"))
    };
    assert!(place("warning") < place("trip"), "{kinds:?}");
    assert!(place("trip") < place("first_drop"), "{kinds:?}");
    let trip = &evidence::entries(&stage.agent, ALPHA, "trip")[0];
    assert!(trip["evidence"]["misses"].as_u64() >= Some(5), "{trip}");
    let steps = evidence::entries(&stage.agent, ALPHA, "step");
    for step in ["journal", "arm", "push", "store"] {
        let done = |s: &&serde_json::Value| s["step"] == step && s["ok"] == true;
        assert!(
            steps.iter().any(|s| done(&s)),
            "step {step} is not done in {steps:?}"
        );
    }
    let told = stage.agent.text(&["explain", ALPHA]).unwrap();
    assert!(told.contains("EXPIRED"), "{told}");
}

#[test]
fn an_agent_whose_log_nobody_reads_cuts_a_stuck_room_all_the_same() {
    let mut stage = Stage::new(settings().set("log.filter", "\"trace\""));
    stage.agent.kill().unwrap();
    stage.agent.run_unheard().unwrap();
    stage.wait_state(ALPHA, "LIVEING", SOON);
    stage.alpha.room.fail();
    let cut = stage.wait_cut(ALPHA, stage.patience());
    stage.assert_alpha_cut_since(&cut);
    stage.assert_beta_lost_nothing();
}

#[test]
fn shadow_mode_drops_nothing_and_says_would_trip() {
    let mut stage = Stage::new(settings().set("trip.mode", "\"shadow\""));
    stage.alpha.room.fail();
    clock::wait_for("would_trip", stage.patience(), || {
        stage.agent.room(ALPHA).unwrap_or_default()["would_trip"] == true
    });
    clock::wait_for("would-be drops are counted", SOON, || {
        stage.agent.room(ALPHA).unwrap_or_default()["would_drop_packets"].as_u64() > Some(0)
    });
    assert_eq!(evidence::entries(&stage.agent, ALPHA, "would_trip").len(), 1);
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
    assert!(stage.gateway.check_join(ALPHA).unwrap().allowed);
    assert_eq!(stage.gateway.expired(ALPHA).len(), 0);
    stage.alpha.assert_lost_nothing();
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_room_whose_heartbeats_end_while_rtp_moves_both_ways_is_never_cut() {
    let mut stage = Stage::new(settings());
    stage.alpha.room.set_listed(false);
    clock::wait_for("held by contradiction", stage.patience(), || {
        stage.agent.room(ALPHA).unwrap_or_default()["held"] == "contradiction"
    });
    thread::sleep(stage.settings.times.stuck_after);
    assert_eq!(stage.agent.state(ALPHA), "LIVEING");
    stage.alpha.room.set_listed(true);
    clock::wait_for("the hold ends", SOON, || {
        stage.agent.room(ALPHA).unwrap_or_default()["held"].is_null()
    });
    assert_eq!(stage.gateway.expired(ALPHA).len(), 0);
    stage.alpha.assert_lost_nothing();
    stage.assert_beta_lost_nothing();
}

#[test]
fn a_media_server_that_loses_its_control_path_but_sends_on_keeps_all_its_rooms() {
    let mut stage = Stage::new(settings());
    stage.server.lose_control();
    // Alpha's mix ends as well; the server still sends for beta, so it is not the rooms that are stuck.
    stage.alpha.room.set_mixed(false);
    for room in [ALPHA, BETA] {
        clock::wait_for("held", stage.patience(), || {
            !stage.agent.room(room).unwrap_or_default()["held"].is_null()
        });
    }
    assert_eq!(
        stage.agent.room(ALPHA).unwrap_or_default()["held"],
        "source_still_sends"
    );
    thread::sleep(stage.settings.times.stuck_after);
    for room in [ALPHA, BETA] {
        assert_eq!(stage.agent.state(room), "LIVEING");
    }
    stage.server.answer();
    clock::wait_for("the hold ends", SOON, || {
        stage.agent.room(ALPHA).unwrap_or_default()["held"].is_null()
    });
    stage.alpha.assert_lost_nothing();
    stage.assert_beta_lost_nothing();
}

#[test]
fn an_agent_frozen_for_longer_than_the_stuck_time_cuts_nothing_when_it_wakes() {
    let mut stage = Stage::new(settings());
    stage.agent.signal(Signal::SIGSTOP).unwrap();
    thread::sleep(stage.settings.times.stuck_after + Duration::from_secs(2));
    stage.agent.signal(Signal::SIGCONT).unwrap();
    let end = clock::now() + stage.settings.times.stuck_after + Duration::from_secs(1);
    while clock::now() < end {
        for room in [ALPHA, BETA] {
            assert_eq!(stage.agent.state(room), "LIVEING");
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(evidence::entries(&stage.agent, ALPHA, "trip").len(), 0);
    stage.alpha.assert_lost_nothing();
    stage.assert_beta_lost_nothing();
}
