//! Events and listings lead to the same view, and each says what changed.

use super::*;
use crate::registry::etcd::records::{agent_key, owner_key, room_key, write};
use proptest::prelude::*;
use voice_room::{Epoch, Incarnation, State, Version};

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn kv(key: Vec<u8>, value: Vec<u8>, lease: i64, revision: i64) -> KeyValue {
    KeyValue {
        key,
        value,
        lease,
        mod_revision: revision,
        ..KeyValue::default()
    }
}

fn agent(name: &str, lease: i64, revision: i64) -> KeyValue {
    let agent = Agent {
        identity: name.into(),
        address: String::new(),
        version: String::new(),
        capacity: 1,
        era: 0,
    };
    kv(agent_key(&node(name)), write(&agent), lease, revision)
}

fn owner(name: &str, of: &str, lease: i64, revision: i64) -> KeyValue {
    let owner = Owner {
        node: node(of),
        incarnation: Incarnation(1),
        // Whatever it is, the highest is known.
        era: u32::try_from(revision % 3).unwrap(),
        custodian: false,
        room: None,
    };
    kv(owner_key(&room(name)), write(&owner), lease, revision)
}

fn live(version: u64) -> Room {
    Room {
        incarnation: Incarnation(1),
        state: State::Liveing,
        version: Version(version),
        epoch: Epoch::default(),
        source: None,
        address: String::new(),
    }
}

fn told(name: &str, lease: i64, revision: i64) -> KeyValue {
    kv(room_key(&room(name)), write(&live(4)), lease, revision)
}

fn put(kv: KeyValue) -> Event {
    Event {
        r#type: EventType::Put.into(),
        kv: Some(kv),
    }
}

fn deleted(kv: &KeyValue, revision: i64) -> Event {
    let kv = KeyValue {
        key: kv.key.clone(),
        mod_revision: revision,
        ..KeyValue::default()
    };
    Event {
        r#type: EventType::Delete.into(),
        kv: Some(kv),
    }
}

/// A view in which node n owns room a on lease 1.
fn owned() -> View {
    let mut view = View::default();
    let events = [agent("n", 1, 1), owner("a", "n", 1, 2), told("a", 1, 3)].map(put);
    let changes = view.apply(&events, 3);
    assert_eq!(
        (changes.diffs.len(), changes.foreign.len(), view.revision),
        (1, 0, 3)
    );
    view
}

#[test]
fn a_room_that_goes_with_its_lease_is_told_from_one_that_was_given_up() {
    let mut view = owned();
    let given_up = [deleted(&owner("a", "n", 0, 0), 4), deleted(&told("a", 0, 0), 4)];
    let changes = view.clone().apply(&given_up, 4);
    assert!(!changes.diffs[0].ended);
    let mut ended = given_up.to_vec();
    ended.push(deleted(&agent("n", 0, 0), 4));
    let changes = view.apply(&ended, 4);
    let diff = &changes.diffs[0];
    assert!(diff.ended && diff.after.is_none());
    assert_eq!(diff.before.as_ref().unwrap().value.node, node("n"));
    assert_eq!(diff.meta.as_ref().unwrap().version, Version(4));
}

#[test]
fn of_a_room_that_goes_with_its_lease_what_was_said_last_is_told_with_its_claim_or_since() {
    let said = |events: Vec<Event>| {
        let mut view = View::default();
        view.apply(&events, 9);
        let changes = view.apply(&[deleted(&owner("a", "n", 0, 0), 10)], 10);
        changes.diffs[0].meta.as_ref().map(|meta| meta.version)
    };
    let owner = |said: Option<Room>, revision| {
        let value = Owner {
            node: node("n"),
            incarnation: Incarnation(1),
            era: 0,
            custodian: false,
            room: said,
        };
        put(kv(owner_key(&room("a")), write(&value), 1, revision))
    };
    let told = |revision| put(told("a", 1, revision));
    assert_eq!(said(vec![owner(None, 2)]), None);
    assert_eq!(said(vec![owner(Some(live(1)), 2)]), Some(Version(1)));
    assert_eq!(said(vec![owner(Some(live(1)), 2), told(3)]), Some(Version(4)));
    // Told before the claim, perhaps of another life.
    assert_eq!(said(vec![told(2), owner(Some(live(7)), 3)]), Some(Version(7)));
    assert_eq!(said(vec![told(2), owner(None, 3)]), Some(Version(4)));
}

#[test]
fn a_room_left_behind_on_an_old_lease_goes_with_that_lease_although_its_node_lives() {
    let mut view = owned();
    view.apply(&[put(agent("n", 2, 4))], 4);
    let changes = view.apply(&[deleted(&owner("a", "n", 0, 0), 5)], 5);
    assert!(changes.diffs[0].ended);
}

#[test]
fn what_a_listing_differs_in_is_told_room_by_room() {
    let mut view = View::default();
    let events = [
        agent("n", 1, 1),
        agent("m", 2, 2),
        owner("stays", "m", 2, 3),
        owner("goes", "n", 1, 4),
        owner("moves", "n", 1, 5),
        owner("ceded", "m", 2, 6),
    ];
    view.apply(&events.map(put), 6);
    // Meanwhile: n and its lease ended, m took `moves`, gave `ceded` up, and has a new room.
    let listing = [
        agent("m", 2, 2),
        owner("stays", "m", 2, 3),
        owner("moves", "m", 2, 9),
        owner("new", "m", 2, 10),
    ];
    let changes = view.replace(&listing, 12);
    let seen: Vec<(&str, bool, bool, bool)> = changes
        .diffs
        .iter()
        .map(|d| (d.room.as_str(), d.before.is_some(), d.after.is_some(), d.ended))
        .collect();
    let expected = [
        ("ceded", true, false, false),
        ("goes", true, false, true),
        ("moves", true, true, false),
        ("new", false, true, false),
    ];
    assert_eq!((seen.as_slice(), view.revision), (expected.as_slice(), 12));
    assert_eq!(view.replace(&listing, 13), Changes::default());
}

#[test]
fn what_is_not_ours_is_told_and_takes_no_place() {
    let mut view = owned();
    let mut nonsense = owner("a", "n", 1, 4);
    nonsense.value = b"nonsense".to_vec();
    let unknown = kv(b"/voice/owners/not a room".to_vec(), Vec::new(), 0, 5);
    let empty = Event { r#type: 7, kv: None };
    let changes = view.apply(&[put(nonsense), put(unknown), empty], 5);
    assert_eq!((changes.foreign.len(), changes.diffs.len()), (1, 1));
    assert!(changes.foreign[0].key.ends_with("/a") && view.owners.is_empty());
}

#[derive(Debug, Clone)]
enum Act {
    Put(u8, u8, i64),
    Delete(u8),
    Register(u8, i64),
    Leave(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6u8, 0..3u8, 1..4i64).prop_map(|(r, n, l)| Act::Put(r, n, l)),
        2 => (0..6u8).prop_map(Act::Delete),
        1 => (0..3u8, 1..4i64).prop_map(|(n, l)| Act::Register(n, l)),
        1 => (0..3u8).prop_map(Act::Leave),
    ]
}

proptest! {
    /// Whatever was missed, a listing leads to the view that the events would have led to, and its diffs lead from the old
    /// owners to the new ones.
    #[test]
    fn a_listing_after_a_gap_finds_the_exact_difference(acts in prop::collection::vec(act(), 1..60), gap in 0..60usize) {
        let mut etcd: BTreeMap<Vec<u8>, KeyValue> = BTreeMap::new();
        let (mut whole, mut gapped) = (View::default(), View::default());
        for (index, act) in acts.iter().enumerate() {
            let revision = i64::try_from(index).unwrap() + 2;
            let (key, event) = match act {
                Act::Put(r, n, l) => { let kv = owner(&format!("r{r}"), &format!("n{n}"), *l, revision); (kv.key.clone(), put(kv)) }
                Act::Register(n, l) => { let kv = agent(&format!("n{n}"), *l, revision); (kv.key.clone(), put(kv)) }
                Act::Delete(r) => { let kv = owner(&format!("r{r}"), "n", 1, revision); (kv.key.clone(), deleted(&kv, revision)) }
                Act::Leave(n) => { let kv = agent(&format!("n{n}"), 1, revision); (kv.key.clone(), deleted(&kv, revision)) }
            };
            match event.r#type() {
                EventType::Put => drop(etcd.insert(key, event.kv.clone().unwrap())),
                EventType::Delete => drop(etcd.remove(&key)),
            }
            whole.apply(std::slice::from_ref(&event), revision);
            if index < gap {
                gapped.apply(&[event], revision);
            }
        }
        let listing: Vec<KeyValue> = etcd.into_values().collect();
        let mut owners = gapped.owners.clone();
        let changes = gapped.replace(&listing, whole.revision);
        for diff in changes.diffs {
            prop_assert_eq!(owners.get(&diff.room), diff.before.as_ref());
            prop_assert_ne!(&diff.before, &diff.after);
            match diff.after {
                Some(after) => drop(owners.insert(diff.room, after)),
                None => drop(owners.remove(&diff.room)),
            }
        }
        prop_assert_eq!(&owners, &whole.owners);
        let highest = whole.owners.values().map(|owner| owner.value.era).max();
        prop_assert_eq!(whole.highest_era(), highest.unwrap_or(0));
        prop_assert_eq!(gapped, whole);
    }
}
