//! Traces of a real agent at a real OpenTelemetry receiver; and that one which is away or hangs changes nothing for rooms.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{net::TcpListener, time::Duration};
use voice_agent::proto::v1::{
    EventType, MediaHeartbeat, RoomEvent, ServedRoom, agent_message::Message as FromAgent, event_result,
    peer_message::Message as ToAgent,
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    certs::Certs,
    clock, metrics,
    netns::{Netns, Pair},
    peer::{Connection, Identity, Speech},
    rotel::{Rotel, Span},
    stage::{ALPHA, SOON, Stage},
    tls_front::TlsFront,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const ROOM: &str = "talk-1";
/// Spans are gathered, sent and printed.
const ARRIVE: Duration = Duration::from_secs(15);

fn settings(endpoint: &str) -> Settings {
    Settings::new(Times::TEST).set("traces.endpoint", &format!("{endpoint:?}"))
}

/// A media server whose requests belong to a trace.
fn traced(ns: &Netns) -> Connection {
    let sfu = Identity {
        role: "media",
        id: "sfu-1".into(),
        rooms: vec![],
    };
    let how = Speech {
        protocol: 2,
        traceparent: Some(format!("00-{TRACE}-{CALLER}-01")),
    };
    Connection::open_as(ns, sfu, how).unwrap()
}

/// Asks for a change of the room and waits until it is accepted.
fn ask(peer: &Connection, request_id: u64, event: EventType) {
    peer.send(ToAgent::RoomEvent(RoomEvent {
        request_id,
        room: ROOM.into(),
        event: event.into(),
        ..RoomEvent::default()
    }));
    clock::wait_for("the answer", SOON, || {
        let answers = peer.received(|message| match message {
            FromAgent::EventResult(result) if result.request_id == request_id => Some(result.clone()),
            _ => None,
        });
        answers.first().is_some_and(|(_, result)| {
            let accepted = matches!(result.result, Some(event_result::Result::Accepted(_)));
            assert!(accepted, "{result:?}");
            true
        })
    });
}

#[test]
fn a_peers_trace_goes_through_prepare_store_and_kernel_to_a_real_receiver_with_the_right_parents() {
    let pair = Pair::new().unwrap();
    let rotel = Rotel::start(&pair.node).unwrap();
    let agent = Agent::start(&pair.node, &settings(&rotel.endpoint())).unwrap();
    let participant = Identity {
        role: "gateway",
        id: "gateway-1".into(),
        rooms: vec![ROOM.into()],
    };
    let votes = Speech {
        protocol: 2,
        traceparent: None,
    };
    let _participant = Connection::open_as(&pair.node, participant, votes).unwrap();
    let sfu = traced(&pair.node);
    ask(&sfu, 1, EventType::Create);
    ask(&sfu, 2, EventType::StartLive);
    sfu.send(ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms: vec![ServedRoom {
            room: ROOM.into(),
            ports: vec![50_100],
            participants: 2,
            ..ServedRoom::default()
        }],
        capacity: None,
    }));
    clock::wait_for("all spans", ARRIVE, || {
        let spans = rotel.spans();
        let there = |name: &str| spans.iter().any(|span| span.name == name);
        [
            "CREATE",
            "START_LIVE",
            "sync",
            "prepare",
            "store.commit",
            "kernel.bind",
        ]
        .into_iter()
        .all(there)
    });
    let spans = rotel.spans();
    let find = |name: &str| -> &Span { spans.iter().find(|span| span.name == name).unwrap() };
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    let (create, start) = (find("CREATE"), find("START_LIVE"));
    assert_eq!([&create.parent, &start.parent], [CALLER, CALLER]);
    assert!(
        start.attributes.contains(&"voice.state: Str(LIVEING)".into()),
        "{start:?}"
    );
    assert_eq!(find("sync").parent, start.id);
    let prepare = find("prepare");
    assert_eq!(prepare.parent, find("sync").id);
    assert!(
        prepare.attributes.contains(&"voice.peer: Str(gateway-1)".into()),
        "{prepare:?}"
    );
    let commits: Vec<&str> = spans
        .iter()
        .filter(|s| s.name == "store.commit")
        .map(|s| s.parent.as_str())
        .collect();
    assert_eq!(commits, [create.id.as_str(), start.id.as_str()]);
    assert_eq!(find("kernel.bind").parent, start.id);
    assert!(spans.iter().all(|span| span.problem.is_empty()), "{spans:#?}");
    assert!(rotel.said().contains("service.name: Str(voice-agent)"));
    let page = metrics::page(&pair.node, "/metrics").unwrap();
    assert_eq!(
        metrics::value(&page, "voice_agent_spans_sent_total"),
        Some(spans.len() as u64)
    );
    assert_eq!(metrics::value(&page, "voice_agent_spans_dropped_total"), Some(0));
    // The same trace is in what was stored and told.
    let events = agent.text(&["events", ROOM, "--json"]).unwrap();
    assert_eq!(events.matches(TRACE).count(), 2, "{events}");
    assert!(agent.log().contains(TRACE), "and in the log");
}

#[test]
fn spans_go_over_tls_to_a_receiver_whose_certificate_the_configured_authority_signed() {
    let pair = Pair::new().unwrap();
    let certs = Certs::new().unwrap();
    let rotel = Rotel::start(&pair.node).unwrap();
    let front = TlsFront::before(&pair.node, rotel.port(), &certs.issue("receiver", 2).unwrap()).unwrap();
    let ca = format!("{:?}", certs.ca());
    let settings = settings(&front.endpoint()).set("traces.ca_file", &ca);
    let agent = Agent::start(&pair.node, &settings).unwrap();
    let sfu = traced(&pair.node);
    ask(&sfu, 1, EventType::Create);
    ask(&sfu, 2, EventType::StartLive);
    clock::wait_for("both requests", ARRIVE, || {
        let spans = rotel.spans();
        let of = |name: &str| spans.iter().any(|s| s.name == name && s.trace == TRACE);
        of("CREATE") && of("START_LIVE")
    });
    let page = metrics::page(&pair.node, "/metrics").unwrap();
    assert_eq!(metrics::value(&page, "voice_agent_spans_dropped_total"), Some(0));
    assert_eq!(agent.state(ROOM), "LIVEING");
}

/// A room is cut as ever, whatever becomes of spans. What the agent logged.
fn cuts_all_the_same(pair: Pair, settings: Settings) -> String {
    let stage = Stage::on(pair, settings).unwrap();
    let sfu = traced(&stage.pair.node);
    ask(&sfu, 1, EventType::Create);
    ask(&sfu, 2, EventType::StartLive);
    stage.alpha.room.set_listed(false);
    stage.alpha.room.set_mixed(false);
    stage.wait_cut(ALPHA, stage.patience());
    let dropped = || {
        let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
        metrics::value(&page, "voice_agent_spans_dropped_total").unwrap_or(0)
    };
    clock::wait_for("spans are counted as dropped", ARRIVE, || dropped() > 0);
    assert_eq!(
        stage.agent.terminate().unwrap(),
        Some(0),
        "and nothing holds its end up"
    );
    stage.agent.log()
}

#[test]
fn a_receiver_that_another_authority_vouches_for_is_sent_nothing_and_changes_nothing_for_rooms() {
    let pair = Pair::new().unwrap();
    let (certs, others) = (Certs::new().unwrap(), Certs::new().unwrap());
    let rotel = Rotel::start(&pair.node).unwrap();
    let issued = others.issue("receiver", 2).unwrap();
    let front = TlsFront::before(&pair.node, rotel.port(), &issued).unwrap();
    let ca = format!("{:?}", certs.ca());
    let log = cuts_all_the_same(pair, settings(&front.endpoint()).set("traces.ca_file", &ca));
    assert!(rotel.spans().is_empty(), "{}", rotel.said());
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("spans are not taken"))
        .collect();
    // Once, and not with each batch.
    assert_eq!(told.len(), 1, "{log}");
    for said in ["invalid peer certificate", "traces.endpoint"] {
        assert!(told[0].contains(said), "{said}: {told:?}");
    }
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused_at_the_start_with_its_name() {
    let pair = Pair::new().unwrap();
    for (file, said) in [
        ("/nowhere/ca.crt", "traces.ca_file"),
        ("/proc/version", "traces."),
    ] {
        let ca = format!("{file:?}");
        let settings = settings("https://127.0.0.1:9").set("traces.ca_file", &ca);
        let problem = Agent::start(&pair.node, &settings).unwrap_err();
        let problem = format!("{problem:#}");
        for said in ["traces.ca_file", file, said] {
            assert!(problem.contains(said), "{said}: {problem}");
        }
    }
}

#[test]
fn a_receiver_that_is_away_changes_nothing_for_rooms() {
    cuts_all_the_same(Pair::new().unwrap(), settings("http://127.0.0.1:9"));
}

#[test]
fn a_receiver_that_hangs_changes_nothing_for_rooms() {
    let pair = Pair::new().unwrap();
    let silent = pair
        .node
        .run(|| TcpListener::bind("127.0.0.1:0"))
        .unwrap()
        .unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    cuts_all_the_same(pair, settings(&endpoint));
    drop(silent);
}
