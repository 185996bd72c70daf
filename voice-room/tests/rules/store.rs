//! The store's answers: taken, repeated, in conflict, fenced, late, or none for hours.

use crate::world::*;
use voice_room::{
    Change, Command, Epoch, EventType, Incarnation, Input, Rejected, RoomRecord, Rules, State, Version,
    core::StepState,
    input::Ask,
    record::Committed,
    timeline::{Rule, Step},
};

fn live() -> World {
    let mut w = World::live(Rules::default(), &["r"]);
    w.answers = false;
    w
}

/// What another change made of the record that `change` builds on.
fn other(change: &Change, state: State, version: u64) -> RoomRecord {
    RoomRecord {
        state,
        version: Version(version),
        op_id: op("other"),
        ..change.record.clone()
    }
}

fn conflict(current: RoomRecord) -> Result<Committed, String> {
    Ok(Committed::Conflict(Some(current)))
}

fn store_step(w: &World) -> StepState {
    let steps = w.view("r").block.unwrap().steps;
    steps.into_iter().find(|(s, _)| *s == Step::Store).unwrap().1
}

#[test]
fn a_skipped_change_is_done() {
    let mut w = live();
    let change = commits(&w.block("r")).remove(0);
    w.feed(stored(&change, Ok(Committed::Skipped)));
    assert_eq!(store_step(&w), StepState::Done("version 2".into()));
    assert_eq!(w.view("r").unstored, 0);
}

#[test]
fn changes_wait_in_order_and_the_store_has_one_at_a_time() {
    let mut w = World::new();
    w.answers = false;
    let first = commits(&w.ask_as(gateway(), "r", Ask::Create).1);
    assert_eq!(first.len(), 1);
    assert_eq!(commits(&w.ask_as(gateway(), "r", start_live("h")).1), []);
    assert_eq!(commits(&w.block("r")), []);
    let mut taken = first;
    for n in 0..3 {
        let next = commits(&w.feed(stored(&taken[n], Ok(Committed::Ok))));
        taken.extend(next);
    }
    let events: Vec<_> = taken
        .iter()
        .map(|c| (c.event.event_type, c.record.version.0))
        .collect();
    assert_eq!(
        events,
        [
            (EventType::Create, 1),
            (EventType::StartLive, 2),
            (EventType::Stuck, 3)
        ]
    );
}

#[test]
fn a_change_the_store_did_not_take_is_offered_again_and_late_answers_are_ignored() {
    let mut w = live();
    let change = commits(&w.block("r")).remove(0);
    w.feed(stored(&change, Err("timeout".into())));
    assert_eq!(w.pass(1), [Command::Commit(change.clone())]);
    w.feed(stored(&change, Ok(Committed::Ok)));
    let record = other(&change, State::Liveing, 9);
    assert_eq!(w.feed(stored(&change, conflict(record))), []);
    assert_eq!(w.view("r").version, change.record.version);
}

#[test]
fn a_trip_in_conflict_is_put_on_top_of_what_is_stored_and_told_with_its_new_version() {
    let mut w = live();
    let change = commits(&w.block("r")).remove(0);
    let commands = w.feed(stored(&change, conflict(other(&change, State::GraceClosing, 7))));
    let again = commits(&commands).remove(0);
    assert_eq!(
        (again.record.version, again.event.version),
        (Version(8), Version(8))
    );
    assert_eq!(again.event.old_state, Some(State::GraceClosing));
    assert_eq!(again.record.op_id, change.record.op_id);
    assert!(
        commands
            .iter()
            .any(|c| matches!(c, Command::PushExpired(e) if e.version == Version(8)))
    );
    assert!(
        commands
            .iter()
            .any(|c| matches!(c, Command::Journal(i) if i.change == again))
    );
    w.feed(stored(&again, Ok(Committed::Ok)));
    assert_eq!(store_step(&w), StepState::Done("version 8".into()));
}

#[test]
fn a_trip_outlives_the_refusal_of_a_change_before_it() {
    let mut w = live();
    let request = w.request(gateway(), "r", gone());
    let first = commits(&w.feed(Input::Request(request.clone()))).remove(0);
    w.block("r");
    let commands = w.feed(stored(&first, conflict(other(&first, State::Liveing, 5))));
    assert!(matches!(
        replies(&commands, request.reply.unwrap())[..],
        [Err(Rejected::Conflict(_))]
    ));
    let trip = commits(&commands).remove(0);
    assert_eq!(
        (trip.event.event_type, trip.record.version),
        (EventType::Stuck, Version(6))
    );
    assert_eq!(trip.event.old_state, Some(State::Liveing));
}

#[test]
fn a_terminal_state_a_higher_epoch_and_a_fence_end_a_trip_in_the_store_but_not_in_the_kernel() {
    let mut answers = Vec::new();
    let change = commits(&live().block("r")).remove(0);
    answers.push(conflict(other(&change, State::Destroyed, 5)));
    let epoch = Epoch { era: 1, revision: 0 };
    answers.push(conflict(RoomRecord {
        epoch,
        ..other(&change, State::Liveing, 5)
    }));
    answers.push(Ok(Committed::Fenced(epoch)));
    answers.push(Ok(Committed::Conflict(None)));
    for answer in answers {
        let mut w = live();
        let change = commits(&w.block("r")).remove(0);
        let commands = w.feed(stored(&change, answer.clone()));
        assert_eq!(commits(&commands), [], "{answer:?}");
        assert!(!kinds(&commands).contains(&"disarm"));
        assert!(matches!(store_step(&w), StepState::Failed(_)), "{answer:?}");
        assert_eq!(w.state("r"), Some(State::Expired));
        w.pass(10);
        assert_eq!(w.view("r").unstored, 0);
        w.lives.clear();
        w.answers = true;
        w.pass(300);
        assert_eq!(w.state("r"), Some(State::Destroyed), "{answer:?}");
    }
}

#[test]
fn a_new_life_in_conflict_with_an_ended_one_goes_on_top_of_it_as_a_later_life() {
    let mut w = World::new();
    w.answers = false;
    let change = commits(&w.ask_as(gateway(), "r", Ask::Create).1).remove(0);
    let ended = RoomRecord {
        incarnation: Incarnation(u64::MAX - 9),
        ..other(&change, State::Destroyed, 41)
    };
    let again = commits(&w.feed(stored(&change, conflict(ended)))).remove(0);
    assert_eq!((again.record.version, again.event.old_state), (Version(42), None));
    assert_eq!(again.record.incarnation, Incarnation(u64::MAX - 8));
    assert_eq!(w.life("r"), again.record.incarnation);
}

#[test]
fn another_change_in_conflict_is_refused_and_what_is_stored_is_taken_over() {
    let mut w = live();
    let request = w.request(gateway(), "r", gone());
    let change = commits(&w.feed(Input::Request(request.clone()))).remove(0);
    let commands = w.feed(stored(&change, conflict(other(&change, State::Liveing, 5))));
    assert!(matches!(
        replies(&commands, request.reply.unwrap())[..],
        [Err(Rejected::Conflict(_))]
    ));
    assert_eq!(
        (w.state("r"), w.view("r").version),
        (Some(State::Liveing), Version(5))
    );
    assert_eq!(w.view("r").ports.len(), 1, "ports are known here, not there");
}

#[test]
fn an_expired_record_taken_over_ends_too() {
    let mut w = live();
    let change = commits(&w.ask_as(gateway(), "r", gone()).1).remove(0);
    w.feed(stored(&change, conflict(other(&change, State::Expired, 5))));
    assert_eq!(w.state("r"), Some(State::Expired));
    assert!(w.core.isolation(&room("r"), w.now).is_some());
    w.lives.clear();
    w.answers = true;
    w.pass(300);
    assert_eq!(w.state("r"), Some(State::Destroyed));
}

#[test]
fn a_store_that_fell_behind_gets_no_version_twice() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.ask("r", gone()).unwrap();
    w.answers = false;
    let change = commits(&w.block("r")).remove(0);
    assert_eq!(change.record.version, Version(3));
    assert_eq!(
        commits(&w.feed(stored(&change, conflict(other(&change, State::Liveing, 1))))),
        []
    );
    assert_eq!(w.state("r"), Some(State::Expired));
}

#[test]
fn while_the_store_is_away_64_changes_wait_more_are_refused_and_a_trip_still_goes_in() {
    let mut w = live();
    w.client_says(gateway(), "r", "h", voice_room::input::ClientAct::Join, true)
        .unwrap();
    let mut refused = None;
    for n in 0..70 {
        let ask = if n % 2 == 0 { gone() } else { host_return("h") };
        if let Some(Err(why)) = w.ask_as(gateway(), "r", ask).0 {
            refused.get_or_insert(why);
        }
    }
    assert!(matches!(refused, Some(Rejected::Limit(_))));
    assert_eq!((w.view("r").unstored, w.state("r")), (64, Some(State::Liveing)));
    w.pass(60);
    let still = (w.view("r").unstored, w.state("r"));
    assert_eq!(
        still,
        (64, Some(State::Liveing)),
        "what the core raises itself waits as well"
    );
    w.silence();
    w.silence_rtp();
    assert_eq!(trips(&w.pass(100)), [("r".to_string(), Rule::SourceSilent)]);
    assert_eq!(w.view("r").unstored, 65);
}

#[test]
fn rooms_whose_end_waits_for_the_store_are_bounded() {
    let mut w = World::with(Rules {
        quota: 5,
        ..Rules::default()
    });
    w.answers = false;
    let mut held = 0;
    for n in 0..50 {
        let name = format!("r{n}");
        if w.ask_as(gateway(), &name, Ask::Create).0.is_none() {
            held += 1;
            w.ask_as(gateway(), &name, close(Version(1)));
        }
    }
    assert_eq!(held, 10);
}

#[test]
fn the_trip_of_an_old_life_is_not_taken_for_that_of_the_present_one() {
    let mut w = live();
    let first = commits(&w.block("r")).remove(0);
    w.release("r");
    w.ask_as(gateway(), "r", Ask::Create);
    w.ask_as(gateway(), "r", start_live("h"));
    w.block("r");
    w.feed(stored(&first, Ok(Committed::Ok)));
    assert_eq!(store_step(&w), StepState::Pending);
}

#[test]
fn a_new_life_outlives_the_refusal_of_the_trip_before_it() {
    for current in [None, Some(State::Destroyed)] {
        let mut w = live();
        let first = commits(&w.block("r")).remove(0);
        w.lives.clear();
        w.pass(300);
        w.ask_as(gateway(), "r", Ask::Create);
        let current = current.map(|state| other(&first, state, 5));
        let commands = w.feed(stored(&first, Ok(Committed::Conflict(current))));
        let created = commits(&commands).remove(0);
        assert_eq!(created.event.event_type, EventType::Create);
        assert_eq!((w.state("r"), w.view("r").unstored), (Some(State::Created), 1));
        assert!(kinds(&commands).contains(&"forget"));
    }
}
