//! Every mistake a peer can make in a message, and what it is told.

use super::*;
use voice_room::{PeerId, SourceId, timeline::Actor};

const RANGE: RangeInclusive<u16> = 50_000..=60_000;

fn peer(role: Role) -> PeerInfo {
    PeerInfo {
        id: PeerId::new("p").unwrap(),
        role,
        tag: String::new(),
        weight: None,
        rooms: Vec::new(),
        trace: None,
        parent: None,
        source: SourceId::new("peer/p").unwrap(),
    }
}

fn event(kind: EventType) -> v1::RoomEvent {
    v1::RoomEvent {
        room: "r".into(),
        event: kind.into(),
        ..Default::default()
    }
}

fn said(result: Result<impl std::fmt::Debug, Refusal>) -> String {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.code, "malformed");
    refusal.message
}

#[test]
fn a_media_server_may_start_rooms_and_a_gateway_may_not_without_keys() {
    let ask = |role| {
        room_event(
            &peer(role),
            event(EventType::StartLive),
            &Tokens::default(),
            Wall(0),
        )
        .unwrap()
        .ask
    };
    let credential = |role| match ask(role) {
        Ask::StartLive { credential, .. } => credential,
        other => panic!("{other:?}"),
    };
    assert_eq!(credential(Role::Media), Credential::Trusted);
    assert!(
        matches!(credential(Role::Gateway), Credential::Invalid(why) if why.contains("only trusted sources"))
    );
    assert!(matches!(credential(Role::Signalling), Credential::Invalid(_)));
}

#[test]
fn a_room_event_carries_all_that_was_said_to_the_core() {
    let request = room_event(
        &peer(Role::Gateway),
        v1::RoomEvent {
            incarnation: Some(3),
            sequence: Some(9),
            op_id: Some("op".into()),
            version: Some(7),
            reason: "over".into(),
            ..event(EventType::Close)
        },
        &Tokens::default(),
        Wall(0),
    )
    .unwrap();
    assert_eq!(
        request,
        Request {
            room: RoomId::new("r").unwrap(),
            ask: Ask::Close {
                version: Version(7),
                reason: "over".into()
            },
            actor: Actor::Peer(PeerId::new("p").unwrap()),
            op_id: Some(OpId::new("op").unwrap()),
            incarnation: Some(Incarnation(3)),
            sequence: Some(9),
            trace_id: None,
            reply: None,
            participants: Vec::new(),
        }
    );
}

#[test]
fn a_mistake_in_a_room_event_is_refused_with_what_is_allowed() {
    let with = |event| {
        said(room_event(
            &peer(Role::Gateway),
            event,
            &Tokens::default(),
            Wall(0),
        ))
    };
    assert!(with(event(EventType::Close)).contains("CLOSE needs `version`"));
    assert!(with(event(EventType::Unspecified)).contains("allowed are CREATE"));
    let unknown = v1::RoomEvent {
        event: 99,
        ..event(EventType::Create)
    };
    assert!(with(unknown).contains("event 99"));
    let bad_room = v1::RoomEvent {
        room: "a b".into(),
        ..event(EventType::Create)
    };
    assert!(with(bad_room).contains("A-Z a-z 0-9"));
    let long = v1::RoomEvent {
        reason: "x".repeat(257),
        ..event(EventType::HostDisconnect)
    };
    assert!(with(long).contains("at most 256 bytes"));
    let control = v1::RoomEvent {
        reason: "a\nb".into(),
        ..event(EventType::HostDisconnect)
    };
    assert!(with(control).contains("control characters"));
    let token = v1::RoomEvent {
        token: Some("x".repeat(8193)),
        ..event(EventType::StartLive)
    };
    assert!(with(token).contains("at most 8192 bytes"));
}

#[test]
fn a_client_event_without_a_kind_or_a_client_is_refused() {
    let gateway = peer(Role::Gateway);
    let good = v1::ClientEvent {
        room: "r".into(),
        client_id: "c".into(),
        kind: 1,
        ..Default::default()
    };
    assert_eq!(client_event(&gateway, &good).unwrap().what, ClientAct::Join);
    let kindless = v1::ClientEvent {
        kind: 0,
        ..good.clone()
    };
    assert!(said(client_event(&gateway, &kindless)).contains("JOIN, LEAVE, KEEPALIVE"));
    let nobody = v1::ClientEvent {
        client_id: String::new(),
        ..good
    };
    assert!(said(client_event(&gateway, &nobody)).contains("client id"));
}

fn listing(room: &str, ports: &[u32]) -> v1::MediaHeartbeat {
    v1::MediaHeartbeat {
        rooms: vec![v1::ServedRoom {
            room: room.into(),
            ports: ports.to_vec(),
            participants: 1,
            host: None,
            ..Default::default()
        }],
        capacity: None,
    }
}

#[test]
fn ports_outside_the_range_refuse_the_heartbeat_whole_and_the_edges_are_inside() {
    let media = peer(Role::Media);
    let good = heartbeat(&media, &listing("r", &[60_000, 50_000, 50_000]), &RANGE).unwrap();
    assert_eq!(good.rooms[0].ports, [Port(50_000), Port(60_000)]);
    assert_eq!(good.source.as_str(), "peer/p");
    for port in [0, 49_999, 60_001, 65_536 + 50_000, u32::MAX] {
        let refused = said(heartbeat(&media, &listing("r", &[port]), &RANGE));
        assert!(
            refused.contains("outside the media range 50000-60000"),
            "{refused}"
        );
    }
}

#[test]
fn a_heartbeat_is_bounded_and_a_room_stands_in_it_once() {
    let media = peer(Role::Media);
    let many = |n: usize| v1::MediaHeartbeat {
        rooms: (0..n)
            .map(|n| listing(&format!("r{n}"), &[]).rooms.remove(0))
            .collect(),
        capacity: None,
    };
    assert!(heartbeat(&media, &many(MAX_ROOMS), &RANGE).is_ok());
    assert!(said(heartbeat(&media, &many(MAX_ROOMS + 1), &RANGE)).contains("at most 10000"));
    let ports = vec![50_000; MAX_PORTS + 1];
    assert!(said(heartbeat(&media, &listing("r", &ports), &RANGE)).contains("at most 4096"));
    let mut twice = listing("r", &[]);
    twice.rooms.extend(listing("r", &[]).rooms);
    assert!(said(heartbeat(&media, &twice, &RANGE)).contains("listed twice"));
}

#[test]
fn only_a_media_server_may_send_heartbeats() {
    for role in [Role::Gateway, Role::Signalling] {
        let refusal = heartbeat(&peer(role), &listing("r", &[]), &RANGE).unwrap_err();
        assert_eq!(refusal.code, "not_allowed");
    }
}

#[test]
fn an_acknowledgement_without_an_epoch_is_refused() {
    let ack_of = v1::ExpiredAck {
        room: "r".into(),
        version: 4,
        epoch: None,
    };
    assert!(said(ack(&ack_of)).contains("needs `epoch`"));
}

#[test]
fn a_traceparent_gives_its_trace_id_and_anything_else_none() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(
        trace_id(good).unwrap().as_str(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    for bad in [
        "",
        "00-abc-def-01",
        "00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ] {
        assert_eq!(trace_id(bad), None, "{bad}");
    }
}

fn with_marks(flows: Vec<v1::Flow>, ssrcs: Vec<v1::Ssrc>) -> v1::MediaHeartbeat {
    let mut listing = listing("r", &[50_000]);
    (listing.rooms[0].flows, listing.rooms[0].ssrcs) = (flows, ssrcs);
    listing
}

fn wire_flow(local_port: u32, remote_address: &[u8], remote_port: u32) -> v1::Flow {
    v1::Flow {
        local_port,
        remote_address: remote_address.to_vec(),
        remote_port,
    }
}

#[test]
fn flows_and_ssrcs_of_a_heartbeat_become_the_rooms() {
    let media = peer(Role::Media);
    let flows = vec![
        wire_flow(50_000, &[10, 0, 0, 1], 4000),
        wire_flow(50_000, &[10, 0, 0, 1], 4000),
        wire_flow(50_000, &std::net::Ipv6Addr::LOCALHOST.octets(), 4000),
    ];
    let ssrcs = vec![v1::Ssrc {
        local_port: 50_000,
        ssrc: 7,
    }];
    let good = heartbeat(&media, &with_marks(flows, ssrcs), &RANGE).unwrap();
    let words: Vec<String> = good.rooms[0].flows.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["50000 with 10.0.0.1:4000", "50000 with [::1]:4000"]);
    assert_eq!(good.rooms[0].ssrcs[0].to_string(), "50000 from SSRC 00000007");
}

#[test]
fn a_wrong_flow_or_ssrc_refuses_the_heartbeat_whole_and_says_what_is_allowed() {
    let media = peer(Role::Media);
    let flow = |port, address: &[u8], remote| with_marks(vec![wire_flow(port, address, remote)], vec![]);
    let v4 = [10, 0, 0, 1];
    let many = vec![wire_flow(50_000, &v4, 1); MAX_MARKS + 1];
    let ssrc = |local_port| v1::Ssrc { local_port, ssrc: 7 };
    for (wrong, told) in [
        (
            flow(49_999, &v4, 1),
            "port 49999 is outside the media range 50000-60000",
        ),
        (flow(50_000, &[10, 0, 0], 1), "has 3 bytes; IPv4 has 4, IPv6 16"),
        (
            flow(50_000, &v4, 0),
            "remote port 0 of a flow; allowed are 1 to 65535",
        ),
        (flow(50_000, &v4, 65_536), "remote port 65536 of a flow"),
        (with_marks(many, vec![]), "4097 flows, at most 4096 are allowed"),
        (
            with_marks(vec![], vec![ssrc(50_000); MAX_MARKS + 1]),
            "4097 SSRCs, at most 4096",
        ),
        (with_marks(vec![], vec![ssrc(60_001)]), "port 60001 is outside"),
    ] {
        let refused = said(heartbeat(&media, &wrong, &RANGE));
        assert!(refused.contains(told), "{refused}");
    }
}
