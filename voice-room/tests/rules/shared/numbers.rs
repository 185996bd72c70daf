//! Numbers and signatures in a shared store: what is written over something that somebody else wrote, that was lost, or that was
//! under way when the lease was.

use super::*;

/// Seconds after the end of a life until a listing begins another: it may have been made before.
const SETTLED: u64 = 30;

/// A change of room `r` that is under way, its answer not there yet.
fn under_way() -> (Agent, voice_room::Change) {
    let mut agent = Agent::live();
    let sent = commits(&agent.ask(gateway(), gone())).remove(0);
    assert_eq!(sent.record.version, Version(2));
    (agent, sent)
}

/// What an earlier life of this node left in the store, in place of what this one wrote.
fn fell_back(agent: &Agent, state: State) -> RoomRecord {
    RoomRecord {
        version: Version(1),
        state,
        op_id: op("earlier"),
        ..agent.record()
    }
}

fn restores(commands: &[Command]) -> Vec<(EventType, Version)> {
    let of = |change: &voice_room::Change| (change.event.event_type, change.record.version);
    commits(commands).iter().map(of).collect()
}

#[test]
fn a_record_taken_over_below_a_number_that_was_sent_is_signed_above_it() {
    let (mut agent, sent) = under_way();
    let stored_is = fell_back(&agent, State::GraceClosing);
    let led_to = agent.feed_away(stored(&sent, Ok(Committed::Conflict(Some(stored_is)))));
    // Version 2 was sent, and may have been read by somebody before it was lost.
    assert_eq!(restores(&led_to), [(EventType::Restore, Version(3))]);
    let signed = commits(&led_to).remove(0);
    assert_eq!(signed.event.old_state, Some(State::GraceClosing));
    agent.feed_away(stored(&signed, Ok(Committed::Ok)));
    let next = commits(&agent.ask(gateway(), host_return("h")));
    assert_eq!(next.first().map(|c| c.record.version), Some(Version(4)));
}

#[test]
fn a_trip_put_on_what_is_stored_does_not_get_the_number_of_another_change_that_was_sent() {
    let (mut agent, sent) = under_way();
    agent.block();
    let stored_is = fell_back(&agent, State::Liveing);
    let back = agent.feed_away(stored(&sent, Ok(Committed::Conflict(Some(stored_is)))));
    // Version 2 was sent, and peers were told of the trip as version 3 before it was.
    assert_eq!(restores(&back), [(EventType::Restore, Version(4))]);
    let cut = agent.feed_away(stored(&commits(&back)[0], Ok(Committed::Ok)));
    assert_eq!(restores(&cut), [(EventType::Stuck, Version(5))]);
}

#[test]
fn a_trip_put_on_what_is_stored_keeps_its_own_number_and_nothing_has_to_be_put_back() {
    let mut agent = Agent::live();
    let sent = commits(&agent.block()).remove(0);
    let stored_is = fell_back(&agent, State::GraceClosing);
    let again = agent.feed_away(stored(&sent, Ok(Committed::Conflict(Some(stored_is)))));
    assert_eq!(restores(&again), [(EventType::Stuck, sent.record.version)]);
    assert_eq!(commits(&again)[0].record.op_id, sent.record.op_id);
}

#[test]
fn a_life_that_ended_elsewhere_is_taken_over_unsigned_and_the_next_one_follows_on_its_number() {
    let mut agent = Agent::live();
    agent.tick(65);
    let theirs = RoomRecord {
        version: Version(9),
        owner: NodeName::new("n2").unwrap(),
        state: State::Destroyed,
        op_id: op("theirs"),
        ..agent.record()
    };
    let led_to = agent.refreshed(Refreshed::Differs(theirs));
    assert_eq!(commits(&led_to), []);
    assert_eq!(agent.view().state, State::Destroyed);
    // Nobody lives there: it is not kept from others.
    assert!(kinds(&led_to).contains(&"cede"), "{led_to:?}");
    agent.tick(SETTLED);
    assert_eq!(restores(&agent.listed()), []);
    let next = agent.feed(claimed(7));
    assert_eq!(restores(&next), [(EventType::Adopt, Version(10))]);
}

#[test]
fn a_new_life_does_not_get_a_number_that_was_sent_for_the_last_one() {
    let (mut agent, sent) = under_way();
    let stored_is = RoomRecord {
        incarnation: voice_room::Incarnation(agent.view().incarnation.0 + 1),
        ..fell_back(&agent, State::Destroyed)
    };
    let conflict =
        |change: &voice_room::Change| stored(change, Ok(Committed::Conflict(Some(stored_is.clone()))));
    agent.feed_away(conflict(&sent));
    agent.tick(SETTLED);
    agent.listed();
    let begun = agent.feed_away(claimed(7));
    assert_eq!(restores(&begun), [(EventType::Adopt, Version(3))]);
    // The store, which is behind, is brought there first.
    let back = agent.feed_away(conflict(&commits(&begun)[0]));
    assert_eq!(restores(&back), [(EventType::Restore, Version(4))]);
    let begun = agent.feed_away(stored(&commits(&back)[0], Ok(Committed::Ok)));
    assert_eq!(restores(&begun), [(EventType::Adopt, Version(5))]);
}

#[test]
fn what_was_signed_is_asked_for_by_its_own_name_and_kept_under_this_node() {
    let mut agent = Agent::live();
    agent.tick(65);
    let theirs = RoomRecord {
        version: Version(9),
        owner: NodeName::new("n2").unwrap(),
        op_id: op("theirs"),
        ..agent.record()
    };
    let signed = agent.refreshed(Refreshed::Differs(theirs));
    let kept = signed.iter().rev().find_map(|c| match c {
        Command::Keep(record) => Some(record.clone()),
        _ => None,
    });
    let signed = commits(&signed).remove(0);
    let kept = kept.unwrap();
    assert_eq!(
        (kept.owner.as_str(), kept.version, &kept.op_id),
        ("n1", Version(10), &signed.record.op_id)
    );
    agent.feed_away(stored(&signed, Ok(Committed::Ok)));
    agent.listed();
    let asked = agent.tick(65).into_iter().find_map(|c| match c {
        Command::Refresh(rooms) => rooms.into_iter().next(),
        _ => None,
    });
    let asked = asked.unwrap();
    assert_eq!((asked.version, &asked.op_id), (Version(10), &signed.record.op_id));
}

#[test]
fn a_change_under_way_is_not_sent_twice_when_the_room_is_claimed_anew_and_its_answer_still_counts() {
    let (mut agent, sent) = under_way();
    agent.feed_away(Input::LeaseLost);
    assert_eq!(commits(&agent.feed_away(claimed(9))), []);
    assert_eq!(commits(&agent.tick(10)), []);
    agent.feed_away(stored(&sent, Ok(Committed::Ok)));
    assert_eq!((agent.view().unstored, agent.view().version), (0, Version(2)));
}

#[test]
fn a_change_that_came_too_late_under_the_old_epoch_is_sent_at_once_under_the_new_one() {
    let (mut agent, sent) = under_way();
    agent.feed_away(Input::LeaseLost);
    agent.feed_away(claimed(9));
    let again = agent.feed_away(stored(&sent, Ok(Committed::Fenced(epoch(9)))));
    let asked = kinds(&again);
    assert!(
        !asked.contains(&"claim") && !asked.contains(&"cede"),
        "no claim is needed for it: {asked:?}"
    );
    let change = commits(&again).remove(0);
    assert_eq!(
        (change.record.epoch, change.record.version, &change.record.op_id),
        (epoch(9), Version(2), &sent.record.op_id)
    );
}

#[test]
fn a_change_fenced_by_a_higher_epoch_waits_for_a_new_claim_and_a_moment() {
    let (mut agent, sent) = under_way();
    let fenced = agent.feed_away(stored(&sent, Ok(Committed::Fenced(epoch(5)))));
    let asked: Vec<_> = kinds(&fenced)
        .into_iter()
        .filter(|kind| *kind != "note")
        .collect();
    assert_eq!(asked, ["cede", "claim"]);
    // Else a store and a registry that contradict each other would be asked in a circle without a pause.
    assert_eq!(commits(&agent.feed_away(claimed(6))), []);
    let again = commits(&agent.tick(2)).remove(0);
    assert_eq!(
        (again.record.epoch, &again.record.op_id),
        (epoch(6), &sent.record.op_id)
    );
}

#[test]
fn a_conflict_answered_while_the_room_is_not_held_is_judged_once_it_is() {
    let (mut agent, sent) = under_way();
    agent.feed_away(Input::LeaseLost);
    let theirs = RoomRecord {
        version: Version(2),
        op_id: op("theirs"),
        ..agent.record()
    };
    agent.feed_away(stored(&sent, Ok(Committed::Conflict(Some(theirs)))));
    assert_eq!(agent.view().unstored, 1, "given up under no epoch");
    let again = commits(&agent.feed_away(claimed(9))).remove(0);
    assert_eq!(
        (again.record.epoch, &again.record.op_id),
        (epoch(9), &sent.record.op_id)
    );
}

#[test]
fn a_store_that_is_asked_about_a_version_says_nothing_of_a_later_one() {
    let mut agent = Agent::live();
    let asked = agent.tick(65);
    assert!(kinds(&asked).contains(&"refresh"));
    let sent = commits(&agent.ask(gateway(), gone())).remove(0);
    agent.feed_away(stored(&sent, Ok(Committed::Ok)));
    assert_eq!(agent.refreshed(Refreshed::Missing), []);
    assert_eq!(agent.view().version, Version(2));
}

#[test]
fn a_record_of_a_higher_epoch_is_not_taken_over_the_room_is_claimed_anew() {
    let mut agent = Agent::live();
    agent.tick(65);
    let theirs = RoomRecord {
        version: Version(9),
        epoch: epoch(5),
        state: State::GraceClosing,
        op_id: op("theirs"),
        ..agent.record()
    };
    let led_to = agent.refreshed(Refreshed::Differs(theirs));
    let asked: Vec<_> = kinds(&led_to)
        .into_iter()
        .filter(|kind| *kind != "note")
        .collect();
    assert_eq!(asked, ["cede", "claim"]);
    assert_eq!(agent.view().state, State::Liveing);
}

#[test]
fn a_room_that_is_claimed_anew_is_compared_with_the_store_at_once() {
    let mut agent = Agent::live();
    agent.tick(65);
    agent.refreshed(Refreshed::Kept);
    assert!(!kinds(&agent.tick(5)).contains(&"refresh"));
    agent.feed_away(Input::LeaseLost);
    agent.feed_away(claimed(9));
    // With the next sweep, that is, once a heartbeat.
    assert!(kinds(&agent.tick(5)).contains(&"refresh"));
}
