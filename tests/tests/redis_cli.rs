//! The CLI's own view of the events in a real Redis, without an agent.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::process::{Command, Output};
use voice_agent::store::{Redis, RoomStore};
use voice_room::{Change, record::Committed};
use voice_tests::{
    agent::binary,
    redis::Server,
    store_cases::{change, next},
};

struct Place {
    server: Server,
    config: tempfile::NamedTempFile,
}

impl Place {
    fn new() -> Place {
        let server = Server::start().unwrap();
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "node.name = \"node-1\"\n[store]\nkind = \"redis\"\n[store.redis]\naddresses = [\"{}\"]\ntimeout = \"5s\"\n",
            server.address()
        );
        std::fs::write(config.path(), text).unwrap();
        Place { server, config }
    }

    fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary::path().unwrap());
        command.arg("--config").arg(self.config.path()).args(args);
        command.output().unwrap()
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        let out = self.cli(args);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .map(Into::into)
            .collect()
    }

    /// Three changes of a room.
    fn fill(&self) -> Change {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Redis::open(&self.server.config()).unwrap();
        let mut last = change("talk");
        runtime.block_on(async {
            for _ in 0..3 {
                assert_eq!(store.commit(last.clone()).await, Ok(Committed::Ok));
                last = next(&last);
            }
        });
        last
    }
}

#[test]
fn a_group_is_told_of_each_event_once_and_a_forgotten_group_of_all_again() {
    let place = Place::new();
    place.fill();
    let told = place.lines(&["events", "--group", "billing"]);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[2].contains("talk") && told[2].contains("GRACE_CLOSING"),
        "{told:?}"
    );
    assert_eq!(
        place.lines(&["events", "--group", "billing"]),
        Vec::<String>::new()
    );
    place.lines(&["events", "forget", "billing"]);
    assert_eq!(place.lines(&["events", "--group", "billing", "--json"]).len(), 3);
    let refused = place.cli(&["events", "forget", "nobody"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn a_room_rebuilt_from_its_events_is_its_record_and_a_record_that_was_tampered_with_is_told() {
    let place = Place::new();
    place.fill();
    let text = place.lines(&["events", "replay", "talk"]).join("\n");
    assert!(text.contains("3 events, version 1 to 3: GRACE_CLOSING"), "{text}");
    assert!(text.contains("The record is what the events say."), "{text}");
    let keys = place.server.ask(&["KEYS", "*:room:talk"]).unwrap();
    place
        .server
        .ask(&["HSET", keys.trim(), "state", "LIVEING"])
        .unwrap();
    let out = place.cli(&["events", "replay", "talk"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(
        text.contains("state: the events say GRACE_CLOSING, the record LIVEING"),
        "{text}"
    );
    let unknown = place.cli(&["events", "replay", "nobody"]);
    assert_eq!(unknown.status.code(), Some(4));
}
