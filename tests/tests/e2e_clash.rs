//! Two rooms on one port that claim the same 5-tuple, or the same SSRC: it is nobody's, that is said and counted, and a cut of one
//! room costs the other no packet.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{net::Ipv4Addr, time::Duration};
use voice_agent::proto::v1::{Flow, MediaHeartbeat, ServedRoom, Ssrc, peer_message::Message as ToAgent};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, evidence, metrics,
    netns::{NODE_IP, Pair, USER_IP},
    peer::{Connection, Identity},
    rtp::Endpoint,
    stage::SOON,
};

const SHARED: u16 = 50_000;
/// Of the healthy room's user: where it sends from, and what.
const USER: u16 = 40_000;
const STREAM: u32 = 7;

fn flow() -> Flow {
    Flow {
        local_port: SHARED.into(),
        remote_address: USER_IP.parse::<Ipv4Addr>().unwrap().octets().to_vec(),
        remote_port: USER.into(),
    }
}

fn ssrc() -> Ssrc {
    Ssrc {
        local_port: SHARED.into(),
        ssrc: STREAM,
    }
}

/// Two media servers; each says that this is its room's.
fn clash(marks: &ServedRoom) {
    let pair = Pair::new().unwrap();
    let agent = Agent::start(&pair.node, &Settings::new(Times::TEST)).unwrap();
    let servers = ["healthy", "thief"].map(|room| {
        let identity = Identity {
            role: "media",
            id: format!("media-{room}"),
            rooms: Vec::new(),
        };
        (room, Connection::open(&pair.node, identity).unwrap())
    });
    let beat = || {
        for (room, connection) in &servers {
            let served = ServedRoom {
                room: (*room).into(),
                participants: 1,
                ..marks.clone()
            };
            let rooms = vec![served];
            connection.send(ToAgent::MediaHeartbeat(MediaHeartbeat {
                rooms,
                capacity: None,
            }));
        }
    };
    let told = |room: &str| !evidence::entries(&agent, room, "mark_shared").is_empty();
    clock::wait_for("both are told", SOON * 2, || {
        beat();
        told("healthy") && told("thief")
    });
    let page = metrics::page(&pair.node, "/metrics").unwrap();
    let noted = metrics::value(&page, "voice_agent_notes_total{code=\"mark_clash\"}");
    assert!(noted >= Some(2), "{noted:?}");

    let node = Endpoint::bind(&pair.node, (NODE_IP.parse::<Ipv4Addr>().unwrap(), SHARED).into()).unwrap();
    let user = Endpoint::bind(&pair.users, (USER_IP.parse::<Ipv4Addr>().unwrap(), USER).into()).unwrap();
    agent
        .text(&["block", "thief", "--for", "60s", "--reason", "a test"])
        .unwrap();
    assert_eq!(agent.state("thief"), "EXPIRED");
    let there = user.sender(node.addr().unwrap(), STREAM, 200);
    let back = node.sender(user.addr().unwrap(), STREAM, 200);
    let end = clock::now() + Duration::from_secs(3);
    while clock::now() < end {
        beat();
        std::thread::sleep(Times::TEST.heartbeat);
    }
    there.stop();
    back.stop();
    clock::wait_for("all that was sent came", SOON, || {
        (node.count(), user.count()) == (user.sent(), node.sent())
    });
    assert!(user.sent() > 300, "{}", user.sent());
    assert_eq!(agent.state("healthy"), "LIVEING");
}

#[test]
fn a_5_tuple_that_two_rooms_claim_is_cut_with_neither_and_counted() {
    clash(&ServedRoom {
        flows: vec![flow()],
        ..ServedRoom::default()
    });
}

#[test]
fn an_ssrc_that_two_rooms_claim_is_cut_with_neither_and_counted() {
    clash(&ServedRoom {
        ssrcs: vec![ssrc()],
        ..ServedRoom::default()
    });
}
