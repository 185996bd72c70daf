//! The whole agent on a Janus that answers nonsense, or takes connections and ends them, or hangs after that: what it was told
//! before stays true, nobody is cut for what only we do not understand, and silence is judged as silence. Nonsense on the
//! listener for its events is in `e2e_janus_events`.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use nix::sys::signal::Signal;
use std::{thread, time::Duration};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, evidence,
    janus::{
        JanusLab,
        blockade::{Blockade, Nonsense},
    },
    metrics,
    stage::SOON,
    tap::Taps,
};

/// The stuck time leaves room for the longest wait of the agent before it asks again (2 s), twice over.
const TIMES: Times = Times {
    heartbeat: Duration::from_millis(500),
    stuck_after: Duration::from_secs(6),
    isolation: Duration::from_secs(4),
    witness_window: Duration::from_millis(2500),
};
/// Longer than a room may be without progress.
const LASTS: Duration = Duration::from_millis(8500);
/// Far longer than any test: Janus ends no session meanwhile.
const SESSION: Duration = Duration::from_mins(10);
const ROOMS: [&str; 2] = ["1001", "1002"];

/// Two live rooms, and a proxy before the admin socket. Dropped in this order.
struct Scene {
    taps: Taps,
    agent: Agent,
    proxy: Blockade,
    lab: JanusLab,
}

impl Scene {
    fn new() -> Scene {
        let lab = JanusLab::up(2, 2, SESSION).unwrap();
        let taps = Taps::start(&lab.node().unwrap(), &lab.users().unwrap()).unwrap();
        let front = lab.work().join("front.sock");
        let proxy = Blockade::start(&lab.admin_socket(), &front).unwrap();
        let settings = lab
            .settings(Settings::new(TIMES))
            .set("janus.admin_socket", &format!("\"{}\"", front.display()));
        let agent = Agent::start(&lab.node().unwrap(), &settings).unwrap();
        let scene = Scene {
            taps,
            agent,
            proxy,
            lab,
        };
        for room in ROOMS {
            clock::wait_for("it is live", SOON * 2, || scene.agent.state(room) == "LIVEING");
        }
        scene
    }

    /// A counter of the agent's metrics.
    fn counter(&self, series: &str) -> u64 {
        let page = metrics::page(&self.lab.node().unwrap(), "/metrics").unwrap();
        metrics::value(&page, series).unwrap_or_else(|| panic!("no {series}"))
    }

    fn assert_live(&self) {
        for room in ROOMS {
            assert_eq!(self.agent.state(room), "LIVEING", "{room}");
            assert_eq!(evidence::entries(&self.agent, room, "trip").len(), 0, "{room}");
        }
    }

    /// Longer than the stuck time.
    fn assert_live_throughout(&self) {
        let end = clock::now() + LASTS;
        while clock::now() < end {
            self.assert_live();
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// While this is answered longer than the stuck time, no room is cut, and it is counted.
    fn assert_held_while(&self, nonsense: Nonsense) {
        let failed = self.counter("voice_agent_janus_listings_failed_total");
        self.proxy.talk(Some(nonsense));
        self.assert_live_throughout();
        let now = self.counter("voice_agent_janus_listings_failed_total");
        assert!(now > failed, "{nonsense:?} was not counted");
    }
}

/// How the admin socket is silent.
#[derive(Clone, Copy)]
enum Silence {
    /// Connections are taken and end.
    Closes,
    /// Connections are taken and stay, and no question is answered.
    Hangs,
}

/// Janus mixes nothing, so that no RTP leaves: only that it answers keeps the rooms. At last it answers nothing.
fn only_answers_keep_the_rooms(answers: &[Nonsense], silence: Silence) {
    let scene = Scene::new();
    let ports = ROOMS.map(|room| scene.lab.ports(room).unwrap());
    scene.lab.signal(Signal::SIGSTOP).unwrap();
    for nonsense in answers {
        scene.assert_held_while(*nonsense);
    }
    for ports in &ports {
        assert!(scene.taps.sent(ports) > 100);
    }
    match silence {
        Silence::Closes => scene.proxy.talk(Some(Nonsense::Close)),
        Silence::Hangs => scene.proxy.block(true),
    }
    clock::wait_for("silence is judged", TIMES.stuck_after + SOON * 2, || {
        ROOMS.iter().any(|room| scene.agent.state(room) == "EXPIRED")
    });
    scene.lab.signal(Signal::SIGCONT).unwrap();
}

#[test]
fn no_room_is_cut_for_answers_that_are_not_understood_but_for_connections_that_only_end() {
    only_answers_keep_the_rooms(
        &[
            Nonsense::Packet("\u{0}\u{1}no JSON"),
            Nonsense::Packet(r#"{"janus":"success","transaction":"{}","sess"#),
            Nonsense::Packet(r#"{"janus":"success","transaction":"{}","sessions":"all of them"}"#),
        ],
        Silence::Closes,
    );
}

#[test]
fn no_room_is_cut_for_answers_too_long_to_others_or_refused() {
    only_answers_keep_the_rooms(
        &[
            Nonsense::Long((1 << 20) + 1),
            Nonsense::Packet(r#"{"janus":"success","transaction":"of somebody else","sessions":[]}"#),
            Nonsense::Refused,
        ],
        Silence::Closes,
    );
}

#[test]
fn a_janus_that_hangs_after_it_answered_nonsense_and_sends_nothing_is_judged_as_silent() {
    only_answers_keep_the_rooms(&[Nonsense::Packet("\u{0}\u{1}no JSON")], Silence::Hangs);
}

#[test]
fn a_janus_that_hangs_after_it_answered_nonsense_costs_no_packet_as_long_as_its_media_flows() {
    let scene = Scene::new();
    let pid = scene.agent.pid().unwrap();
    // A listing gives up before a question does: two heartbeats are shorter here than its deadline.
    let failed = || scene.counter("voice_agent_janus_listings_failed_total");
    scene.assert_held_while(Nonsense::Packet(r#"{"janus":"success","transaction":"{}","sess"#));
    let before = failed();
    scene.proxy.block(true);
    scene.assert_live_throughout();
    assert!(failed() > before, "that nothing is answered was not counted");
    scene.proxy.talk(None);
    scene.proxy.block(false);
    clock::wait_for("listings are answered again", SOON, || {
        let age = scene.agent.room("1001").unwrap_or_default()["heartbeat_age_ms"].clone();
        age.as_u64().is_some_and(|age| age < 1000)
    });
    scene.assert_live();
    assert_eq!(scene.agent.pid().unwrap(), pid, "another agent");
    for room in ROOMS {
        let ports = scene.lab.ports(room).unwrap();
        scene.lab.verb(&["stop-media", room]).unwrap();
        assert!(scene.taps.wait_quiet(&ports, SOON), "ffmpeg did not end");
        assert!(scene.taps.sent(&ports) > 500, "{room}");
        assert_eq!(scene.taps.delivered(&ports), scene.taps.sent(&ports), "{room}");
    }
}
