//! The whole agent on a LiveKit that speaks the public formats: a room is followed, goes silent and is cut by the flows that
//! somebody told; webhooks that are forged, wrong, late or double cut and end nobody.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    thread,
    time::Duration,
};
use voice_agent::proto::v1::{Flow, MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, evidence,
    livekit::{self, LiveKit, Webhook},
    metrics,
    netns::{NODE_IP, Pair, USER_IP},
    peer::{Connection, Identity},
    rtp::{Endpoint, Sender},
    stage::SOON,
};

/// LiveKit's one UDP port for all rooms.
const MUXED: u16 = 50_000;
const USERS: [(&str, &str, u16); 2] = [("alpha", "ann", 40_000), ("beta", "ben", 40_001)];

/// Two rooms with one member each, whose media shares a port. Dropped in this order.
struct Scene {
    senders: Vec<Sender>,
    back: Vec<Option<Sender>>,
    users: Vec<Endpoint>,
    server: Endpoint,
    marks: Connection,
    agent: Agent,
    livekit: LiveKit,
    pair: Pair,
    _secret: tempfile::NamedTempFile,
}

impl Scene {
    fn new() -> Scene {
        let pair = Pair::new().unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), livekit::SECRET).unwrap();
        fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let settings = Settings::new(Times::TEST)
            .set("livekit.api", &format!("\"{}\"", livekit::API))
            .set("livekit.api_key", &format!("\"{}\"", livekit::KEY))
            .set(
                "livekit.api_secret_file",
                &format!("\"{}\"", secret.path().display()),
            )
            .set("livekit.webhook_listen", &format!("\"{}\"", livekit::WEBHOOKS));
        let livekit = LiveKit::start(&pair.node).unwrap();
        let agent = Agent::start(&pair.node, &settings).unwrap();
        let identity = Identity {
            role: "media",
            id: "marks".into(),
            rooms: Vec::new(),
        };
        let marks = Connection::open(&pair.node, identity).unwrap();
        let muxed = addr(NODE_IP, MUXED);
        let server = Endpoint::bind(&pair.node, muxed).unwrap();
        let mut scene = Scene {
            senders: Vec::new(),
            back: Vec::new(),
            users: Vec::new(),
            server,
            marks,
            agent,
            livekit,
            pair,
            _secret: secret,
        };
        for (room, who, port) in USERS {
            let user = Endpoint::bind(&scene.pair.users, addr(USER_IP, port)).unwrap();
            scene.senders.push(user.sender(muxed, port.into(), 50));
            scene.back.push(Some(scene.server.sender(
                addr(USER_IP, port),
                u32::from(port) + 1,
                50,
            )));
            scene.users.push(user);
            scene.livekit.join(room, who);
            assert_eq!(scene.post(&Webhook::of("participant_joined", room, who)), 200);
        }
        scene.wait_bound();
        scene
    }

    /// LiveKit tells no flows: somebody else has to, with rooms that it lists and does not serve.
    fn tell_flows(&self) {
        let rooms = USERS.map(|(room, _, port)| ServedRoom {
            room: room.into(),
            flows: vec![Flow {
                local_port: MUXED.into(),
                remote_address: USER_IP.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
                remote_port: port.into(),
            }],
            ..ServedRoom::default()
        });
        self.marks.send(ToAgent::MediaHeartbeat(MediaHeartbeat {
            rooms: rooms.to_vec(),
            capacity: None,
        }));
    }

    fn wait_bound(&self) {
        for (room, ..) in USERS {
            clock::wait_for("live, and its packets are seen both ways", SOON * 4, || {
                self.tell_flows();
                let view = self.agent.room(room).unwrap_or_default();
                let moves = |key: &str| view["witness"][key].as_u64() > Some(0);
                view["state"] == "LIVEING" && moves("rtp_in_packets") && moves("rtp_out_packets")
            });
        }
    }

    fn post(&self, webhook: &Webhook) -> u16 {
        webhook.post(&self.pair.node).unwrap()
    }

    fn counter(&self, name: &str) -> u64 {
        let page = metrics::page(&self.pair.node, "/metrics").unwrap();
        let series = format!("voice_agent_livekit_{name}_total");
        metrics::value(&page, &series).unwrap_or_else(|| panic!("no {series}"))
    }

    /// Longer than a room may be without progress.
    fn assert_live_throughout(&self, rooms: &[&str]) {
        let end = clock::now() + Times::TEST.stuck_after + Duration::from_secs(2);
        while clock::now() < end {
            for room in rooms {
                assert_eq!(self.agent.state(room), "LIVEING", "{room}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn addr(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

#[test]
fn a_room_that_livekit_forgot_while_its_user_sends_on_is_cut_and_its_neighbour_on_the_port_is_not() {
    let mut scene = Scene::new();
    let view = scene.agent.room("alpha").unwrap();
    assert_eq!(
        (view["source"].as_str(), view["host"].as_str()),
        (Some("livekit"), Some("ann"))
    );
    scene.livekit.forget("alpha");
    scene.back[0] = None;
    clock::wait_for("the cut", Times::TEST.stuck_after + SOON * 4, || {
        evidence::cut(&scene.agent, "alpha").is_some()
    });
    assert_eq!(scene.agent.state("alpha"), "EXPIRED");
    assert_eq!(scene.agent.state("beta"), "LIVEING");
    let heard = scene.users[1].count();
    clock::wait_for("beta goes on", SOON, || scene.users[1].count() > heard + 20);
    assert_eq!(evidence::entries(&scene.agent, "beta", "trip").len(), 0);
    drop(scene.senders.drain(..));
}

#[test]
fn webhooks_that_livekit_did_not_sign_are_answered_401_counted_and_end_no_room() {
    let scene = Scene::new();
    let good = || Webhook::of("room_finished", "beta", "ben");
    let forged = [
        Webhook {
            secret: "another-secret-of-more-than-thirty-two-chars",
            ..good()
        },
        Webhook {
            key: "APIother",
            ..good()
        },
        Webhook { lasts: -61, ..good() },
    ];
    for webhook in &forged {
        assert_eq!(scene.post(webhook), 401, "{webhook:?}");
    }
    let other_body = Webhook {
        signed: Webhook::of("room_started", "beta", "ben").body,
        ..good()
    };
    assert_eq!(scene.post(&other_body), 401);
    assert_eq!((scene.counter("bad_tokens"), scene.counter("bad_hashes")), (3, 1));
    let garbage = ["not json", "{}", r#"{"event":"participant_left"}"#].map(Webhook::new);
    for webhook in &garbage {
        assert_eq!(scene.post(webhook), 400, "{webhook:?}");
    }
    assert_eq!(scene.post(&Webhook::new(&" ".repeat((1 << 20) + 1))), 413);
    assert_eq!(scene.counter("bad_requests"), 4);
    scene.assert_live_throughout(&["alpha", "beta"]);
    assert!(!scene.agent.log().contains(livekit::SECRET));
}

#[test]
fn webhooks_that_are_late_double_or_in_another_order_change_nothing_that_livekit_does_not_confirm() {
    let scene = Scene::new();
    for event in [
        "participant_left",
        "room_finished",
        "participant_joined",
        "participant_joined",
        "room_started",
    ] {
        for (room, who, _) in USERS {
            assert_eq!(scene.post(&Webhook::of(event, room, who)), 200);
        }
    }
    assert_eq!(
        scene.post(&Webhook::of("participant_left", "nowhere", "nobody")),
        200
    );
    scene.assert_live_throughout(&["alpha", "beta"]);
    for (room, who, _) in USERS {
        assert_eq!(scene.agent.room(room).unwrap()["host"], who);
        let changes = evidence::entries(&scene.agent, room, "transition");
        assert!(
            changes
                .iter()
                .all(|change| change["new_state"] != "GRACE_CLOSING"),
            "{changes:?}"
        );
    }
    assert_eq!(scene.agent.state("nowhere"), "");
}
