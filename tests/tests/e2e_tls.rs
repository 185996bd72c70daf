//! Sessions by TLS, with the real agent: who is let in is whom the certificate names, and new certificates disturb nobody.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, time::Duration};
use tokio::time::timeout;
use tonic::Code;
use voice_client::{Event, Peer, Role, Tls, Why, proto::v1::MediaHeartbeat};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    certs::{Certs, Issued},
    clock, metrics,
    netns::{Netns, Pair},
};

/// Nothing that is expected takes longer, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const AGENT: &str = "https://127.0.0.1:7400";

/// An agent with TLS, and the authority that its peers' certificates come from.
struct Node {
    agent: Agent,
    pair: Pair,
    certs: Certs,
    /// What the agent's files hold; they are replaced to renew them.
    served: Issued,
}

impl Node {
    fn start() -> Node {
        let (pair, certs) = (Pair::new().unwrap(), Certs::new().unwrap());
        let served = certs.issue("agent", 2).unwrap();
        let settings = [
            ("tls_cert", served.cert.clone()),
            ("tls_key", served.key.clone()),
            ("tls_client_ca", certs.ca()),
        ]
        .iter()
        .fold(Settings::new(Times::TEST), |settings, (key, file)| {
            settings.set(&format!("session.{key}"), &format!("\"{}\"", file.display()))
        });
        let agent = Agent::start(&pair.node, &settings).unwrap();
        Node {
            agent,
            pair,
            certs,
            served,
        }
    }

    fn ns(&self) -> &Netns {
        &self.pair.node
    }

    /// A certificate of the agent's authority for this peer.
    fn peer(&self, name: &str, path: &str) -> Issued {
        named(&self.certs, name, 2, path)
    }

    fn counted(&self, counter: &str) -> u64 {
        let page = metrics::page(self.ns(), "/metrics").unwrap();
        metrics::value(&page, &format!("voice_agent_{counter}_total")).unwrap_or_default()
    }

    /// What the first event of such a peer says: `Ok` for a stream that is up, else the code and the reason.
    fn first(&self, who: (Role, &str), tls: Tls) -> Result<(), (Option<Code>, String)> {
        self.connect(who, Some(tls), AGENT)
    }

    fn connect(&self, who: (Role, &str), tls: Option<Tls>, to: &str) -> Result<(), (Option<Code>, String)> {
        let (role, id, to) = (who.0, who.1.to_owned(), to.to_owned());
        let dialled = self.ns().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut peer = start(role, &id, tls, &to);
                timeout(SOON, peer.next()).await.unwrap().unwrap()
            })
        });
        match dialled.join().unwrap().unwrap() {
            Event::Connected(_) => Ok(()),
            Event::Disconnected(end) => Err(match end.why {
                Why::Status { code, said } => (Some(code), said),
                other => (None, other.to_string()),
            }),
            other => panic!("neither connected nor refused: {other:?}"),
        }
    }
}

fn start(role: Role, id: &str, tls: Option<Tls>, to: &str) -> Peer {
    let mut builder = Peer::builder(role, id).endpoint(to);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    if role == Role::Media {
        builder = builder.heartbeat(MediaHeartbeat::default);
    }
    builder.start().unwrap()
}

fn named(certs: &Certs, name: &str, days: i32, path: &str) -> Issued {
    let names = format!("URI:spiffe://test.example/{path}");
    certs.issue_as(name, days, &names).unwrap()
}

fn tls(node: &Node, own: &Issued) -> Tls {
    Tls::new(node.certs.ca(), &own.cert, &own.key)
}

#[test]
fn a_peer_is_let_in_as_whom_its_certificate_names_and_as_nobody_else() {
    let node = Node::start();
    let one = node.peer("gw-1", "voice-agent/gateway/gw-1");
    let every = node.peer("gateways", "voice-agent/gateway");
    let media = node.peer("sfu-1", "voice-agent/media/sfu-1");
    let stranger = node.peer("web", "ns/shop/sa/web");
    assert_eq!(node.first((Role::Gateway, "gw-1"), tls(&node, &one)), Ok(()));
    assert_eq!(node.first((Role::Gateway, "gw-9"), tls(&node, &every)), Ok(()));
    assert_eq!(node.first((Role::Media, "sfu-1"), tls(&node, &media)), Ok(()));
    for (who, own) in [
        ((Role::Media, "gw-1"), &one),
        ((Role::Gateway, "gw-2"), &one),
        ((Role::Media, "sfu-1"), &every),
        ((Role::Signalling, "gw-1"), &every),
        ((Role::Gateway, "sfu-1"), &media),
    ] {
        let (code, said) = node.first(who, tls(&node, own)).unwrap_err();
        assert_eq!(code, Some(Code::PermissionDenied), "{who:?}: {said}");
        assert!(said.contains("the certificate is for"), "{said}");
    }
    let (code, said) = node
        .first((Role::Gateway, "web"), tls(&node, &stranger))
        .unwrap_err();
    assert_eq!(code, Some(Code::Unauthenticated), "{said}");
    assert!(said.contains("spiffe://"), "{said}");
    assert!(node.counted("session_identity") >= 6);
    let peers = node.agent.json(&["topology"]).unwrap();
    let left = peers["peers"].as_array().unwrap();
    assert!(
        left.iter()
            .all(|peer| peer["peer"] != "gw-2" && peer["peer"] != "web"),
        "{peers}"
    );
}

#[test]
fn no_certificate_a_foreign_one_one_that_is_over_and_no_tls_at_all_are_refused_and_counted() {
    let node = Node::start();
    let good = node.peer("gw-1", "voice-agent/gateway/gw-1");
    let over = named(&node.certs, "late", -1, "voice-agent/gateway/gw-1");
    let others = Certs::new().unwrap();
    let foreign = named(&others, "foreign", 2, "voice-agent/gateway/gw-1");
    for own in [&over, &foreign] {
        let before = node.counted("session_tls_refused");
        let refused = node.first((Role::Gateway, "gw-1"), tls(&node, own));
        assert!(refused.is_err(), "{own:?} was let in");
        clock::wait_for("it is counted", SOON, || {
            node.counted("session_tls_refused") > before
        });
    }
    let before = node.counted("session_tls_refused");
    let plain = node.connect((Role::Gateway, "gw-1"), None, "http://127.0.0.1:7400");
    assert!(plain.is_err(), "a peer without TLS was let in");
    clock::wait_for("it is counted", SOON, || {
        node.counted("session_tls_refused") > before
    });
    // The peer, for its part, does not speak to an agent whose certificate it has no reason to trust.
    let wary = Tls::new(others.ca(), &good.cert, &good.key);
    let (_, said) = node.first((Role::Gateway, "gw-1"), wary).unwrap_err();
    assert!(said.contains("invalid peer certificate"), "{said}");
    let elsewhere = tls(&node, &good).server_name("elsewhere.example");
    let (_, said) = node.first((Role::Gateway, "gw-1"), elsewhere).unwrap_err();
    assert!(said.contains("elsewhere.example"), "{said}");
    assert_eq!(node.first((Role::Gateway, "gw-1"), tls(&node, &good)), Ok(()));
}

#[test]
fn renewed_files_hold_for_new_streams_while_open_ones_go_on_and_broken_files_change_nothing() {
    let node = Node::start();
    let own = node.peer("gw-1", "voice-agent/gateway/gw-1");
    let mine = tls(&node, &own);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let staying = node.ns().spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _in = runtime.enter();
        let mut peer = start(Role::Gateway, "gw-1", Some(mine), AGENT);
        let ends = runtime.spawn(async move {
            let mut ends = 0;
            while let Some(event) = peer.next().await {
                ends += usize::from(matches!(event, Event::Disconnected(_)));
                if ends > 0 {
                    break;
                }
            }
            ends
        });
        let _ = stopped.recv();
        ends.is_finished()
    });
    clock::wait_for("gw-1 is connected", SOON, || {
        let peers = node.agent.json(&["topology"]).unwrap_or_default();
        peers["peers"].as_array().is_some_and(|peers| !peers.is_empty())
    });
    let key = fs::read_to_string(&node.served.key).unwrap();
    fs::write(&node.served.key, "not a key").unwrap();
    clock::wait_for("the broken key is counted", SOON, || {
        node.counted("session_tls_files") > 0
    });
    let other = node.peer("gw-2", "voice-agent/gateway/gw-2");
    assert_eq!(node.first((Role::Gateway, "gw-2"), tls(&node, &other)), Ok(()));
    fs::write(&node.served.key, key).unwrap();

    // Everything anew, from another authority: who comes with the old one is foreign from then on.
    let renewed = Certs::new().unwrap();
    let served = renewed.issue("agent", 3).unwrap();
    fs::copy(&served.cert, &node.served.cert).unwrap();
    fs::copy(&served.key, &node.served.key).unwrap();
    fs::copy(renewed.ca(), node.certs.ca()).unwrap();
    let newcomer = named(&renewed, "gw-3", 2, "voice-agent/gateway/gw-3");
    clock::wait_for("the new files are in force", SOON, || {
        node.first((Role::Gateway, "gw-3"), tls(&node, &newcomer)).is_ok()
    });
    assert!(node.first((Role::Gateway, "gw-2"), tls(&node, &other)).is_err());
    drop(stop);
    assert!(!staying.join().unwrap().unwrap(), "the open stream was dropped");
    let log = node.agent.log();
    assert!(log.contains("new certificate files are in force"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn files_that_cannot_be_used_are_named_by_config_check_doctor_and_a_start() {
    let (pair, certs) = (Pair::new().unwrap(), Certs::new().unwrap());
    let (own, foreign) = (certs.issue("agent", 2).unwrap(), certs.issue("other", 2).unwrap());
    let settings = |key: &std::path::Path| {
        Settings::new(Times::TEST)
            .set("session.tls_cert", &format!("\"{}\"", own.cert.display()))
            .set("session.tls_key", &format!("\"{}\"", key.display()))
            .set("session.tls_client_ca", &format!("\"{}\"", certs.ca().display()))
    };
    let agent = Agent::prepare(&pair.node, &settings(&foreign.key)).unwrap();
    let said = agent.text(&["config", "check"]).unwrap_err().to_string();
    assert!(said.contains("session.tls_key"), "{said}");
    let report = agent.cli(&["doctor"]).unwrap();
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    let line = report.lines().find(|line| line.contains("session TLS")).unwrap();
    assert!(
        line.starts_with("fail") && line.contains("session.tls_key"),
        "{line}"
    );
    let refused = agent.run().unwrap_err().to_string();
    assert!(refused.contains("session.tls_key"), "{refused}");
    agent.configure(&settings(&own.key)).unwrap();
    agent.text(&["config", "check"]).unwrap();
    agent.run().unwrap();
}
