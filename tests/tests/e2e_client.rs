//! The examples of `voice-client`, one for each role, against the real agent: what a gateway, a signalling and a media server do
//! from the first connection over a trip to a restart of the agent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use voice_tests::{
    agent::{Agent, Settings, binary, settings::Times},
    clock,
    netns::{Netns, Pair},
};

/// Nothing that is expected takes longer, even on a busy machine: a restart of the agent and a backoff included.
const SOON: Duration = Duration::from_secs(60);

/// A running example, and what it says. Killed on drop.
struct Example {
    name: String,
    child: Child,
    said: std::path::PathBuf,
}

impl Example {
    /// Starts the example as a process in the agent's namespace.
    fn start(ns: &Netns, agent: &Agent, name: &str, args: &[&str]) -> Example {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let said = agent
            .dir()
            .join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command: Command = ns.command(binary::example(name).unwrap());
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Example {
            name: name.to_owned(),
            child,
            said,
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until it has said this so often.
    fn wait(&self, line: &str, times: usize) {
        let what = format!("{} says {line:?} {times} times", self.name);
        let found = clock::poll(SOON, || {
            (self.said().matches(line).count() >= times).then_some(())
        });
        assert!(found.is_some(), "not in time: {what}; it said:\n{}", self.said());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peers(agent: &Agent, room: &str) -> Vec<(String, u64)> {
    let topology = agent.json(&["topology", room]).unwrap_or_default();
    let peer = |peer: &Value| {
        let id = peer["peer"].as_str().unwrap_or_default();
        (id.to_owned(), peer["unacknowledged"].as_u64().unwrap_or_default())
    };
    topology["peers"]
        .as_array()
        .map(|peers| peers.iter().map(peer).collect())
        .unwrap_or_default()
}

#[test]
fn the_examples_of_all_three_roles_serve_a_room_hear_of_its_trip_and_come_back_after_a_restart() {
    let pair = Pair::new().unwrap();
    let ns = &pair.node;
    let times = Times::TEST.isolated_for(Duration::from_secs(60));
    let agent = Agent::start(ns, &Settings::new(times)).unwrap();
    let heartbeat = times.heartbeat.as_millis().to_string();
    let media = Example::start(
        ns,
        &agent,
        "media",
        &[
            "--id",
            "sfu-1",
            "--room",
            "r-1:50000,50002",
            "--heartbeat-ms",
            &heartbeat,
        ],
    );
    media.wait("changed r-1: LIVEING", 1);
    let signalling = Example::start(ns, &agent, "signalling", &["--id", "sig-1", "--room", "r-2"]);
    signalling.wait("EVENT_TYPE_CREATE r-2: version 1", 1);
    let gateway = Example::start(
        ns,
        &agent,
        "gateway",
        &["--id", "gw-1", "--room", "r-1", "--room", "r-2"],
    );
    gateway.wait("joined r-1", 1);
    clock::wait_for("both serve r-1", SOON, || peers(&agent, "r-1").len() == 2);

    agent
        .text(&["block", "r-1", "--for", "60s", "--reason", "a test"])
        .unwrap();
    gateway.wait("expired r-1: ", 1);
    assert!(
        gateway.said().contains("clients thrown out: 1"),
        "{}",
        gateway.said()
    );
    media.wait("expired r-1: ", 1);
    clock::wait_for("both have acknowledged", SOON, || {
        let peers = peers(&agent, "r-1");
        peers.iter().all(|(_, pending)| *pending == 0)
    });

    agent.kill().unwrap();
    for example in [&media, &signalling, &gateway] {
        example.wait("disconnected: ", 1);
    }
    agent.run().unwrap();
    gateway.wait("connected to ", 2);
    signalling.wait("connected to ", 2);
    gateway.wait("refused r-1: ", 1);
    gateway.wait("joined r-2", 2);
}

#[test]
fn a_gateway_comes_back_after_the_agent_was_killed_and_says_again_which_rooms_it_serves() {
    let pair = Pair::new().unwrap();
    let ns = &pair.node;
    let agent = Agent::start(ns, &Settings::new(Times::TEST)).unwrap();
    let signalling = Example::start(ns, &agent, "signalling", &["--id", "sig-1", "--room", "r-1"]);
    signalling.wait("EVENT_TYPE_CREATE r-1: version 1", 1);
    clock::wait_for("it serves r-1", SOON, || !peers(&agent, "r-1").is_empty());
    agent.kill().unwrap();
    signalling.wait("disconnected: ", 1);
    agent.run().unwrap();
    signalling.wait("connected to ", 2);
    // It announces nothing again: the room is there, and the stream alone says that it is served.
    clock::wait_for("it serves r-1 again", SOON, || !peers(&agent, "r-1").is_empty());
    assert_eq!(signalling.said().matches("EVENT_TYPE_CREATE").count(), 1);
}
