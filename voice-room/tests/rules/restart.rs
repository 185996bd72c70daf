//! A start: what store, journal and pinned maps say becomes rooms, blocks and isolations again.

use crate::world::*;
use voice_room::{
    Binding, Change, Command, Epoch, EventType, Incarnation, Isolation, Mono, Port, RoomRecord, Rules, State,
    Version, Wall,
    core::StepState,
    input::{Ask, FoundBinding, FoundBlock, Intent, Restored},
    timeline::{Progress, Rule, Step},
};

/// A trip made by an agent that then died: its intent, and the record before it.
fn trip() -> (Intent, RoomRecord) {
    let mut w = World::live(Rules::default(), &["r"]);
    w.answers = false;
    let commands = w.block("r");
    let Command::Journal(mut intent) = commands[0].clone() else {
        panic!("{commands:?}")
    };
    intent.deadline = start().mono + secs(200);
    intent.until = start().wall + secs(200);
    // Tripped 100 s before this start, for 300 s.
    let tripped = Wall(start().wall.0 - 100_000);
    (intent.change.event.timestamp, intent.change.record.since) = (tripped, tripped);
    let before = RoomRecord {
        state: State::Liveing,
        version: Version(1),
        op_id: op("adopt"),
        epoch: Epoch { era: 0, revision: 6 },
        ..intent.change.record.clone()
    };
    (intent, before)
}

fn block(intent: &Intent) -> FoundBlock {
    FoundBlock {
        room: room("r"),
        incarnation: intent.change.record.incarnation,
        deadline: intent.deadline,
        binding: intent.change.record.ports.clone().into(),
        released: false,
    }
}

fn isolation(intent: &Intent) -> Isolation {
    Isolation {
        room: room("r"),
        reason: "stuck".into(),
        until: intent.until,
    }
}

fn begin(found: Restored) -> (World, Vec<Command>) {
    let mut w = World::restored(Rules::default(), found);
    let commands = w.settle();
    (w, commands)
}

fn armed(commands: &[Command]) -> Option<Mono> {
    commands.iter().find_map(|c| match c {
        Command::Arm {
            deadline,
            shadow: false,
            ..
        } => Some(*deadline),
        _ => None,
    })
}

#[test]
fn a_trip_the_store_does_not_have_goes_on_with_its_deadline_and_is_stored() {
    let (intent, before) = trip();
    let blocks = vec![block(&intent)];
    let found = Restored {
        rooms: vec![before],
        intents: vec![intent.clone()],
        blocks,
        ..Restored::default()
    };
    let (mut w, commands) = begin(found);
    assert_eq!(armed(&commands), Some(intent.deadline));
    assert!(kinds(&commands).contains(&"push expired") && !kinds(&commands).contains(&"disarm"));
    assert_eq!(w.state("r"), Some(State::Expired));
    let change = commits(&w.pass(1)).remove(0);
    let epoch = Epoch { era: 0, revision: 7 };
    assert_eq!(
        (change.record.op_id.clone(), change.record.epoch),
        (intent.change.record.op_id.clone(), epoch)
    );
    assert_eq!(change.record.version, intent.change.record.version);
    assert_eq!(w.core.isolation(&room("r"), w.now).unwrap().1, secs(199));
    w.pass(199);
    assert_eq!(w.state("r"), Some(State::Destroyed));
}

#[test]
fn a_trip_the_store_has_is_not_stored_again() {
    let (intent, _) = trip();
    let record = intent.change.record.clone();
    let found = Restored {
        bindings: Vec::new(),
        unstored: Vec::new(),
        maintenance: Vec::new(),
        rooms: vec![record],
        isolations: vec![isolation(&intent)],
        intents: vec![intent.clone()],
        blocks: vec![block(&intent)],
    };
    let (mut w, commands) = begin(found);
    assert_eq!(armed(&commands), Some(intent.deadline));
    assert_eq!(commits(&w.pass(5)), []);
    let steps = w.view("r").block.unwrap().steps;
    assert!(steps.contains(&(Step::Store, StepState::Done("found at start".into()))));
}

#[test]
fn an_intent_the_record_has_moved_past_is_forgotten() {
    let (intent, before) = trip();
    let record = RoomRecord {
        version: Version(9),
        ..before
    };
    let found = Restored {
        rooms: vec![record],
        intents: vec![intent],
        ..Restored::default()
    };
    let (w, commands) = begin(found);
    assert_eq!((w.state("r"), armed(&commands)), (Some(State::Liveing), None));
    assert!(commands.contains(&Command::Forget { room: room("r") }));
}

#[test]
fn the_intent_of_a_life_the_store_never_saw_counts() {
    let (intent, before) = trip();
    let record = RoomRecord {
        state: State::Destroyed,
        incarnation: Incarnation(3),
        version: Version(8),
        ..before
    };
    for rooms in [vec![record], vec![]] {
        let intents = vec![intent.clone()];
        let (w, commands) = begin(Restored {
            rooms,
            intents,
            blocks: vec![block(&intent)],
            ..Restored::default()
        });
        assert_eq!(
            (w.state("r"), armed(&commands)),
            (Some(State::Expired), Some(intent.deadline))
        );
    }
}

#[test]
fn an_expired_record_without_an_intent_lasts_as_its_isolation_says() {
    let (intent, _) = trip();
    let rooms = vec![intent.change.record.clone()];
    let isolations = vec![isolation(&intent)];
    let (w, commands) = begin(Restored {
        rooms: rooms.clone(),
        isolations,
        ..Restored::default()
    });
    assert_eq!(armed(&commands), Some(start().mono + secs(200)));
    assert_eq!(w.view("r").block.unwrap().reason, "stuck");

    let (mut w, commands) = begin(Restored {
        rooms,
        ..Restored::default()
    });
    assert_eq!(
        armed(&commands),
        None,
        "without isolation, block or intent it is over"
    );
    w.pass(1);
    assert_eq!(w.state("r"), Some(State::Destroyed));
}

#[test]
fn a_block_that_nothing_explains_is_lifted() {
    let (intent, before) = trip();
    for rooms in [vec![], vec![before]] {
        let (_, commands) = begin(Restored {
            rooms,
            blocks: vec![block(&intent)],
            ..Restored::default()
        });
        assert!(commands.contains(&Command::Disarm { room: room("r") }));
        assert_eq!(armed(&commands), None);
    }
}

#[test]
fn the_block_of_another_life_is_lifted_and_does_not_set_the_deadline() {
    let (intent, before) = trip();
    let old = FoundBlock {
        incarnation: Incarnation(3),
        deadline: start().mono + secs(5),
        ..block(&intent)
    };
    let found = Restored {
        rooms: vec![before],
        intents: vec![intent.clone()],
        blocks: vec![old],
        ..Restored::default()
    };
    let (_, commands) = begin(found);
    let last = kinds(&commands)
        .into_iter()
        .rfind(|k| ["arm", "disarm"].contains(k));
    assert_eq!((armed(&commands), last), (Some(intent.deadline), Some("arm")));
}

#[test]
fn a_live_room_has_the_ports_of_the_pins_after_a_restart_since_its_record_may_be_older() {
    let (_, before) = trip();
    let record = RoomRecord {
        ports: Vec::new(),
        ..before
    };
    let binding = FoundBinding {
        room: room("r"),
        incarnation: record.incarnation,
        binding: vec![Port(50_000)].into(),
    };
    let old = FoundBinding {
        incarnation: Incarnation(3),
        ..binding.clone()
    };
    for (found, expected) in [(binding, vec![Port(50_000)]), (old, vec![])] {
        let (w, _) = begin(Restored {
            rooms: vec![record.clone()],
            bindings: vec![found],
            ..Restored::default()
        });
        assert_eq!(w.view("r").ports, expected);
    }
}

#[test]
fn a_block_the_cli_released_while_the_agent_was_away_is_released() {
    let (intent, before) = trip();
    let blocks = vec![FoundBlock {
        released: true,
        ..block(&intent)
    }];
    let found = Restored {
        rooms: vec![before],
        intents: vec![intent],
        blocks,
        ..Restored::default()
    };
    let (mut w, commands) = begin(found);
    assert_eq!(armed(&commands), None);
    assert_eq!(w.state("r"), Some(State::Destroyed));
    assert_eq!(w.core.isolation(&room("r"), w.now), None);
    let events: Vec<_> = [commands, w.pass(2)]
        .iter()
        .flat_map(|c| commits(c))
        .map(|c| c.event.event_type)
        .collect();
    assert_eq!(events, [EventType::Stuck, EventType::Release]);
}

#[test]
fn of_another_boots_clock_and_a_clock_that_was_set_the_nearer_end_counts() {
    for (mono, wall, left) in [(900_000, 50, 50), (40, 900_000, 40)] {
        let (mut intent, before) = trip();
        intent.deadline = start().mono + secs(mono);
        intent.until = start().wall + secs(wall);
        let found = Restored {
            rooms: vec![before],
            intents: vec![intent],
            ..Restored::default()
        };
        let (mut w, commands) = begin(found);
        assert_eq!(armed(&commands), Some(start().mono + secs(left)));
        w.pass(left);
        assert_eq!(w.state("r"), Some(State::Destroyed));
    }
}

#[test]
fn a_trip_that_ended_while_the_agent_was_away_is_over() {
    let (mut intent, before) = trip();
    intent.until = Wall(start().wall.0 - 1);
    let found = Restored {
        rooms: vec![before],
        intents: vec![intent],
        ..Restored::default()
    };
    let (mut w, commands) = begin(found);
    assert_eq!(armed(&commands), None);
    let commands = w.pass(2);
    assert!(commands.contains(&Command::Forget { room: room("r") }));
    assert_eq!(w.state("r"), Some(State::Destroyed));
}

#[test]
fn live_rooms_are_bound_again_and_the_start_is_their_progress() {
    let (_, before) = trip();
    let (mut w, commands) = begin(Restored {
        rooms: vec![before],
        ..Restored::default()
    });
    assert!(
        commands
            .iter()
            .any(|c| matches!(c, Command::Bind { binding, .. } if binding.ports == [Port(50_000)]))
    );
    assert_eq!(
        (w.view("r").progress, w.view("r").progress_age),
        (Progress::AgentStart, secs(0))
    );
    assert_eq!(trips(&w.pass(89)), []);
    assert_eq!(trips(&w.pass(1)).len(), 1);
}

#[test]
fn an_isolation_without_a_room_goes_on_and_an_ended_one_does_not() {
    for (left, refused) in [(100, true), (0, false)] {
        let until = start().wall + secs(left);
        let isolations = vec![Isolation {
            room: room("r"),
            reason: "stuck".into(),
            until,
        }];
        let (mut w, _) = begin(Restored {
            isolations,
            ..Restored::default()
        });
        assert_eq!(w.ask("r", Ask::Create).is_err(), refused);
        w.pass(left);
        if refused {
            w.ask("r", Ask::Create).unwrap();
        }
    }
}

#[test]
fn the_repeat_of_the_change_a_record_was_stored_by_is_answered_after_a_restart() {
    let (_, before) = trip();
    let stored: &Change = &trip().0.change;
    assert_eq!(stored.record.room, before.room);
    let (mut w, _) = begin(Restored {
        rooms: vec![before],
        ..Restored::default()
    });
    let mut request = w.request(gateway(), "r", Ask::Create);
    request.op_id = Some(op("adopt"));
    let (answer, commands) = w.send(request);
    assert_eq!(
        (answer.unwrap().unwrap().state, commands),
        (State::Liveing, vec![])
    );
}

#[test]
fn a_trip_behind_changes_that_were_lost_with_the_agent_follows_on_what_is_stored() {
    let (mut intent, before) = trip();
    intent.change.record.version = Version(6);
    intent.change.event.version = Version(6);
    let rooms = vec![RoomRecord {
        state: State::GraceClosing,
        ..before
    }];
    let intents = vec![intent];
    let (mut w, commands) = begin(Restored {
        rooms,
        intents,
        ..Restored::default()
    });
    let change = commits(&w.pass(1)).remove(0);
    assert_eq!(change.record.version, Version(2));
    assert_eq!(change.event.old_state, Some(State::GraceClosing));
    let journalled = |c: &Command| matches!(c, Command::Journal(i) if i.change == change);
    assert!(commands.iter().any(journalled));
}

#[test]
fn a_release_the_store_never_heard_of_is_not_undone_by_a_restart() {
    for armed_still in [true, false] {
        let mut w = World::live(Rules::default(), &["r"]);
        let record = commits(&w.block("r")).remove(0).into_parts().record;
        let deadline = w.view("r").block.unwrap().deadline;
        w.answers = false;
        let released = w.release("r");
        let intents = released.iter().filter_map(|c| match c {
            Command::Journal(intent) => Some(intent.clone()),
            _ => None,
        });
        let found = Restored {
            bindings: Vec::new(),
            unstored: Vec::new(),
            maintenance: Vec::new(),
            intents: intents.collect(),
            isolations: vec![Isolation {
                room: room("r"),
                reason: "test".into(),
                until: w.now.wall + secs(300),
            }],
            blocks: vec![FoundBlock {
                room: room("r"),
                incarnation: record.incarnation,
                deadline,
                binding: record.ports.clone().into(),
                released: false,
            }],
            rooms: vec![record],
        };
        let found = Restored {
            blocks: found.blocks.into_iter().filter(|_| armed_still).collect(),
            ..found
        };
        w.restart(Rules::default(), found);
        let commands = w.settle();
        assert_eq!(armed(&commands), None);
        assert_eq!(w.core.isolation(&room("r"), w.now), None);
        let commands = w.tick();
        assert!(commands.contains(&Command::Disarm { room: room("r") }));
        assert_eq!(w.state("r"), Some(State::Destroyed));
    }
}

#[test]
fn a_trip_of_a_room_the_store_does_not_know_says_so() {
    let (intent, _) = trip();
    let (w, _) = begin(Restored {
        intents: vec![intent.clone()],
        ..Restored::default()
    });
    let steps = w.view("r").block.unwrap().steps;
    assert!(steps.contains(&(Step::Store, StepState::Pending)));
    assert_eq!(w.view("r").version, intent.change.record.version);
}

#[test]
fn a_port_that_moved_from_a_cut_room_to_another_is_not_cut_for_it_after_a_restart() {
    let (intent, _) = trip();
    let expired = intent.change.record.clone();
    assert_eq!(expired.ports, [Port(50_000)]);
    let moved = FoundBlock {
        binding: Binding::default(),
        ..block(&intent)
    };
    let stored_before_it_moved = Restored {
        bindings: Vec::new(),
        unstored: Vec::new(),
        maintenance: Vec::new(),
        rooms: vec![expired],
        isolations: vec![isolation(&intent)],
        intents: vec![intent],
        blocks: vec![moved],
    };
    let (w, commands) = begin(stored_before_it_moved);
    assert_eq!(w.view("r").ports, []);
    let bound = |c: &Command| matches!(c, Command::Bind { binding, .. } if !binding.is_empty());
    assert!(!commands.iter().any(bound), "{commands:?}");
}

#[test]
fn a_cut_rooms_ports_are_those_it_has_in_the_kernel_whatever_older_records_say() {
    let (intent, before) = trip();
    let older = RoomRecord {
        room: room("a"),
        ..before
    };
    let (w, _) = begin(Restored {
        bindings: Vec::new(),
        unstored: Vec::new(),
        maintenance: Vec::new(),
        rooms: vec![older, intent.change.record.clone()],
        isolations: vec![isolation(&intent)],
        intents: vec![intent.clone()],
        blocks: vec![block(&intent)],
    });
    assert_eq!(
        (w.view("r").ports, w.view("a").ports),
        (vec![Port(50_000)], vec![])
    );
}

#[test]
fn after_a_boot_with_its_clock_in_the_past_a_trip_lasts_no_longer_than_it_was_meant_to() {
    let (mut intent, before) = trip();
    intent.deadline = start().mono + secs(900_000);
    let since = Wall(start().wall.0 + 3_600_000);
    intent.until = since + secs(300);
    (intent.change.event.timestamp, intent.change.record.since) = (since, since);
    let expired = intent.change.record.clone();
    let by_intent = Restored {
        rooms: vec![before],
        intents: vec![intent.clone()],
        ..Restored::default()
    };
    let by_isolation = Restored {
        rooms: vec![expired],
        isolations: vec![isolation(&intent)],
        ..Restored::default()
    };
    for found in [by_intent, by_isolation] {
        let (_, commands) = begin(found);
        assert_eq!(armed(&commands), Some(start().mono + secs(300)));
    }
}

#[test]
fn after_a_restart_a_room_is_judged_by_its_own_media_server_before_that_lists_it_again() {
    let (_, before) = trip();
    let other = RoomRecord {
        room: room("other"),
        source: Some(source("elsewhere")),
        ..before.clone()
    };
    let found = Restored {
        rooms: vec![before, other],
        ..Restored::default()
    };
    let rules = Rules {
        cap_percent: 100,
        ..Rules::default()
    };
    let mut w = World::restored(rules, found);
    // It answers, and lists neither; the other one is silent.
    w.answering = vec![source("sfu")];
    let tripped = trips(&w.pass(100));
    assert!(tripped.contains(&("r".into(), Rule::NoWitness)), "{tripped:?}");
    assert!(
        tripped.contains(&("other".into(), Rule::SourceSilent)),
        "{tripped:?}"
    );
}
