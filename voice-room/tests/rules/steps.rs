//! What a trip does: the order of its steps, what becomes of failed ones, and how it ends.

use crate::world::*;
use voice_room::{
    Command, Entry, Input, Port, Rejected, Rules, State, Version,
    core::StepState,
    input::{Ask, StepResult},
    timeline::{Rule, Step, What},
};

fn stuck() -> World {
    let mut w = World::live(Rules::default(), &["r", "other"]);
    w.rtp("r", 50, 0);
    w.omit("r");
    w.pass(80);
    w
}

fn tripped(w: &mut World) -> Vec<Command> {
    let mut all = Vec::new();
    for _ in 0..30 {
        let commands = w.pass(1);
        let done = !trips(&commands).is_empty();
        all.extend(commands);
        if done {
            return all;
        }
    }
    panic!("not tripped: {all:?}");
}

fn fails(w: &mut World, step: Step) -> Vec<Command> {
    let incarnation = w.life("r");
    let result = Err("no".to_string());
    w.feed(Input::Step(StepResult {
        room: room("r"),
        incarnation,
        step,
        at: None,
        result,
    }))
}

fn step_of(w: &World, step: Step) -> StepState {
    let steps = w.view("r").block.unwrap().steps;
    steps.into_iter().find(|(s, _)| *s == step).unwrap().1
}

#[test]
fn a_trip_journals_arms_pushes_stores_and_records_in_this_order() {
    let mut w = stuck();
    w.answers = false;
    let commands = tripped(&mut w);
    assert_eq!(
        kinds(&commands),
        ["journal", "arm", "push expired", "commit", "record", "record"]
    );
    let (until, deadline) = (w.now.wall + secs(300), w.now.mono + secs(300));
    let incarnation = w.life("r");
    let Command::Journal(intent) = &commands[0] else {
        panic!()
    };
    assert_eq!((intent.deadline, intent.until), (deadline, until));
    assert_eq!(
        commands[1],
        Command::Arm {
            room: room("r"),
            incarnation,
            shadow: false,
            deadline
        }
    );
    let Command::PushExpired(push) = &commands[2] else {
        panic!()
    };
    assert_eq!(
        (push.version, push.isolated_until, push.incarnation),
        (Version(2), until, incarnation)
    );
    let Command::Commit(change) = &commands[3] else {
        panic!()
    };
    assert_eq!(*change, intent.change);
    let voice_room::record::IsolationChange::Set(isolation) = &change.isolation else {
        panic!()
    };
    assert_eq!(isolation.until, until);
}

#[test]
fn a_room_without_ports_gets_its_slot_between_journal_and_verdict() {
    let mut w = World::new();
    w.go_live("r");
    w.answers = false;
    let commands = w.block("r");
    assert_eq!(kinds(&commands)[..4], ["journal", "bind", "arm", "push expired"]);
}

#[test]
fn every_step_ends_done_when_everything_answers() {
    let mut w = stuck();
    tripped(&mut w);
    assert!(
        Step::ALL
            .iter()
            .all(|s| matches!(step_of(&w, *s), StepState::Done(_)))
    );
}

#[test]
fn a_failed_step_is_taken_again_after_a_second_and_the_others_are_not() {
    for (step, kind) in [
        (Step::Journal, "journal"),
        (Step::Arm, "arm"),
        (Step::Push, "push expired"),
        (Step::Audit, "record again"),
    ] {
        let mut w = stuck();
        tripped(&mut w);
        w.answers = false;
        let said = fails(&mut w, step);
        assert_eq!(
            recorded(&said, "r"),
            [What::Step {
                step,
                result: Err("no".into())
            }]
        );
        assert_eq!(step_of(&w, step), StepState::Failed("no".into()));
        assert_eq!(fails(&mut w, step), vec![], "said once");
        assert_eq!(kinds(&w.pass(1)), [kind]);
        w.answers = true;
        w.pass(1);
        assert!(matches!(step_of(&w, step), StepState::Done(_)));
        assert_eq!(w.pass(5), vec![]);
    }
}

#[test]
fn a_store_that_is_away_fails_only_its_own_step_and_is_asked_again() {
    let mut w = stuck();
    w.answers = false;
    let commands = tripped(&mut w);
    let change = commits(&commands).remove(0);
    w.feed(stored(&change, Err("no connection".into())));
    assert_eq!(
        step_of(&w, Step::Store),
        StepState::Failed("no connection".into())
    );
    assert_eq!(step_of(&w, Step::Arm), StepState::Pending);
    assert_eq!(w.pass(1), vec![Command::Commit(change)]);
}

#[test]
fn acknowledgements_and_the_first_drop_show_and_those_of_other_trips_do_not() {
    let mut w = stuck();
    tripped(&mut w);
    let acked = |version| Input::Acked {
        room: room("r"),
        peer: "gw".parse().unwrap(),
        version,
    };
    assert_eq!(w.feed(acked(Version(1))), vec![]);
    assert_eq!(w.feed(acked(Version(2))), vec![], "recorded with others");
    assert_eq!(w.feed(acked(Version(2))), vec![], "once");
    let peers = vec!["gw".parse().unwrap()];
    assert_eq!(recorded(&w.tick(), "r"), [What::Acked { peers }]);
    assert_eq!(recorded(&w.tick(), "r"), []);
    assert_eq!(w.view("r").block.unwrap().acked, ["gw".parse().unwrap()]);
    let deadline = w.view("r").block.unwrap().deadline;
    let at = w.now.mono + std::time::Duration::from_micros(40);
    let drop_at = |deadline| Input::FirstDrop {
        room: room("r"),
        deadline,
        ingress: true,
        at,
    };
    let after = std::time::Duration::from_micros(40);
    assert_eq!(
        recorded(&w.feed(drop_at(deadline)), "r"),
        [What::FirstDrop { ingress: true, after }]
    );
    assert_eq!(w.feed(drop_at(w.now.mono)), vec![]);
}

#[test]
fn the_isolation_is_over_at_exactly_its_deadline() {
    let mut w = stuck();
    tripped(&mut w);
    w.lives.clear();
    w.pass(299);
    w.now = w.now + std::time::Duration::from_nanos(999_999_999);
    assert_eq!(w.tick(), vec![]);
    assert!(w.core.isolation(&room("r"), w.now).is_some());
    w.now = w.now + std::time::Duration::from_nanos(1);
    let commands = w.tick();
    assert_eq!(
        kinds(&commands),
        [
            "disarm",
            "record",
            "commit",
            "record",
            "unbind",
            "forget",
            "push update"
        ]
    );
    assert_eq!(w.state("r"), Some(State::Destroyed));
    assert_eq!(w.core.isolation(&room("r"), w.now), None);
}

#[test]
fn release_leads_to_liveing_with_a_heartbeat_of_ten_seconds_else_to_destroyed() {
    for (age, to) in [(10, State::Liveing), (11, State::Destroyed)] {
        let mut w = stuck();
        tripped(&mut w);
        w.lives.get_mut(&room("r")).unwrap().listed = true;
        w.listings();
        w.silence();
        w.pass(age);
        let commands = w.release("r");
        assert_eq!(w.state("r"), Some(to), "{age} s");
        assert!(commands.contains(&Command::Disarm { room: room("r") }));
        assert!(
            commands
                .iter()
                .any(|c| matches!(c, Command::PushRestored(u) if u.state == to))
        );
        assert_eq!(
            commits(&commands)[0].isolation,
            voice_room::record::IsolationChange::Clear
        );
        assert_eq!(w.core.isolation(&room("r"), w.now), None);
        assert_eq!(w.view("r").ports.is_empty(), to == State::Destroyed);
    }
}

#[test]
fn an_operators_block_lasts_as_asked_within_a_day() {
    let block = |lasts| Ask::Block {
        lasts,
        reason: "abuse".into(),
    };
    let mut w = World::live(Rules::default(), &["r"]);
    for lasts in [secs(0), secs(24 * 3600 + 1)] {
        assert!(matches!(
            w.refused(OPERATOR, "r", block(Some(lasts))),
            Rejected::Forbidden(_)
        ));
    }
    let (answer, commands) = w.ask_as(OPERATOR, "r", block(Some(secs(24 * 3600))));
    assert_eq!(answer.unwrap().unwrap().state, State::Expired);
    assert_eq!(trips(&commands), [("r".to_string(), Rule::Operator)]);
    assert_eq!(w.view("r").block.unwrap().left, secs(24 * 3600));
}

#[test]
fn an_operators_block_records_what_was_known_of_the_room_then() {
    let mut w = World::live(Rules::default(), &["r", "other"]);
    let (_, commands) = w.ask_as(
        OPERATOR,
        "r",
        Ask::Block {
            lasts: None,
            reason: "abuse".into(),
        },
    );
    let known = commands.iter().find_map(|command| match command {
        Command::Record(Entry {
            what: What::Trip { evidence, .. },
            ..
        }) => evidence.as_ref(),
        _ => None,
    });
    let known = known.unwrap();
    assert_eq!((known.misses, known.source.is_some()), (0, true), "{known:?}");
    // The cap counts the node's rooms, and no operator's block.
    assert_eq!(known.cap, (0, 1));
}

#[test]
fn an_expired_rooms_new_ports_are_cut_too() {
    let mut w = stuck();
    tripped(&mut w);
    w.serve("r", "sfu", &[50_000, 50_020]);
    w.pass(5);
    assert_eq!(w.view("r").ports, [Port(50_000), Port(50_020)]);
    assert_eq!(w.state("r"), Some(State::Expired));
}

#[test]
fn the_intent_of_a_second_trip_outlives_the_end_of_the_first() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.block("r");
    w.listings();
    w.answers = false;
    let released = w.release("r");
    let second = w.block("r");
    assert!(kinds(&second).contains(&"journal"));
    let after = w.feed(stored(
        &commits(&released)[0],
        Ok(voice_room::record::Committed::Ok),
    ));
    assert!(!kinds(&after).contains(&"forget"), "{after:?}");
}
