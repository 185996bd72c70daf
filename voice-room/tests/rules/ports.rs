//! Which port is cut with which room.

use crate::world::*;
use voice_room::{Command, Port, Rules, State, timeline::What};

fn bound(commands: &[Command], name: &str) -> Option<Vec<u16>> {
    let bind = |c: &Command| match c {
        Command::Bind { room, ports, .. } if **room == *name => Some(ports.iter().map(|p| p.0).collect()),
        _ => None,
    };
    commands.iter().rev().find_map(bind)
}

#[test]
fn a_port_that_moves_to_another_room_is_not_cut_for_the_old_one() {
    for (old, new) in [("a", "b"), ("b", "a")] {
        let mut w = World::new();
        w.serve(old, "sfu", &[50_000, 50_002]);
        w.pass(5);
        w.serve(old, "sfu", &[50_000]);
        w.serve(new, "sfu", &[50_002, 50_004]);
        let commands = w.pass(5);
        assert_eq!(bound(&commands, old), Some(vec![50_000]));
        assert_eq!(bound(&commands, new), Some(vec![50_002, 50_004]));
    }
}

#[test]
fn a_port_two_rooms_list_is_bound_to_neither_until_one_stops() {
    let mut w = World::new();
    w.serve("a", "sfu", &[50_000]);
    w.pass(5);
    w.serve("b", "sfu", &[50_000]);
    let commands = w.pass(5);
    assert_eq!(w.view("a").ports, vec![]);
    assert_eq!(w.view("b").ports, vec![]);
    for (name, other) in [("a", "b"), ("b", "a")] {
        let shared = What::PortShared {
            port: Port(50_000),
            other: room(other),
        };
        assert!(recorded(&commands, name).contains(&shared));
    }
    let quiet = w.pass(20);
    assert!(recorded(&quiet, "a").is_empty(), "said once");
    w.serve("a", "sfu", &[50_008]);
    w.pass(5);
    assert_eq!(w.view("b").ports, vec![Port(50_000)]);
}

#[test]
fn a_room_without_heartbeats_loses_a_port_another_lists() {
    let mut w = World::new();
    w.serve("a", "sfu", &[50_000]);
    w.pass(5);
    w.omit("a");
    w.pass(14);
    w.serve("b", "sfu", &[50_000]);
    w.pass(6);
    assert_eq!(
        (w.view("a").ports, w.view("b").ports),
        (vec![], vec![Port(50_000)])
    );
}

#[test]
fn ports_stay_with_a_room_its_media_server_forgot_and_are_given_back_at_the_end() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.serve("r", "sfu", &[]);
    w.pass(5);
    assert_eq!(w.view("r").ports, vec![Port(50_000)], "senders may go on");
    w.rtp("r", 50, 0);
    w.omit("r");
    w.pass(100);
    assert_eq!(
        (w.state("r"), w.view("r").ports),
        (Some(State::Expired), vec![Port(50_000)])
    );
    let commands = w.pass(300);
    assert!(commands.contains(&Command::Unbind { room: room("r") }));
    assert_eq!(w.view("r").ports, vec![]);
    w.serve("next", "sfu", &[50_000]);
    w.pass(5);
    assert_eq!(w.view("next").ports, vec![Port(50_000)]);
}

#[test]
fn the_old_room_is_told_before_the_new_one() {
    for (old, new) in [("a", "b"), ("b", "a")] {
        let mut w = World::new();
        w.serve(old, "sfu", &[50_000]);
        w.pass(5);
        w.omit(old);
        w.pass(15);
        w.serve(new, "sfu", &[50_000]);
        let commands = w.pass(5);
        let binds = commands.iter().filter_map(|c| match c {
            Command::Bind { room, .. } => Some(room.to_string()),
            _ => None,
        });
        assert_eq!(binds.collect::<Vec<_>>(), [old, new]);
    }
}

#[test]
fn a_listing_that_says_the_same_again_asks_for_nothing() {
    let mut w = World::live(Rules::default(), &["a", "b"]);
    assert_eq!(w.pass(60), vec![]);
}

#[test]
fn a_port_that_goes_to_a_room_which_is_not_followed_is_not_cut_for_the_old_one() {
    // The node is full, so `new` is not adopted.
    let mut w = World::live(
        Rules {
            quota: 1,
            ..Rules::default()
        },
        &["old"],
    );
    w.omit("old");
    w.pass(14);
    w.serve("new", "sfu", &[50_000]);
    let commands = w.pass(6);
    assert!(!w.core.knows(&room("new")));
    assert_eq!(bound(&commands, "old"), Some(vec![]));
}

#[test]
fn a_port_kept_after_its_listing_goes_to_the_room_that_lists_it_even_if_that_is_not_followed() {
    let mut w = World::live(
        Rules {
            quota: 1,
            ..Rules::default()
        },
        &["old"],
    );
    w.serve("old", "sfu", &[50_002]);
    w.serve("new", "sfu", &[50_000]);
    w.pass(10);
    assert_eq!(w.view("old").ports, [Port(50_002)]);
}

#[test]
fn a_listing_of_a_room_that_is_not_followed_takes_no_port_from_one_that_lists_it_now() {
    let mut w = World::live(
        Rules {
            quota: 1,
            ..Rules::default()
        },
        &["old"],
    );
    w.serve("new", "other", &[50_000]);
    w.pass(10);
    assert_eq!(w.view("old").ports, [Port(50_000)]);
}
