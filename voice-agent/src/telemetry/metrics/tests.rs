//! What the endpoint answers, with a driver that answers and one that does not.

use super::*;
use crate::{
    config::{EtcdConfig, SessionConfig},
    driver::{Figures, Message, Query},
    kernel::{InterfaceStatus, KernelStatus},
    registry::etcd,
    telemetry::counters,
    tokens::Tokens,
};
use hyper::Method;
use std::collections::BTreeSet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use voice_room::{Epoch, Mono, NodeName, config::Mode, timeline::Hold};

fn source() -> (Source, mpsc::Receiver<Message>) {
    let (handle, messages) = Handle::new(8);
    let session = SessionConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        insecure: false,
        tls: None,
        ping_every: Duration::from_secs(30),
        pong_within: Duration::from_secs(15),
        max_peers: 4,
        admit_per_second: 100_000,
        admit_burst: 100_000,
        max_rooms: 64,
        events_per_second: 100,
        event_burst: 100,
    };
    let node = NodeName::new("node").unwrap();
    let source = Source {
        handle,
        sessions: Sessions::new(
            node,
            Epoch::default(),
            50_000..=60_000,
            &session,
            Tokens::default(),
            crate::tiers::Tiers::default(),
            None,
        ),
        vitals: Vitals::new().unwrap(),
        mode: Mode::Enforce.into(),
        registry: Registry::Local,
        history: None,
    };
    (source, messages)
}

fn figures() -> Figures {
    let mut figures = Figures {
        kernel: KernelStatus {
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                index: 2,
                xdp: "occupied by other (id 7)".into(),
                tc_ingress: "tcx".into(),
                tc_egress: "not attached: no such device".into(),
            }],
            passed_by_reason: vec![("tc-ingress".into(), "unbound".into(), 7)],
            ..KernelStatus::default()
        },
        ..Figures::default()
    };
    figures.tally.holds.insert(Hold::Contradiction, 3);
    figures.rooms = voice_room::State::ALL.map(|state| (state, 1)).to_vec();
    figures
}

async fn get(path: &str, source: &Source) -> Response<String> {
    let request = Request::builder().uri(path).body(()).unwrap();
    answer(&request, source).await
}

/// What stands before each `=` inside braces.
fn label_names(page: &str) -> BTreeSet<&str> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let braces = samples.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0));
    let pairs = braces.flat_map(|labels| labels.split("\","));
    pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).collect()
}

#[tokio::test]
async fn no_label_is_a_room_a_peer_or_a_client() {
    counters::note("a_code");
    let (source, _messages) = source();
    let page = page::page(Some(&figures()), &source).unwrap();
    let expected = [
        "class",
        "code",
        "direction",
        "hold",
        "hook",
        "interface",
        "le",
        "mode",
        "place",
        "reason",
        "result",
        "role",
        "rule",
        "state",
        "verdict",
        "version",
    ];
    assert_eq!(label_names(&page), BTreeSet::from(expected), "{page}");
}

#[tokio::test]
async fn every_figure_has_a_name_with_its_value_and_kinds_that_did_not_happen_are_zero() {
    let (source, _messages) = source();
    let page = page::page(Some(&figures()), &source).unwrap();
    for line in [
        "voice_agent_holds_total{hold=\"contradiction\"} 3",
        "voice_agent_holds_total{hold=\"blast_cap\"} 0",
        "voice_agent_trips_total{rule=\"omitted\"} 0",
        "voice_agent_patrol_differences{class=\"human\",place=\"kernel\"} 0",
        "voice_agent_patrol_repairs_total{place=\"registry\",result=\"done\"} 0",
        "voice_agent_patrol_unknown{place=\"store\"} 0",
        "voice_agent_rooms{state=\"LIVEING\"} 1",
        "voice_agent_sessions{role=\"gateway\"} 0",
        "voice_agent_passed_unjudged_packets_total{hook=\"tc-ingress\",reason=\"unbound\"} 7",
        "voice_agent_interface_attach_info{hook=\"xdp\",interface=\"eth0\",mode=\"occupied\"} 1",
        "voice_agent_interface_attach_info{hook=\"tc-egress\",interface=\"eth0\",mode=\"failed\"} 1",
        "voice_agent_room_packets_total{class=\"rtp\",direction=\"in\",verdict=\"drop\"} 0",
        "voice_agent_trip_mode{mode=\"enforce\"} 1",
        "voice_agent_driver_queue_max_messages 8",
        "voice_agent_driver_answered 1",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in\n{page}");
    }
    for counter in counters::Counter::ALL {
        let name = format!("\nvoice_agent_{}_total ", counter.name());
        assert!(page.contains(&name), "no {name}");
    }
}

#[tokio::test]
async fn a_scrape_is_one_question_to_the_driver() {
    let (source, mut messages) = source();
    let driver = tokio::spawn(async move {
        let mut questions = 0;
        while let Some(message) = messages.recv().await {
            let Message::Query(Query::Figures(to)) = message else {
                panic!("another question")
            };
            questions += 1;
            to.send(Box::new(figures())).unwrap();
        }
        questions
    });
    let page = get("/metrics", &source).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.body().contains("voice_agent_driver_answered 1"));
    drop(source);
    assert_eq!(driver.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_hangs_is_shown_and_not_waited_for() {
    let (source, _messages) = source();
    let began = tokio::time::Instant::now();
    let page = get("/metrics", &source).await;
    assert_eq!(began.elapsed(), FIGURES_WITHIN);
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.body().contains("voice_agent_driver_answered 0"));
    assert!(page.body().contains("voice_agent_last_tick_age_seconds "));
    assert!(page.body().contains("voice_agent_driver_queue_messages 1"));
}

#[tokio::test]
async fn livez_fails_once_the_last_tick_is_older_than_5_s_and_asks_nobody() {
    let (source, mut messages) = source();
    assert_eq!(get("/livez", &source).await.status(), StatusCode::OK);
    source.vitals.ticked(Mono(0));
    assert!(
        source.vitals.tick_age() > ALIVE_WITHIN,
        "this machine runs for longer"
    );
    let dead = get("/livez", &source).await;
    assert_eq!(dead.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(dead.body().starts_with("not alive: the driver's last tick was "));
    assert!(messages.try_recv().is_err());
}

#[tokio::test]
async fn readyz_is_503_before_the_first_tick_while_the_driver_hangs_and_once_told_to_stop() {
    let (source, _messages) = source();
    let ready = async || {
        let answer = get("/readyz", &source).await;
        (answer.status().as_u16(), answer.into_body())
    };
    assert_eq!(ready().await, (503, "not ready: starting\n".into()));
    source.vitals.ticked(crate::driver::now().mono);
    assert_eq!(ready().await, (200, "ready\n".into()));
    source.vitals.ticked(Mono(0));
    assert_eq!(
        ready().await,
        (503, "not ready: the driver does not tick\n".into())
    );
    source.vitals.ticked(crate::driver::now().mono);
    source.vitals.stopping();
    assert_eq!(ready().await, (503, "not ready: stopping\n".into()));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (source, _messages) = source();
    assert_eq!(get("/", &source).await.status(), StatusCode::NOT_FOUND);
    let post = Request::builder()
        .method(Method::POST)
        .uri("/livez")
        .body(())
        .unwrap();
    let refused = answer(&post, &source).await;
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_again_until_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (source, _messages) = source();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(address, source, stop.clone()));
    tokio::task::yield_now().await;
    drop(taken);
    let said = timeout(Duration::from_secs(10), async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                stream
                    .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                return said;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let said = said.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn ownership_in_etcd_has_figures_from_the_start_and_a_node_alone_has_none_of_them() {
    let (mut source, _messages) = source();
    assert!(
        !page::page(None, &source)
            .unwrap()
            .contains("lease_remaining_seconds")
    );
    let config = EtcdConfig {
        endpoints: vec!["http://127.0.0.1:1".into()],
        era: 0,
        ttl: Duration::from_secs(30),
        grace: Duration::from_secs(300),
        username: None,
        password_file: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
    };
    let about = etcd::About {
        node: NodeName::new("node").unwrap(),
        identity: "here".into(),
        address: "127.0.0.1:7400".into(),
        capacity: 10,
    };
    let etcd = etcd::Etcd::prepare(&config, about).unwrap();
    source.registry = Registry::Etcd(etcd.handle());
    let page = page::page(None, &source).unwrap();
    for line in [
        "voice_agent_registry_rooms_held 0",
        "voice_agent_registry_claims_waiting 0",
        "voice_agent_registry_follows 0",
        "voice_agent_lease_held 0",
        "voice_agent_lease_age_seconds 0",
        "voice_agent_lease_remaining_seconds 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
}
