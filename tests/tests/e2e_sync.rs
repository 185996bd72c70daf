//! Three-phase sync between the real agent and peers on the client library, over sockets in two namespaces: one that is cut
//! off in the middle, and a coordinator that dies at each step. Where it stops is chosen from outside: participants that have
//! not answered yet, a frozen process, proxies that hold back what a server says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use nix::sys::signal::Signal;
use std::{fs, net::Ipv4Addr, time::Duration};
use tonic::{metadata::MetadataMap, transport::Endpoint};
use voice_agent::{
    proto::v1::{
        ClientEvent, ClientEventKind, CommitAck, Epoch, EventType, Hello, KnownRoom, KnownRooms,
        MediaHeartbeat, PrepareAck, Refused, RoomState, RoomUpdate, ServedRoom,
        agent_message::Message as FromAgent, event_result::Result as Outcome,
        peer_message::Message as ToAgent,
    },
    session::Role,
};
use voice_client::{Peer, PeerClient};
use voice_room::State;
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::Commons,
    member::Member,
    metrics,
    netns::{NODE_IP, Netns, Pair, USER_IP},
    proxy::Proxy,
};

const ROOM: &str = "r";
/// A restart of the agent, backoffs and a starved machine included.
const SOON: Duration = Duration::from_secs(60);
const PORT: u16 = 7400;

/// A media server beside the agent with one live room, and across the wire two gateways and a signalling server that serve
/// it. The gateways decide about each PREPARE.
struct Stage {
    signalling: Option<Member>,
    near: Member,
    /// Behind a proxy.
    far: Member,
    line: Proxy,
    media: Member,
    agent: Agent,
    pair: Pair,
}

fn settings() -> Settings {
    let times = Times {
        heartbeat: Duration::from_secs(1),
        stuck_after: Duration::from_secs(120),
        isolation: Duration::from_secs(60),
        witness_window: Duration::from_secs(5),
    };
    Settings::new(times)
        .set("session.listen", &format!("\"{NODE_IP}:{PORT}\""))
        .set("session.insecure", "true")
        // Nobody is given up while a test looks.
        .set("rooms.prepare_within", "\"20s\"")
}

fn url() -> String {
    format!("http://{NODE_IP}:{PORT}")
}

fn serves() -> MediaHeartbeat {
    let room = ServedRoom {
        room: ROOM.into(),
        participants: 2,
        ..ServedRoom::default()
    };
    MediaHeartbeat {
        rooms: vec![room],
        capacity: None,
    }
}

fn gateway(ns: &Netns, id: &str, url: &str) -> Member {
    let peer = Peer::builder(Role::Gateway, id).endpoint(url).decides();
    let gateway = Member::start(ns, peer).unwrap();
    gateway.join(ROOM, &format!("client-of-{id}")).unwrap();
    gateway
}

impl Stage {
    fn new() -> Stage {
        Stage::on(Pair::new().unwrap(), &settings())
    }

    fn on(pair: Pair, settings: &Settings) -> Stage {
        let agent = Agent::start(&pair.node, settings).unwrap();
        let media = Peer::builder(Role::Media, "sfu")
            .endpoint(url())
            .heartbeat(serves)
            .heartbeat_every(settings.times.heartbeat);
        let media = Member::start(&pair.node, media).unwrap();
        let live = |m: &Member| m.holds(ROOM).is_some_and(|(state, _)| state == State::Liveing);
        clock::wait_for("the room is live", SOON, || live(&media));
        let line = pair
            .users
            .run(|| Proxy::to(format!("{NODE_IP}:{PORT}").parse().unwrap()))
            .unwrap()
            .unwrap();
        let near = gateway(&pair.users, "gw-near", &url());
        let far = gateway(&pair.users, "gw-far", &format!("http://{}", line.address()));
        let signalling = Peer::builder(Role::Signalling, "sig")
            .endpoint(url())
            .request_within(SOON);
        let signalling = Member::start(&pair.users, signalling).unwrap();
        for member in [&near, &far] {
            clock::wait_for("all hold it", SOON, || live(member));
        }
        Stage {
            signalling: Some(signalling),
            near,
            far,
            line,
            media,
            agent,
            pair,
        }
    }

    /// The signalling server asks for the change that all tests are about; the gateways have been asked, and wait.
    fn begin(&self) -> voice_tests::member::Asked {
        let asked = self
            .signalling
            .as_ref()
            .unwrap()
            .ask(ROOM, EventType::HostDisconnect);
        for gateway in [&self.near, &self.far] {
            gateway.wait_asked(ROOM, SOON);
        }
        asked
    }

    /// The coordinator dies, and the one who asked with it: nobody asks again.
    fn both_die(&mut self) {
        self.agent.kill().unwrap();
        self.signalling = None;
    }

    /// The agent comes back; in the end all hold this state, the change that was asked for is among the stored events so often,
    /// and nobody is prepared for anything.
    fn recovers_to(&self, state: State, times: usize) {
        for gateway in [&self.near, &self.far] {
            gateway.agree_always();
        }
        self.agent.run().unwrap();
        self.all_hold(state);
        let (_, version) = self.near.holds(ROOM).unwrap();
        assert_eq!(self.times_stored(), times);
        // Nobody waits for the end of what was prepared: the next stream would tell it.
        self.agent.kill().unwrap();
        for gateway in [&self.near, &self.far] {
            gateway.wait("the stream's end", SOON, |heard| {
                heard
                    .disconnected
                    .last()
                    .is_some_and(|end| end.prepared.is_empty())
            });
            assert_eq!(gateway.holds(ROOM), Some((state, version)));
        }
    }

    fn all_hold(&self, state: State) {
        let agent = || {
            let room = self.agent.room(ROOM)?;
            Some((room["state"].as_str()?.to_owned(), room["version"].as_u64()?))
        };
        let same = || {
            let here = agent()?;
            let holds = |m: &Member| m.holds(ROOM).map(|(s, v)| (s.to_string(), v.0));
            let all = [&self.near, &self.far]
                .iter()
                .all(|m| holds(m).as_ref() == Some(&here));
            (all && here.0 == state.to_string()).then_some(())
        };
        let came = clock::poll(SOON, same);
        let held = [&self.near, &self.far].map(|m| m.holds(ROOM));
        assert!(
            came.is_some(),
            "{state} is not held by all: {:?}, {held:?}",
            agent()
        );
    }

    /// How often the change is among the stored events: a retried one counts once.
    fn times_stored(&self) -> usize {
        let told = self.agent.text(&["events", ROOM, "--json"]).unwrap();
        told.lines()
            .filter(|line| line.contains("HOST_DISCONNECT"))
            .count()
    }
}

/// Waits until what two peers across the wire said lies unread in the agent's sockets.
fn wait_unread(agent: &Agent) {
    let table = format!("/proc/{}/net/tcp", agent.pid().unwrap());
    let local = format!(":{PORT:04X}");
    let users: Ipv4Addr = USER_IP.parse().unwrap();
    let users = format!("{:08X}:", u32::from_le_bytes(users.octets()));
    let unread = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let queues = words.get(4).and_then(|queues| queues.split_once(':'));
        words.get(1).is_some_and(|address| address.ends_with(&local))
            && words.get(2).is_some_and(|address| address.starts_with(&users))
            && queues.is_some_and(|(_, unread)| unread != "00000000")
    };
    clock::wait_for("both answers lie in the agent's sockets", SOON, || {
        fs::read_to_string(&table).unwrap().lines().filter(unread).count() == 2
    });
}

#[test]
fn a_gateway_cut_off_in_the_middle_of_commit_returns_and_converges_by_version() {
    let stage = Stage::new();
    let asked = stage.begin();
    stage.near.agree();
    // Of what the agent says next, COMMIT, the gateway gets the first bytes only.
    stage.line.hold_answers_after(20);
    stage.far.agree();
    let accepted = stage.signalling.as_ref().unwrap().answer(asked).unwrap();
    assert_eq!(accepted.state(), RoomState::GraceClosing);
    stage.near.wait("COMMIT", SOON, |heard| {
        heard
            .changed
            .last()
            .is_some_and(|told| told.version.0 == accepted.version)
    });
    assert_eq!(
        stage.far.holds(ROOM).unwrap().0,
        State::Liveing,
        "only a part of it came"
    );
    stage.line.refuse();
    stage.far.wait("the cut", SOON, |heard| {
        heard.disconnected.iter().any(|end| end.prepared.len() == 1)
    });
    // The others go on without it.
    stage.near.agree_always();
    let back = stage.media.ask(ROOM, EventType::HostReturn);
    let back = stage.media.answer(back).unwrap();
    assert_eq!(
        (back.state(), back.version),
        (RoomState::Liveing, accepted.version + 1)
    );
    stage.line.open();
    stage.all_hold(State::Liveing);
    stage.far.agree_always();
    let next = stage
        .signalling
        .as_ref()
        .unwrap()
        .ask(ROOM, EventType::HostDisconnect);
    let next = stage.signalling.as_ref().unwrap().answer(next).unwrap();
    assert_eq!(next.version, back.version + 1, "it agrees again");
    stage.all_hold(State::GraceClosing);
}

#[test]
fn a_coordinator_killed_when_prepare_was_sent_leaves_the_state_before_and_nobody_prepared() {
    let mut stage = Stage::new();
    drop(stage.begin());
    stage.both_die();
    stage.recovers_to(State::Liveing, 0);
}

#[test]
fn a_coordinator_killed_when_all_have_agreed_leaves_the_state_before_and_voids_what_they_prepared() {
    let mut stage = Stage::new();
    drop(stage.begin());
    // Frozen, it takes no answer any more: both are prepared, and the store is not asked.
    stage.agent.signal(Signal::SIGSTOP).unwrap();
    stage.near.agree();
    stage.far.agree();
    wait_unread(&stage.agent);
    stage.both_die();
    for gateway in [&stage.near, &stage.far] {
        gateway.wait("its end, prepared", SOON, |heard| {
            heard.disconnected.iter().any(|end| end.prepared.len() == 1)
        });
    }
    stage.recovers_to(State::Liveing, 0);
}

#[test]
fn a_request_whose_coordinator_was_killed_is_asked_again_by_its_peer_and_done_once() {
    let stage = Stage::new();
    let asked = stage.begin();
    stage.near.agree();
    stage.agent.kill().unwrap();
    for gateway in [&stage.near, &stage.far] {
        gateway.agree_always();
    }
    stage.agent.run().unwrap();
    let accepted = stage.signalling.as_ref().unwrap().answer(asked).unwrap();
    assert_eq!(accepted.state(), RoomState::GraceClosing);
    stage.all_hold(State::GraceClosing);
    assert_eq!(stage.times_stored(), 1);
}

/// The same with its store behind a proxy.
fn with_redis() -> (Stage, Proxy, Commons) {
    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let to = commons.redis.address().parse().unwrap();
    let line = pair.node.run(|| Proxy::to(to)).unwrap().unwrap();
    let settings = commons
        .stored(settings(), "n1")
        .set("store.redis.addresses", &format!("[\"{}\"]", line.address()))
        .set("store.redis.record_ttl", "\"60s\"")
        .set("store.redis.timeout", "\"5s\"");
    let stage = Stage::on(pair, &settings);
    commons.wait_stored(ROOM, "LIVEING", SOON).unwrap();
    (stage, line, commons)
}

/// Both agree, and their ACKs reach the agent.
fn all_agree(stage: &Stage) {
    stage.near.agree();
    stage.far.agree();
    clock::wait_for("both ACKs are in", SOON, || {
        let told = stage.agent.json(&["show", ROOM]).unwrap_or_default();
        told["unstored_changes"].as_u64().is_some_and(|n| n > 0)
    });
}

#[test]
fn a_coordinator_killed_when_its_compare_and_swap_did_not_arrive_puts_back_what_all_agreed_to() {
    let (mut stage, line, commons) = with_redis();
    drop(stage.begin());
    line.stall();
    all_agree(&stage);
    stage.both_die();
    // What was under way to the store is lost.
    line.cut();
    assert_eq!(commons.stored_field(ROOM, "state"), "LIVEING");
    // Its copy on this host is later than what is stored, as after a failover that lost a write: a RESTORE.
    stage.recovers_to(State::GraceClosing, 0);
}

#[test]
fn a_coordinator_killed_before_the_answer_to_its_compare_and_swap_leaves_what_was_stored_and_all_are_told() {
    let (mut stage, line, commons) = with_redis();
    drop(stage.begin());
    line.hold_answers_after(0);
    all_agree(&stage);
    commons.wait_stored(ROOM, "GRACE_CLOSING", SOON).unwrap();
    for gateway in [&stage.near, &stage.far] {
        assert_eq!(gateway.holds(ROOM).unwrap().0, State::Liveing, "nobody was told");
    }
    stage.both_die();
    line.cut();
    stage.recovers_to(State::GraceClosing, 1);
}

#[test]
fn a_coordinator_killed_when_commit_was_told_to_some_leaves_what_was_stored_and_tells_the_others() {
    let mut stage = Stage::new();
    drop(stage.begin());
    stage.line.hold_answers_after(0);
    stage.far.agree();
    stage.near.agree();
    stage.near.wait("COMMIT", SOON, |heard| {
        heard
            .changed
            .last()
            .is_some_and(|told| told.state == State::GraceClosing)
    });
    assert_eq!(stage.far.holds(ROOM).unwrap().0, State::Liveing);
    stage.both_die();
    stage.line.cut();
    stage.recovers_to(State::GraceClosing, 1);
}

#[test]
fn peers_of_versions_1_and_2_serve_one_room_the_old_one_is_told_and_has_no_say() {
    let stage = Stage::new();
    let old = Peer::builder(Role::Gateway, "gw-old")
        .endpoint(url())
        .protocol_version(1)
        .decides();
    let old = Member::start(&stage.pair.users, old).unwrap();
    old.join(ROOM, "client-of-gw-old").unwrap();
    let (state, version) = stage.near.holds(ROOM).unwrap();
    clock::wait_for(
        "it is told what the room is when it begins to serve it",
        SOON,
        || old.holds(ROOM) == Some((state, version)),
    );
    let asked = stage.begin();
    stage.near.agree();
    stage.far.agree();
    let accepted = stage.signalling.as_ref().unwrap().answer(asked).unwrap();
    stage.all_hold(State::GraceClosing);
    clock::wait_for("it is told of the change", SOON, || {
        old.holds(ROOM)
            .is_some_and(|(state, v)| (state, v.0) == (State::GraceClosing, accepted.version))
    });
    let versions = |peer: &str| {
        let told = stage.agent.json(&["topology", ROOM]).unwrap();
        let peers = told["peers"].as_array().unwrap().clone();
        let found = peers.into_iter().find(|p| p["peer"].as_str() == Some(peer));
        found.and_then(|p| p["protocol_version"].as_u64())
    };
    assert_eq!((versions("gw-old"), versions("gw-near")), (Some(1), Some(2)));
    // After a restart it names the room in the metadata, and is told again.
    stage.agent.kill().unwrap();
    stage.agent.run().unwrap();
    old.wait("the next stream", SOON, |heard| heard.connected.len() == 2);
    stage.all_hold(State::GraceClosing);
    clock::wait_for("the old one holds the same", SOON, || {
        old.holds(ROOM) == stage.near.holds(ROOM)
    });
}

/// Says all that a peer of version 2 may forge about a sync it was not asked about; what it was refused, and what it was told
/// of the room in the end.
async fn forges() -> (Vec<Refused>, RoomUpdate) {
    let mut metadata = MetadataMap::new();
    metadata.insert("peer-role", "gateway".parse().unwrap());
    metadata.insert("peer-id", "hostile".parse().unwrap());
    let hello = Hello {
        protocol_version: 2,
        ..Hello::default()
    };
    let channel = Endpoint::from_shared(url()).unwrap().connect().await.unwrap();
    let mut peer = PeerClient::open(channel, metadata, hello).await.unwrap();
    let epoch = |revision| Some(Epoch { era: 0, revision });
    let vote = |room: &str, revision, attempt| {
        ToAgent::PrepareAck(PrepareAck {
            room: room.into(),
            epoch: epoch(revision),
            attempt,
            refused: "no".into(),
        })
    };
    let join = ClientEvent {
        request_id: 1,
        room: ROOM.into(),
        client_id: "mallory".into(),
        kind: ClientEventKind::Join.into(),
        ..ClientEvent::default()
    };
    let commit_ack = CommitAck {
        room: ROOM.into(),
        epoch: epoch(u64::MAX),
        version: 999,
    };
    let known = KnownRoom {
        room: ROOM.into(),
        epoch: epoch(u64::MAX),
        incarnation: 999,
        version: 999,
        prepared: true,
    };
    peer.sender().send(ToAgent::ClientEvent(join)).await.unwrap();
    // It serves the room once it is told what that is.
    while !matches!(next(&mut peer).await, FromAgent::Commit(_)) {}
    let mut all = vec![vote("not-served", 1, 1)];
    all.extend(
        (0..20)
            .flat_map(|r| (0..20).map(move |n| (r, n)))
            .map(|(r, n)| vote(ROOM, r, n)),
    );
    all.push(ToAgent::CommitAck(commit_ack));
    all.push(ToAgent::Hello(hello_again()));
    all.push(ToAgent::KnownRooms(KnownRooms { rooms: vec![known] }));
    for message in all {
        peer.sender().send(message).await.unwrap();
    }
    let mut refused = Vec::new();
    loop {
        match next(&mut peer).await {
            FromAgent::EventResult(result) => {
                if let Some(Outcome::Rejected(why)) = result.result {
                    refused.push(why);
                }
            }
            FromAgent::Commit(commit) => return (refused, commit.update.unwrap()),
            _ => {}
        }
    }
}

async fn next(peer: &mut PeerClient) -> FromAgent {
    let told = tokio::time::timeout(SOON, peer.next()).await.unwrap();
    told.unwrap().unwrap()
}

fn hello_again() -> Hello {
    Hello {
        protocol_version: 9,
        ..Hello::default()
    }
}

#[test]
fn forged_votes_notes_and_knowledge_are_refused_or_counted_and_the_sync_of_the_others_goes_on() {
    let stage = Stage::new();
    let (state, version) = stage.near.holds(ROOM).unwrap();
    let asked = stage.begin();
    let (refused, told) = stage
        .pair
        .users
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(forges())
        })
        .unwrap();
    let codes: Vec<&str> = refused.iter().map(|r| r.code.as_str()).collect();
    assert_eq!(codes, ["not_your_room", "malformed"], "{refused:?}");
    // What it claims to know is answered with what is so.
    assert_eq!((told.state(), told.version), (RoomState::Liveing, version.0));
    assert_eq!(stage.agent.state(ROOM), state.to_string());
    let page = metrics::page(&stage.pair.node, "/metrics").unwrap();
    let strays = metrics::value(&page, "voice_agent_session_stray_votes_total").unwrap();
    assert!(strays >= 400, "{strays} stray votes");
    stage.near.agree();
    stage.far.agree();
    let accepted = stage.signalling.as_ref().unwrap().answer(asked).unwrap();
    assert_eq!(accepted.version, version.0 + 1);
    stage.all_hold(State::GraceClosing);
}
