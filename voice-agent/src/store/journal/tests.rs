//! The journal as the driver uses it.

use super::{JournalHandle, tables::ENTRIES_KEPT, tables::TRIM_EVERY};
use crate::store::{
    StoreError,
    disk::Disk,
    journal::tables::JournalTables,
    testing::{Child, ack, change, child_dir, limit_files},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use voice_room::{
    Entry, Incarnation, Maintenance, Mono, Port, RoomId, Wall,
    input::Intent,
    timeline::{Actor, What},
};

fn journal() -> (JournalHandle, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (JournalHandle::open(dir.path()).unwrap(), dir)
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn intent(name: &str) -> Intent {
    Intent {
        change: change(name),
        deadline: Mono(7),
        until: Wall(8),
    }
}

fn entry(name: &str, at: u64) -> Entry {
    Entry {
        room: room(name),
        incarnation: Incarnation(1),
        at: Wall(at),
        what: What::Ports {
            flows: 0,
            ssrcs: 0,
            ports: vec![Port(50_000)],
        },
    }
}

fn times(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.at.0).collect()
}

#[tokio::test]
async fn an_intent_is_kept_over_a_restart_until_it_is_forgotten() {
    let (journal, dir) = journal();
    journal.put_all(vec![intent("a"), intent("b")]).await.unwrap();
    journal.put_all(vec![intent("c")]).await.unwrap();
    journal.forget(room("c")).await.unwrap();
    journal.close().await.unwrap();
    let journal = JournalHandle::open(dir.path()).unwrap();
    let found = journal.intents().await.unwrap();
    assert_eq!(
        (found.intents, found.damaged),
        (vec![intent("a"), intent("b")], vec![])
    );
}

#[tokio::test]
async fn maintenance_is_kept_over_a_restart_until_it_is_ended_each_room_and_every_room_apart() {
    let notice = |name: Option<&str>, until| Maintenance {
        room: name.map(room),
        reason: "upgrade".into(),
        actor: Actor::Operator { uid: Some(0) },
        since: Wall(1),
        until: Wall(until),
    };
    let (journal, dir) = journal();
    for kept in [
        notice(None, 5),
        notice(Some("a"), 6),
        notice(Some("b"), 7),
        notice(Some("a"), 8),
    ] {
        journal.maintain(kept).await.unwrap();
    }
    journal.end_maintenance(Some(room("b"))).await.unwrap();
    journal.close().await.unwrap();
    let journal = JournalHandle::open(dir.path()).unwrap();
    let found = journal.intents().await.unwrap();
    assert_eq!(found.maintenance, [notice(None, 5), notice(Some("a"), 8)]);
    journal.end_maintenance(None).await.unwrap();
    let found = journal.intents().await.unwrap();
    assert_eq!(found.maintenance, [notice(Some("a"), 8)]);
}

#[tokio::test]
async fn a_timeline_holds_its_room_only_oldest_first_also_over_a_restart_with_the_clock_set_back() {
    let (journal, dir) = journal();
    let entries = vec![entry("a", 10), entry("a.b", 11), entry("a", 12), entry("a", 9)];
    journal.append(entries).await.unwrap();
    journal.close().await.unwrap();
    let journal = JournalHandle::open(dir.path()).unwrap();
    journal.append(vec![entry("a", 5)]).await.unwrap();
    assert_eq!(times(&journal.timeline(room("a")).await.unwrap()), [10, 12, 9, 5]);
    assert_eq!(times(&journal.timeline(room("a.b")).await.unwrap()), [11]);
    assert_eq!(journal.timeline(room("b")).await.unwrap(), []);
}

#[tokio::test]
async fn work_is_done_in_the_order_of_calls_also_when_nobody_waits_for_it() {
    let (journal, _dir) = journal();
    drop(journal.put_all(vec![intent("a")]));
    drop(journal.append(vec![entry("a", 1)]));
    drop(journal.append(vec![entry("a", 2)]));
    drop(journal.forget(room("a")));
    assert_eq!(times(&journal.timeline(room("a")).await.unwrap()), [1, 2]);
    assert_eq!(journal.intents().await.unwrap().intents, []);
}

#[tokio::test]
async fn a_room_keeps_its_last_two_thousand_entries() {
    let (journal, dir) = journal();
    journal.append(vec![entry("quiet", 1)]).await.unwrap();
    for thousand in 0..5 {
        let entries = (0..1_000).map(|at| entry("loud", thousand * 1_000 + at));
        journal.append(entries.collect()).await.unwrap();
    }
    let kept = journal.timeline(room("loud")).await.unwrap();
    assert_eq!(times(&kept), (3_000..5_000).collect::<Vec<u64>>());
    assert_eq!(journal.timeline(room("quiet")).await.unwrap().len(), 1);
    journal.close().await.unwrap();
    let stored = with_tables(dir.path(), |tables| tables.timeline.len().unwrap());
    assert!(
        stored <= ENTRIES_KEPT + TRIM_EVERY as usize + 1,
        "{stored} on disk"
    );
}

#[test]
fn entries_older_than_a_week_are_swept_away_page_by_page() {
    const DAY_MS: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        let old = (0..2_500).map(|n| entry(&format!("room-{n}"), DAY_MS));
        let entries: Vec<Entry> = old.chain([entry("room-0", 5 * DAY_MS)]).collect();
        tables.append(&entries).unwrap();
        let removed: Vec<usize> = (0..3).map(|_| tables.sweep(Wall(9 * DAY_MS)).unwrap()).collect();
        assert_eq!(removed.iter().sum::<usize>(), 2_500);
        assert!(removed.iter().all(|n| *n <= 2_000));
        assert_eq!(times(&tables.timeline(&room("room-0")).unwrap()), [5 * DAY_MS]);
    });
}

#[tokio::test]
async fn an_epoch_is_never_given_twice_and_is_above_what_is_known() {
    let (journal, dir) = journal();
    assert_eq!(journal.next_epoch(0).await, Ok(1));
    assert_eq!(journal.next_epoch(0).await, Ok(2));
    assert_eq!(journal.next_epoch(40).await, Ok(41));
    journal.close().await.unwrap();
    let journal = JournalHandle::open(dir.path()).unwrap();
    assert_eq!(journal.next_epoch(3).await, Ok(42));
    assert!(journal.next_epoch(u64::MAX).await.is_err());
}

#[tokio::test]
async fn what_is_not_ours_is_reported_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        tables.append(&[entry("a", 1)]).unwrap();
        tables.put(&[intent("a")]).unwrap();
        tables.intents.insert("x", "garbage").unwrap();
        tables.timeline.insert(b"a\0garbage", "garbage").unwrap();
        tables.timeline.insert("garbage", "garbage").unwrap();
    });
    let journal = JournalHandle::open(dir.path()).unwrap();
    let found = journal.intents().await.unwrap();
    assert_eq!(found.intents, vec![intent("a")]);
    assert!(matches!(&found.damaged[..], [StoreError::Foreign { key, .. }] if key == "intents/x"));
    assert_eq!(times(&journal.timeline(room("a")).await.unwrap()), [1]);
}

#[tokio::test]
async fn a_journal_whose_last_epoch_cannot_be_told_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    with_tables(dir.path(), |tables| {
        tables.meta.insert("epoch", "garbage").unwrap();
    });
    let refused = JournalHandle::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused:?}");
    assert!(refused.to_string().contains("meta/epoch"), "{refused}");
}

const KILLED: &str = "store::journal::tests::what_was_answered_is_there_after_kill_9";

/// In the child: intents, entries and epochs as fast as they go; each answer is told.
#[tokio::main]
async fn write_for_ever(dir: &Path) {
    let journal = JournalHandle::open(dir).unwrap();
    for n in 0.. {
        journal.put_all(vec![intent(&format!("room-{n}"))]).await.unwrap();
        journal.append(vec![entry("a", n)]).await.unwrap();
        ack(&n.to_string());
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_kill_9() {
    if let Some(dir) = child_dir() {
        return std::thread::spawn(move || write_for_ever(&dir)).join().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Child::start(KILLED, dir.path());
    assert_eq!(child.acks(300).len(), 300);
    drop(child);
    let journal = JournalHandle::open(dir.path()).unwrap();
    let found = journal.intents().await.unwrap();
    assert_eq!(found.damaged, vec![]);
    let has = |n: u64| found.intents.contains(&intent(&format!("room-{n}")));
    assert!((0..300).all(has));
    let timeline = times(&journal.timeline(room("a")).await.unwrap());
    assert!(timeline.len() >= 300);
    assert_eq!(timeline, (0..timeline.len() as u64).collect::<Vec<_>>());
}

const FULL: &str =
    "store::journal::tests::a_disk_that_fails_is_answered_as_such_and_used_again_once_it_works";

#[tokio::main]
async fn fill_the_disk(dir: &Path) {
    let journal = JournalHandle::open(dir).unwrap();
    journal.put_all(vec![intent("kept")]).await.unwrap();
    limit_files(Some(64 * 1024));
    while journal.put_all(vec![intent("a")]).await.is_ok() {}
    assert!(journal.next_epoch(0).await.is_err());
    limit_files(None);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = journal.put_all(vec![intent("b")]).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = journal.intents().await.unwrap();
    assert_eq!(found.damaged, vec![]);
    assert!(found.intents.contains(&intent("kept")) && found.intents.contains(&intent("b")));
}

#[test]
fn a_disk_that_fails_is_answered_as_such_and_used_again_once_it_works() {
    if let Some(dir) = child_dir() {
        return fill_the_disk(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(Child::start(FULL, dir.path()).succeeded());
}

fn with_tables<R>(dir: &Path, work: impl FnOnce(&mut JournalTables) -> R) -> R {
    let mut disk = Disk::<JournalTables>::open(dir).unwrap();
    disk.with(|tables| Ok(work(tables))).unwrap()
}

#[test]
fn thousands_of_intents_at_once_are_each_there_under_their_own_room() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Intent> = (0..1500).map(|n| intent(&format!("room-{n:04}"))).collect();
    // Not by the handle, which gives up after 250 ms: this is no matter of time.
    with_tables(dir.path(), |tables| {
        tables.put(&all).unwrap();
        let found = tables.intents().unwrap();
        assert_eq!((found.intents, found.damaged), (all, vec![]));
    });
}
