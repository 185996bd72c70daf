//! Events over a real Redis: followers, groups with acknowledgement, and what is cut of the streams.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{collections::BTreeSet, time::Duration};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use voice_agent::{
    driver::{Handle, Message},
    relay::{self, Hearing},
    store::{
        Cursor, Position, Redis, RoomStore, StoreError,
        redis::{
            Follower,
            groups::{Begin, Consumer},
        },
    },
    telemetry::Counter,
};
use voice_room::{
    Change, EventType, Input, Isolation, State, StateChangeEvent, Wall,
    record::{Committed, IsolationChange},
};
use voice_tests::{
    proxy::Proxy,
    redis::Server,
    store_cases::{change, next, then},
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

/// A store that keeps no event that no group waits for.
fn forgetful(server: &Server) -> Redis {
    let mut config = server.config();
    config.events_kept = Duration::ZERO;
    Redis::open(&config).unwrap()
}

/// So many more changes of a room; the last one.
async fn go_on(store: &Redis, mut last: Change, count: usize) -> Change {
    for _ in 0..count {
        last = next(&last);
        ok(store, &last).await;
    }
    last
}

async fn cut_all(server: &Server) {
    // An entry is older than now one millisecond later.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (cut, _) = forgetful(server).trim().await.unwrap();
    assert!(cut > 0);
}

async fn versions(follower: &mut Follower) -> Result<Vec<u64>, StoreError> {
    let page = tokio::time::timeout(SOON, follower.next(100)).await.unwrap()?;
    Ok(page.iter().map(|(_, event)| event.version.0).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_events_were_cut_off_says_so_once_and_goes_on_and_one_that_had_read_them_says_nothing()
 {
    let (store, server) = start();
    let first = change("a");
    ok(&store, &first).await;
    let mut behind = store.follow(Cursor::default());
    assert_eq!(versions(&mut behind).await, Ok(vec![1]));
    let mut whole = store.follow(behind.cursor().clone());
    let mut last = go_on(&store, first, 3).await;
    assert_eq!(versions(&mut whole).await, Ok(vec![2, 3, 4]));
    let before = store.events(Cursor::default(), 10).await.unwrap();
    cut_all(&server).await;
    last = go_on(&store, last, 1).await;
    let counted = Counter::EventsCut.value();
    let up_to = vec![before[3].0];
    assert_eq!(versions(&mut behind).await, Err(StoreError::Cut { up_to }));
    assert!(Counter::EventsCut.value() > counted);
    assert_eq!(versions(&mut behind).await, Ok(vec![5]));
    assert_eq!(versions(&mut whole).await, Ok(vec![5]));
    // Also when nothing is there any more, and for who begins at a time before.
    last = go_on(&store, last, 1).await;
    cut_all(&server).await;
    assert!(matches!(versions(&mut behind).await, Err(StoreError::Cut { .. })));
    let mut late = store.follow(Cursor::since(voice_room::Wall(1)));
    assert!(matches!(versions(&mut late).await, Err(StoreError::Cut { .. })));
    go_on(&store, last, 1).await;
    assert_eq!(versions(&mut behind).await, Ok(vec![7]));
    assert_eq!(versions(&mut late).await, Ok(vec![7]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_because_there_is_too_much_is_told_too() {
    let (store, server) = start();
    let first = change("a");
    ok(&store, &first).await;
    let mut behind = store.follow(Cursor::default());
    assert_eq!(versions(&mut behind).await, Ok(vec![1]));
    go_on(&store, first, 5).await;
    let all = store.events(Cursor::default(), 10).await.unwrap();
    let Position::Stream { partition, .. } = all[0].0 else {
        panic!("{all:?}");
    };
    let key = |end: &str| format!("{{v{partition:02}}}:{end}");
    let script = include_str!("../../voice-agent/src/store/redis/scripts/trim.lua");
    let (events, isolated, cut) = (key("events"), key("isolated"), key("events:cut"));
    // Nothing is too old, and two are not too many.
    let answer = server.ask(&["EVAL", script, "3", &events, &isolated, &cut, "1", "2", "1"]);
    assert_eq!(
        answer.unwrap().split_whitespace().collect::<Vec<_>>(),
        ["OK", "4", "0"]
    );
    let up_to = vec![all[3].0];
    assert_eq!(versions(&mut behind).await, Err(StoreError::Cut { up_to }));
    assert_eq!(versions(&mut behind).await, Ok(vec![5, 6]));
}

/// What an agent's driver is told by its relay until `enough`.
async fn told(messages: &mut Receiver<Message>, enough: impl Fn(&Input) -> bool) -> Vec<Input> {
    let mut all = Vec::new();
    loop {
        let message = tokio::time::timeout(SOON, messages.recv()).await.unwrap();
        if let Message::Fact(input) = message.unwrap() {
            let last = enough(&input);
            all.push(input);
            if last {
                return all;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_missed_an_expiry_because_it_was_cut_off_tells_of_it_from_what_is_stored() {
    let (store, server) = start();
    let proxy = Proxy::to(server.address().parse().unwrap()).unwrap();
    let mut config = server.config();
    config.addresses = vec![proxy.address().to_string().parse().unwrap()];
    config.timeout = Duration::from_secs(1);
    let (driver, mut messages) = Handle::new(1000);
    let stop = CancellationToken::new();
    let now = voice_agent::api::convert::now();
    let behind = Redis::open(&config).unwrap();
    let relay = tokio::spawn(relay::run(behind, driver, Hearing::default(), now, stop.clone()));
    let created = change("a");
    ok(&store, &created).await;
    told(
        &mut messages,
        |input| matches!(input, Input::Heard(event, _) if event.room == created.record.room),
    )
    .await;
    proxy.refuse();
    // Somebody else's room expires meanwhile, and its event is cut off.
    let mut expired = then(&created, EventType::OwnerLost, State::Expired);
    let isolation = Isolation {
        room: created.record.room.clone(),
        reason: "stuck".into(),
        until: Wall(now.0 + 3_600_000),
    };
    expired.isolation = IsolationChange::Set(isolation.clone());
    ok(&store, &expired).await;
    cut_all(&server).await;
    proxy.open();
    let all = told(
        &mut messages,
        |input| matches!(input, Input::Heard(event, _) if event.new_state == State::Expired),
    )
    .await;
    let Some(Input::Heard(event, heard)) = all.last() else {
        panic!("{all:?}");
    };
    assert_eq!(
        (event.version, event.epoch, heard.as_ref()),
        (expired.record.version, expired.record.epoch, Some(&isolation))
    );
    // And it goes on: what comes next is heard as ever.
    let over = then(&expired, EventType::IsolationOver, State::Destroyed);
    ok(&store, &over).await;
    told(
        &mut messages,
        |input| matches!(input, Input::Heard(event, _) if event.new_state == State::Destroyed),
    )
    .await;
    stop.cancel();
    relay.await.unwrap();
}
