//! What a real Redis answers while it cannot: LOADING, READONLY, MASTERDOWN, CLUSTERDOWN, TRYAGAIN. Each is brought about for real; the
//! change is sent again until it is stored, once, and whoever reads meanwhile sees what was stored before or what is stored after.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use voice_agent::store::{Redis, RoomStore};
use voice_room::{Change, RoomId, RoomRecord, record::Committed};
use voice_tests::{
    redis::{Cluster, Server},
    store_cases::{change, next},
};

/// Long enough for two busy cores.
const SOON: Duration = Duration::from_secs(120);

/// A room that is stored, its next change on its way, and a reader of it.
struct Meeting {
    store: Redis,
    stored: Change,
    wanted: Change,
    settled: JoinHandle<Committed>,
    reader: JoinHandle<Vec<RoomRecord>>,
    stop: Arc<AtomicBool>,
}

impl Meeting {
    async fn store(store: &Redis, room: &str) -> Change {
        let created = change(room);
        assert_eq!(store.commit(created.clone()).await, Ok(Committed::Ok));
        created
    }

    /// Sends the change after `stored` again and again, as the core does, until the store says what became of it.
    fn begin(store: &Redis, stored: Change) -> Meeting {
        let (wanted, stop) = (next(&stored), Arc::new(AtomicBool::new(false)));
        let (writer, change) = (store.clone(), wanted.clone());
        let settled = tokio::spawn(async move {
            loop {
                match writer.commit(change.clone()).await {
                    Ok(known) => return known,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let (looker, room, stopped) = (store.clone(), stored.record.room.clone(), stop.clone());
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(answer) = looker.look(room.clone()).await {
                    seen.push(answer.unwrap().record);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen
        });
        Meeting {
            store: store.clone(),
            stored,
            wanted,
            settled,
            reader,
            stop,
        }
    }

    /// Waits until a server has said so at least twice: it was asked again.
    async fn meets(&self, servers: &[&Server], code: &str) {
        let end = Instant::now() + SOON;
        while servers.iter().map(|server| server.errors(code)).sum::<u64>() < 2 {
            assert!(Instant::now() < end, "nobody answered {code}");
            assert!(
                !self.settled.is_finished(),
                "the change was settled without {code}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The fault is over: the change is stored, once, and nobody has seen anything else.
    async fn ends_well(self) {
        let settled = tokio::time::timeout(SOON, self.settled).await.unwrap().unwrap();
        assert!(
            matches!(settled, Committed::Ok | Committed::Skipped),
            "{settled:?}"
        );
        let room = &self.stored.record.room;
        let now = self.store.look(room.clone()).await.unwrap().unwrap().record;
        assert_eq!(now, self.wanted.record);
        self.stop.store(true, Ordering::Relaxed);
        for seen in self.reader.await.unwrap() {
            assert!(
                seen == self.stored.record || seen == self.wanted.record,
                "{seen:?}"
            );
        }
        let told = self.store.events_of(room, 100).await.unwrap();
        let told: Vec<_> = told.into_iter().map(|(_, event)| event.op_id).collect();
        let (stored, wanted) = (self.stored.into_parts().record, self.wanted.into_parts().record);
        assert_eq!(told, [stored.op_id, wanted.op_id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_meets_a_server_that_loads_is_stored_once_when_it_has_loaded() {
    // A key takes it 2 ms to load, and it answers meanwhile.
    let slow = [
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let server = Server::with(&slow).unwrap();
    let store = Redis::open(&server.config()).unwrap();
    let stored = Meeting::store(&store, "a").await;
    let fill = "for i = 1, 2000 do redis.call('SET', 'fill:' .. i, string.rep('x', 100)) end";
    server.ask(&["EVAL", fill, "0"]).unwrap();
    server.ask(&["SAVE"]).unwrap();
    server.kill();
    let meeting = Meeting::begin(&store, stored);
    server.launch().unwrap();
    meeting.meets(&[&server], "LOADING").await;
    server.wait_ready().unwrap();
    meeting.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_meets_a_replica_is_stored_once_when_it_is_a_primary_again() {
    let server = Server::start().unwrap();
    let store = Redis::open(&server.config()).unwrap();
    let stored = Meeting::store(&store, "a").await;
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let meeting = Meeting::begin(&store, stored);
    meeting.meets(&[&server], "READONLY").await;
    server.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    meeting.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_meets_a_replica_without_its_primary_is_stored_once_when_it_is_a_primary_again() {
    let server = Server::start().unwrap();
    let store = Redis::open(&server.config()).unwrap();
    let stored = Meeting::store(&store, "a").await;
    server
        .ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"])
        .unwrap();
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let meeting = Meeting::begin(&store, stored);
    meeting.meets(&[&server], "MASTERDOWN").await;
    server.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    meeting.ends_well().await;
}

/// A room of partition 7, and the slot that partition has.
async fn in_cluster(cluster: &Cluster) -> (Redis, Change, u16) {
    let store = Redis::open(&cluster.config()).unwrap();
    let of_seven = |name: &String| {
        let room = RoomId::new(name).unwrap();
        voice_agent::store::redis::keys::partition(&room) == 7
    };
    let name = (0..).map(|n| format!("room-{n}")).find(of_seven).unwrap();
    let stored = Meeting::store(&store, &name).await;
    let slot = cluster.slot("{v07}:events").unwrap();
    (store, stored, slot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_meets_a_cluster_that_is_down_is_stored_once_when_it_is_up_again() {
    let cluster = Cluster::start().unwrap();
    let (store, stored, slot) = in_cluster(&cluster).await;
    let primary = cluster.primary(slot).unwrap();
    // A slot that nobody serves takes the whole cluster down, as it is configured by default.
    let other = (0..16_384)
        .find(|n| *n != slot && cluster.primary(*n).unwrap().port() == primary.port())
        .unwrap()
        .to_string();
    primary.ask(&["CLUSTER", "DELSLOTS", &other]).unwrap();
    let meeting = Meeting::begin(&store, stored);
    meeting.meets(&[primary], "CLUSTERDOWN").await;
    primary.ask(&["CLUSTER", "ADDSLOTS", &other]).unwrap();
    cluster.wait_whole().unwrap();
    meeting.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_keys_are_half_moved_is_stored_once_when_all_are() {
    let cluster = Cluster::start().unwrap();
    let (store, stored, slot) = in_cluster(&cluster).await;
    let from = cluster.primary(slot).unwrap();
    let all = cluster.primaries().unwrap();
    let to = all.into_iter().find(|node| node.port() != from.port()).unwrap();
    let (began, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (cluster_of, servers) = (&cluster, [from, to]);
    std::thread::scope(|scope| {
        let (told, wait) = (began.clone(), go_on.clone());
        // The room is there, its fence and its events are not, or the other way round.
        let moving = scope.spawn(move || {
            let mut step = 0;
            cluster_of.migrate_by(slot, to, 1, || {
                step += 1;
                if step == 2 {
                    told.store(true, Ordering::Relaxed);
                    let end = Instant::now() + SOON;
                    while !wait.load(Ordering::Relaxed) && Instant::now() < end {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            })
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let end = Instant::now() + SOON;
                while !began.load(Ordering::Relaxed) {
                    assert!(Instant::now() < end, "the slot does not move");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let meeting = Meeting::begin(&store, stored);
                meeting.meets(&servers, "TRYAGAIN").await;
                go_on.store(true, Ordering::Relaxed);
                meeting.ends_well().await;
            });
        });
        assert!(moving.join().unwrap().unwrap() >= 3);
    });
}
