//! Host device tokens of a running agent: SIGHUP reads the key files again, all of them or none. openssl signs.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use nix::sys::signal::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use voice_agent::proto::v1::{
    EventType, RoomEvent, agent_message::Message as FromAgent, event_result::Result as Answer,
    peer_message::Message as ToAgent,
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock, metrics,
    netns::{self, Pair},
    peer::Gateway,
    stage::SOON,
};

const FIRST: &str = "the-first-secret-of-more-than-32-characters";
const SECOND: &str = "the-second-secret-of-more-than-32-characters";

struct Scene {
    gateway: Gateway,
    agent: Agent,
    pair: Pair,
    key: PathBuf,
}

fn write(key: &Path, secret: &str) {
    fs::write(key, secret).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Scene {
    /// An agent that was started with the first secret.
    fn new() -> Scene {
        let pair = Pair::new().unwrap();
        let agent = Agent::prepare(&pair.node, &Settings::new(Times::TEST)).unwrap();
        let key = agent.dir().join("key");
        write(&key, FIRST);
        let keys = format!("[\"main:HS256:{}\"]", key.display());
        let settings = Settings::new(Times::TEST).set("tokens.keys", &keys);
        agent.configure(&settings).unwrap();
        agent.run().unwrap();
        let gateway = Gateway::start(&pair.node, "gateway-1", &[]).unwrap();
        Scene {
            gateway,
            agent,
            pair,
            key,
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let page = metrics::page(&self.pair.node, "/metrics").unwrap();
        metrics::value(&page, &format!("voice_agent_{name}_total")).unwrap()
    }

    /// SIGHUP; returns once it was taken or refused, as `counter` says.
    fn reload(&self, counter: &str) {
        let before = self.counter(counter);
        self.agent.signal(Signal::SIGHUP).unwrap();
        clock::wait_for(counter, SOON, || self.counter(counter) > before);
    }

    /// What the agent answers when the gateway makes this room and starts it with a token of this secret: why not, if not.
    fn start(&self, n: u64, room: &str, secret: &str) -> Option<String> {
        assert_eq!(self.ask(2 * n, room, EventType::Create, None), None);
        self.ask(2 * n + 1, room, EventType::StartLive, Some(token(room, secret)))
    }

    fn ask(&self, request_id: u64, room: &str, event: EventType, token: Option<String>) -> Option<String> {
        self.gateway.connection.send(ToAgent::RoomEvent(RoomEvent {
            request_id,
            room: room.into(),
            event: event.into(),
            token,
            ..RoomEvent::default()
        }));
        let answer = clock::poll(SOON, || {
            let answers = self.gateway.connection.received(|message| match message {
                FromAgent::EventResult(answer) if answer.request_id == request_id => answer.result.clone(),
                _ => None,
            });
            answers.into_iter().next()
        });
        match answer.unwrap().1 {
            Answer::Accepted(_) => None,
            Answer::Rejected(refused) => Some(refused.message),
        }
    }
}

/// A token for the host "alice", signed by openssl.
fn token(room: &str, secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = (now + Duration::from_secs(600)).as_secs();
    let script = "part() { basenc --base64url --wrap=0 | tr -d =; }\n\
                  body=$(printf %s '{\"alg\":\"HS256\"}' | part).$(printf %s \"$1\" | part)\n\
                  printf %s.%s \"$body\" \"$(printf %s \"$body\" | openssl dgst -sha256 -mac HMAC -macopt \"key:$2\" -binary | part)\"";
    let claims = format!("{{\"room\":\"{room}\",\"sub\":\"alice\",\"exp\":{until}}}");
    netns::run(Command::new("sh").args(["-c", script, "sh", &claims, secret])).unwrap()
}

#[test]
fn a_reload_takes_another_secret_from_the_same_file_and_the_streams_go_on() {
    let scene = Scene::new();
    assert_eq!(scene.start(1, "before", FIRST), None);
    write(&scene.key, SECOND);
    let refused = scene.start(2, "not-yet", SECOND).unwrap();
    assert!(refused.contains("signature"), "{refused}");
    scene.reload("config_reloaded");
    assert_eq!(scene.start(3, "after", SECOND), None);
    let refused = scene.start(4, "too-late", FIRST).unwrap();
    assert!(refused.contains("signature"), "{refused}");
    let welcomes = scene.gateway.connection.received(|message| match message {
        FromAgent::Welcome(_) => Some(()),
        _ => None,
    });
    assert_eq!(welcomes.len(), 1, "one stream carried it all");
}

#[test]
fn a_key_file_that_cannot_be_used_refuses_the_reload_whole_and_the_old_key_holds() {
    let scene = Scene::new();
    write(&scene.key, "short");
    let off = Settings::new(Times::TEST)
        .set(
            "tokens.keys",
            &format!("[\"main:HS256:{}\"]", scene.key.display()),
        )
        .set("trip.mode", "\"off\"");
    scene.agent.configure(&off).unwrap();
    scene.reload("config_refused");
    let log = scene.agent.log();
    let said = format!("main:HS256:{}", scene.key.display());
    assert!(
        log.contains("nothing was changed") && log.contains(&said),
        "{log}"
    );
    assert!(
        !log.contains("mode off") && !log.contains("key=\"trip.mode\""),
        "{log}"
    );
    assert_eq!(scene.start(1, "room", FIRST), None);
    for secret in [FIRST, SECOND, "short\n"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    write(&scene.key, SECOND);
    scene.reload("config_reloaded");
    assert_eq!(scene.start(2, "another", SECOND), None);
}
