//! A Redis Cluster that moves slots and loses primaries under load: no change lost or doubled, no version number used twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use nix::sys::signal::Signal;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use voice_agent::store::{Redis, Refresh, Refreshed, RoomStore, redis::keys::partition};
use voice_room::{Change, OpId, RoomId, Version, record::Committed};
use voice_tests::{
    redis::Cluster,
    store_cases::{change, next, restored},
};

/// What an owner knows of a room: each op_id that the store took, by version, and the last change.
struct Owner {
    last: Change,
    done: BTreeMap<Version, OpId>,
}

/// Names of rooms of one partition.
fn rooms_of(wanted: u8, count: usize) -> Vec<String> {
    let names = (0..).map(|n| format!("room-{n}"));
    names
        .filter(|name| partition(&RoomId::new(name).unwrap()) == wanted)
        .take(count)
        .collect()
}

/// Begins a room; sent until the store says what became of it.
async fn begin(store: &Redis, room: &str) -> Owner {
    let first = change(room);
    settle(store, &first).await;
    let done = BTreeMap::from([(first.record.version, first.record.op_id.clone())]);
    Owner { last: first, done }
}

/// As the core: the same change again while nothing is known.
async fn settle(store: &Redis, change: &Change) -> Committed {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        match store.commit(change.clone()).await {
            Ok(known) => return known,
            Err(problem) => assert!(Instant::now() < end, "{problem}"),
        }
    }
}

impl Owner {
    /// The next change. The store has the one before it, or a failover took it: then the owner puts its state back, under a
    /// number that it has never used.
    async fn go_on(&mut self, store: &Redis) {
        let wanted = next(&self.last);
        match settle(store, &wanted).await {
            Committed::Ok | Committed::Skipped => self.did(wanted),
            Committed::Conflict(_) => self.put_back(store, wanted).await,
            Committed::Fenced(epoch) => panic!("fenced by {epoch}, and there is one epoch only"),
        }
    }

    async fn put_back(&mut self, store: &Redis, mut wanted: Change) {
        loop {
            // The number was sent: it may be in the store of a primary that is gone.
            let op = wanted.record.op_id.to_string();
            wanted = restored(&wanted);
            wanted.record.op_id = OpId::new(&format!("{op}+")).unwrap();
            wanted.event.op_id = wanted.record.op_id.clone();
            match settle(store, &wanted).await {
                Committed::Ok | Committed::Skipped => return self.did(wanted),
                Committed::Conflict(_) => {}
                Committed::Fenced(epoch) => panic!("fenced by {epoch}"),
            }
        }
    }

    fn did(&mut self, change: Change) {
        let before = self
            .done
            .insert(change.record.version, change.record.op_id.clone());
        assert_eq!(before, None, "version {} was used twice", change.record.version);
        self.last = change;
    }
}

/// Owners that change their rooms without a pause until told to stop.
fn load(store: &Redis, owners: Vec<Owner>, stop: &Arc<AtomicBool>) -> JoinSet<Owner> {
    let mut tasks = JoinSet::new();
    for mut owner in owners {
        let (store, stop) = (store.clone(), stop.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                owner.go_on(&store).await;
            }
            owner
        });
    }
    tasks
}

async fn begun(store: &Redis, names: &[String]) -> Vec<Owner> {
    let mut owners = Vec::new();
    for name in names {
        owners.push(begin(store, name).await);
    }
    owners
}

/// What the streams tell of a room: op_id by version; a version told twice fails.
async fn told(store: &Redis, room: &RoomId) -> BTreeMap<Version, OpId> {
    let mut told = BTreeMap::new();
    for (_, event) in store.events_of(room, 1_000_000).await.unwrap() {
        let twice = told.insert(event.version, event.op_id);
        assert_eq!(twice, None, "{room} {} has two events", event.version);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_with_its_keys_under_load_loses_and_doubles_no_transition() {
    let cluster = Arc::new(Cluster::start().unwrap());
    let store = Redis::open(&cluster.config()).unwrap();
    let slot = cluster.slot("{v07}:events").unwrap();
    let owners = begun(&store, &rooms_of(7, 8)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = load(&store, owners, &stop);
    let moving = cluster.clone();
    let moved = tokio::task::spawn_blocking(move || {
        let mut moved = 0;
        for _ in 0..4 {
            let from = moving.primary(slot).unwrap().port();
            let all = moving.primaries().unwrap();
            let to = all.into_iter().find(|node| node.port() != from).unwrap();
            moved += moving
                .migrate(slot, to, || std::thread::sleep(Duration::from_millis(50)))
                .unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        moved
    });
    let moved = moved.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(moved >= 4 * 8, "{moved} keys moved");
    let mut changes = 0;
    while let Some(owner) = tasks.join_next().await {
        let owner = owner.unwrap();
        let room = &owner.last.record.room;
        assert_eq!(told(&store, room).await, owner.done, "{room}");
        let versions: Vec<u64> = owner.done.keys().map(|version| version.0).collect();
        assert_eq!(
            versions,
            (1..=owner.last.record.version.0).collect::<Vec<_>>(),
            "{room}"
        );
        assert_eq!(
            store.look(room.clone()).await.unwrap().unwrap().record,
            owner.last.record
        );
        changes += versions.len();
    }
    assert!(changes > 100, "only {changes} changes: that was no load");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_lost_is_found_and_put_back_by_its_owner_and_no_version_number_is_used_twice() {
    let cluster = Cluster::start().unwrap();
    let store = Redis::open(&cluster.config()).unwrap();
    let slot = cluster.slot("{v07}:events").unwrap();
    let owners = begun(&store, &rooms_of(7, 8)).await;
    let primary = cluster.primary(slot).unwrap();
    // Its replica hears nothing any more: what comes now is lost with the primary.
    let replica = cluster.replica_of(primary).unwrap();
    primary.ask(&["WAIT", "1", "5000"]).unwrap();
    replica.signal(Signal::SIGSTOP).unwrap();
    // Nor does it find what came meanwhile in its socket when it goes on.
    primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = load(&store, owners, &stop);
    tokio::time::sleep(Duration::from_secs(1)).await;
    primary.kill();
    replica.signal(Signal::SIGCONT).unwrap();
    let took_over = Instant::now() + Duration::from_secs(60);
    while !replica.ask(&["ROLE"]).unwrap_or_default().starts_with("master") {
        assert!(Instant::now() < took_over, "nobody took over:\n{}", replica.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // And goes on under load.
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut lost, mut kept) = (0, 0);
    while let Some(owner) = tasks.join_next().await {
        let mut owner = owner.unwrap();
        let room = owner.last.record.room.clone();
        // One that did nothing since finds it by its refresh.
        let refresh = Refresh {
            room: room.clone(),
            version: owner.last.record.version,
            op_id: owner.last.record.op_id.clone(),
            epoch: owner.last.record.epoch,
        };
        let found = store.refresh(vec![refresh]).await.unwrap();
        if !matches!(found[..], [(_, Refreshed::Kept)]) {
            let behind = next(&owner.last);
            owner.put_back(&store, behind).await;
        }
        let stored = store.look(room.clone()).await.unwrap().unwrap().record;
        assert_eq!(stored, owner.last.record, "{room}");
        let told = told(&store, &room).await;
        for (version, op_id) in &told {
            // Every number that is told is the owner's change of that number, and no other's.
            assert_eq!(owner.done.get(version), Some(op_id), "{room} {version}");
        }
        lost += owner.done.len() - told.len();
        kept += told.len();
        assert!(
            told.contains_key(&owner.last.record.version),
            "{room}: the last is not told"
        );
    }
    println!("{lost} changes were lost by the failover, {kept} events are told");
    assert!(lost > 0, "the failover lost nothing: nothing was shown");
}
