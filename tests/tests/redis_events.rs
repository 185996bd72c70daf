//! Events over a real Redis: followers, groups with acknowledgement, and what is cut of the streams.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{collections::BTreeSet, time::Duration};
use voice_agent::store::{
    Cursor, Position, Redis, RoomStore,
    redis::groups::{Begin, Consumer},
};
use voice_room::{Change, StateChangeEvent, record::Committed};
use voice_tests::{
    redis::Server,
    store_cases::{change, next},
};

type Page = Vec<(Position, StateChangeEvent)>;

/// Long enough for two busy cores.
const SOON: Duration = Duration::from_secs(30);

fn start() -> (Redis, Server) {
    let server = Server::start().unwrap();
    (Redis::open(&server.config()).unwrap(), server)
}

async fn ok(store: &Redis, change: &Change) {
    assert_eq!(store.commit(change.clone()).await, Ok(Committed::Ok));
}

/// The first changes of so many rooms.
async fn begin(store: &Redis, rooms: std::ops::Range<usize>) {
    for n in rooms {
        ok(store, &change(&format!("room-{n}"))).await;
    }
}

fn rooms(page: &Page) -> BTreeSet<String> {
    page.iter().map(|(_, event)| event.room.to_string()).collect()
}

fn positions(page: &Page) -> Vec<Position> {
    page.iter().map(|(position, _)| *position).collect()
}

async fn consumer(store: &Redis, name: &str) -> Consumer {
    store.consumer("billing", name, &Begin::Oldest).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_goes_to_one_consumer_of_a_group_and_comes_again_until_it_is_acknowledged() {
    let (store, _server) = start();
    begin(&store, 0..10).await;
    let (one, two) = (consumer(&store, "one").await, consumer(&store, "two").await);
    let first = one.read().await.unwrap();
    assert_eq!(rooms(&first).len(), 10);
    assert_eq!(two.read().await.unwrap(), []);
    // One dealt with half of them and died; the other gets the rest.
    one.acknowledge(&positions(&first)[..5]).await.unwrap();
    assert_eq!(two.claim(Duration::from_secs(3600)).await.unwrap(), []);
    let rest = two.claim(Duration::ZERO).await.unwrap();
    assert_eq!(positions(&rest), positions(&first)[5..]);
    two.acknowledge(&positions(&rest)).await.unwrap();
    assert_eq!(two.claim(Duration::ZERO).await.unwrap(), []);
    // What comes later goes to either.
    begin(&store, 10..12).await;
    assert_eq!(rooms(&two.read().await.unwrap()).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_begins_now_hears_nothing_of_before_and_one_at_a_position_goes_on_behind_it() {
    let (store, _server) = start();
    let mut last = change("a");
    ok(&store, &last).await;
    let now = store.consumer("now", "one", &Begin::Now).await.unwrap();
    let told = store.events(Cursor::default(), 10).await.unwrap();
    let at = Begin::At(Cursor::after(told[0].0));
    let behind = store.consumer("behind", "one", &at).await.unwrap();
    let all = store.consumer("all", "one", &Begin::Oldest).await.unwrap();
    last = next(&last);
    ok(&store, &last).await;
    assert_eq!(now.read().await.unwrap().len(), 1);
    assert_eq!(behind.read().await.unwrap().len(), 1);
    assert_eq!(all.read().await.unwrap().len(), 2);
    // From its time on it is heard again.
    let Position::Stream { id, .. } = told[0].0 else {
        panic!("{told:?}");
    };
    let since = Begin::At(Cursor::since(voice_room::Wall(id.ms)));
    let since = store.consumer("since", "one", &since).await.unwrap();
    assert_eq!(since.read().await.unwrap().len(), 2);
    assert!(store.forget_group("all").await.unwrap());
    assert!(!store.forget_group("all").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registered_group_has_not_acknowledged_is_never_cut_and_the_rest_is() {
    let server = Server::start().unwrap();
    let mut config = server.config();
    config.events_kept = Duration::ZERO;
    let store = Redis::open(&config).unwrap();
    begin(&store, 0..20).await;
    let billing = consumer(&store, "one").await;
    let read = billing.read().await.unwrap();
    assert_eq!(read.len(), 20);
    billing.acknowledge(&positions(&read)[..10]).await.unwrap();
    begin(&store, 20..25).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    store.trim().await.unwrap();
    // Ten that are pending and five that nobody has read yet: all are there.
    let pending = billing.claim(Duration::ZERO).await.unwrap();
    assert_eq!(positions(&pending), positions(&read)[10..]);
    let fresh = billing.read().await.unwrap();
    assert_eq!(fresh.len(), 5);
    billing.acknowledge(&positions(&pending)).await.unwrap();
    billing.acknowledge(&positions(&fresh)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (cut, _) = store.trim().await.unwrap();
    assert!(cut > 0);
    assert_eq!(store.events(Cursor::default(), 100).await.unwrap(), []);
    // A group that nobody reads holds everything back, until it is forgotten.
    begin(&store, 25..30).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    store.trim().await.unwrap();
    assert_eq!(store.events(Cursor::default(), 100).await.unwrap().len(), 5);
    assert!(store.forget_group("billing").await.unwrap());
    store.trim().await.unwrap();
    assert_eq!(store.events(Cursor::default(), 100).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_hears_each_event_once_in_order_also_after_the_server_was_away() {
    let (store, server) = start();
    let mut last = change("a");
    ok(&store, &last).await;
    let mut follower = store.follow(Cursor::default());
    let mut heard = Vec::new();
    let take = |page: Page, heard: &mut Vec<u64>| heard.extend(page.iter().map(|(_, event)| event.version.0));
    take(follower.next(100).await.unwrap(), &mut heard);
    for _ in 0..3 {
        last = next(&last);
        ok(&store, &last).await;
        let page = tokio::time::timeout(SOON, follower.next(100)).await.unwrap();
        take(page.unwrap(), &mut heard);
    }
    assert_eq!(heard, [1, 2, 3, 4]);
    // Its connections end; a new follower goes on where this one was.
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    server
        .ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .unwrap();
    last = next(&last);
    while store.commit(last.clone()).await.is_err() {}
    let mut again = store.follow(follower.cursor().clone());
    for reader in [&mut follower, &mut again] {
        let page = loop {
            if let Ok(page) = tokio::time::timeout(SOON, reader.next(100)).await.unwrap() {
                break page;
            }
        };
        assert_eq!(
            page.iter().map(|(_, event)| event.version.0).collect::<Vec<_>>(),
            [5]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_foreign_entries_do_not_stop_a_reader() {
    let (store, server) = start();
    let created = change("a");
    let partition = voice_agent::store::redis::keys::partition(&created.record.room);
    let stream = format!("{{v{partition:02}}}:events");
    let fill = "for i = 1, 1000 do redis.call('XADD', KEYS[1], '*', 'hello', 'world') end";
    server.ask(&["EVAL", fill, "1", &stream]).unwrap();
    ok(&store, &created).await;
    let found = tokio::time::timeout(SOON, store.events(Cursor::default(), 10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rooms(&found), BTreeSet::from(["a".into()]));
    let group = tokio::time::timeout(SOON, async {
        let consumer = consumer(&store, "one").await;
        loop {
            let page = consumer.read().await.unwrap();
            if !page.is_empty() {
                return page;
            }
        }
    });
    assert_eq!(rooms(&group.await.unwrap()), BTreeSet::from(["a".into()]));
}
