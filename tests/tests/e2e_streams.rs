//! Many streams, and streams that break, over sockets in two namespaces: a crowd of gateways that comes back at once, packets
//! that are dropped without a word, and ten thousand reconnects of which nothing may be left in the agent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use futures::StreamExt;
use nix::unistd::Pid;
use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::runtime::Runtime;
use voice_agent::{
    proto::v1::{ClientEvent, ClientEventKind, MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent},
    session::Role,
};
use voice_client::{Event, Peer, PeerClient, Why};
use voice_room::{Mono, State};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    files::allow_files,
    member::Member,
    netns::{NODE_IP, Netns, Pair, USER_DEV},
};

const ROOM: &str = "r";
const SOON: Duration = Duration::from_secs(60);
const URL: &str = "http://10.88.0.1:7400";
const CROWD: usize = 2000;
/// Streams that may begin a second, and at once: so few that the crowd feels it.
const RATE: u32 = 200;

fn settings() -> Settings {
    let times = Times {
        heartbeat: Duration::from_secs(1),
        stuck_after: Duration::from_secs(120),
        isolation: Duration::from_secs(60),
        witness_window: Duration::from_secs(5),
    };
    Settings::new(times)
        .set("session.listen", &format!("\"{NODE_IP}:7400\""))
        .set("session.insecure", "true")
        .set("log.filter", "\"warn\"")
}

fn media(ns: &Netns) -> Member {
    let serves = || MediaHeartbeat {
        rooms: vec![ServedRoom {
            room: ROOM.into(),
            participants: 2,
            ..ServedRoom::default()
        }],
        capacity: None,
    };
    let media = Peer::builder(Role::Media, "sfu")
        .endpoint(URL)
        .heartbeat(serves)
        .heartbeat_every(Duration::from_secs(1));
    let media = Member::start(ns, media).unwrap();
    clock::wait_for("the room is live", SOON, || {
        media
            .holds(ROOM)
            .is_some_and(|(state, _)| state == State::Liveing)
    });
    media
}

fn peers(agent: &Agent) -> usize {
    let topology = agent.json(&["topology"]).unwrap_or_default();
    topology["peers"].as_array().map_or(0, Vec::len)
}

fn kib(pid: Pid, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_start_matches(':')
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Gateways on the client library, all on one thread across the wire.
struct Crowd {
    heard: Arc<Mutex<Heard>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Heard {
    connected: Vec<Mono>,
    /// How long those who were sent away wait.
    sent_away: Vec<Duration>,
}

impl Crowd {
    fn start(ns: &Netns) -> Crowd {
        let runtime = ns.run(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
        });
        let runtime = runtime.unwrap().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let entered = runtime.enter();
        for n in 0..CROWD {
            let peer = Peer::builder(Role::Gateway, &format!("gw-{n}")).endpoint(URL);
            let mut peer = peer.room(ROOM).start().unwrap();
            let heard = heard.clone();
            runtime.spawn(async move {
                while let Some(event) = peer.next().await {
                    heard.lock().unwrap().take(event);
                }
            });
        }
        drop(entered);
        Crowd {
            heard,
            runtime: Some(runtime),
        }
    }

    fn connected(&self) -> usize {
        self.heard.lock().unwrap().connected.len()
    }
}

impl Heard {
    fn take(&mut self, event: Event) {
        match event {
            Event::Connected(_) => self.connected.push(clock::now()),
            Event::Disconnected(end) => {
                if let (Why::Status { said, .. }, Some(wait)) = (end.why, end.again_in)
                    && said.contains("admit_per_second")
                {
                    self.sent_away.push(wait);
                }
            }
            _ => {}
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn two_thousand_gateways_that_come_back_at_once_are_let_in_at_the_rate_and_all_are_in_at_the_end() {
    allow_files(3 * CROWD as u64).unwrap();
    let pair = Pair::new().unwrap();
    let settings = settings()
        .set("session.admit_per_second", &RATE.to_string())
        .set("session.admit_burst", &RATE.to_string());
    let agent = Agent::start(&pair.node, &settings).unwrap();
    let media = media(&pair.node);
    let crowd = Crowd::start(&pair.users);
    let long = Duration::from_secs(180);
    clock::wait_for("all are in", long, || crowd.connected() >= CROWD);
    let steady = kib(agent.pid().unwrap(), "VmRSS");
    *crowd.heard.lock().unwrap() = Heard::default();

    agent.kill().unwrap();
    agent.run().unwrap();
    clock::wait_for("all are in again", long, || crowd.connected() >= CROWD);
    let most = kib(agent.pid().unwrap(), "VmHWM");
    assert_eq!(peers(&agent), CROWD + 1);
    let heard = crowd.heard.lock().unwrap();
    let first = heard.connected[0];
    for (n, at) in (1_u32..).zip(&heard.connected) {
        // Half a second for what came to be seen late.
        let allowed = f64::from(RATE) * (1.5 + at.since(first).as_secs_f64());
        assert!(f64::from(n) <= allowed, "{n} were in after {:?}", at.since(first));
    }
    let away = &heard.sent_away;
    assert!(away.len() >= CROWD / 4, "only {} were sent away", away.len());
    assert!(away.len() <= 3 * CROWD, "they came {} times in vain", away.len());
    let different: BTreeSet<Duration> = away.iter().copied().collect();
    assert!(
        different.len() * 2 >= away.len(),
        "{} different waits for {}",
        different.len(),
        away.len()
    );
    assert!(
        most <= steady + steady / 2 + 32 * 1024,
        "{most} KiB at most, {steady} KiB with all of them connected"
    );
    // The media server has a lane of its own: its room was served all the time.
    assert_eq!(agent.state(ROOM), "LIVEING");
    assert_eq!(media.heard().connected.len(), 2);
}

#[test]
fn when_packets_are_dropped_without_a_word_both_sides_find_the_half_open_stream_and_the_gateway_comes_back() {
    let pair = Pair::new().unwrap();
    let settings = settings()
        .set("session.ping_every", "\"1s\"")
        .set("session.pong_within", "\"500ms\"");
    let agent = Agent::start(&pair.node, &settings).unwrap();
    let _media = media(&pair.node);
    let gateway = Peer::builder(Role::Gateway, "gw").endpoint(URL).room(ROOM);
    let gateway = Member::start(&pair.users, gateway).unwrap();
    gateway.join(ROOM, "alice").unwrap();
    assert_eq!(peers(&agent), 2);
    // From here on nothing arrives, and nobody is told.
    pair.users.ip(&format!("link set {USER_DEV} down")).unwrap();
    clock::wait_for("the agent finds it", SOON, || peers(&agent) == 1);
    let shown = agent.text(&["show", ROOM]).unwrap();
    assert!(shown.contains("degraded"), "{shown}");
    gateway.wait("the gateway finds it", SOON, |heard| {
        heard.disconnected.iter().any(|end| end.why == Why::Silent)
    });
    pair.users.ip(&format!("link set {USER_DEV} up")).unwrap();
    gateway.wait("it comes back", SOON * 2, |heard| heard.connected.len() == 2);
    clock::wait_for("it is in the topology", SOON, || peers(&agent) == 2);
    assert_eq!(agent.state(ROOM), "LIVEING");
}

/// One that connects, lets a client in, and hangs up without a word.
async fn come_and_go(n: usize) {
    let (role, id) = (Role::Gateway, format!("gw-{}", n % 50));
    let mut peer = PeerClient::connect(URL, role, &id.parse().unwrap())
        .await
        .unwrap();
    let join = ClientEvent {
        request_id: 1,
        room: ROOM.into(),
        client_id: format!("client-{}", n % 500),
        kind: ClientEventKind::Join.into(),
        ..ClientEvent::default()
    };
    peer.sender().send(ToAgent::ClientEvent(join)).await.unwrap();
    // Another may have replaced it before the answer.
    drop(peer.next().await);
}

#[test]
fn after_ten_thousand_reconnects_over_tcp_the_agent_has_the_files_threads_and_peers_of_before() {
    let pair = Pair::new().unwrap();
    let settings = settings()
        .set("session.admit_per_second", "100000")
        .set("session.admit_burst", "100000");
    let agent = Agent::start(&pair.node, &settings).unwrap();
    let _media = media(&pair.node);
    let pid = agent.pid().unwrap();
    let reconnect = |times: usize| {
        pair.users
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let all = futures::stream::iter((0..times).map(come_and_go));
                runtime
                    .unwrap()
                    .block_on(all.buffer_unordered(16).collect::<Vec<()>>())
            })
            .unwrap();
        clock::wait_for("all have left", SOON, || peers(&agent) == 1);
    };
    let files = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // Once, so that what is made at first use is there.
    reconnect(500);
    let before = (files(), kib(pid, "Threads"), kib(pid, "VmRSS"));
    reconnect(10_000);
    clock::wait_for("every socket is closed", SOON, || files() <= before.0);
    assert_eq!(kib(pid, "Threads"), before.1);
    let grown = kib(pid, "VmRSS").saturating_sub(before.2);
    assert!(grown <= 32 * 1024, "{grown} KiB more than before");
    assert_eq!(agent.state(ROOM), "LIVEING");
}
