//! A participant's side of the sync: whatever comes twice, late, out of order or from an owner of before.

use crate::world::*;
use std::time::Duration;
use voice_room::{
    Epoch, EventType, Incarnation, Mono, RoomId, State, Version, Wall,
    command::{Expired, RoomUpdate},
    sync::{Attempt, NotTaken, Participant, Proposal, Rollback, Taken},
};

const NOW: Mono = Mono(1_000_000_000_000);
const LASTS: Duration = Duration::from_secs(300);

fn epoch(revision: u64) -> Epoch {
    Epoch { era: 0, revision }
}

fn proposal(revision: u64, number: u64, version: u64, state: State) -> Proposal {
    Proposal {
        to: vec![],
        room: room("r"),
        incarnation: Incarnation(1),
        event: EventType::HostDisconnect,
        state,
        version: Version(version),
        attempt: attempt(revision, number),
        reason: "test".into(),
        trace_id: None,
        within: secs(2),
    }
}

fn attempt(revision: u64, number: u64) -> Attempt {
    let epoch = epoch(revision);
    Attempt { epoch, number }
}

fn update(revision: u64, version: u64, state: State) -> RoomUpdate {
    RoomUpdate {
        room: room("r"),
        incarnation: Incarnation(1),
        state,
        version: Version(version),
        epoch: epoch(revision),
        reason: "test".into(),
        trace_id: None,
        over: 0,
    }
}

fn rollback(revision: u64, number: u64) -> Rollback {
    Rollback {
        to: vec![],
        room: room("r"),
        attempt: attempt(revision, number),
        reason: "test".into(),
    }
}

fn expired(revision: u64, version: u64) -> Expired {
    Expired {
        room: room("r"),
        incarnation: Incarnation(1),
        version: Version(version),
        epoch: epoch(revision),
        reason: "stuck".into(),
        isolated_until: Wall(0),
    }
}

/// Room `r` LIVEING at version 2 under epoch 7.
fn live() -> Participant {
    let mut p = Participant::new(10);
    assert_eq!(p.commit(NOW, &update(7, 2, State::Liveing)), Ok(Taken::Anew));
    p
}

fn state(p: &Participant) -> (State, Version) {
    let c = p.committed(&room("r")).unwrap();
    (c.state, c.version)
}

fn is_prepared(p: &Participant) -> bool {
    p.prepared(&room("r")).is_some()
}

#[test]
fn what_is_agreed_to_changes_with_the_commit_and_not_before() {
    let mut p = live();
    let closing = proposal(7, 1, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    assert_eq!(state(&p), (State::Liveing, Version(2)));
    assert_eq!(p.commit(NOW, &update(7, 3, State::GraceClosing)), Ok(Taken::Anew));
    assert_eq!(state(&p), (State::GraceClosing, Version(3)));
    assert!(!is_prepared(&p));
}

#[test]
fn a_commit_that_comes_twice_is_taken_once_and_one_that_is_late_not_at_all() {
    let mut p = live();
    let third = update(7, 3, State::GraceClosing);
    assert_eq!(p.commit(NOW, &third), Ok(Taken::Anew));
    assert_eq!(p.commit(NOW, &third), Ok(Taken::Before));
    assert_eq!(p.commit(NOW, &update(7, 2, State::Liveing)), Ok(Taken::Before));
    assert_eq!(state(&p), (State::GraceClosing, Version(3)));
}

#[test]
fn one_who_missed_the_prepare_takes_the_commit() {
    let mut p = Participant::new(10);
    assert_eq!(p.commit(NOW, &update(7, 9, State::Liveing)), Ok(Taken::Anew));
    assert_eq!(state(&p), (State::Liveing, Version(9)));
}

#[test]
fn what_the_application_declines_is_not_prepared() {
    let mut p = live();
    let no = Err("no capacity".to_string());
    let vote = p.prepare(NOW, &proposal(7, 1, 3, State::GraceClosing), no);
    assert_eq!(vote, Err(NotTaken::Declined("no capacity".into())));
    assert!(!is_prepared(&p));
}

#[test]
fn a_rollback_voids_its_attempt_and_a_prepare_that_comes_after_it_is_refused() {
    let mut p = live();
    let closing = proposal(7, 4, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    assert_eq!(p.rollback(NOW, &rollback(7, 4)), Ok(Taken::Anew));
    assert!(!is_prepared(&p));
    let (given, known) = (attempt(7, 4), attempt(7, 4));
    let late = p.prepare(NOW, &closing, Ok(()));
    assert_eq!(late, Err(NotTaken::OldAttempt { given, known }));
    assert_eq!(p.rollback(NOW, &rollback(7, 4)), Ok(Taken::Before));
}

#[test]
fn the_rollback_of_an_earlier_attempt_does_not_end_a_later_one() {
    let mut p = live();
    let later = proposal(7, 5, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &later, Ok(())), Ok(()));
    assert_eq!(p.rollback(NOW, &rollback(7, 4)), Ok(Taken::Before));
    assert!(is_prepared(&p));
    let earlier = p.prepare(NOW, &proposal(7, 4, 3, State::Destroyed), Ok(()));
    assert!(matches!(earlier, Err(NotTaken::OldAttempt { .. })), "{earlier:?}");
}

#[test]
fn the_same_prepare_again_is_agreed_to_again() {
    let mut p = live();
    let closing = proposal(7, 4, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
}

#[test]
fn nothing_of_a_lower_epoch_is_acted_on() {
    let mut p = live();
    assert_eq!(p.commit(NOW, &update(8, 3, State::Liveing)), Ok(Taken::Anew));
    let (given, known) = (epoch(7), epoch(8));
    let old = NotTaken::OldEpoch { given, known };
    assert_eq!(p.commit(NOW, &update(7, 9, State::Destroyed)), Err(old.clone()));
    let late = p.prepare(NOW, &proposal(7, 9, 4, State::Destroyed), Ok(()));
    assert_eq!(late, Err(old.clone()));
    assert_eq!(p.rollback(NOW, &rollback(7, 9)), Err(old.clone()));
    assert_eq!(p.expired(NOW, &expired(7, 9), LASTS), Err(old.clone()));
    assert_eq!(p.restored(NOW, &update(7, 9, State::Liveing)), Err(old));
    assert_eq!(state(&p), (State::Liveing, Version(3)));
    assert_eq!(p.admits(NOW, &room("r")), Ok(()));
}

#[test]
fn a_new_owner_voids_what_was_agreed_to_under_the_one_before() {
    let mut p = live();
    let closing = proposal(7, 4, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    assert_eq!(p.commit(NOW, &update(8, 2, State::Liveing)), Ok(Taken::Anew));
    assert!(!is_prepared(&p));
}

#[test]
fn the_same_owner_says_up_to_which_attempt_all_are_over() {
    let mut p = live();
    let closing = proposal(7, 4, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    let as_it_is = |over| RoomUpdate {
        over,
        ..update(7, 2, State::Liveing)
    };
    assert_eq!(p.commit(NOW, &as_it_is(3)), Ok(Taken::Before));
    assert!(is_prepared(&p), "it may still run");
    assert_eq!(p.commit(NOW, &as_it_is(4)), Ok(Taken::Before));
    assert!(!is_prepared(&p));
}

#[test]
fn two_states_for_one_version_are_refused() {
    let mut p = live();
    let other = p.commit(NOW, &update(7, 2, State::GraceClosing));
    let contradiction = NotTaken::Contradiction {
        version: Version(2),
        known: State::Liveing,
        given: State::GraceClosing,
    };
    assert_eq!(other, Err(contradiction));
    assert_eq!(state(&p), (State::Liveing, Version(2)));
}

#[test]
fn a_new_life_follows_an_old_one_whatever_its_versions_are() {
    let mut p = live();
    let next = RoomUpdate {
        incarnation: Incarnation(2),
        ..update(7, 1, State::Created)
    };
    assert_eq!(p.commit(NOW, &next), Ok(Taken::Anew));
    assert_eq!(p.commit(NOW, &update(7, 5, State::Destroyed)), Ok(Taken::Before));
    assert_eq!(state(&p), (State::Created, Version(1)));
}

#[test]
fn state_expired_voids_what_is_prepared_up_to_its_version_and_refuses_joins_until_its_end() {
    let mut p = live();
    let closing = proposal(7, 4, 3, State::GraceClosing);
    assert_eq!(p.prepare(NOW, &closing, Ok(())), Ok(()));
    assert_eq!(p.expired(NOW, &expired(7, 3), LASTS), Ok(Taken::Anew));
    assert!(!is_prepared(&p));
    let joins = |p: &Participant, after| p.admits(NOW + secs(after), &room("r"));
    assert!(joins(&p, 0).is_err() && joins(&p, 299).is_err());
    assert_eq!(joins(&p, 300), Ok(()));
    let start = p.prepare(NOW, &proposal(7, 5, 4, State::Liveing), Ok(()));
    assert!(matches!(start, Err(NotTaken::Isolated { .. })), "{start:?}");
}

#[test]
fn state_expired_again_does_not_make_the_isolation_longer() {
    let mut p = live();
    assert_eq!(p.expired(NOW, &expired(7, 3), LASTS), Ok(Taken::Anew));
    let later = NOW + secs(100);
    assert_eq!(p.expired(later, &expired(7, 3), LASTS), Ok(Taken::Before));
    assert_eq!(p.admits(NOW + secs(300), &room("r")), Ok(()));
}

#[test]
fn a_state_told_before_its_isolation_does_not_lose_the_isolation() {
    let mut p = live();
    assert_eq!(p.commit(NOW, &update(7, 3, State::Expired)), Ok(Taken::Anew));
    assert_eq!(p.expired(NOW, &expired(7, 3), LASTS), Ok(Taken::Anew));
    assert!(p.admits(NOW, &room("r")).is_err());
}

#[test]
fn an_isolation_ends_with_state_restored_or_when_its_room_is_told_live_and_not_when_it_is_told_over() {
    let isolated = || {
        let mut p = live();
        assert_eq!(p.expired(NOW, &expired(7, 3), LASTS), Ok(Taken::Anew));
        p
    };
    let mut p = isolated();
    assert_eq!(p.restored(NOW, &update(7, 4, State::Destroyed)), Ok(Taken::Anew));
    assert_eq!(p.admits(NOW, &room("r")), Ok(()));
    let late = p.expired(NOW, &expired(7, 3), LASTS);
    assert_eq!(late, Ok(Taken::Before));
    assert_eq!(p.admits(NOW, &room("r")), Ok(()), "it was released since");
    let mut p = isolated();
    assert_eq!(p.commit(NOW, &update(7, 4, State::Liveing)), Ok(Taken::Anew));
    assert_eq!(p.admits(NOW, &room("r")), Ok(()));
    let mut p = isolated();
    assert_eq!(p.commit(NOW, &update(7, 4, State::Destroyed)), Ok(Taken::Anew));
    assert!(p.admits(NOW, &room("r")).is_err());
}

#[test]
fn a_welcome_makes_isolations_longer_and_never_shorter() {
    let mut p = Participant::new(10);
    let id = room("r");
    assert_eq!(p.isolated(NOW, &id, "stuck", secs(100)), Ok(()));
    assert_eq!(p.isolated(NOW, &id, "stuck", secs(50)), Ok(()));
    assert!(p.admits(NOW + secs(99), &id).is_err());
    assert_eq!(p.isolated(NOW, &id, "stuck", secs(200)), Ok(()));
    assert!(p.admits(NOW + secs(199), &id).is_err());
}

#[test]
fn what_it_says_it_knows_is_what_it_holds() {
    let mut p = live();
    assert_eq!(p.isolated(NOW, &room("only-isolated"), "x", LASTS), Ok(()));
    assert_eq!(
        p.prepare(NOW, &proposal(7, 4, 3, State::GraceClosing), Ok(())),
        Ok(())
    );
    let known = p.known();
    assert_eq!(known.len(), 1);
    let one = &known[0];
    let said = (one.epoch, one.incarnation, one.version, one.prepared);
    assert_eq!(said, (epoch(7), Incarnation(1), Version(2), true));
}

#[test]
fn rooms_are_bounded_and_those_long_over_make_place_but_isolated_ones_do_not() {
    let mut p = Participant::new(2);
    let told = |name: &str, state| RoomUpdate {
        room: RoomId::new(name).unwrap(),
        ..update(7, 2, state)
    };
    assert_eq!(p.commit(NOW, &told("a", State::Destroyed)), Ok(Taken::Anew));
    assert_eq!(p.isolated(NOW, &room("b"), "stuck", secs(400)), Ok(()));
    let full = p.commit(NOW, &told("c", State::Liveing));
    assert_eq!(full, Err(NotTaken::Full { most: 2 }));
    let later = NOW + secs(301);
    assert_eq!(p.commit(later, &told("c", State::Liveing)), Ok(Taken::Anew));
    assert!(p.admits(later, &room("b")).is_err());
}
