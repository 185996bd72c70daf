//! Bad input from real peers to a real agent, beside two healthy rooms with real RTP both ways: a clear refusal, a counter,
//! nothing lost, the agent alive, no room cut. Floods and claims of others' ports are in `e2e_hostile_load`.

use std::{fs, os::unix::fs::PermissionsExt};
use tonic::Code;
use voice_agent::proto::v1::{EventType, RoomEvent, peer_message::Message as ToAgent};
use voice_tests::{
    agent::{Settings, settings::Times},
    hostile::{Before, Hostile, event, heartbeat, raw, served},
    stage::{ALPHA, BETA, Stage},
};

fn stage() -> (Stage, Before) {
    let stage = Stage::new(Settings::new(Times::TEST));
    let before = Before::of(&stage);
    (stage, before)
}

#[test]
fn bytes_that_are_no_message_and_messages_over_1_mib_end_their_own_stream_only() {
    let (mut stage, before) = stage();
    let node = &stage.pair.node;
    for role in ["media", "gateway"] {
        let end = raw::stream(node, role, "hostile", vec![vec![0xff; 64]]).unwrap();
        assert_eq!(end.code, Code::Internal, "{end:?}");
        assert!(
            end.words.contains("Protobuf") || end.words.contains("decode"),
            "{end:?}"
        );
        let huge = raw::encoded(ToAgent::RoomEvent(RoomEvent {
            reason: "x".repeat(1 << 20),
            ..event(ALPHA, EventType::Close)
        }));
        let end = raw::stream(node, role, "hostile", vec![huge]).unwrap();
        assert_eq!(end.code, Code::OutOfRange, "{end:?}");
        assert!(end.words.contains("1048576"), "names the bound: {end:?}");
    }
    before.wait_counted(&stage, "session_malformed", 4);
    before.assert_unharmed(&mut stage);
}

#[test]
fn bytes_that_are_not_http2_close_their_own_connection_only() {
    let (mut stage, before) = stage();
    let node = &stage.pair.node;
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &garbage, &[0; 4096]] {
        let said = raw::tcp(node, bytes).unwrap();
        assert_eq!(
            said.get(3),
            Some(&4),
            "a SETTINGS frame says what is spoken here: {said:?}"
        );
    }
    before.wait_counted(&stage, "session_not_http2", 3);
    assert!(stage.gateway.check_join(ALPHA).unwrap().allowed);
    assert_eq!(
        before.counted(&stage, "session_not_http2"),
        3,
        "a gateway speaks HTTP/2"
    );
    before.assert_unharmed(&mut stage);
}

#[test]
fn unknown_rooms_and_ports_outside_the_range_and_ids_that_are_none_are_refused_by_name() {
    let (mut stage, before) = stage();
    let gateway = Hostile::start(&stage.pair.node, "gateway", "hostile-gw");
    let (code, said) = gateway.is_refused(&event("nowhere", EventType::HostDisconnect));
    assert_eq!(code, "unknown_room");
    assert!(said.contains("nowhere"), "{said}");
    let (code, said) = gateway.is_refused(&event("a b/../c", EventType::Create));
    assert_eq!(code, "malformed");
    assert!(said.contains("A-Z a-z 0-9"), "{said}");
    let refused = gateway.say_refused(heartbeat(vec![served(ALPHA, &[50000])]));
    assert_eq!(refused.code, "not_allowed", "{refused:?}");
    before.wait_counted(&stage, "session_not_allowed", 1);

    let media = Hostile::start(&stage.pair.node, "media", "hostile-media");
    for port in [22, 49_999, 60_001, 65_536, u32::MAX] {
        let refused = media.say_refused(heartbeat(vec![served("hostile", &[50_100, port])]));
        assert_eq!(refused.code, "malformed");
        let names = refused.message.contains(&port.to_string()) && refused.message.contains("50000-60000");
        assert!(names, "{refused:?}");
    }
    let twice = media.say_refused(heartbeat(vec![served("hostile", &[]), served("hostile", &[])]));
    assert_eq!(twice.code, "malformed", "{twice:?}");
    before.wait_counted(&stage, "session_malformed", 7);
    before.wait_counted(&stage, "session_refused", 1);
    assert_eq!(
        stage.agent.state("hostile"),
        "",
        "nothing of a refused message was taken"
    );
    before.assert_unharmed(&mut stage);
}

#[test]
fn old_lives_old_sequences_old_versions_and_replayed_requests_change_nothing() {
    let (mut stage, before) = stage();
    let peer = Hostile::start(&stage.pair.node, "signalling", "hostile-sig");
    let (code, said) = peer.is_refused(&RoomEvent {
        incarnation: Some(1),
        ..event(ALPHA, EventType::HostDisconnect)
    });
    assert_eq!(code, "old_incarnation", "{said}");
    assert!(said.contains("incarnation 1 "), "{said}");
    let (code, said) = peer.is_refused(&RoomEvent {
        version: Some(0),
        ..event(BETA, EventType::Close)
    });
    assert_eq!(code, "version_mismatch", "{said}");

    let create = RoomEvent {
        op_id: Some("op-1".into()),
        sequence: Some(7),
        ..event("gamma", EventType::Create)
    };
    let created = peer.ask(create.clone()).unwrap();
    assert_eq!(
        peer.ask(create).unwrap(),
        created,
        "a replay is answered, not applied"
    );
    let close = RoomEvent {
        version: Some(created.version),
        sequence: Some(6),
        ..event("gamma", EventType::Close)
    };
    let (code, said) = peer.is_refused(&close);
    assert_eq!(code, "old_sequence", "{said}");
    assert!(said.contains("sequence 6") && said.contains('7'), "{said}");
    assert_eq!(stage.agent.state("gamma"), "CREATED");
    before.wait_counted(&stage, "session_refused", 3);
    before.assert_unharmed(&mut stage);
}

/// What the agents under test verify tokens with.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// For room gamma and host alice, until 2100, by key `main`: the good one, of which each of the others differs in one thing.
const GOOD: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6Im1haW4ifQ.eyJyb29tIjoiZ2FtbWEiLCJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.N14BeXDc8MIWIhx82zy7SfKyMK9Mw_ZtLx1CV_oYvSQ";
const WRONG: &[(Option<&str>, &str, &str)] = &[
    (None, "token_not_given", "none was given"),
    (Some("rubbish"), "token_malformed", "not a token"),
    (
        Some(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im1haW4ifQ.eyJyb29tIjoiYWxwaGEiLCJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.DA0AEUwsc3ms-bjS78qBPm9m_u-3grmcXaLGZKxCwVM",
        ),
        "token_wrong_room",
        "another room than gamma",
    ),
    (
        Some(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im1haW4ifQ.eyJyb29tIjoiZ2FtbWEiLCJzdWIiOiJhbGljZSIsImV4cCI6MTAwMDAwMDAwMH0.-ykdSSK4wgA9ceHI1KEmA-5LDEnfns9si5EW5MBLbMs",
        ),
        "token_expired",
        "expired",
    ),
    (
        Some(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im1haW4ifQ.eyJyb29tIjoiZ2FtbWEiLCJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.02xzR5V-NEihAr9Z1JTGhhBiBKMDinRMX3v42ALpBsA",
        ),
        "token_signature",
        "signature is wrong",
    ),
    (
        Some(
            "eyJhbGciOiJub25lIiwia2lkIjoibWFpbiJ9.eyJyb29tIjoiZ2FtbWEiLCJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.",
        ),
        "token_algorithm",
        "allowed are HS256 and EdDSA",
    ),
    (
        Some(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im5vYm9keSJ9.eyJyb29tIjoiZ2FtbWEiLCJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.JZuHJZh0ha2hwNtRLEgOhMe9d46wBU8N9q59KGSy8FE",
        ),
        "token_unknown_key",
        "not among the configured",
    ),
];

#[test]
fn each_kind_of_wrong_host_token_is_refused_by_name_and_starts_nothing() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("main");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let key = format!("[\"main:HS256:{}\"]", file.display());
    let mut stage = Stage::new(Settings::new(Times::TEST).set("tokens.keys", &key));
    let before = Before::of(&stage);
    let peer = Hostile::start(&stage.pair.node, "signalling", "hostile-sig");
    peer.ask(event("gamma", EventType::Create)).unwrap();
    let start = |token: Option<&str>| RoomEvent {
        token: token.map(str::to_owned),
        ..event("gamma", EventType::StartLive)
    };
    for (token, counter, words) in WRONG {
        let (code, said) = peer.is_refused(&start(*token));
        assert_eq!(code, "token", "{token:?}: {said}");
        assert!(said.contains(words), "{token:?}: {said}");
        before.wait_counted(&stage, counter, 1);
    }
    assert_eq!(stage.agent.state("gamma"), "CREATED");
    peer.ask(start(Some(GOOD))).unwrap();
    before.assert_unharmed(&mut stage);
}
