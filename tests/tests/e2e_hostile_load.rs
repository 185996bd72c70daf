//! Peers that flood, do not read, or claim what is another's, beside two healthy rooms with real RTP both ways: refused by
//! name, counted, and no packet of the healthy rooms lost. What is wrong in itself is in `e2e_hostile`.

use std::{
    thread,
    time::{Duration, Instant},
};
use tonic::Code;
use voice_agent::proto::v1::{EventType, RoomEvent, ServedRoom, peer_message::Message as ToAgent};
use voice_tests::{
    agent::{Settings, settings::Times},
    clock, evidence,
    hostile::{Before, Hostile, event, raw, served, users_flow},
    stage::{ALPHA, BETA, SOON, Stage},
};

fn stage() -> (Stage, Before) {
    let stage = Stage::new(Settings::new(Times::TEST));
    let before = Before::of(&stage);
    (stage, before)
}

/// Says it every heartbeat for so long.
fn keep_listing(peer: &Hostile, rooms: &[ServedRoom], heartbeat: Duration, lasts: Duration) {
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        peer.beat(rooms.to_vec());
        thread::sleep(heartbeat);
    }
}

#[test]
fn a_media_server_that_claims_anothers_room_is_ignored_and_counted_and_may_not_end_it() {
    let (mut stage, before) = stage();
    let hostile = Hostile::start(&stage.pair.node, "media", "hostile-media");
    let (code, said) = hostile.is_refused(&event(ALPHA, EventType::HostDisconnect));
    assert_eq!(code, "not_your_room", "{said}");
    assert!(said.contains("media-1"), "names the owner: {said}");
    let times = stage.settings.times;
    let stolen = [served(ALPHA, &[50_200]), served(BETA, &[])];
    keep_listing(&hostile, &stolen, times.heartbeat, times.stuck_after);
    let noted = r#"notes_total{code="not_your_room"}"#;
    assert!(before.rose(&stage, noted) > 2, "{}", before.rose(&stage, noted));
    before.wait_counted(&stage, "session_refused", 1);
    for room in [ALPHA, BETA] {
        let view = stage.agent.room(room).unwrap_or_default();
        assert_eq!(view["source"], "peer/media-1", "{view}");
    }
    let ports = stage.agent.room(ALPHA).unwrap_or_default()["ports"].clone();
    assert_eq!(ports, serde_json::json!([50_000, 50_002]));
    before.assert_unharmed(&mut stage);
}

#[test]
fn a_media_server_that_claims_anothers_port_and_lets_its_own_room_get_stuck_costs_the_other_no_packet() {
    let (mut stage, before) = stage();
    let hostile = Hostile::start(&stage.pair.node, "media", "hostile-media");
    let times = stage.settings.times;
    let stolen = [served("thief", &[50_000, 50_002, 50_010, 50_012])];
    keep_listing(&hostile, &stolen, times.heartbeat, times.heartbeat * 5);
    assert!(
        !evidence::entries(&stage.agent, ALPHA, "port_shared").is_empty(),
        "told in explain"
    );
    // Its stream stays and answers; its room is left out.
    keep_listing(&hostile, &[], times.heartbeat, times.stuck_after);
    stage.wait_state("thief", "EXPIRED", stage.patience());
    // It claims them once more, now for a room that is cut.
    keep_listing(&hostile, &stolen, times.heartbeat, times.heartbeat * 5);
    before.assert_unharmed(&mut stage);
}

#[test]
fn a_media_server_that_claims_the_flows_of_anothers_users_is_held_by_their_rtp_and_costs_the_other_no_packet()
{
    let (mut stage, before) = stage();
    let hostile = Hostile::start(&stage.pair.node, "media", "hostile-media");
    let times = stage.settings.times;
    let flows: Vec<_> = [50_000, 50_002, 50_010, 50_012].map(users_flow).into();
    let stolen = [ServedRoom {
        flows,
        ..served("thief", &[])
    }];
    keep_listing(&hostile, &stolen, times.heartbeat, times.heartbeat * 5);
    keep_listing(&hostile, &[], times.heartbeat, times.stuck_after);
    clock::wait_for("held", stage.patience(), || {
        stage.agent.room("thief").unwrap_or_default()["held"] == "contradiction"
    });
    keep_listing(&hostile, &stolen, times.heartbeat, times.heartbeat * 5);
    before.assert_unharmed(&mut stage);
}

#[test]
fn a_stream_that_lists_10_000_rooms_and_floods_beside_is_refused_the_rest_and_warns_no_healthy_room() {
    // Real heartbeats: the agent may be a debug build on busy cores.
    let mut times = Times::TEST;
    times.heartbeat = Duration::from_secs(2);
    times.stuck_after = Duration::from_secs(12);
    let mut stage = Stage::new(Settings::new(times));
    let before = Before::of(&stage);
    let hostile = Hostile::start(&stage.pair.node, "media", "hostile-media");
    let rooms: Vec<ServedRoom> = (0..10_000_u32)
        .map(|n| {
            let port = 50_100 + 2 * n;
            let ports: &[u32] = if port < 60_000 { &[port] } else { &[] };
            served(&format!("flood-{n}"), ports)
        })
        .collect();
    for round in 0..8_u32 {
        hostile.beat(rooms.clone());
        for n in 0..50 {
            hostile.connection.send(ToAgent::RoomEvent(RoomEvent {
                request_id: u64::from(1_000_000 + round * 100 + n),
                ..event("nowhere", EventType::HostDisconnect)
            }));
        }
        thread::sleep(Duration::from_millis(500));
    }
    clock::wait_for("what is over the rate is refused", SOON * 4, || {
        hostile.refusals().iter().any(|r| r.code == "limit")
    });
    let refusals = hostile.refusals();
    for refused in refusals.iter().filter(|r| r.code == "limit") {
        assert!(refused.retry_after_ms > 0, "{refused:?}");
        assert!(
            refused.message.contains("session.events_per_second"),
            "{refused:?}"
        );
    }
    before.wait_counted(&stage, "session_too_fast", 1);
    // The quota is 10,000, and two are live already.
    clock::wait_for("its rooms are live", SOON * 4, || {
        stage.agent.state("flood-9000") == "LIVEING"
    });
    for room in [ALPHA, BETA] {
        assert_eq!(
            evidence::entries(&stage.agent, room, "warning").len(),
            0,
            "{room}"
        );
    }
    before.assert_unharmed(&mut stage);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_and_the_others_are_served() {
    let (mut stage, before) = stage();
    let bad = raw::encoded(ToAgent::RoomEvent(event(&"?".repeat(64), EventType::Create)));
    let end = raw::stream(&stage.pair.node, "gateway", "deaf", vec![bad; 40_000]);
    let end = end.unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(end.code, Code::ResourceExhausted, "{end:?}");
    assert!(end.words.contains("it does not read"), "{end:?}");
    before.wait_counted(&stage, "session_slow_readers", 1);
    assert!(stage.gateway.connection.is_up());
    before.assert_unharmed(&mut stage);
}
