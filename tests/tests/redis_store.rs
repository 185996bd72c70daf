//! What went wrong in the accident, against a real Redis: changes that fail, that race, that are repeated, whose answer is lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use futures::future::join_all;
use nix::sys::signal::Signal;
use std::time::Duration;
use voice_agent::{
    store::{Cursor, Member, Redis, Refresh, Refreshed, RoomStore, StoreError},
    telemetry::Counter,
};
use voice_room::{
    Change, Epoch, EventType, Isolation, NodeName, OpId, RoomId, State, Wall,
    record::{Committed, IsolationChange},
};
use voice_tests::{
    clock,
    proxy::Proxy,
    redis::Server,
    store_cases::{by, change, next, restored, then},
};

fn start() -> (Redis, Server) {
    let server = Server::start().unwrap();
    (Redis::open(&server.config()).unwrap(), server)
}

/// A store that gives up on an answer soon.
fn impatient(server: &Server, address: &str) -> Redis {
    let mut config = server.config();
    config.addresses = vec![address.parse().unwrap()];
    config.timeout = Duration::from_millis(300);
    Redis::open(&config).unwrap()
}

async fn ok(store: &Redis, change: &Change) {
    assert_eq!(store.commit(change.clone()).await, Ok(Committed::Ok));
}

/// The op_ids of a room's events.
async fn ops(store: &Redis, change: &Change) -> Vec<String> {
    let events = store.events_of(&change.record.room, 10_000).await.unwrap();
    events.iter().map(|(_, event)| event.op_id.to_string()).collect()
}

fn keys(server: &Server) -> Vec<String> {
    let keys = server.ask(&["KEYS", "*"]).unwrap();
    let mut keys: Vec<String> = keys.lines().filter(|k| !k.is_empty()).map(Into::into).collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_state_change_leaves_no_lock_key_or_member_behind_and_the_next_request_is_not_refused() {
    let (store, server) = start();
    let created = by(change("a"), 5, "a-1");
    // Of a room that is not there.
    let live = then(&created, EventType::StartLive, State::Liveing);
    assert_eq!(store.commit(live.clone()).await, Ok(Committed::Conflict(None)));
    assert_eq!(keys(&server), Vec::<String>::new());
    // Fenced, with an isolation that must not be set.
    ok(&store, &created).await;
    let before = keys(&server);
    let mut fenced = by(then(&created, EventType::OwnerLost, State::Expired), 4, "late");
    fenced.isolation = IsolationChange::Set(Isolation {
        room: created.record.room.clone(),
        reason: "stuck".into(),
        until: Wall(4_102_444_800_000),
    });
    assert!(matches!(
        store.commit(fenced.clone()).await,
        Ok(Committed::Fenced(_))
    ));
    assert_eq!(keys(&server), before);
    // Something foreign where the event would go: found before anything is written.
    let events = before.iter().find(|key| key.ends_with(":events")).unwrap();
    server.ask(&["RENAME", events, "aside"]).unwrap();
    server.ask(&["SET", events, "foreign"]).unwrap();
    let expired = by(fenced.clone(), 5, "expired");
    let refused = store.commit(expired.clone()).await;
    assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{refused:?}");
    assert_eq!(server.ask(&["GET", events]).unwrap().trim(), "foreign");
    server.ask(&["RENAME", "aside", events]).unwrap();
    assert_eq!(keys(&server), before);
    assert_eq!(ops(&store, &created).await, ["a-1"]);
    // The next request of each is not refused.
    ok(&store, &by(live, 5, "a-2")).await;
    ok(&store, &change("b")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_over_leaves_no_member_behind() {
    let (store, server) = start();
    let created = change("a");
    ok(&store, &created).await;
    let join = |client: &str| Member {
        room: created.record.room.clone(),
        client: client.parse().unwrap(),
        joined: true,
    };
    store.members(vec![join("one"), join("two")]).await.unwrap();
    let clients = keys(&server)
        .into_iter()
        .find(|key| key.ends_with(":clients"))
        .unwrap();
    assert_eq!(server.ask(&["SCARD", &clients]).unwrap().trim(), "2");
    assert_ne!(server.ask(&["TTL", &clients]).unwrap().trim(), "-1");
    ok(&store, &then(&created, EventType::Close, State::Destroyed)).await;
    assert!(!keys(&server).contains(&clients));
}

const ROUNDS: usize = 1_000;
const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_on_one_version_exactly_one_wins_the_other_gets_the_winners_record_and_a_lower_epoch_never_writes()
 {
    let (store, server) = start();
    let writers: Vec<Redis> = (0..WRITERS)
        .map(|_| Redis::open(&server.config()).unwrap())
        .collect();
    let mut last = by(change("a"), 7, "a-1");
    ok(&store, &last).await;
    let mut won = vec!["a-1".to_owned()];
    for round in 0..ROUNDS {
        let wanted = next(&last);
        let changes: Vec<Change> = (0..WRITERS)
            .map(|writer| by(wanted.clone(), 7, &format!("{round}/{writer}")))
            .collect();
        let late = by(wanted.clone(), 6, &format!("{round}/late"));
        let asked = writers
            .iter()
            .zip(&changes)
            .map(|(writer, change)| writer.commit(change.clone()));
        let (late, answers) = tokio::join!(store.commit(late), join_all(asked));
        assert_eq!(late, Ok(Committed::Fenced(last.record.epoch)), "round {round}");
        let winners: Vec<&Change> = changes
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| **answer == Ok(Committed::Ok))
            .map(|(change, _)| change)
            .collect();
        let [winner] = winners[..] else {
            panic!("round {round}: {answers:?}");
        };
        let conflict = Ok(Committed::Conflict(Some(winner.record.clone())));
        assert_eq!(
            answers.iter().filter(|answer| **answer == conflict).count(),
            WRITERS - 1,
            "round {round}"
        );
        won.push(winner.record.op_id.to_string());
        last = winner.clone();
    }
    assert_eq!(ops(&store, &last).await, won);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_repeated_a_hundred_times_by_many_writers_has_one_effect_and_one_event() {
    let (_, server) = start();
    let created = change("a");
    let writers: Vec<Redis> = (0..10).map(|_| Redis::open(&server.config()).unwrap()).collect();
    let asked = (0..100).map(|n| writers[n % 10].commit(created.clone()));
    let answers = join_all(asked).await;
    assert_eq!(answers.iter().filter(|a| **a == Ok(Committed::Ok)).count(), 1);
    assert_eq!(
        answers.iter().filter(|a| **a == Ok(Committed::Skipped)).count(),
        99
    );
    assert_eq!(ops(&writers[0], &created).await, ["a-1"]);
}

/// A server that is frozen takes what is sent, and does it when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_after_sending_is_never_applied_twice_and_never_forgotten() {
    let (patient, server) = start();
    let store = impatient(&server, &server.address());
    let mut last = change("a");
    ok(&store, &last).await;
    let mut done = vec!["a-1".to_owned()];
    for round in 0..5 {
        let wanted = by(next(&last), 1, &format!("round-{round}"));
        server.signal(Signal::SIGSTOP).unwrap();
        let unknown = store.commit(wanted.clone()).await;
        server.signal(Signal::SIGCONT).unwrap();
        assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{unknown:?}");
        // As the core does: the same change, until the store says what became of it.
        let known = loop {
            if let Ok(known) = store.commit(wanted.clone()).await {
                break known;
            }
        };
        assert!(matches!(known, Committed::Ok | Committed::Skipped), "{known:?}");
        done.push(wanted.record.op_id.to_string());
        assert_eq!(ops(&patient, &last).await, done);
        last = wanted;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_known_as_applied_also_after_others_went_on() {
    let (patient, server) = start();
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port()).parse().unwrap()).unwrap();
    let mut config = server.config();
    config.addresses = vec![proxy.address().to_string().parse().unwrap()];
    config.timeout = Duration::from_secs(1);
    let store = Redis::open(&config).unwrap();
    store.ping().await.unwrap();
    let created = change("a");
    ok(&patient, &created).await;
    let live = then(&created, EventType::StartLive, State::Liveing);
    // It arrives in time and is done; its answer comes too late. So does that of a new connection.
    proxy.delay(Duration::from_millis(600));
    let unknown = store.commit(live.clone()).await;
    assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{unknown:?}");
    let room = live.record.room.clone();
    let stored = async || patient.look(room.clone()).await.unwrap().unwrap().record;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while stored().await != live.record {
        assert!(std::time::Instant::now() < end, "it never arrived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut last = by(live.clone(), 1, "other");
    for _ in 0..3 {
        last = next(&last);
        ok(&patient, &last).await;
    }
    proxy.delay(Duration::ZERO);
    let known = loop {
        if let Ok(known) = store.commit(live.clone()).await {
            break known;
        }
    };
    assert_eq!(known, Committed::Skipped);
    // Another change that wanted this version is a conflict.
    let other = by(live.clone(), 1, "not-applied");
    assert_eq!(
        patient.commit(other).await,
        Ok(Committed::Conflict(Some(last.into_parts().record)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_scripts_is_sent_them_again() {
    let (store, server) = start();
    let mut last = change("a");
    ok(&store, &last).await;
    server.ask(&["SCRIPT", "FLUSH"]).unwrap();
    last = next(&last);
    ok(&store, &last).await;
    server.kill();
    let refused = store.commit(next(&last)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    server.run().unwrap();
    // It had everything in memory: the owner puts its record back.
    let back = restored(&last);
    assert_eq!(store.commit(back.clone()).await, Ok(Committed::Ok));
    assert_eq!(store.commit(back).await, Ok(Committed::Skipped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_and_a_half_open_connection_are_replaced_and_each_call_ends_in_time() {
    let (_, server) = start();
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port()).parse().unwrap()).unwrap();
    let store = impatient(&server, &proxy.address().to_string());
    let mut last = change("a");
    ok(&store, &last).await;
    for half_open in [false, true] {
        match half_open {
            true => proxy.stall(),
            false => proxy.refuse(),
        }
        let begin = std::time::Instant::now();
        let refused = store.ping().await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        proxy.open();
        last = next(&last);
        let known = loop {
            if let Ok(known) = store.commit(last.clone()).await {
                break known;
            }
        };
        assert!(matches!(known, Committed::Ok | Committed::Skipped), "{known:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_not_written_and_a_primary_again_is() {
    let (store, server) = start();
    let created = change("a");
    ok(&store, &created).await;
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let refused = store.commit(next(&created)).await.unwrap_err().to_string();
    assert!(refused.contains("replica"), "{refused}");
    server.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    ok(&store, &next(&created)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_needed_given_by_file_and_shown_nowhere() {
    let server = Server::with(&["--requirepass", "hush-hush"]).unwrap();
    let refused = Redis::open(&server.config())
        .unwrap()
        .ping()
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("store.redis.password_file"), "{refused}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush-hush\n").unwrap();
    let mut config = server.config();
    config.password_file = Some(file.path().to_owned());
    let store = Redis::open(&config).unwrap();
    store.ping().await.unwrap();
    assert!(!format!("{store:?} {config:?}").contains("hush-hush"));
    std::fs::write(file.path(), "wrong\n").unwrap();
    let refused = Redis::open(&config)
        .unwrap()
        .ping()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("password_file") && !refused.contains("wrong\n"),
        "{refused}"
    );
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = Redis::open(&config).unwrap_err().to_string();
    assert!(refused.contains("open to others"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_a_typed_error_is_counted_and_is_not_written_over() {
    let (store, server) = start();
    let huge = "x".repeat(100_000);
    let fill: [(&str, Vec<&str>); 6] = [
        ("another type", vec!["LPUSH", "KEY", "1"]),
        ("a foreign hash", vec!["HSET", "KEY", "name", "value"]),
        (
            "a truncated hash",
            vec!["HSET", "KEY", "state", "LIVEING", "version", "1"],
        ),
        (
            "a version that is none",
            vec![
                "HSET",
                "KEY",
                "state",
                "LIVEING",
                "version",
                "one",
                "epoch",
                "0.1",
                "op_id",
                "x",
                "incarnation",
                "1",
                "owner",
                "n",
                "since_ms",
                "1",
                "data",
                "{}",
            ],
        ),
        (
            "a huge value",
            vec![
                "HSET",
                "KEY",
                "state",
                "LIVEING",
                "version",
                "1",
                "epoch",
                "0.1",
                "op_id",
                "x",
                "incarnation",
                "1",
                "owner",
                "n",
                "since_ms",
                "1",
                "data",
                &huge,
            ],
        ),
        ("a string", vec!["SET", "KEY", "LIVEING"]),
    ];
    for (n, (what, command)) in fill.iter().enumerate() {
        let created = change(&format!("room-{n}"));
        let room = &created.record.room;
        let key = format!(
            "{{v{:02}}}:room:{room}",
            voice_agent::store::redis::keys::partition(room)
        );
        let command: Vec<&str> = command
            .iter()
            .map(|w| if *w == "KEY" { &*key } else { w })
            .collect();
        server.ask(&command).unwrap();
        let dump = server.ask(&["DUMP", &key]).unwrap();
        let before = Counter::StoreForeign.value();
        let refused = store.commit(created.clone()).await;
        assert!(
            matches!(&refused, Err(StoreError::Foreign { key: at, .. }) if *at == key),
            "{what}: {refused:?}"
        );
        assert!(Counter::StoreForeign.value() > before, "{what}");
        let refused = store.look(room.clone()).await;
        assert!(
            matches!(refused, Err(StoreError::Foreign { .. })),
            "{what}: {refused:?}"
        );
        let loaded = store.load(vec![room.clone()]).await.unwrap();
        assert_eq!((loaded.rooms.len(), loaded.damaged.len()), (0, 1), "{what}");
        assert_eq!(server.ask(&["DUMP", &key]).unwrap(), dump, "{what}");
    }
    // Other rooms are not touched by it.
    ok(&store, &change("fine")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_an_isolation_or_an_event_that_is_not_ours_is_left_as_it_is() {
    let (store, server) = start();
    let created = change("a");
    ok(&store, &created).await;
    let key = |end: &str| keys(&server).into_iter().find(|key| key.ends_with(end)).unwrap();
    let (fence, events) = (key("fence:a"), key(":events"));
    server.ask(&["SET", &fence, "high"]).unwrap();
    let refused = store.commit(next(&created)).await;
    assert!(
        matches!(&refused, Err(StoreError::Foreign { key, .. }) if *key == fence),
        "{refused:?}"
    );
    server.ask(&["SET", &fence, "0.1"]).unwrap();
    // Isolations: one that is no JSON, one of another type.
    let tag = events.trim_end_matches(":events");
    let isolation = format!("{tag}:isolation:a");
    server
        .ask(&["ZADD", &format!("{tag}:isolated"), "1", "a"])
        .unwrap();
    server.ask(&["SET", &isolation, "yes"]).unwrap();
    let loaded = store.load(vec![]).await.unwrap();
    assert_eq!(
        (loaded.isolations.len(), loaded.damaged.len()),
        (0, 1),
        "{:?}",
        loaded.damaged
    );
    // An event of a stranger is counted and passed over; ours before and after it are read.
    let before = Counter::StoreForeign.value();
    server.ask(&["XADD", &events, "*", "hello", "world"]).unwrap();
    ok(&store, &next(&created)).await;
    let all = store.events(Cursor::default(), 100).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(Counter::StoreForeign.value() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_runs_out_without_its_owner_is_kept_by_a_refresh_and_is_put_back_by_its_owner() {
    let server = Server::start().unwrap();
    let mut config = server.config();
    config.record_ttl = Duration::from_secs(3);
    let store = Redis::open(&config).unwrap();
    let (kept, lost) = (change("kept"), change("lost"));
    ok(&store, &kept).await;
    ok(&store, &lost).await;
    let refresh = Refresh {
        room: kept.record.room.clone(),
        version: kept.record.version,
        op_id: kept.record.op_id.clone(),
        epoch: kept.record.epoch,
    };
    let there = |name: &str| {
        let name = RoomId::new(name).unwrap();
        let store = &store;
        async move { store.look(name).await.unwrap().is_some() }
    };
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while there("lost").await {
        assert!(std::time::Instant::now() < end, "it never runs out");
        store.refresh(vec![refresh.clone()]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(there("kept").await);
    let back = restored(&lost);
    let mut back = back;
    back.event.old_state = None;
    ok(&store, &back).await;
    assert_eq!(ops(&store, &lost).await, ["lost-1", "lost-restored"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_word_that_it_serves_a_room_is_found_by_who_looks_keeps_its_own_record_alive_and_changes_nothing()
 {
    let (store, server) = start();
    let (own, foreign) = (change("own"), change("foreign"));
    let mut foreign = foreign;
    foreign.record.owner = NodeName::new("another").unwrap();
    let rooms = [&own, &foreign].map(|c| c.record.room.clone());
    let gone = RoomId::new("gone").unwrap();
    ok(&store, &own).await;
    ok(&store, &foreign).await;
    let tag = |kind: &str, room: &RoomId| {
        let partition = voice_agent::store::redis::keys::partition(room);
        format!("{{v{partition:02}}}:{kind}:{room}")
    };
    let soon = |room: &RoomId| server.ask(&["EXPIRE", &tag("room", room), "100"]).unwrap();
    rooms.iter().for_each(|room| drop(soon(room)));
    let whole = |room: &RoomId| {
        ["room", "fence"].map(|kind| match kind {
            "room" => server.ask(&["HGETALL", &tag(kind, room)]).unwrap(),
            _ => server.ask(&["GET", &tag(kind, room)]).unwrap(),
        })
    };
    let before = rooms.each_ref().map(whole);
    assert_eq!(store.served(own.record.room.clone()).await, Ok(None));

    let mut all = rooms.to_vec();
    all.push(gone.clone());
    let told = store.tell_served(all.clone(), &own.record.owner).await;
    assert_eq!(told.as_deref(), Ok(&all[..]));

    for room in all {
        let since = store.served(room.clone()).await.unwrap();
        assert!(
            since.is_some_and(|since| since < Duration::from_secs(60)),
            "{room}"
        );
    }
    assert_eq!(store.look(gone).await, Ok(None), "it makes no record");
    assert_eq!(rooms.each_ref().map(whole), before);
    let left = |room: &RoomId| -> i64 {
        server
            .ask(&["TTL", &tag("room", room)])
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    assert!(left(&rooms[0]) > 200, "its own record lives on");
    assert!(left(&rooms[1]) <= 100, "another's is that one's to refresh");

    // What is under the key and is none of ours stays there, and the others are told of all the same.
    server.ask(&["DEL", &tag("served", &rooms[0])]).unwrap();
    server.ask(&["SADD", &tag("served", &rooms[0]), "x"]).unwrap();
    let counted = Counter::StoreForeign.value();
    let told = store.tell_served(rooms.to_vec(), &own.record.owner).await;
    assert_eq!(told.as_deref(), Ok(&rooms[1..]));
    assert!(Counter::StoreForeign.value() > counted);
    assert_eq!(
        server
            .ask(&["SMEMBERS", &tag("served", &rooms[0])])
            .unwrap()
            .trim(),
        "x"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_under_a_new_epoch_fences_off_what_the_owner_before_sends_late() {
    let (store, _server) = start();
    let created = change("taken-over");
    let room = created.record.room.clone();
    ok(&store, &created).await;
    let epoch = Epoch { era: 0, revision: 7 };
    let refresh = Refresh {
        room: room.clone(),
        version: created.record.version,
        op_id: created.record.op_id.clone(),
        epoch,
    };
    let kept = store.refresh(vec![refresh.clone()]).await.unwrap();
    assert_eq!(kept, [(room.clone(), Refreshed::Kept)]);

    let late = then(&created, EventType::StartLive, State::Liveing);
    assert_eq!(store.commit(late).await, Ok(Committed::Fenced(epoch)));
    let late = Refresh {
        epoch: created.record.epoch,
        ..refresh
    };
    let late = store.refresh(vec![late]).await.unwrap();
    assert_eq!(late, [(room, Refreshed::Fenced(epoch))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolation_lasts_for_what_remains_of_it() {
    let (store, server) = start();
    let created = change("a");
    ok(&store, &created).await;
    let now = voice_agent::api::convert::now();
    let mut expired = then(&created, EventType::OwnerLost, State::Expired);
    expired.isolation = IsolationChange::Set(Isolation {
        room: created.record.room.clone(),
        reason: "stuck".into(),
        until: Wall(now.0 + 60_000),
    });
    ok(&store, &expired).await;
    let key = keys(&server)
        .into_iter()
        .find(|key| key.contains(":isolation:"))
        .unwrap();
    let left: u64 = server.ask(&["PTTL", &key]).unwrap().trim().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert_eq!(store.load(vec![]).await.unwrap().isolations.len(), 1);
    server.ask(&["PEXPIRE", &key, "1"]).unwrap();
    clock::wait_for("it is over", Duration::from_secs(10), || {
        !keys(&server).contains(&key)
    });
    assert_eq!(store.load(vec![]).await.unwrap().isolations, []);
    // One that is over already is not set at all.
    let mut late = then(&expired, EventType::IsolationOver, State::Destroyed);
    late.record.op_id = OpId::new("late").unwrap();
    late.event.op_id = late.record.op_id.clone();
    late.isolation = IsolationChange::Set(Isolation {
        room: created.record.room.clone(),
        reason: "stuck".into(),
        until: Wall(now.0.saturating_sub(1)),
    });
    ok(&store, &late).await;
    assert!(!keys(&server).contains(&key));
}
