//! Every file of both databases, damaged in every way that comes to mind: the agent starts, and says what it has lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use voice_agent::{
    store::{
        RoomStore, StoreError,
        aside::{self, Opened},
    },
    telemetry::Counter,
};
use voice_room::{
    Change, Epoch, EventType, Incarnation, Mono, OpId, RoomId, RoomRecord, State, StateChangeEvent, Version,
    Wall,
    input::Intent,
    record::{Committed, IsolationChange},
    timeline::Actor,
};

const HALF: usize = 20;

async fn open(state: &Path) -> Result<Opened, StoreError> {
    aside::open(state, Path::new(env!("CARGO_BIN_EXE_voice-agent"))).await
}

/// Hundreds of starts: where a sync costs nothing.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn room(n: usize) -> RoomId {
    RoomId::new(&format!("room-{n}")).unwrap()
}

/// The creation of a room.
fn change(room: RoomId) -> Change {
    let (version, epoch, incarnation) = (Version(1), Epoch { era: 0, revision: 1 }, Incarnation(1));
    let op_id = OpId::new(&format!("{room}-1")).unwrap();
    let event = StateChangeEvent {
        room: room.clone(),
        incarnation,
        event_type: EventType::Create,
        old_state: None,
        new_state: State::Created,
        version,
        epoch,
        op_id: op_id.clone(),
        actor: Actor::Agent,
        reason: "test".into(),
        trace_id: None,
        timestamp: Wall(1_000),
    };
    let record = RoomRecord {
        room,
        state: State::Created,
        version,
        epoch,
        op_id,
        incarnation,
        owner: "node-1".parse().unwrap(),
        since: Wall(1_000),
        source: None,
        host: None,
        ports: Vec::new(),
    };
    Change::new(record, event, IsolationChange::Keep)
}

fn rooms(opened: &Opened) -> BTreeSet<RoomId> {
    opened.stored.rooms.iter().map(|r| r.room.clone()).collect()
}

fn intents(opened: &Opened) -> BTreeSet<RoomId> {
    let intents = opened.journalled.intents.iter();
    intents.map(|i| i.change.record.room.clone()).collect()
}

async fn close(opened: &Opened) {
    opened.store.close().await.unwrap();
    opened.journal.close().await.unwrap();
}

async fn fill(state: &Path, rooms: std::ops::Range<usize>) {
    let opened = open(state).await.unwrap();
    for change in rooms.map(|n| change(room(n))) {
        assert_eq!(opened.store.commit(change.clone()).await, Ok(Committed::Ok));
        let (deadline, until) = (Mono(7), Wall(8));
        let intent = Intent {
            change,
            deadline,
            until,
        };
        opened.journal.put_all(vec![intent]).await.unwrap();
    }
    opened.journal.next_epoch(0).await.unwrap();
    close(&opened).await;
}

/// Moves what the journal files hold into tables.
fn into_tables(database: &Path) {
    let db = fjall::Database::builder(database).open().unwrap();
    for name in db.list_keyspace_names() {
        let table = db.keyspace(&name, fjall::KeyspaceCreateOptions::default).unwrap();
        table.rotate_memtable_and_wait().unwrap();
    }
}

/// Both databases, with rooms and intents in their tables and in their journal files.
async fn filled() -> TempDir {
    let dir = in_memory();
    fill(dir.path(), 0..HALF).await;
    into_tables(&dir.path().join("rooms"));
    into_tables(&dir.path().join("journal"));
    fill(dir.path(), HALF..2 * HALF).await;
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What the file holds; of a journal file without the 64 MiB of zeros that it is made with.
fn data(file: &Path) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    if file.extension().is_some_and(|e| e == "jnl") {
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
    }
    bytes
}

/// Every file with its bytes, by its path below a state directory.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn read(dir: &Path) -> Files {
    let file = |path: PathBuf| (path.strip_prefix(dir).unwrap().to_owned(), data(&path));
    files(dir).into_iter().map(file).collect()
}

/// The template in a directory of its own.
fn copy(template: &Files) -> TempDir {
    let dir = in_memory();
    for (name, bytes) in template {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// A journal file that ends early after a whole write, or is empty, cannot be told from one that was never longer.
fn can_be_told(name: &Path, how: &str) -> bool {
    name.extension().is_none_or(|e| e != "jnl") || !["empty", "cut in half"].contains(&how)
}

fn damages(bytes: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = vec![
        ("gone".to_owned(), None),
        ("empty".to_owned(), Some(Vec::new())),
        ("cut in half".to_owned(), Some(bytes[..bytes.len() / 2].to_vec())),
        ("all of another".to_owned(), Some(b"not ours\n".repeat(50))),
    ];
    let places: BTreeSet<usize> = (0..7)
        .map(|sixth| bytes.len().saturating_sub(1) * sixth / 6)
        .collect();
    for place in places.into_iter().filter(|place| *place < bytes.len()) {
        let mut flipped = bytes.to_vec();
        flipped[place] ^= 0xff;
        all.push((format!("flipped at {place}"), Some(flipped)));
    }
    all
}

/// What a start on files of which those `of` one database are damaged made of them; the problem, if it was not right.
async fn start(dir: &Path, of: &str) -> Result<(), String> {
    let whole: BTreeSet<RoomId> = (0..2 * HALF).map(room).collect();
    let counters = [Counter::StoreCutShort, Counter::JournalCutShort];
    let before = counters.map(Counter::value);
    let opened = open(dir).await.map_err(|e| format!("no start: {e}"))?;
    let cut_short = counters.map(Counter::value) != before;
    let aside = |name: &str| !aside::set_aside_before(&dir.join(name)).unwrap().is_empty();
    if opened.begun_anew != (aside("rooms") || aside("journal")) {
        return Err("begun anew, or not, and it does not say so".into());
    }
    for (database, found) in [("rooms", rooms(&opened)), ("journal", intents(&opened))] {
        let lost: Vec<_> = whole.difference(&found).collect();
        if found != whole && database != of {
            return Err(format!("{database} is harmed too: {:?}", lost));
        }
        if found != whole && !aside(database) && !cut_short {
            return Err(format!("{database} lost in silence {:?}", lost));
        }
    }
    let committed = opened.store.commit(change(RoomId::new("new").unwrap())).await;
    let epoch = opened.journal.next_epoch(0).await;
    close(&opened).await;
    match (committed, epoch) {
        (Ok(Committed::Ok), Ok(_)) => Ok(()),
        other => Err(format!("not of use: {other:?}")),
    }
}

/// It has everything, or it kept the damaged database, or it counted that the end of a journal file is gone.
#[tokio::test]
async fn whichever_file_is_damaged_a_start_succeeds_and_what_is_lost_is_kept_aside_or_counted() {
    let template = read(filled().await.path());
    start(copy(&template).path(), "nothing").await.unwrap();
    let mut wrong = Vec::new();
    for (name, bytes) in &template {
        for (how, bytes) in damages(bytes)
            .into_iter()
            .filter(|(how, _)| can_be_told(name, how))
        {
            let dir = copy(&template);
            match bytes {
                Some(bytes) => fs::write(dir.path().join(name), bytes).unwrap(),
                None => fs::remove_file(dir.path().join(name)).unwrap(),
            }
            let of = name.iter().next().unwrap().to_str().unwrap();
            if let Err(problem) = start(dir.path(), of).await {
                wrong.push(format!("{} {how}: {problem}", name.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn strangers_files_and_directories_do_not_keep_a_start_from_succeeding_and_stay() {
    let template = read(filled().await.path());
    for stranger in [
        "rooms/notes.txt",
        "rooms/x.jnl",
        "rooms/7.jnl/file",
        "rooms/keyspaces/notes.txt",
        "rooms/keyspaces/lost+found/file",
        "journal/keyspaces/9/file",
    ] {
        let dir = copy(&template);
        let path = dir.path().join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "a stranger's").unwrap();
        let of = stranger.split('/').next().unwrap();
        start(dir.path(), of)
            .await
            .unwrap_or_else(|e| panic!("{stranger}: {e}"));
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_a_database_is_kept_aside_with_what_it_holds() {
    let dir = in_memory();
    fs::write(dir.path().join("rooms"), "a stranger's").unwrap();
    let before = Counter::StoreSetAside.value();
    let opened = open(dir.path()).await.unwrap();
    assert!(opened.begun_anew && Counter::StoreSetAside.value() > before);
    assert_eq!(
        fs::read_to_string(dir.path().join("rooms.damaged-1")).unwrap(),
        "a stranger's"
    );
    close(&opened).await;
}

#[tokio::test]
async fn of_what_is_set_aside_the_last_eight_are_kept() {
    let dir = in_memory();
    for n in 1..=10 {
        if n > 1 {
            fs::remove_dir_all(dir.path().join("rooms")).unwrap();
        }
        fs::write(dir.path().join("rooms"), n.to_string()).unwrap();
        close(&open(dir.path()).await.unwrap()).await;
    }
    let kept = aside::set_aside_before(&dir.path().join("rooms")).unwrap();
    let held: Vec<String> = kept
        .iter()
        .map(|(_, path)| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(held, ["3", "4", "5", "6", "7", "8", "9", "10"]);
}

#[tokio::test]
async fn a_database_that_may_not_be_read_is_no_damage_and_the_start_says_what_to_mend() {
    let dir = in_memory();
    let opened = open(dir.path()).await.unwrap();
    let second = open(dir.path()).await.unwrap_err();
    assert!(
        second.to_string().contains("another process has it open"),
        "{second}"
    );
    close(&opened).await;
    assert!(
        aside::set_aside_before(&dir.path().join("rooms"))
            .unwrap()
            .is_empty()
    );

    let read_only = in_memory();
    fs::DirBuilder::new()
        .mode(0o555)
        .create(read_only.path().join("rooms"))
        .unwrap();
    if fs::write(read_only.path().join("rooms/probe"), "").is_err() {
        let refused = open(read_only.path()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        assert!(refused.to_string().contains("Permission denied"), "{refused}");
    }
}
