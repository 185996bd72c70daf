//! What only a disk can do to the embedded store. What every store must do is in `tests/tests/store_conformance.rs`.

use super::{Embedded, group::EVENTS_KEPT, group::Group, tables::RoomTables};
use crate::store::{
    Cursor, RoomStore, StoreError,
    disk::Disk,
    testing::{Child, ack, change, child_dir, limit_files, then},
};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use voice_room::{
    Change, Epoch, EventType, Isolation, RoomId, State, Version, Wall, patrol,
    record::{Committed, IsolationChange},
    timeline::Actor,
};

fn store() -> (Embedded, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Embedded::open(dir.path()).unwrap(), dir)
}

/// Live, gone, back, gone, …
fn next(last: &Change) -> Change {
    match last.record.state {
        State::Created => then(last, EventType::StartLive, State::Liveing),
        State::Liveing => then(last, EventType::HostDisconnect, State::GraceClosing),
        _ => then(last, EventType::HostReturn, State::Liveing),
    }
}

/// Tables without the thread, for what happens inside it.
fn with_tables<R>(dir: &Path, work: impl FnOnce(&mut RoomTables) -> R) -> R {
    let mut disk = Disk::<RoomTables>::open(dir).unwrap();
    disk.with(|tables| Ok(work(tables))).unwrap()
}

fn commit(tables: &mut RoomTables, change: &Change) {
    let mut group = Group::new(tables);
    assert_eq!(group.judge(change), Ok(Committed::Ok));
    group.write().unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_and_a_reopened_one_has_everything() {
    let (store, dir) = store();
    let created = change("a");
    store.commit(created.clone()).await.unwrap();
    store.close().await.unwrap();
    let refused = store.commit(next(&created)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(
        store.load(vec![]).await.unwrap().rooms,
        vec![created.record.clone()]
    );
    store.commit(next(&created)).await.unwrap();
    let positions: Vec<String> = store
        .events(Cursor::default(), 10)
        .await
        .unwrap()
        .iter()
        .map(|e| e.0.to_string())
        .collect();
    assert_eq!(positions, ["1", "2"]);
}

#[tokio::test]
async fn a_second_process_or_handle_on_the_same_directory_is_refused_with_its_name() {
    let (_store, dir) = store();
    let refused = Embedded::open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains(&dir.path().display().to_string()), "{refused}");
    assert!(refused.contains("another process"), "{refused}");
}

const KILLED: &str = "store::embedded::tests::what_was_answered_ok_is_there_after_kill_9_and_the_fence_holds";
const ROOMS: usize = 8;

/// In the child: eight rooms change as fast as they can; each answered change is told.
#[tokio::main]
async fn write_for_ever(dir: &Path) {
    let store = Embedded::open(dir).unwrap();
    let rooms = (0..ROOMS).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut last = change(&format!("room-{n}"));
            loop {
                assert_eq!(store.commit(last.clone()).await, Ok(Committed::Ok));
                ack(&format!("{} {}", last.record.room, last.record.version));
                last = next(&last);
                last.record.epoch.revision += 1;
            }
        })
    });
    futures::future::join_all(rooms).await;
}

#[tokio::test]
async fn what_was_answered_ok_is_there_after_kill_9_and_the_fence_holds() {
    if let Some(dir) = child_dir() {
        return std::thread::spawn(move || write_for_ever(&dir)).join().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Child::start(KILLED, dir.path());
    let acks = child.acks(400);
    drop(child);
    assert_eq!(acks.len(), 400);
    let mut answered = BTreeMap::new();
    for (room, version) in acks.iter().map(|ack| ack.split_once(' ').unwrap()) {
        answered.insert(room, version.parse::<u64>().unwrap());
    }
    let store = Embedded::open(dir.path()).unwrap();
    let stored = store.load(vec![]).await.unwrap();
    assert_eq!((stored.rooms.len(), stored.damaged), (ROOMS, vec![]));
    let events = store.events(Cursor::default(), 10_000).await.unwrap();
    for record in stored.rooms {
        let Version(version) = record.version;
        assert!(version >= answered[record.room.as_str()], "{record:?}");
        // Record, event and fence were written together.
        let of_room = events.iter().filter(|(_, e)| e.room == record.room);
        assert_eq!(of_room.count() as u64, version);
        assert_eq!(record.epoch.revision, version);
        let mut last = change(&record.room);
        last.record = record.clone();
        let mut late = next(&last);
        late.record.epoch.revision -= 1;
        assert_eq!(store.commit(late).await, Ok(Committed::Fenced(record.epoch)));
    }
}

const FULL: &str =
    "store::embedded::tests::a_disk_that_fails_is_answered_as_such_and_used_again_once_it_works";

/// In the child, which alone has the failing disk.
#[tokio::main]
async fn fill_the_disk(dir: &Path) {
    let store = Embedded::open(dir).unwrap();
    let mut last = change("a");
    assert_eq!(store.commit(last.clone()).await, Ok(Committed::Ok));
    limit_files(Some(64 * 1024));
    let failed = loop {
        let change = next(&last);
        match store.commit(change.clone()).await {
            Ok(committed) => assert_eq!(committed, Committed::Ok),
            Err(_) => break change,
        }
        last = change;
    };
    let again = store.commit(failed.clone()).await;
    assert!(matches!(again, Err(StoreError::Unavailable(_))), "{again:?}");
    limit_files(None);
    let deadline = Instant::now() + Duration::from_secs(20);
    let answer = loop {
        match store.commit(failed.clone()).await {
            Ok(answer) => break answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Its first try failed, yet may have reached the disk.
    assert!(matches!(answer, Committed::Ok | Committed::Skipped), "{answer:?}");
    let stored = store.load(vec![]).await.unwrap();
    assert_eq!(
        (stored.rooms, stored.damaged),
        (vec![failed.record.clone()], vec![])
    );
    assert_eq!(store.commit(next(&failed)).await, Ok(Committed::Ok));
}

#[test]
fn a_disk_that_fails_is_answered_as_such_and_used_again_once_it_works() {
    if let Some(dir) = child_dir() {
        return fill_the_disk(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(Child::start(FULL, dir.path()).succeeded());
}

#[tokio::test]
async fn what_is_not_ours_is_reported_by_its_key_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        commit(tables, &change("good"));
        let other = serde_json::to_vec(&change("other").record).unwrap();
        tables.rooms.insert("swapped", other).unwrap();
        tables.rooms.insert("garbage", b"\xff\x00").unwrap();
        tables.fence.insert("fence", "x").unwrap();
        tables.isolation.insert("isolation", "x").unwrap();
        tables.events.insert(2_u64.to_be_bytes(), "x").unwrap();
        tables.events.insert("not a position", "x").unwrap();
    });
    let store = Embedded::open(dir.path()).unwrap();
    let stored = store.load(vec![]).await.unwrap();
    assert_eq!(stored.rooms, vec![change("good").into_parts().record]);
    let keys: Vec<String> = stored.damaged.iter().map(StoreError::to_string).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let mut isolated = change("isolation");
    isolated.isolation = IsolationChange::Clear;
    for (refused, key) in [
        (change("garbage"), "rooms/garbage"),
        (change("swapped"), "rooms/swapped"),
        (change("fence"), "fence/fence"),
        (isolated, "isolation/isolation"),
    ] {
        let answer = store.commit(refused).await;
        assert!(
            matches!(&answer, Err(StoreError::Foreign { key: k, .. }) if k == key),
            "{answer:?}"
        );
    }
    assert_eq!(store.commit(next(&change("good"))).await, Ok(Committed::Ok));
    let events = store.events(Cursor::default(), 10).await.unwrap();
    let positions: Vec<String> = events.iter().map(|e| e.0.to_string()).collect();
    assert_eq!(positions, ["1", "3"]);
    store.close().await.unwrap();
    with_tables(dir.path(), |tables| {
        assert_eq!(&*tables.rooms.get("garbage").unwrap().unwrap(), b"\xff\x00");
        assert!(tables.isolation.get("isolation").unwrap().is_some());
        assert!(tables.events.get(2_u64.to_be_bytes()).unwrap().is_some());
    });
}

#[tokio::test]
async fn a_survey_says_field_by_field_what_is_stored_and_a_persons_restore_goes_over_what_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        commit(tables, &change("good"));
        commit(tables, &change("bad"));
        tables.rooms.insert("bad", b"\xff\x00").unwrap();
    });
    let store = Embedded::open(dir.path()).unwrap();
    let rooms = ["good", "bad", "none"].map(|name| RoomId::new(name).unwrap());
    let seen = store.survey(rooms.to_vec()).await.unwrap();
    let order: Vec<&RoomId> = seen.iter().map(|(room, _)| room).collect();
    assert_eq!(order, rooms.iter().collect::<Vec<_>>());
    let good = change("good").into_parts().record;
    let fence = Some(Ok(good.epoch));
    assert_eq!(seen[0].1.record, patrol::Stored::Record(Box::new(good.into())));
    assert!(matches!(seen[1].1.record, patrol::Stored::Foreign(_)), "{seen:?}");
    assert_eq!(
        (&seen[2].1.record, &seen[0].1.fence),
        (&patrol::Stored::Nothing, &fence)
    );
    let mut restore = then(&change("bad"), EventType::Restore, State::Created);
    assert!(matches!(
        store.commit(restore.clone()).await,
        Err(StoreError::Foreign { .. })
    ));
    restore.event.actor = Actor::Operator { uid: Some(0) };
    assert_eq!(store.commit(restore.clone()).await, Ok(Committed::Ok));
    let mut lower = restore.clone();
    (lower.record.epoch.revision, lower.event.epoch.revision) = (0, 0);
    assert!(matches!(store.commit(lower).await, Ok(Committed::Fenced(_))));
    let seen = store.survey(vec![rooms[1].clone()]).await.unwrap();
    assert_eq!(
        seen[0].1.record,
        patrol::Stored::Record(Box::new(restore.record.clone().into()))
    );
}

#[test]
fn a_database_that_panics_is_opened_anew_with_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::<RoomTables>::open(dir.path()).unwrap();
    disk.with(|tables| {
        commit(tables, &change("a"));
        Ok(())
    })
    .unwrap();
    let panicked: Result<(), StoreError> = disk.with(|_| panic!("as fjall does on a poisoned lock"));
    assert!(
        matches!(panicked, Err(StoreError::Unavailable(_))),
        "{panicked:?}"
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    let stored = loop {
        match disk.with(|tables| tables.load()) {
            Ok(stored) => break stored,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(stored.rooms, vec![change("a").into_parts().record]);
}

#[test]
fn a_database_of_another_format_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        let meta = crate::store::disk::table(&tables.db, "meta").unwrap();
        meta.insert("format", "2").unwrap();
    });
    let refused = Embedded::open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("format is 2"), "{refused}");
}

#[test]
fn a_sweep_removes_rooms_destroyed_a_week_ago_with_their_fence_and_isolations_long_ended() {
    const DAY_MS: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let now = Wall(100 * DAY_MS);
    let isolation = |room: &str, until| {
        let room = RoomId::new(room).unwrap();
        IsolationChange::Set(Isolation {
            room,
            reason: "stuck".into(),
            until,
        })
    };
    with_tables(dir.path(), |tables| {
        for (room, state, age_ms) in [
            ("a-old", State::Destroyed, 8 * DAY_MS),
            ("b-young", State::Destroyed, 6 * DAY_MS),
            ("c-live", State::Liveing, 50 * DAY_MS),
        ] {
            let mut change = change(room);
            change.record.state = state;
            change.record.since = Wall(now.0 - age_ms);
            let ended = if room == "a-old" { 2 * 3_600_000 } else { 60_000 };
            change.isolation = isolation(room, Wall(now.0 - ended));
            commit(tables, &change);
        }
        assert_eq!(tables.sweep(now), Ok(3));
        assert_eq!(tables.sweep(now), Ok(0));
        let stored = tables.load().unwrap();
        let rooms: Vec<&str> = stored.rooms.iter().map(|r| r.room.as_str()).collect();
        assert_eq!(rooms, ["b-young", "c-live"]);
        assert_eq!(stored.isolations.len(), 2);
        assert_eq!(tables.fence(&RoomId::new("a-old").unwrap()), Ok(None));
        let kept = Ok(Some(Epoch { era: 0, revision: 1 }));
        assert_eq!(tables.fence(&RoomId::new("c-live").unwrap()), kept);
    });
}

#[test]
fn a_sweep_of_many_records_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        let mut group = Group::new(tables);
        for n in 0..2_500 {
            let mut change = change(&format!("room-{n}"));
            change.record.state = State::Destroyed;
            group.judge(&change).unwrap();
        }
        group.write().unwrap();
        let now = Wall(u64::MAX);
        let removed: Vec<usize> = (0..4).map(|_| tables.sweep(now).unwrap()).collect();
        assert_eq!(removed, [2_000, 2_000, 1_000, 0]);
    });
}

#[test]
fn only_the_last_events_are_kept_and_positions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        // As if the events before it had been written.
        let first = change("first");
        commit(tables, &first);
        tables.next_event = EVENTS_KEPT + 1;
        let second = next(&first);
        commit(tables, &second);
        assert_eq!((tables.first_event, tables.next_event), (2, EVENTS_KEPT + 2));
        let events = tables.events(None, 10).unwrap();
        assert_eq!(events, vec![(EVENTS_KEPT + 1, second.event.clone())]);
    });
    with_tables(dir.path(), |tables| {
        assert_eq!(tables.next_event, EVENTS_KEPT + 2);
    });
}
