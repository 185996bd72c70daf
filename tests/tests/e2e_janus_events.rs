//! Nonsense posted to the listener for Janus' events, beside a real Janus with real media: each is refused by name or does
//! nothing, and is counted; no packet is lost, no room is cut, and real events still come through.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{io::Write, net::TcpStream, thread, time::Duration};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, evidence,
    hostile::raw,
    janus::{EVENTS, JanusLab},
    metrics,
    stage::SOON,
    tap::Taps,
};

const TIMES: Times = Times {
    heartbeat: Duration::from_millis(500),
    stuck_after: Duration::from_secs(4),
    isolation: Duration::from_secs(4),
    witness_window: Duration::from_millis(2500),
};
/// Longer than a room may be without progress.
const LASTS: Duration = Duration::from_secs(6);
/// Far longer than the test: Janus ends no session meanwhile.
const SESSION: Duration = Duration::from_mins(10);
const ROOMS: [&str; 2] = ["1001", "1002"];

/// Dropped in this order.
struct Scene {
    taps: Taps,
    agent: Agent,
    lab: JanusLab,
}

impl Scene {
    fn new() -> Scene {
        let lab = JanusLab::up(2, 2, SESSION).unwrap();
        let node = lab.node().unwrap();
        let taps = Taps::start(&node, &lab.users().unwrap()).unwrap();
        let agent = Agent::start(&node, &lab.settings(Settings::new(TIMES))).unwrap();
        let scene = Scene { taps, agent, lab };
        for room in ROOMS {
            clock::wait_for("it is live", SOON * 2, || scene.agent.state(room) == "LIVEING");
        }
        scene
    }

    /// A counter of the agent's metrics.
    fn counter(&self, name: &str) -> u64 {
        let page = metrics::page(&self.lab.node().unwrap(), "/metrics").unwrap();
        metrics::value(&page, &format!("voice_agent_janus_{name}_total"))
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Bytes to the listener; what it says until it closes the connection.
    fn say(&self, bytes: &[u8]) -> String {
        let said = raw::tcp_to(&self.lab.node().unwrap(), EVENTS, bytes).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn post(&self, body: &str) -> String {
        self.say(request(body).as_bytes())
    }

    /// By how much the counter rises while `said` is said; the answer.
    fn counted(&self, counter: &str, said: &[u8]) -> (u64, String) {
        let before = self.counter(counter);
        let answer = self.say(said);
        // The answer comes a moment before the connection's end is counted.
        clock::poll(SOON, || (self.counter(counter) > before).then_some(()));
        (self.counter(counter) - before, answer)
    }

    fn assert_live_throughout(&self) {
        let end = clock::now() + LASTS;
        while clock::now() < end {
            self.assert_live();
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn assert_live(&self) {
        for room in ROOMS {
            assert_eq!(self.agent.state(room), "LIVEING", "{room}");
            assert_eq!(evidence::entries(&self.agent, room, "trip").len(), 0, "{room}");
        }
    }

    /// Every packet that was sent to the rooms arrived.
    fn assert_lost_nothing(&self) {
        for room in ROOMS {
            let ports = self.lab.ports(room).unwrap();
            self.lab.verb(&["stop-media", room]).unwrap();
            assert!(self.taps.wait_quiet(&ports, SOON), "ffmpeg did not end");
            assert!(self.taps.sent(&ports) > 500, "{room}");
            assert_eq!(self.taps.delivered(&ports), self.taps.sent(&ports), "{room}");
        }
    }
}

fn request(body: &str) -> String {
    let len = body.len();
    format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}")
}

/// An event of the audio bridge without a handle.
fn bridge(data: &str) -> String {
    format!(r#"{{"type":64,"event":{{"plugin":"janus.plugin.audiobridge","data":{data}}}}}"#)
}

#[test]
fn what_is_no_event_is_refused_by_name_and_counted_and_no_packet_is_lost() {
    let scene = Scene::new();
    let pid = scene.agent.pid().unwrap();
    // One sound event beside it: all of a request or nothing.
    let half = r#"[{"type":2,"handle_id":5,"event":{"name":"detached"}},7]"#;
    for (body, status, words) in [
        ("\u{0}\u{1}no JSON", "400", "expected a Janus event"),
        ("[[[[", "400", "expected a Janus event"),
        (half, "400", "expected a Janus event"),
        (r#"{"type":"sixty-four"}"#, "400", "expected a Janus event"),
        (
            r#"{"type":1,"event":{"name":"destroyed"}}"#,
            "400",
            "missing field `session_id`",
        ),
        (
            r#"[{"type":256},{"type":64,"event":{"plugin":"janus.plugin.audiobridge","data":{"event":"left"}}}]"#,
            "400",
            "event 1 of type 64 lacks or garbles what it must say",
        ),
        (" ".repeat((1 << 20) + 1).as_str(), "413", "at most 1048576 bytes"),
    ] {
        let (rose, answer) = scene.counted("bad_requests", request(body).as_bytes());
        let begins = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(begins && answer.contains(words), "{:.60}: {answer}", body.trim());
        assert_eq!(rose, 1, "{:.60}", body.trim());
    }
    let (rose, answer) = scene.counted(
        "bad_requests",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(rose == 1 && answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let (rose, answer) = scene.counted("connections_failed", b"\x16\x03\x01\x02 no HTTP\r\n\r\n");
    assert!(rose == 1 && !answer.contains(" 200 "), "{answer}");
    let (rose, answer) = scene.counted(
        "invalid_ids",
        request(&bridge(r#"{"event":"destroyed","room":"a b!"}"#)).as_bytes(),
    );
    assert!(rose == 1 && answer.starts_with("HTTP/1.1 200 "), "{answer}");
    scene.assert_live_throughout();
    assert_eq!(scene.agent.pid().unwrap(), pid, "another agent");
    scene.assert_lost_nothing();
}

#[test]
fn events_of_what_there_is_not_change_nothing_and_no_packet_is_lost() {
    let scene = Scene::new();
    let rooms = || {
        scene.agent.json(&["rooms"]).unwrap()["rooms"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(rooms(), Some(2));
    for body in [
        r#"{"type":1,"session_id":1,"event":{"name":"destroyed"}}"#,
        r#"{"type":1,"session_id":18446744073709551615,"event":{"name":"timeout"}}"#,
        r#"{"type":2,"session_id":1,"handle_id":2,"event":{"name":"detached"}}"#,
        r#"{"type":16,"subtype":4,"session_id":1,"handle_id":2}"#,
        bridge(r#"{"event":"left","room":9999,"id":1}"#).as_str(),
        bridge(r#"{"event":"kicked","room":1001,"id":404}"#).as_str(),
        bridge(r#"{"event":"destroyed","room":"nobody-knows-it"}"#).as_str(),
        r#"{"type":4096,"event":{"name":"of another Janus"}}"#,
        "[]",
    ] {
        let answer = scene.post(body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{body}: {answer}");
    }
    scene.assert_live_throughout();
    assert_eq!(rooms(), Some(2), "a room came or went");
    scene.assert_lost_nothing();
}

/// More connections than the listener takes at a time, each within its request's first line; and between them floods.
#[test]
fn floods_and_connections_that_never_finish_their_request_cost_no_packet_and_real_events_come_again() {
    let scene = Scene::new();
    let pid = scene.agent.pid().unwrap();
    let refused = scene.counter("bad_requests");
    let node = scene.lab.node().unwrap();
    let stuck = node.run(|| -> std::io::Result<Vec<TcpStream>> {
        let begun = (0..40).map(|_| {
            let mut stream = TcpStream::connect(EVENTS)?;
            stream.write_all(b"POST / HT")?;
            Ok(stream)
        });
        begun.collect()
    });
    let stuck = stuck.unwrap().unwrap();
    let end = clock::now() + LASTS + SOON;
    let mut said = 0;
    while clock::now() < end {
        scene.assert_live();
        for _ in 0..20 {
            scene.post("{");
            said += 1;
        }
    }
    drop(stuck);
    assert!(
        said >= 20 && scene.counter("bad_requests") == refused + said,
        "of {said}"
    );
    assert_eq!(scene.agent.pid().unwrap(), pid, "another agent");
    scene.assert_live();
    scene.assert_lost_nothing();
    scene.lab.verb(&["leave-host", "1002"]).unwrap();
    clock::wait_for("a real event is heard", SOON * 2, || {
        scene
            .agent
            .text(&["explain", "1002"])
            .unwrap()
            .contains("it left the room")
    });
}
