//! What every store must do, as cases that `tests/store_conformance.rs` runs against each: the embedded one, Redis, Redis
//! Cluster. The store is that of node-1.
#![expect(missing_docs, reason = "the name of a case says what must hold")]
#![expect(clippy::unwrap_used, reason = "a case fails its test")]

use std::collections::BTreeSet;
use voice_agent::store::{Cursor, Member, Position, Refresh, Refreshed, RoomStore, Seen};
use voice_room::{
    Change, Epoch, EventType, Incarnation, Isolation, OpId, RoomId, RoomRecord, State, StateChangeEvent,
    Version, Wall,
    record::{Committed, IsolationChange},
    timeline::Actor,
};

/// The creation of a room: version 1, epoch 0.1.
pub fn change(room: &str) -> Change {
    let room = RoomId::new(room).unwrap();
    let (version, epoch, incarnation) = (Version(1), Epoch { era: 0, revision: 1 }, Incarnation(1));
    let op_id = OpId::new(&format!("{room}-1")).unwrap();
    let record = RoomRecord {
        room: room.clone(),
        state: State::Created,
        version,
        epoch,
        op_id: op_id.clone(),
        incarnation,
        owner: "node-1".parse().unwrap(),
        since: Wall(1_000),
        source: None,
        host: None,
        ports: Vec::new(),
    };
    let event = StateChangeEvent {
        room,
        incarnation,
        event_type: EventType::Create,
        old_state: None,
        new_state: State::Created,
        version,
        epoch,
        op_id,
        actor: Actor::Agent,
        reason: "test".into(),
        trace_id: None,
        timestamp: Wall(1_000),
    };
    Change::new(record, event, IsolationChange::Keep)
}

/// The change after `last`, by `event` to `state`.
pub fn then(last: &Change, event: EventType, state: State) -> Change {
    let mut next = last.clone();
    let begins = matches!(event, EventType::Create | EventType::Adopt);
    next.record.version = last.record.version.next();
    next.record.state = state;
    next.record.op_id = OpId::new(&format!("{}-{}", next.record.room, next.record.version)).unwrap();
    next.event.event_type = event;
    next.event.old_state = Some(last.record.state).filter(|_| !begins);
    next.event.new_state = state;
    next.event.version = next.record.version;
    next.event.op_id = next.record.op_id.clone();
    next.isolation = IsolationChange::Keep;
    next
}

/// A store whose keys expire keeps what ends in the year 2100.
const FAR: u64 = 4_102_444_800_000;

pub fn by(mut change: Change, revision: u64, op_id: &str) -> Change {
    change.record.epoch.revision = revision;
    change.event.epoch.revision = revision;
    change.record.op_id = OpId::new(op_id).unwrap();
    change.event.op_id = change.record.op_id.clone();
    change
}

async fn ok(store: &dyn RoomStore, change: &Change) {
    assert_eq!(store.commit(change.clone()).await, Ok(Committed::Ok));
}

async fn conflict(store: &dyn RoomStore, change: &Change, stored: Option<&Change>) {
    let expected = Committed::Conflict(stored.map(|change| change.record.clone()));
    assert_eq!(store.commit(change.clone()).await, Ok(expected));
}

async fn events_of(store: &dyn RoomStore, room: &RoomId) -> usize {
    let events = store.events(Cursor::default(), 1_000).await.unwrap();
    events.iter().filter(|(_, event)| event.room == *room).count()
}

pub async fn of_two_writers_of_one_version_one_wins_and_the_other_gets_the_winners_record(
    store: &dyn RoomStore,
) {
    let created = change("contested");
    ok(store, &created).await;
    let live = then(&created, EventType::StartLive, State::Liveing);
    let (one, two) = (by(live.clone(), 1, "one"), by(live, 1, "two"));
    let (first, second) = tokio::join!(store.commit(one.clone()), store.commit(two.clone()));
    let (won, lost) = match first.as_ref().unwrap() {
        Committed::Ok => (one, second.unwrap()),
        _ => (two, first.unwrap()),
    };
    assert_eq!(lost, Committed::Conflict(Some(won.into_parts().record)));
    assert_eq!(events_of(store, &created.record.room).await, 2);
}

pub async fn a_change_repeated_a_hundred_times_is_one_effect_and_one_event(store: &dyn RoomStore) {
    let created = change("repeated");
    let answers = (0..100).map(|_| store.commit(created.clone()));
    let answers = futures::future::join_all(answers).await;
    let oks = answers.iter().filter(|a| **a == Ok(Committed::Ok)).count();
    let skipped = answers.iter().filter(|a| **a == Ok(Committed::Skipped)).count();
    assert_eq!((oks, skipped), (1, 99));
    assert_eq!(store.commit(created.clone()).await, Ok(Committed::Skipped));
    assert_eq!(events_of(store, &created.record.room).await, 1);
    let known = vec![created.record.room.clone()];
    assert_eq!(
        store.load(known).await.unwrap().rooms,
        vec![created.into_parts().record]
    );
}

pub async fn a_lower_epoch_is_fenced_and_the_same_or_a_higher_one_is_not(store: &dyn RoomStore) {
    let created = by(change("fenced"), 5, "create");
    ok(store, &created).await;
    let live = then(&created, EventType::StartLive, State::Liveing);
    let fence = Committed::Fenced(created.record.epoch);
    assert_eq!(store.commit(by(live.clone(), 4, "old")).await, Ok(fence));
    ok(store, &by(live.clone(), 5, "same")).await;
    let closed = by(then(&live, EventType::Close, State::Destroyed), 9, "higher");
    ok(store, &closed).await;
    // The fence stands above a life: also a new one, and also the repeat of a change that was done, are too late.
    let again = then(&closed, EventType::Create, State::Created);
    let fence = Ok(Committed::Fenced(closed.record.epoch));
    assert_eq!(store.commit(by(again, 8, "late")).await, fence);
    assert_eq!(store.commit(by(closed, 8, "higher")).await, fence);
}

pub async fn a_new_life_begins_over_a_destroyed_room_and_not_over_a_live_one(store: &dyn RoomStore) {
    let created = change("again");
    ok(store, &created).await;
    let again = then(&created, EventType::Create, State::Created);
    conflict(store, &again, Some(&created)).await;
    let closed = then(&created, EventType::Close, State::Destroyed);
    ok(store, &closed).await;
    conflict(store, &by(change("again"), 1, "first"), Some(&closed)).await;
    let adopted = then(&closed, EventType::Adopt, State::Liveing);
    ok(store, &adopted).await;
    conflict(
        store,
        &then(&adopted, EventType::Adopt, State::Liveing),
        Some(&adopted),
    )
    .await;
}

pub async fn a_transition_of_a_room_that_is_not_stored_is_a_conflict_with_nothing(store: &dyn RoomStore) {
    let live = then(&change("unknown"), EventType::StartLive, State::Liveing);
    conflict(store, &live, None).await;
    assert_eq!(events_of(store, &live.record.room).await, 0);
    // Its owner may know of versions that the store has forgotten.
    let mut adopted = change("unknown");
    adopted.record.version = Version(41);
    adopted.event.version = Version(41);
    ok(store, &adopted).await;
}

pub async fn a_version_that_is_not_the_next_one_or_another_old_state_is_a_conflict(store: &dyn RoomStore) {
    let created = change("versions");
    ok(store, &created).await;
    let live = then(&created, EventType::StartLive, State::Liveing);
    let closing = then(&live, EventType::HostDisconnect, State::GraceClosing);
    conflict(store, &closing, Some(&created)).await;
    let mut stuck = then(&created, EventType::Stuck, State::Expired);
    stuck.event.old_state = Some(State::Liveing);
    conflict(store, &stuck, Some(&created)).await;
    conflict(store, &by(created.clone(), 1, "other-op"), Some(&created)).await;
    ok(store, &live).await;
    ok(store, &closing).await;
}

pub async fn isolation_is_set_kept_and_cleared_with_its_change_and_not_by_a_refused_one(
    store: &dyn RoomStore,
) {
    let isolation = |until| Isolation {
        room: RoomId::new("isolated").unwrap(),
        reason: "stuck".into(),
        until: Wall(FAR + until),
    };
    let isolations = async || store.load(vec![]).await.unwrap().isolations;
    let live = by(change("isolated"), 2, "create");
    ok(store, &live).await;
    let mut expired = then(&live, EventType::OwnerLost, State::Expired);
    expired.isolation = IsolationChange::Set(isolation(1));
    let fenced = store.commit(by(expired.clone(), 1, "fenced")).await;
    assert!(matches!(fenced, Ok(Committed::Fenced(_))));
    assert_eq!(isolations().await, vec![]);
    expired.isolation = IsolationChange::Set(isolation(2));
    ok(store, &expired).await;
    assert_eq!(isolations().await, vec![isolation(2)]);
    let of = async |name: &str| store.isolation(RoomId::new(name).unwrap()).await;
    assert_eq!(of("isolated").await, Ok(Some(isolation(2))));
    assert_eq!(of("another").await, Ok(None));
    expired.isolation = IsolationChange::Clear;
    assert_eq!(store.commit(expired.clone()).await, Ok(Committed::Skipped));
    let destroyed = then(&expired, EventType::IsolationOver, State::Destroyed);
    ok(store, &destroyed).await;
    assert_eq!(isolations().await, vec![isolation(2)]);
    let mut again = then(&destroyed, EventType::Create, State::Created);
    again.isolation = IsolationChange::Clear;
    ok(store, &again).await;
    assert_eq!(isolations().await, vec![]);
}

/// Those of one room are in order; those of different rooms may come in any.
pub async fn events_are_read_in_order_from_a_position_on(store: &dyn RoomStore) {
    let mut last = change("told");
    ok(store, &last).await;
    for n in 0..4 {
        ok(store, &change(&format!("other-{n}"))).await;
        last = next(&last);
        ok(store, &last).await;
    }
    let all = store.events(Cursor::default(), 100).await.unwrap();
    let versions = |page: &[(Position, StateChangeEvent)]| -> Vec<u64> {
        let own = page.iter().filter(|(_, event)| event.room == last.record.room);
        own.map(|(_, event)| event.version.0).collect()
    };
    assert_eq!((all.len(), versions(&all)), (9, vec![1, 2, 3, 4, 5]));
    let (mut cursor, mut paged) = (Cursor::default(), Vec::new());
    loop {
        let page = store.events(cursor.clone(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        page.iter().for_each(|(position, _)| cursor.read(*position));
        paged.extend(page);
    }
    assert_eq!(versions(&paged), [1, 2, 3, 4, 5]);
    let rooms = |page: &[(Position, StateChangeEvent)]| -> BTreeSet<(RoomId, u64)> {
        page.iter().map(|(_, e)| (e.room.clone(), e.version.0)).collect()
    };
    assert_eq!((paged.len(), rooms(&paged)), (9, rooms(&all)));
}

/// Live, gone, back, gone, …
pub fn next(last: &Change) -> Change {
    match last.record.state {
        State::Created => then(last, EventType::StartLive, State::Liveing),
        State::Liveing => then(last, EventType::HostDisconnect, State::GraceClosing),
        _ => then(last, EventType::HostReturn, State::Liveing),
    }
}

/// What the owner of `last` puts back: the same state, the next version.
pub fn restored(last: &Change) -> Change {
    let mut change = then(last, EventType::Restore, last.record.state);
    change.record.op_id = OpId::new(&format!("{}-restored", last.record.room)).unwrap();
    change.event.op_id = change.record.op_id.clone();
    change
}

pub async fn a_restored_record_goes_in_where_nothing_or_an_older_version_is_stored(store: &dyn RoomStore) {
    let lost = change("restored");
    let mut live = then(&lost, EventType::StartLive, State::Liveing);
    live.record.version = Version(41);
    let mut back = restored(&live);
    back.event.old_state = None;
    ok(store, &back).await;
    assert_eq!(store.commit(back.clone()).await, Ok(Committed::Skipped));
    let stored = store.load(vec![lost.record.room.clone()]).await.unwrap().rooms;
    assert_eq!((stored.len(), &stored[0]), (1, &back.record));
    // The store fell behind its owner by some versions, and by states too.
    let closing = then(&back, EventType::HostDisconnect, State::GraceClosing);
    let expired = then(&closing, EventType::Stuck, State::Expired);
    ok(store, &by(restored(&expired), 2, "behind")).await;
    assert_eq!(events_of(store, &lost.record.room).await, 2);
}

pub async fn a_restored_record_does_not_go_in_over_a_higher_epoch_or_its_own_version(store: &dyn RoomStore) {
    let created = by(change("kept"), 5, "create");
    ok(store, &created).await;
    let back = restored(&created);
    let fence = Committed::Fenced(created.record.epoch);
    assert_eq!(store.commit(by(back.clone(), 4, "old")).await, Ok(fence));
    let live = then(&created, EventType::StartLive, State::Liveing);
    ok(store, &live).await;
    // Of the version that it would write, another change is stored.
    conflict(store, &back, Some(&live)).await;
    assert_eq!(events_of(store, &created.record.room).await, 2);
}

pub async fn a_refresh_keeps_what_is_stored_as_its_owner_knows_it_and_tells_of_all_else(
    store: &dyn RoomStore,
) {
    let (kept, moved, fenced) = (
        change("kept"),
        change("moved"),
        by(change("fenced"), 9, "fenced-1"),
    );
    for change in [&kept, &moved, &fenced] {
        ok(store, change).await;
    }
    let live = then(&moved, EventType::StartLive, State::Liveing);
    ok(store, &live).await;
    let of = |change: &Change, revision| Refresh {
        room: change.record.room.clone(),
        version: change.record.version,
        op_id: change.record.op_id.clone(),
        epoch: Epoch { era: 0, revision },
    };
    let missing = change("missing");
    // After a failover another owner used the number that this one had used.
    let taken = change("taken");
    ok(store, &taken).await;
    let lost = by(taken.clone(), 1, "lost");
    let asked = vec![
        of(&kept, 3),
        of(&moved, 1),
        of(&missing, 1),
        of(&fenced, 8),
        of(&lost, 1),
    ];
    let expected = [
        (kept.record.room.clone(), Refreshed::Kept),
        (moved.record.room.clone(), Refreshed::Differs(live.record.clone())),
        (missing.record.room.clone(), Refreshed::Missing),
        (fenced.record.room.clone(), Refreshed::Fenced(fenced.record.epoch)),
        (
            taken.record.room.clone(),
            Refreshed::Differs(taken.record.clone()),
        ),
    ];
    assert_eq!(store.refresh(asked).await.unwrap(), expected);
    assert_eq!(store.refresh(vec![]).await.unwrap(), []);
}

pub async fn a_look_changes_nothing_and_tells_how_old_a_record_is(store: &dyn RoomStore) {
    let mut created = change("looked");
    created.record.since = voice_agent::api::convert::now();
    assert_eq!(store.look(created.record.room.clone()).await, Ok(None));
    ok(store, &created).await;
    for _ in 0..2 {
        let Seen { record, age } = store.look(created.record.room.clone()).await.unwrap().unwrap();
        assert_eq!(record, created.record);
        assert!(age < std::time::Duration::from_secs(60), "{age:?}");
    }
    assert_eq!(events_of(store, &created.record.room).await, 1);
}

pub async fn members_that_join_and_leave_are_taken(store: &dyn RoomStore) {
    let member = |client: &str, joined| Member {
        room: RoomId::new("members").unwrap(),
        client: client.parse().unwrap(),
        joined,
    };
    let changes = vec![member("a", true), member("b", true), member("a", false)];
    assert_eq!(store.members(changes).await, Ok(()));
    assert_eq!(store.members(vec![]).await, Ok(()));
}
