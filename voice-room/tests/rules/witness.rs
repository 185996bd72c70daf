//! The kernel's testimony and the blast cap: what is held, what is tripped, and under which rule.

use crate::world::*;
use voice_room::{
    Input, Port, Rules, State,
    timeline::{Hold, Rule, What},
};

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("r{i:02}")).collect()
}

fn node(rules: Rules, rooms: usize) -> World {
    let names = names(rooms);
    World::live(rules, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn rules_of(commands: &[voice_room::Command]) -> Vec<Rule> {
    trips(commands).into_iter().map(|(_, rule)| rule).collect()
}

#[test]
fn rtp_both_ways_holds_for_hours_and_is_said_once() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.omit("r");
    let commands = w.pass(4 * 3600);
    assert_eq!(
        (trips(&commands), holds(&commands)),
        (vec![], vec![("r".to_string(), Hold::Contradiction)])
    );
    assert_eq!(w.view("r").held, Some(Hold::Contradiction));
}

#[test]
fn a_contradiction_that_ends_trips_once_the_window_is_past() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.omit("r");
    w.pass(200);
    w.rtp("r", 50, 0);
    assert_eq!(trips(&w.pass(20)), []);
    assert_eq!(rules_of(&w.pass(10)), [Rule::Omitted]);
}

#[test]
fn a_contradiction_is_bounded_only_if_configured() {
    let rules = Rules {
        trip_on_contradiction_after: Some(secs(120)),
        ..Rules::default()
    };
    let mut w = World::live(rules, &["r"]);
    w.omit("r");
    let age = w.view("r").progress_age.as_secs();
    assert_eq!(trips(&w.pass(90 - age + 119)), []);
    assert_eq!(rules_of(&w.pass(1)), [Rule::ContradictionTooLong]);
}

#[test]
fn a_contradiction_of_all_rooms_trips_no_more_of_them_than_the_cap_allows() {
    let rules = Rules {
        trip_on_contradiction_after: Some(secs(120)),
        ..Rules::default()
    };
    let mut w = World::live(rules, &["a", "b", "c", "d"]);
    for room in ["a", "b", "c", "d"] {
        w.omit(room);
    }
    assert_eq!(
        rules_of(&w.pass(300)),
        [Rule::ContradictionTooLong, Rule::ContradictionTooLong]
    );
}

#[test]
fn egress_alone_is_no_veto() {
    let mut w = World::live(Rules::default(), &["r", "other"]);
    w.rtp("r", 0, 50);
    w.omit("r");
    assert_eq!(rules_of(&w.pass(100)), [Rule::Omitted]);
}

#[test]
fn a_listing_that_names_no_room_any_more_while_rtp_leaves_cuts_no_more_rooms_than_the_cap_allows() {
    let mut w = node(Rules::default(), 4);
    for name in names(4) {
        w.rtp(&name, 0, 50);
        w.omit(&name);
    }
    let commands = w.pass(100);
    assert_eq!(rules_of(&commands), [Rule::Omitted; 2]);
    let held = holds(&commands);
    assert_eq!(held.iter().filter(|(_, hold)| *hold == Hold::BlastCap).count(), 2);
}

#[test]
fn rooms_that_are_not_listed_and_send_nothing_are_cut_at_once_however_many_they_are() {
    let mut w = node(Rules::default(), 4);
    for name in names(4) {
        w.rtp(&name, 50, 0);
        w.omit(&name);
    }
    assert_eq!(rules_of(&w.pass(100)), [Rule::Omitted; 4]);
}

#[test]
fn while_rtp_leaves_for_any_room_of_a_silent_source_all_its_rooms_are_held() {
    let mut w = node(Rules::default(), 4);
    w.silence();
    w.silence_rtp();
    w.rtp("r03", 0, 50);
    let commands = w.pass(1000);
    assert_eq!(trips(&commands), []);
    assert!(
        names(4)
            .iter()
            .all(|n| holds(&commands).contains(&(n.clone(), Hold::SourceStillSends)))
    );
}

#[test]
fn another_source_that_sends_does_not_hold_the_rooms_of_a_silent_one() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.serve("elsewhere", "other", &[51_000]);
    w.rtp("elsewhere", 50, 50);
    w.pass(5);
    w.lives.get_mut(&room("r")).unwrap().listed = false;
    w.rtp("r", 50, 0);
    assert_eq!(trips(&w.pass(100)), [("r".to_string(), Rule::SourceSilent)]);
}

#[test]
fn when_the_sockets_of_a_silent_source_are_gone_all_its_rooms_trip_at_once() {
    let mut w = node(Rules::default(), 6);
    w.sockets = Some((50_000..50_012).step_by(2).map(Port).collect());
    w.pass(10);
    w.sockets = Some(vec![]);
    w.silence();
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(95)), [Rule::SocketsGone; 6]);
}

#[test]
fn sockets_that_were_never_seen_are_never_gone() {
    let mut w = node(Rules::default(), 6);
    w.sockets = Some(vec![]);
    w.silence();
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(95)), [Rule::SourceSilent; 3]);
}

#[test]
fn one_socket_that_is_left_is_not_gone() {
    let mut w = node(Rules::default(), 6);
    w.sockets = Some(vec![Port(50_000)]);
    w.pass(10);
    w.silence();
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(95)), [Rule::SourceSilent; 3]);
}

#[test]
fn a_port_that_became_shared_is_still_a_socket_of_its_source() {
    let mut w = World::new();
    w.sockets = Some(vec![Port(50_000)]);
    w.serve("r0", "sfu", &[50_000]);
    w.pass(10);
    for n in 1..4 {
        w.serve(&format!("r{n}"), "sfu", &[50_000]);
    }
    w.pass(10);
    w.silence();
    let commands = w.pass(95);
    assert_eq!(
        rules_of(&commands),
        [Rule::SourceSilent; 2],
        "the cap holds the others"
    );
}

#[test]
fn sockets_not_looked_at_lately_are_not_known() {
    let mut w = node(Rules::default(), 6);
    w.sockets = Some((50_000..50_012).step_by(2).map(Port).collect());
    w.pass(10);
    w.feed(Input::Sockets(vec![]));
    w.sockets = None;
    w.silence();
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(95)), [Rule::SourceSilent; 3]);
}

#[test]
fn a_lost_stream_makes_its_source_silent_at_once_and_its_next_heartbeat_brings_it_back() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.omit("r");
    w.silence_rtp();
    w.pass(80);
    w.answering.clear();
    w.feed(Input::SourceLost(source("sfu")));
    assert_eq!(rules_of(&w.pass(12)), [Rule::SourceSilent]);

    let mut w = World::live(Rules::default(), &["r"]);
    w.feed(Input::SourceLost(source("sfu")));
    w.omit("r");
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(92)), [Rule::Omitted]);
}

#[test]
fn a_room_whose_egress_was_never_seen_has_no_witness_and_falls_under_the_cap() {
    let mut w = node(Rules::default(), 6);
    for name in names(6) {
        w.serve(&format!("x{name}"), "sfu", &[]);
        w.rtp(&format!("x{name}"), 50, 0);
    }
    w.pass(5);
    for name in names(6) {
        w.omit(&format!("x{name}"));
    }
    let commands = w.pass(100);
    assert_eq!(rules_of(&commands), [Rule::NoWitness; 6], "half of twelve");
    assert_eq!(holds(&commands), []);
}

#[test]
fn without_counters_there_is_no_witness() {
    let mut w = node(Rules::default(), 4);
    w.counters = false;
    names(4).iter().for_each(|n| w.omit(n));
    assert_eq!(rules_of(&w.pass(100)), [Rule::NoWitness; 2]);
}

#[test]
fn the_cap_trips_the_longest_stuck_first_says_the_others_once_and_trips_them_when_the_window_allows() {
    let mut w = node(Rules::default(), 4);
    for name in ["r02", "r00", "r03", "r01"] {
        w.lives.get_mut(&room(name)).unwrap().listed = false;
        w.pass(5);
    }
    w.silence_rtp();
    let mut commands = w.pass(130);
    let order: Vec<String> = trips(&commands).into_iter().map(|(room, _)| room).collect();
    assert_eq!(order, ["r02", "r00"]);
    commands.extend(w.pass(400));
    let held = [
        ("r03".to_string(), Hold::BlastCap),
        ("r01".to_string(), Hold::BlastCap),
    ];
    let capped: Vec<_> = holds(&commands)
        .into_iter()
        .filter(|(_, h)| *h == Hold::BlastCap)
        .collect();
    assert_eq!(capped, held);
    assert_eq!(w.view("r01").held, Some(Hold::BlastCap));
    let later: Vec<String> = trips(&w.pass(200)).into_iter().map(|(room, _)| room).collect();
    assert_eq!(later, ["r03"], "of the two rooms that are left one may trip");
    assert_eq!(trips(&w.pass(600)), [("r01".to_string(), Rule::SourceSilent)]);
}

#[test]
fn of_one_room_one_may_trip() {
    let mut w = node(Rules::default(), 1);
    w.silence();
    w.silence_rtp();
    assert_eq!(rules_of(&w.pass(100)), [Rule::SourceSilent]);
}

#[test]
fn releasing_rooms_does_not_make_the_cap_larger() {
    let mut w = World::with(Rules {
        stuck_after: secs(25),
        ..Rules::default()
    });
    for name in names(4) {
        w.serve(&name, &format!("sfu-{name}"), &[]);
    }
    w.pass(5);
    w.silence();
    let mut tripped = 0;
    for _ in 0..10 {
        tripped += trips(&w.pass(55)).len();
        for name in names(4) {
            if w.state(&name) == Some(State::Expired) {
                w.lives.get_mut(&room(&name)).unwrap().listed = true;
                w.listings();
                w.release(&name);
                w.silence();
            }
        }
    }
    assert_eq!(tripped, 2, "half of four rooms in ten minutes");
}

#[test]
fn trips_with_a_witness_are_not_capped_but_count() {
    let mut w = node(Rules::default(), 4);
    w.silence_rtp();
    names(4).iter().for_each(|n| w.omit(n));
    assert_eq!(rules_of(&w.pass(100)), [Rule::Omitted; 4]);
}

#[test]
fn the_evidence_of_a_trip_carries_what_it_was_decided_on() {
    let mut w = node(Rules::default(), 2);
    w.rtp("r00", 50, 0);
    w.omit("r00");
    let commands = w.pass(100);
    let said = recorded(&commands, "r00");
    let evidence = said.iter().find_map(|what| match what {
        What::Trip { evidence, .. } => evidence.clone(),
        _ => None,
    });
    let e = evidence.unwrap();
    let testimony = e.witness.unwrap();
    assert_eq!((e.misses, e.progress_age, e.cap), (18, secs(90), (0, 1)));
    assert_eq!(
        (testimony.rtp_in > 1000, testimony.rtp_out, testimony.saw_egress),
        (true, 0, true)
    );
    assert!(e.source_silent_for.unwrap() < secs(6));
}
