//! The whole agent on a real Janus with real Opus senders: what is cut, and what must never be.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: a panic is how they fail"
)]

use std::{thread, time::Duration};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, evidence,
    janus::{JanusLab, blockade::Blockade},
    stage::{LIFT_TOLERANCE, SOON},
    tap::Taps,
};

/// A little slower than the simulated servers': Janus takes its time over a listing on busy cores.
const TIMES: Times = Times {
    heartbeat: Duration::from_millis(500),
    stuck_after: Duration::from_secs(4),
    isolation: Duration::from_secs(4),
    witness_window: Duration::from_millis(2500),
};
/// Janus ends a session without signalling after this.
const SESSION: Duration = Duration::from_secs(2);

/// A Janus, the agent that follows it, and taps on both sides. Dropped in this order.
struct Scene {
    taps: Taps,
    agent: Agent,
    blockade: Blockade,
    lab: JanusLab,
}

impl Scene {
    fn new(rooms: u32, members: u32) -> Scene {
        let lab = JanusLab::up(rooms, members, SESSION).unwrap();
        let (node, users) = (lab.node().unwrap(), lab.users().unwrap());
        let taps = Taps::start(&node, &users).unwrap();
        let front = lab.work().join("front.sock");
        let blockade = Blockade::start(&lab.admin_socket(), &front).unwrap();
        let settings = lab
            .settings(Settings::new(TIMES))
            .set("janus.admin_socket", &format!("\"{}\"", front.display()));
        let agent = Agent::start(&node, &settings).unwrap();
        let scene = Scene {
            taps,
            agent,
            blockade,
            lab,
        };
        for room in 1001..1001 + rooms {
            scene.wait_state(&room.to_string(), "LIVEING", SOON);
        }
        scene
    }

    fn wait_state(&self, room: &str, state: &str, within: Duration) {
        clock::wait_for(&format!("{room} is {state}"), within, || {
            self.agent.state(room) == state
        });
    }

    /// Checks for `lasts` that the room stays live.
    fn assert_live_for(&self, room: &str, lasts: Duration) {
        let end = clock::now() + lasts;
        while clock::now() < end {
            assert_eq!(self.agent.state(room), "LIVEING", "{room}");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(evidence::entries(&self.agent, room, "trip").len(), 0);
    }

    /// The room is cut, and its packets come again at the deadline.
    fn assert_cut_and_lifted(&self, room: &str, ports: &[u16], within: Duration) {
        self.wait_state(room, "EXPIRED", within);
        let cut = clock::poll(SOON, || evidence::cut(&self.agent, room)).expect("evidence of the cut");
        clock::sleep_until(cut.deadline);
        let edge = voice_room::Mono(cut.deadline.0 - 1_000_000);
        let sent = self.taps.sent_between(ports, cut.armed, edge);
        assert!(sent > 100, "only {sent} packets were sent during the cut");
        assert_eq!(self.taps.delivered_within(ports, cut.armed, edge), 0, "of {sent}");
        let first =
            clock::poll(SOON, || self.taps.first_from(ports, edge)).expect("a packet after the deadline");
        // Each sender sends every 20 ms: the first packet that could get through comes some time after the deadline.
        // The taps are two: the one may know of a packet before the other does.
        let due =
            clock::poll(SOON, || self.taps.first_sent_from(ports, cut.deadline)).expect("a packet sent");
        let late = first.since(due);
        assert!(late <= LIFT_TOLERANCE, "lifted {late:?} after the deadline");
    }

    /// Every packet sent to `ports` from `since` on arrived.
    fn assert_lost_nothing(&self, room: &str, ports: &[u16]) {
        self.lab.verb(&["stop-media", room]).unwrap();
        assert!(self.taps.wait_quiet(ports, SOON), "ffmpeg did not end");
        assert_eq!(self.taps.delivered(ports), self.taps.sent(ports), "{room}");
        assert!(self.taps.sent(ports) > 100, "{room}");
    }
}

#[test]
fn when_all_signalling_of_one_room_dies_it_is_cut_and_the_other_keeps_its_packets() {
    let scene = Scene::new(2, 3);
    let [stuck, other] = ["1001", "1002"].map(|r| scene.lab.ports(r).unwrap());
    scene.lab.verb(&["kill-sig", "1001"]).unwrap();
    scene.assert_cut_and_lifted("1001", &stuck, SESSION + TIMES.stuck_after + SOON * 2);
    assert_eq!(scene.agent.state("1002"), "LIVEING");
    scene.assert_lost_nothing("1002", &other);
}

#[test]
fn a_room_destroyed_while_its_sockets_stay_open_is_cut_too() {
    let scene = Scene::new(2, 3);
    let orphan = scene.lab.ports("1001").unwrap();
    scene.lab.verb(&["destroy", "1001"]).unwrap();
    scene.assert_cut_and_lifted("1001", &orphan, TIMES.stuck_after + SOON * 2);
    assert_eq!(scene.agent.state("1002"), "LIVEING");
}

#[test]
fn a_room_in_which_everybody_is_muted_for_longer_than_the_stuck_time_is_never_cut() {
    let scene = Scene::new(1, 3);
    scene.lab.verb(&["stop-media", "1001"]).unwrap();
    scene.assert_live_for("1001", TIMES.stuck_after * 2);
}

#[test]
fn a_room_with_a_single_member_is_never_cut() {
    let scene = Scene::new(1, 1);
    scene.assert_live_for("1001", TIMES.stuck_after * 2);
}

#[test]
fn while_the_admin_socket_hangs_and_media_flows_nothing_is_cut() {
    let scene = Scene::new(2, 2);
    scene.blockade.block(true);
    scene.assert_live_for("1001", TIMES.stuck_after * 2 + Duration::from_secs(2));
    assert_eq!(scene.agent.state("1002"), "LIVEING");
    clock::wait_for("the hold is shown", SOON, || {
        !scene.agent.room("1001").unwrap_or_default()["held"].is_null()
    });
    scene.blockade.block(false);
    clock::wait_for("the hold ends", SOON, || {
        scene.agent.room("1001").unwrap_or_default()["held"].is_null()
    });
}
