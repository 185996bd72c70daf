//! TLS, passwords and permissions, against a real Redis: what the documentation asks for is enough, and everything else is a clear
//! error, is counted, and loses nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};
use voice_agent::{
    config::redis::RedisConfig,
    store::{Cursor, Member, Redis, Refresh, RoomStore, StoreError, redis::groups::Begin},
    telemetry::Counter,
};
use voice_room::{
    Change, EventType, Isolation, State, Wall,
    record::{Committed, IsolationChange},
};
use voice_tests::{
    certs::{Certs, Issued},
    redis::{Cluster, Server, free_port},
    store_cases::{change, next, then},
};

/// Long enough for two busy cores.
const SOON: Duration = Duration::from_secs(30);
const PASSWORD: &str = "hush-hush";

/// What an operator is told to give the agent's user, from the documentation: the words behind `ACL SETUSER`.
fn documented_user() -> Vec<String> {
    let text = include_str!("../../docs/OPERATIONS.md");
    let mut lines = text.lines().skip_while(|line| !line.starts_with("ACL SETUSER "));
    let line = lines.next().unwrap();
    line.split_whitespace()
        .map(|word| match word {
            ">PASSWORD" => format!(">{PASSWORD}"),
            word => word.to_owned(),
        })
        .collect()
}

fn allow(server: &Server, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.ask(&words).unwrap();
}

/// A file with a password that only its owner reads.
fn password(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    file
}

/// The documented user on a server.
fn as_user(mut config: RedisConfig, file: &Path) -> RedisConfig {
    config.username = Some("voice-agent".into());
    config.password_file = Some(file.to_owned());
    config
}

/// Everything that an agent and its commands ask a store.
async fn do_everything(store: &Redis) {
    let created = change("a");
    assert_eq!(store.commit(created.clone()).await, Ok(Committed::Ok));
    let mut follower = store.follow(Cursor::default());
    let told = tokio::time::timeout(SOON, follower.next(10)).await.unwrap();
    assert_eq!(told.unwrap().len(), 1);
    let room = created.record.room.clone();
    let member = |joined| Member {
        room: room.clone(),
        client: "one".parse().unwrap(),
        joined,
    };
    store.members(vec![member(true)]).await.unwrap();
    store.members(vec![member(false)]).await.unwrap();
    let refresh = Refresh {
        room: room.clone(),
        version: created.record.version,
        op_id: created.record.op_id.clone(),
        epoch: created.record.epoch,
    };
    store.refresh(vec![refresh]).await.unwrap();
    assert!(store.look(room.clone()).await.unwrap().is_some());
    let served = store.tell_served(vec![room.clone()], &created.record.owner).await;
    assert_eq!(served.unwrap().len(), 1);
    assert!(store.served(room.clone()).await.unwrap().is_some());
    let mut expired = then(&created, EventType::OwnerLost, State::Expired);
    expired.isolation = IsolationChange::Set(Isolation {
        room: room.clone(),
        reason: "stuck".into(),
        until: Wall(4_102_444_800_000),
    });
    assert_eq!(store.commit(expired.clone()).await, Ok(Committed::Ok));
    assert!(store.isolation(room.clone()).await.unwrap().is_some());
    let loaded = store.load(vec![room.clone()]).await.unwrap();
    assert_eq!((loaded.rooms.len(), loaded.isolations.len()), (1, 1));
    assert_eq!(loaded.damaged, []);
    let mut over = then(&expired, EventType::Release, State::Destroyed);
    over.isolation = IsolationChange::Clear;
    assert_eq!(store.commit(over.clone()).await, Ok(Committed::Ok));
    // One that lost the race, and looks at the events for its own.
    let late = voice_tests::store_cases::by(created.clone(), 1, "late");
    assert!(matches!(store.commit(late).await, Ok(Committed::Conflict(_))));
    assert_eq!(store.events_of(&room, 10).await.unwrap().len(), 3);
    let group = store.consumer("billing", "one", &Begin::Oldest).await.unwrap();
    let read = group.read().await.unwrap();
    assert_eq!(read.len(), 3);
    assert_eq!(group.claim(Duration::ZERO).await.unwrap().len(), 3);
    let positions: Vec<_> = read.iter().map(|(position, _)| *position).collect();
    group.acknowledge(&positions).await.unwrap();
    store.trim().await.unwrap();
    assert!(store.forget_group("billing").await.unwrap());
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_permissions_are_enough_for_everything_and_do_not_allow_to_empty_the_server() {
    let server = Server::start().unwrap();
    allow(&server, &documented_user());
    let file = password(PASSWORD);
    let config = as_user(server.config(), file.path());
    let store = Redis::open(&config).unwrap();
    do_everything(&store).await;
    // A follower that fell behind asks for what was cut.
    let mut forgetful = config.clone();
    forgetful.events_kept = Duration::ZERO;
    tokio::time::sleep(Duration::from_millis(5)).await;
    Redis::open(&forgetful).unwrap().trim().await.unwrap();
    let mut late = store.follow(Cursor::since(Wall(1)));
    let told = tokio::time::timeout(SOON, late.next(10)).await.unwrap();
    assert!(matches!(told, Err(StoreError::Cut { .. })), "{told:?}");
    // The scripts have to be sent whole again.
    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    let again = change("b");
    assert_eq!(store.commit(again.clone()).await, Ok(Committed::Ok));
    for dangerous in [
        &["FLUSHALL"][..],
        &["KEYS", "*"],
        &["CONFIG", "GET", "*"],
        &["GET", "other"],
    ] {
        let asked = ["--user", "voice-agent", "--pass", PASSWORD, "--no-auth-warning"];
        let refused = server.ask(&[&asked[..], dangerous].concat()).unwrap_err();
        assert!(refused.to_string().contains("NOPERM"), "{dangerous:?}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_permissions_are_enough_on_a_cluster() {
    let cluster = Cluster::start().unwrap();
    for node in cluster.nodes() {
        allow(node, &documented_user());
    }
    let file = password(PASSWORD);
    let store = Redis::open(&as_user(cluster.config(), file.path())).unwrap();
    do_everything(&store).await;
}

/// A call that must not work: a clear error that says `saying`, counted, with nothing stored.
async fn is_refused(server: &Server, config: &RedisConfig, change: &Change, saying: &[&str]) {
    let before = (Counter::StoreFailed.value(), server.ask(&["DBSIZE"]).unwrap());
    let refused = match Redis::open(config) {
        Ok(store) => store.commit(change.clone()).await.unwrap_err().to_string(),
        Err(error) => panic!("the files are good: {error}"),
    };
    for word in saying {
        assert!(refused.contains(word), "{word:?} is not in: {refused}");
    }
    assert!(!refused.contains(PASSWORD), "{refused}");
    assert!(Counter::StoreFailed.value() > before.0, "not counted: {refused}");
    assert_eq!(server.ask(&["DBSIZE"]).unwrap(), before.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_an_unknown_user_and_a_missing_permission_are_clear_errors_and_lose_nothing() {
    let server = Server::start().unwrap();
    allow(&server, &documented_user());
    let (right, wrong) = (password(PASSWORD), password("wrong"));
    let config = as_user(server.config(), right.path());
    let store = Redis::open(&config).unwrap();
    let stored = change("a");
    assert_eq!(store.commit(stored.clone()).await, Ok(Committed::Ok));
    let wanted = next(&stored);
    let told = ["store.redis.password_file", "store.redis.username"];
    is_refused(&server, &as_user(server.config(), wrong.path()), &wanted, &told).await;
    let mut unknown = config.clone();
    unknown.username = Some("nobody".into());
    is_refused(&server, &unknown, &wanted, &told).await;
    // Whatever permission is taken away, nothing is half done.
    for taken in [
        "-evalsha",
        "-publish",
        "-xadd",
        "resetchannels",
        "resetkeys",
        "-expire",
    ] {
        server.ask(&["ACL", "SETUSER", "voice-agent", taken]).unwrap();
        is_refused(&server, &config, &wanted, &["ACL"]).await;
        let now = store_of(&server)
            .look(stored.record.room.clone())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(now.record, stored.record, "{taken}");
        allow(&server, &documented_user());
    }
    // Once it is mended, the change that waited is stored, once.
    assert_eq!(store.commit(wanted.clone()).await, Ok(Committed::Ok));
    assert_eq!(store.commit(wanted.clone()).await, Ok(Committed::Skipped));
    assert_eq!(store.events_of(&stored.record.room, 10).await.unwrap().len(), 2);
}

fn store_of(server: &Server) -> Redis {
    Redis::open(&server.config()).unwrap()
}

/// A server that also speaks TLS, with this certificate; its plain port is the test's own.
fn with_tls(certs: &Certs, issued: &Issued, clients: &str) -> (Server, RedisConfig) {
    let port = free_port().unwrap().to_string();
    let (cert, key, ca) = (
        issued.cert.display().to_string(),
        issued.key.display().to_string(),
        certs.ca(),
    );
    let server = Server::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca.display().to_string(),
        "--tls-auth-clients",
        clients,
    ])
    .unwrap();
    let mut config = server.config();
    config.addresses = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    config.tls = true;
    config.tls_ca = Some(ca);
    (server, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_and_a_password_everything_works_and_without_the_right_ca_nothing_does() {
    let (certs, others) = (Certs::new().unwrap(), Certs::new().unwrap());
    let (server, config) = with_tls(&certs, &certs.issue("server", 2).unwrap(), "no");
    allow(&server, &documented_user());
    let file = password(PASSWORD);
    let config = as_user(config, file.path());
    do_everything(&Redis::open(&config).unwrap()).await;
    let mut wrong = config.clone();
    wrong.tls_ca = Some(others.ca());
    is_refused_by_tls(&wrong, "invalid peer certificate").await;
    // TLS spoken to a port that has none, and none to one that has.
    let mut plain = config.clone();
    plain.tls = false;
    plain.tls_ca = None;
    is_refused_by_tls(&plain, "").await;
}

async fn is_refused_by_tls(config: &RedisConfig, saying: &str) {
    let before = Counter::StoreFailed.value();
    let refused = Redis::open(config).unwrap().commit(change("refused")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(saying), "{saying:?} is not in: {refused}");
    assert!(!refused.contains(PASSWORD), "{refused}");
    assert!(Counter::StoreFailed.value() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_expired_is_refused_and_the_change_waits_for_a_good_one() {
    let certs = Certs::new().unwrap();
    let (expired, good) = (
        certs.issue("expired", -1).unwrap(),
        certs.issue("good", 2).unwrap(),
    );
    let (server, config) = with_tls(&certs, &expired, "no");
    let store = Redis::open(&config).unwrap();
    let created = change("a");
    is_refused_by_tls(&config, "xpired").await;
    let refused = store.commit(created.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("xpired"), "{refused}");
    assert_eq!(server.ask(&["DBSIZE"]).unwrap().trim(), "0");
    // Renewed, as an operator does it, without a restart of either.
    let (cert, key) = (good.cert.display().to_string(), good.key.display().to_string());
    server
        .ask(&["CONFIG", "SET", "tls-cert-file", &cert, "tls-key-file", &key])
        .unwrap();
    let end = std::time::Instant::now() + SOON;
    let known = loop {
        match store.commit(created.clone()).await {
            Ok(known) => break known,
            Err(problem) => assert!(std::time::Instant::now() < end, "{problem}"),
        }
    };
    assert_eq!(known, Committed::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_a_certificate_of_its_clients_is_given_the_configured_one() {
    let certs = Certs::new().unwrap();
    let (_server, mut config) = with_tls(&certs, &certs.issue("server", 2).unwrap(), "yes");
    is_refused_by_tls(&config, "").await;
    let own = certs.issue("agent", 2).unwrap();
    config.tls_identity = (Some(own.cert), Some(own.key));
    do_everything(&Redis::open(&config).unwrap()).await;
}
