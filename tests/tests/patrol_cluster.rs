//! What patrol reads of many rooms from a real Redis Cluster: whole, in order and field by field, also while a slot moves and while
//! a primary is lost; what cannot be read then is said to be unknown, and never taken for missing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use voice_agent::store::{Redis, RoomStore, redis::keys::partition};
use voice_room::{
    RoomId, State,
    patrol::{StoreSight, Stored},
    record::Committed,
};
use voice_tests::{commons::key, redis::Cluster, store_cases::change};

/// Rooms of every partition, some of each.
const ROOMS: usize = 400;
const BACK: Duration = Duration::from_secs(60);

type Seen = Vec<(RoomId, StoreSight)>;

async fn stored(store: &Redis) -> Vec<RoomId> {
    let rooms: Vec<RoomId> = (0..ROOMS)
        .map(|n| RoomId::new(&format!("room-{n}")).unwrap())
        .collect();
    let partitions: BTreeSet<u8> = rooms.iter().map(partition).collect();
    assert_eq!(partitions.len(), 64, "rooms of every partition");
    for room in &rooms {
        assert_eq!(store.commit(change(room)).await, Ok(Committed::Ok));
    }
    rooms
}

/// A key of the partition with most rooms.
fn fullest(rooms: &[RoomId]) -> String {
    let mut counts = [0; 64];
    rooms
        .iter()
        .for_each(|room| counts[usize::from(partition(room))] += 1);
    let most = counts.iter().max().unwrap();
    let fullest = rooms
        .iter()
        .find(|room| counts[usize::from(partition(room))] == *most);
    key("room", fullest.unwrap())
}

/// Every room is there as it was stored, each at its place.
fn assert_whole(seen: &Seen, rooms: &[RoomId]) {
    let order: Vec<&RoomId> = seen.iter().map(|(room, _)| room).collect();
    assert_eq!(order, rooms.iter().collect::<Vec<_>>());
    for (room, sight) in seen {
        let record = change(room).into_parts().record;
        assert_eq!(sight.fence, Some(Ok(record.epoch)), "{room}");
        assert_eq!(sight.record, Stored::Record(Box::new(record.into())), "{room}");
        assert_eq!(sight.isolation, None, "{room}");
    }
}

/// Surveys without a pause until told to stop: how many were whole, and how many could not be had.
async fn surveys(store: Redis, rooms: Vec<RoomId>, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut whole, mut unknown) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match store.survey(rooms.clone()).await {
            Ok(seen) => {
                assert_whole(&seen, &rooms);
                whole += 1;
            }
            Err(_) => {
                unknown += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    (whole, unknown)
}

/// The first survey that is answered: its client may still have to learn where the rooms are now.
async fn again(store: &Redis, rooms: &[RoomId]) -> Seen {
    let end = Instant::now() + BACK;
    loop {
        match store.survey(rooms.to_vec()).await {
            Ok(seen) => return seen,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_every_node_are_read_in_order_and_what_was_corrupted_behind_the_agents_back_is_named() {
    let cluster = Cluster::start().unwrap();
    let store = Redis::open(&cluster.config()).unwrap();
    let rooms = stored(&store).await;
    assert_whole(&store.survey(rooms.clone()).await.unwrap(), &rooms);

    let ask = |room: &RoomId, args: &[&str]| {
        let slot = cluster.slot(&key("room", room)).unwrap();
        cluster.primary(slot).unwrap().ask(args).unwrap();
    };
    let (garbled, foreign, gone) = (&rooms[17], &rooms[170], &rooms[303]);
    ask(
        garbled,
        &["HSET", &key("room", garbled), "version", "not a number"],
    );
    ask(garbled, &["HSET", &key("room", garbled), "state", "EXPIRED"]);
    ask(foreign, &["DEL", &key("room", foreign)]);
    ask(foreign, &["SADD", &key("room", foreign), "somebody's"]);
    ask(gone, &["DEL", &key("room", gone)]);

    let mut asked = rooms.clone();
    asked.insert(0, RoomId::new("never").unwrap());
    let seen = store.survey(asked).await.unwrap();
    let of = |room: &RoomId| &seen.iter().find(|(id, _)| id == room).unwrap().1;
    assert_eq!(
        (&seen[0].1.record, &seen[0].1.fence),
        (&Stored::Nothing, &None),
        "one that never was"
    );
    let Stored::Record(fields) = &of(garbled).record else {
        panic!("{:?}", of(garbled));
    };
    assert_eq!(fields.version, Err("not a number".into()));
    assert_eq!(fields.state, Ok(State::Expired));
    assert!(
        matches!(of(foreign).record, Stored::Foreign(_)),
        "{:?}",
        of(foreign)
    );
    let epoch = change(gone).into_parts().record.epoch;
    assert_eq!(
        (&of(gone).record, &of(gone).fence),
        (&Stored::Nothing, &Some(Ok(epoch)))
    );
    let others = |room: &RoomId| ![garbled, foreign, gone].contains(&room);
    let (whole, seen): (Vec<RoomId>, Seen) = (
        rooms.iter().filter(|room| others(room)).cloned().collect(),
        seen.into_iter()
            .skip(1)
            .filter(|(room, _)| others(room))
            .collect(),
    );
    assert_whole(&seen, &whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_is_missing_from_what_is_read_while_its_slot_moves_or_its_primary_is_lost() {
    let cluster = Arc::new(Cluster::start().unwrap());
    let store = Redis::open(&cluster.config()).unwrap();
    let rooms = stored(&store).await;
    let slot = cluster.slot(&fullest(&rooms)).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let surveying = tokio::spawn(surveys(store.clone(), rooms.clone(), stop.clone()));
    let moving = cluster.clone();
    let moved = tokio::task::spawn_blocking(move || {
        let from = moving.primary(slot).unwrap().port();
        let all = moving.primaries().unwrap();
        let to = all.into_iter().find(|node| node.port() != from).unwrap();
        // A key at a time: rooms whose keys are on both sides.
        let pause = || std::thread::sleep(Duration::from_millis(50));
        moving.migrate_by(slot, to, 1, pause).unwrap()
    });
    let moved = moved.await.unwrap();
    assert!(moved > 2 * ROOMS / 64, "{moved} keys moved");
    stop.store(true, Ordering::Relaxed);
    let (whole, unknown) = surveying.await.unwrap();
    println!("{whole} whole and {unknown} unknown while a slot moved");
    // Redis answers TRYAGAIN for rooms whose keys are on both sides.
    assert!(whole + unknown > 0);
    assert_whole(&again(&store, &rooms).await, &rooms);

    let primary = cluster.primary(slot).unwrap();
    primary.ask(&["WAIT", "1", "5000"]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let surveying = tokio::spawn(surveys(store.clone(), rooms.clone(), stop.clone()));
    primary.kill();
    let end = Instant::now() + BACK;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Ok(seen) = store.survey(rooms.clone()).await {
            // Also one that began before the loss; the others are looked at as they come.
            assert_whole(&seen, &rooms);
            if cluster
                .primary(slot)
                .is_ok_and(|now| now.port() != primary.port())
            {
                break;
            }
        }
        assert!(Instant::now() < end, "nobody took over");
    }
    stop.store(true, Ordering::Relaxed);
    let (whole, unknown) = surveying.await.unwrap();
    println!("{whole} whole and {unknown} unknown while a primary was lost");
    assert!(unknown > 0, "the loss was not noticed: nothing was shown");
    assert_whole(&again(&store, &rooms).await, &rooms);
}
