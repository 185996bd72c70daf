//! What etcd's answers mean for a room that is wanted, held, told of or given up.

use super::{done::FOREIGN_AGAIN, *};
use crate::{
    proto::mvccpb::KeyValue,
    registry::etcd::{
        records::{Room, write},
        txn::{Done, Part},
    },
};
use voice_room::{Epoch, Incarnation, State, Version};

const LEASE: i64 = 7;
const NOW: Mono = Mono(1_000_000_000);

fn me() -> Me {
    Me {
        node: NodeName::new("me").unwrap(),
        era: 2,
        address: "127.0.0.1:7400".into(),
    }
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn claims() -> Claims {
    Claims::new(me())
}

fn owner(node: &str, era: u32, custodian: bool) -> Owner {
    Owner {
        node: NodeName::new(node).unwrap(),
        incarnation: Incarnation(1),
        era,
        custodian,
        room: None,
    }
}

fn kv(owner: &Owner, lease: i64, revision: i64) -> KeyValue {
    KeyValue {
        key: b"/voice/owners/a".to_vec(),
        value: write(owner),
        lease,
        mod_revision: revision,
        ..KeyValue::default()
    }
}

fn meta(name: &str, version: u64) -> Meta {
    Meta {
        room: room(name),
        incarnation: Incarnation(1),
        state: State::Liveing,
        version: Version(version),
        epoch: Epoch::default(),
        source: None,
    }
}

/// Asks for the room; the one part that comes of it.
fn asked(claims: &mut Claims, name: &str) -> Part {
    assert_eq!(claims.ask(meta(name, 1), NOW), None);
    let parts = claims.next(&View::default(), NOW);
    assert_eq!(parts.len(), 1, "{parts:?}");
    parts[0].clone()
}

/// Room a, held by a claim of revision 50.
fn held() -> Claims {
    let mut claims = claims();
    let part = asked(&mut claims, "a");
    let input = claims.done(&part, &Done::Written, 50, LEASE, NOW).unwrap();
    assert_eq!(input, claimed("a", 50));
    claims
}

fn claimed(name: &str, revision: u64) -> Input {
    Input::Claimed {
        room: room(name),
        epoch: Epoch { era: 2, revision },
    }
}

fn owner_in(input: Option<Input>) -> Option<Option<NodeName>> {
    match input {
        Some(Input::NotClaimed { owner, .. }) => Some(owner),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_won_claim_has_the_era_and_the_revision_of_the_transaction_as_its_epoch_and_asking_again_writes_nothing()
{
    let mut claims = held();
    let telling = claims.next(&View::default(), NOW).remove(0);
    claims.done(&telling, &Done::Written, 51, LEASE, NOW);
    let again = claims.ask(meta("a", 1), NOW);
    assert_eq!(again, Some(claimed("a", 50)));
    assert!(claims.next(&View::default(), NOW).is_empty() && !claims.has_next(NOW));
}

#[test]
fn a_claim_says_what_the_room_is_and_what_is_said_of_it_later_goes_with_the_next_one() {
    let said = |part: &Part| match part {
        Part::Claim { owner, .. } => owner.room.as_ref().map(|room| room.version),
        other => panic!("{other:?}"),
    };
    let mut claims = claims();
    assert_eq!(said(&asked(&mut claims, "a")), Some(Version(1)));
    claims.describe(meta("a", 2));
    assert_eq!(said(&claims.next(&View::default(), NOW)[0]), Some(Version(2)));
    claims.lost();
    claims.ask(meta("a", 3), NOW);
    assert_eq!(said(&claims.next(&View::default(), NOW)[0]), Some(Version(3)));
}

#[test]
fn that_a_room_has_ended_or_is_degraded_is_told_before_what_may_never_end_and_the_first_comes_before_custody()
{
    let mut claims = held();
    assert!(!claims.comes_first(NOW));
    claims.degraded(room("a"), "a stream ended".into());
    let part = claims.ask(meta("b", 1), NOW);
    assert!(part.is_none() && claims.comes_first(NOW), "a claim");
    let part = claims.next(&View::default(), NOW).remove(0);
    claims.done(&part, &Done::Written, 51, LEASE, NOW);
    assert!(!claims.comes_first(NOW));
    claims.describe(Meta {
        state: State::Expired,
        ..meta("b", 2)
    });
    assert!(claims.comes_first(NOW) && !claims.is_urgent(NOW));
    let parts = claims.next(&View::default(), NOW);
    let [
        Part::Describe {
            room: first, told, ..
        },
        Part::Degraded { .. },
        Part::Describe { room: last, .. },
    ] = &parts[..]
    else {
        panic!("{parts:?}")
    };
    assert_eq!(
        (first.as_str(), told.state, last.as_str()),
        ("b", State::Expired, "a")
    );
    claims.done(&parts[0], &Done::Written, 52, LEASE, NOW);
    assert!(!claims.comes_first(NOW) && !claims.is_telling(&room("b")) && claims.untold() == 1);
}

#[test]
fn a_claim_of_an_older_lease_of_ours_and_a_custodians_are_claimed_over_but_only_as_they_were_seen() {
    for there in [
        owner("me", 1, false),
        owner("me", 2, true),
        owner("other", 2, true),
    ] {
        let mut claims = claims();
        let part = asked(&mut claims, "a");
        assert!(matches!(part, Part::Claim { compare: 0, .. }));
        let differs = Done::Differs(Some(kv(&there, 3, 40)), None);
        assert_eq!(claims.done(&part, &differs, 60, LEASE, NOW), None, "{there:?}");
        assert!(matches!(
            claims.next(&View::default(), NOW)[0],
            Part::Claim { compare: 40, .. }
        ));
    }
}

#[test]
fn a_claim_that_was_not_answered_and_has_won_all_the_same_is_ours_by_its_own_revision() {
    let mut claims = claims();
    let part = asked(&mut claims, "a");
    let differs = Done::Differs(Some(kv(&owner("me", 2, false), LEASE, 55)), None);
    assert_eq!(
        claims.done(&part, &differs, 60, LEASE, NOW),
        Some(claimed("a", 55))
    );
}

#[test]
fn a_room_of_somebody_else_is_left_to_them_and_not_asked_for_again() {
    let mut claims = claims();
    let part = asked(&mut claims, "a");
    let differs = Done::Differs(Some(kv(&owner("other", 2, false), 9, 40)), None);
    let told = owner_in(claims.done(&part, &differs, 60, LEASE, NOW));
    assert_eq!(told, Some(Some(NodeName::new("other").unwrap())));
    assert!(!claims.knows(&room("a")) && claims.next(&View::default(), NOW).is_empty());
}

#[test]
fn what_is_not_ours_or_of_a_higher_era_is_not_touched_told_once_and_looked_at_again_later() {
    let mut foreign = kv(&owner("me", 2, false), 3, 40);
    foreign.value = b"{\"node\":7}".to_vec();
    for there in [
        foreign,
        kv(&owner("me", 3, false), 3, 40),
        kv(&owner("me", 2, false), 0, 40),
    ] {
        let mut claims = claims();
        let part = asked(&mut claims, "a");
        let differs = Done::Differs(Some(there), None);
        assert_eq!(owner_in(claims.done(&part, &differs, 60, LEASE, NOW)), Some(None));
        assert!(claims.next(&View::default(), NOW).is_empty());
        let later = NOW + FOREIGN_AGAIN;
        // What others are told of does not hurry for its sake.
        assert!(!claims.is_urgent(NOW) && claims.is_urgent(later));
        assert!(matches!(
            claims.next(&View::default(), later)[0],
            Part::Claim { compare: 0, .. }
        ));
        assert_eq!(claims.done(&part, &differs, 61, LEASE, later), None);
    }
}

#[test]
fn after_a_lost_lease_nothing_is_held_or_written_until_it_is_asked_for_again() {
    let mut claims = held();
    claims.describe(meta("a", 1));
    claims.lost();
    assert!(claims.next(&View::default(), NOW).is_empty());
    assert_eq!(claims.count(), (0, 0));
    let part = asked(&mut claims, "a");
    assert_eq!(
        claims.done(&part, &Done::Written, 70, LEASE + 1, NOW),
        Some(claimed("a", 70))
    );
    // What is known of it is told again, on the new lease.
    assert!(matches!(
        claims.next(&View::default(), NOW)[0],
        Part::Describe { held: 70, .. }
    ));
}

#[test]
fn metadata_is_told_under_the_claim_and_over_the_revision_known_and_a_conflict_brings_the_right_one() {
    let mut claims = held();
    claims.describe(meta("a", 1));
    let part = claims.next(&View::default(), NOW).remove(0);
    assert!(matches!(
        part,
        Part::Describe {
            held: 50,
            compare: 0,
            ..
        }
    ));
    let there = kv(&owner("me", 2, false), LEASE, 50);
    let mut told = kv(&owner("me", 2, false), 3, 45);
    told.value = write(&Room::of(&meta("a", 9), "x"));
    let differs = Done::Differs(Some(there), Some(told));
    assert_eq!(claims.done(&part, &differs, 60, LEASE, NOW), None);
    let part = claims.next(&View::default(), NOW).remove(0);
    assert!(matches!(
        part,
        Part::Describe {
            held: 50,
            compare: 45,
            ..
        }
    ));
    claims.describe(meta("a", 2));
    claims.done(&part, &Done::Written, 61, LEASE, NOW);
    // Something newer was said meanwhile.
    assert!(
        matches!(&claims.next(&View::default(), NOW)[0], Part::Describe { compare: 61, told, .. } if told.version == Version(2))
    );
}

#[test]
fn whatever_stands_on_our_own_lease_is_claimed_over() {
    let mut claims = claims();
    let part = asked(&mut claims, "a");
    let mut garbage = kv(&owner("me", 2, false), LEASE, 40);
    garbage.value = b"garbage".to_vec();
    let differs = Done::Differs(Some(garbage), None);
    assert_eq!(claims.done(&part, &differs, 60, LEASE, NOW), None);
    let next = claims.next(&View::default(), NOW);
    assert!(matches!(next[0], Part::Claim { compare: 40, .. }), "{next:?}");
}

#[test]
fn metadata_that_is_not_ours_is_written_over_by_who_holds_the_room() {
    let mut claims = held();
    claims.describe(meta("a", 1));
    let part = claims.next(&View::default(), NOW).remove(0);
    let there = kv(&owner("me", 2, false), LEASE, 50);
    let mut told = there.clone();
    told.value = b"foreign".to_vec();
    let differs = Done::Differs(Some(there), Some(told));
    assert_eq!(claims.done(&part, &differs, 60, LEASE, NOW), None);
    let next = claims.next(&View::default(), NOW);
    assert!(
        matches!(
            next[0],
            Part::Describe {
                held: 50,
                compare: 50,
                ..
            }
        ),
        "{next:?}"
    );
}

#[test]
fn a_held_room_whose_key_went_is_claimed_anew_and_one_that_was_taken_is_ceded() {
    let mut claims = held();
    let told = owner_in(claims.changed_hands(&room("a"), None, LEASE, NOW));
    assert_eq!(told, Some(None));
    assert!(matches!(
        claims.next(&View::default(), NOW)[0],
        Part::Claim { compare: 0, .. }
    ));

    let mut claims = held();
    let other = owner("other", 2, false);
    // An event from before our claim says nothing.
    assert_eq!(
        claims.changed_hands(&room("a"), Some((&other, 49, 9)), LEASE, NOW),
        None
    );
    let told = owner_in(claims.changed_hands(&room("a"), Some((&other, 51, 9)), LEASE, NOW));
    assert_eq!(told, Some(Some(other.node)));
    assert!(!claims.knows(&room("a")));
}

#[test]
fn a_room_given_up_while_its_claim_was_under_way_is_given_up_in_etcd_too() {
    let mut claims = claims();
    let part = asked(&mut claims, "a");
    claims.cede(&room("a"));
    assert!(!claims.is_urgent(NOW));
    assert_eq!(claims.done(&part, &Done::Written, 50, LEASE, NOW), None);
    assert!(claims.is_urgent(NOW), "its next owner waits");
    let given_up = Part::Cede {
        room: room("a"),
        held: 50,
    };
    assert_eq!(
        claims.next(&View::default(), NOW),
        std::slice::from_ref(&given_up)
    );
    claims.done(&given_up, &Done::Written, 51, LEASE, NOW);
    assert!(claims.next(&View::default(), NOW).is_empty());
}

#[test]
fn a_claim_asked_for_before_the_first_listing_compares_with_what_the_listing_has() {
    let mut claims = claims();
    asked(&mut claims, "a");
    let mut view = View::default();
    let at = super::super::view::At {
        value: owner("me", 2, false),
        revision: 33,
        lease: 3,
    };
    view.owners.insert(room("a"), at);
    assert!(matches!(
        claims.next(&view, NOW)[0],
        Part::Claim { compare: 33, .. }
    ));
}

#[test]
fn a_room_that_is_seen_to_be_anothers_or_of_a_higher_era_is_never_claimed_over() {
    for there in [
        owner("other", 2, false),
        owner("other", 1, false),
        owner("me", 3, false),
        owner("other", 3, true),
    ] {
        let mut claims = claims();
        asked(&mut claims, "a");
        let mut view = View::default();
        let at = super::super::view::At {
            value: there,
            revision: 33,
            lease: 3,
        };
        view.owners.insert(room("a"), at);
        assert!(matches!(
            claims.next(&view, NOW)[0],
            Part::Claim { compare: 0, .. }
        ));
    }
}

#[test]
fn keys_on_our_lease_that_nobody_wants_are_given_up() {
    let mut claims = held();
    let mut view = View::default();
    for (name, node, lease, revision) in [
        ("a", "me", LEASE, 50),
        ("stray", "me", LEASE, 51),
        ("old", "me", 3, 40),
        ("other", "other", LEASE, 52),
        // Of a try that was not answered; it is taken note of by the next.
        ("custody", "me", LEASE, 53),
    ] {
        let at = super::super::view::At {
            value: owner(node, 2, name == "custody"),
            revision,
            lease,
        };
        view.owners.insert(room(name), at);
    }
    claims.cede_unwanted(&view, LEASE);
    let stray = Part::Cede {
        room: room("stray"),
        held: 51,
    };
    let next = claims.next(&View::default(), NOW);
    assert!(
        next[0] == stray && matches!(next[1..], [Part::Describe { .. }]),
        "{next:?}"
    );
}

#[test]
fn a_custodian_that_comes_to_serve_the_room_claims_it_as_its_owner() {
    let mut claims = claims();
    claims.hold(meta("a", 3), 50, NOW);
    // As after it was ended here.
    claims.describe(Meta {
        state: State::Expired,
        ..meta("a", 4)
    });
    let part = asked(&mut claims, "a");
    assert!(matches!(&part, Part::Claim { owner, .. } if !owner.custodian));
    // Another was faster: there is nothing more to do.
    let differs = Done::Differs(Some(kv(&owner("other", 2, false), 9, 60)), None);
    let told = owner_in(claims.done(&part, &differs, 61, LEASE, NOW));
    assert_eq!(told, Some(Some(NodeName::new("other").unwrap())));
    assert!(!claims.has_next(NOW) && !claims.comes_first(NOW) && claims.untold() == 0);
}

#[test]
fn a_custodians_key_that_went_is_not_claimed_again_and_what_was_known_of_the_room_is_there_until_then() {
    let mut claims = claims();
    claims.hold(meta("a", 3), 50, NOW);
    assert_eq!(claims.in_custody(&room("a")), Some(&meta("a", 3)));
    let told = owner_in(claims.changed_hands(&room("a"), None, LEASE, NOW));
    assert_eq!(told, Some(None));
    assert!(!claims.knows(&room("a")) && !claims.has_next(NOW));
    let held = held();
    assert!(held.in_custody(&room("a")).is_none());
}

#[test]
fn a_claim_that_waits_is_told_once_and_only_when_it_waits_long() {
    let mut claims = claims();
    asked(&mut claims, "a");
    assert!(
        claims
            .still_waiting("no etcd", NOW + Duration::from_secs(1))
            .is_empty()
    );
    let told = claims.still_waiting("no etcd", NOW + TELL_AFTER);
    assert!(matches!(&told[..], [Input::NotClaimed { owner: None, problem, .. }] if problem == "no etcd"));
    assert!(claims.still_waiting("no etcd", NOW + TELL_AFTER * 2).is_empty());
}

#[test]
fn a_transaction_has_at_most_128_operations_and_all_rooms_come_by_in_turn() {
    let mut claims = claims();
    for n in 0..200 {
        let name = format!("r{n}");
        claims.ask(meta(&name, 1), NOW);
        claims.describe(meta(&name, 1));
    }
    let (mut claim, mut told, mut revision) = (0, 0, 100);
    while claims.has_next(NOW) {
        let parts = claims.next(&View::default(), NOW);
        // As etcd counts: those of the outer transaction, and on top the most that one of the inner ones has.
        assert!((1..=125).contains(&parts.len()));
        revision += 1;
        for part in &parts {
            claim += usize::from(matches!(part, Part::Claim { .. }));
            told += usize::from(matches!(part, Part::Describe { .. }));
            claims.done(part, &Done::Written, revision, LEASE, NOW);
        }
    }
    assert_eq!((claim, told, claims.count()), (200, 200, (200, 0)));
}
