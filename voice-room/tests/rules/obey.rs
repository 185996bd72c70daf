//! Other rules while rooms go on, as a reload of the configuration gives them.

use crate::world::*;
use std::collections::BTreeSet;
use voice_room::{
    Command, Input, Rules, State,
    config::Mode,
    timeline::{Hold, Rule},
};

fn mode(mode: Mode) -> Rules {
    Rules {
        mode,
        ..Rules::default()
    }
}

fn obey(w: &mut World, rules: Rules) -> Vec<Command> {
    w.feed(Input::Rules(Box::new(rules)))
}

/// Room `r` on a node under `rules`, without heartbeats and RTP for a hundred seconds.
fn stuck(rules: Rules) -> (World, Vec<Command>) {
    let mut w = World::live(rules, &["r", "other"]);
    w.silence_rtp();
    w.omit("r");
    let commands = w.pass(100);
    (w, commands)
}

#[test]
fn a_room_that_shadow_mode_spoke_of_is_cut_once_the_mode_is_enforce() {
    let (mut w, commands) = stuck(mode(Mode::Shadow));
    assert!(kinds(&commands).contains(&"arm shadow"));
    assert_eq!(kinds(&obey(&mut w, mode(Mode::Enforce))), ["disarm"]);
    assert_eq!(trips(&w.pass(1)), [("r".to_string(), Rule::Omitted)]);
    assert_eq!(w.state("r"), Some(State::Expired));
    assert_eq!(w.state("other"), Some(State::Liveing));
}

#[test]
fn a_stuck_room_that_was_held_because_the_mode_was_off_is_cut_once_it_is_enforce() {
    let (mut w, commands) = stuck(mode(Mode::Off));
    assert_eq!(holds(&commands), [("r".to_string(), Hold::ModeOff)]);
    obey(&mut w, mode(Mode::Enforce));
    assert_eq!(trips(&w.pass(1)).len(), 1);
}

#[test]
fn with_the_mode_off_nothing_more_trips_and_a_cut_that_is_in_force_stays_as_long_as_it_was_to_last() {
    let (mut w, commands) = stuck(Rules::default());
    assert_eq!(trips(&commands).len(), 1);
    let before = w.view("r").block.unwrap();
    let rules = Rules {
        isolation: secs(1),
        ..mode(Mode::Off)
    };
    assert_eq!(obey(&mut w, rules), []);
    w.omit("other");
    assert_eq!(trips(&w.pass(100)), []);
    let after = w.view("r").block.unwrap();
    assert_eq!((after.until, w.state("r")), (before.until, Some(State::Expired)));
}

#[test]
fn a_shorter_stuck_time_and_a_never_cut_list_hold_from_the_next_tick_on() {
    let mut w = World::live(Rules::default(), &["r", "s", "other"]);
    w.silence_rtp();
    w.omit("r");
    w.omit("s");
    assert_eq!(trips(&w.pass(40)), []);
    let rules = Rules {
        stuck_after: secs(30),
        never_cut: BTreeSet::from([room("s")]),
        ..Rules::default()
    };
    obey(&mut w, rules);
    let commands = w.pass(1);
    assert_eq!(trips(&commands), [("r".to_string(), Rule::Omitted)]);
    assert_eq!(holds(&commands), [("s".to_string(), Hold::NeverCut)]);
}

#[test]
fn the_same_mode_again_does_not_begin_an_episode_anew() {
    let (mut w, _) = stuck(mode(Mode::Shadow));
    assert_eq!(obey(&mut w, mode(Mode::Shadow)), []);
    assert_eq!(w.pass(100), []);
}
