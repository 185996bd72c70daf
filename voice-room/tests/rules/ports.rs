//! Which port is cut with which room.

use crate::world::*;
use voice_room::{Command, Port, Rules, State, timeline::What};

fn bound(commands: &[Command], name: &str) -> Option<Vec<u16>> {
    let bind = |c: &Command| match c {
        Command::Bind { room, binding, .. } if **room == *name => {
            Some(binding.ports.iter().map(|p| p.0).collect())
        }
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
    let commands = w.pass(10);
    assert_eq!(w.view("old").ports, [Port(50_000)]);
    assert_eq!(notes(&commands, "listed_unfollowed"), 2, "each time it is listed");
}

#[test]
fn a_room_over_the_quota_that_lists_a_followed_rooms_port_gets_nobody_cut_and_is_not_cut_with_it() {
    let mut w = World::live(
        Rules {
            quota: 1,
            ..Rules::default()
        },
        &["old"],
    );
    w.serve("new", "other", &[50_000]);
    let commands = w.pass(200);
    assert_eq!(w.state("old"), Some(State::Liveing));
    assert_eq!(w.core.view(&room("new"), w.now), None);
    assert_eq!(notes(&commands, "no_quota"), 40);
    assert_eq!(armed(&commands), [""; 0]);
    // Now the followed one is stuck. By then the port is the other's alone.
    w.omit("old");
    w.rtp("old", 50, 0);
    let commands = w.pass(100);
    assert_eq!(armed(&commands), ["old"]);
    assert_eq!(bound(&commands, "old"), Some(vec![]));
    assert_eq!(w.view("old").ports, []);
}

#[test]
fn a_port_that_two_sources_list_with_flows_and_without_never_cuts_the_others_room() {
    let mut w = World::live(Rules::default(), &["a"]);
    w.serve("b", "sfu-2", &[]);
    w.marks("b", 50_000, &[7], &[7]);
    w.rtp("b", 50, 50);
    let commands = w.pass(10);
    assert_eq!(
        bound_marks(&w, "a"),
        (vec![], vec![], vec![]),
        "nothing tells it apart"
    );
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![7], vec![7]));
    for (name, other) in [("a", "b"), ("b", "a")] {
        let shared = What::PortShared {
            port: Port(50_000),
            other: room(other),
        };
        assert!(
            recorded(&commands, name).contains(&shared),
            "{name}: {commands:?}"
        );
    }
    // The second source lists it no more, and sends nothing: its room is cut, by its own flow alone.
    w.omit("b");
    w.rtp("b", 50, 0);
    let commands = w.pass(100);
    assert_eq!(armed(&commands), ["b"]);
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![7], vec![7]));
    assert_eq!(w.state("a"), Some(State::Liveing));
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![], vec![]), "still shared");
}

#[test]
fn a_flow_that_two_sources_list_is_bound_to_neither_and_a_cut_of_one_reaches_nothing() {
    let mut w = World::new();
    for (name, from) in [("a", "sfu-1"), ("b", "sfu-2")] {
        w.serve(name, from, &[]);
        w.marks(name, 50_000, &[7], &[]);
        w.rtp(name, 50, 50);
    }
    let commands = w.pass(10);
    assert_eq!(notes(&commands, "mark_clash"), 2, "each room is told");
    for name in ["a", "b"] {
        assert_eq!(bound_marks(&w, name), (vec![], vec![], vec![]), "{name}");
    }
    let commands = w.block("b");
    assert_eq!(armed(&commands), ["b"]);
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![], vec![]));
    assert_eq!(w.state("a"), Some(State::Liveing));
}

/// Rooms that the kernel is told to cut.
pub(crate) fn armed(commands: &[Command]) -> Vec<&str> {
    let armed = |c| match c {
        &Command::Arm {
            ref room,
            shadow: false,
            ..
        } => Some(room.as_str()),
        _ => None,
    };
    commands.iter().filter_map(armed).collect()
}

/// How often something was left out or ignored under this name.
pub(crate) fn notes(commands: &[Command], name: &str) -> usize {
    let named = |c: &&Command| matches!(c, Command::Note { code, .. } if *code == name);
    commands.iter().filter(named).count()
}

pub(crate) fn bound_marks(w: &World, name: &str) -> (Vec<u16>, Vec<u16>, Vec<u32>) {
    let view = w.view(name);
    let ports = view.ports.iter().map(|p| p.0).collect();
    let flows = view.flows.iter().map(|f| f.remote_port).collect();
    (ports, flows, view.ssrcs.iter().map(|s| s.ssrc).collect())
}

/// Two rooms on one port, each with a flow and an SSRC of its own.
fn sharing() -> World {
    let mut w = World::new();
    for (name, mark) in [("a", 1), ("b", 2)] {
        w.serve(name, "sfu", &[50_000]);
        w.marks(name, 50_000, &[mark], &[mark.into()]);
    }
    w.pass(5);
    w
}

#[test]
fn rooms_that_share_a_port_are_bound_by_their_flows_and_ssrcs_only() {
    let w = sharing();
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![1], vec![1]));
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![2], vec![2]));
}

#[test]
fn a_room_alone_on_a_port_is_bound_by_it_and_by_flows_as_soon_as_another_joins() {
    let mut w = World::new();
    w.serve("a", "sfu", &[]);
    w.marks("a", 50_000, &[1], &[]);
    w.pass(5);
    assert_eq!(bound_marks(&w, "a"), (vec![50_000], vec![], vec![]));
    w.serve("b", "sfu", &[50_000]);
    w.pass(5);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![1], vec![]));
    assert_eq!(
        bound_marks(&w, "b"),
        (vec![], vec![], vec![]),
        "nothing tells it apart"
    );
}

#[test]
fn what_two_rooms_claim_is_bound_to_neither_and_said_and_counted_until_one_stops() {
    let mut w = sharing();
    w.marks("b", 50_000, &[1, 2], &[1, 2]);
    let commands = w.pass(5);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![], vec![]));
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![2], vec![2]));
    for (name, other) in [("a", "b"), ("b", "a")] {
        let said = |what: &What| matches!(what, What::MarkShared { other: o, .. } if **o == *other);
        assert_eq!(
            recorded(&commands, name).into_iter().filter(|w| said(w)).count(),
            2,
            "{name}"
        );
    }
    let noted = |c: &&Command| {
        matches!(
            c,
            Command::Note {
                code: "mark_clash",
                ..
            }
        )
    };
    assert_eq!(commands.iter().filter(noted).count(), 4);
    assert_eq!(w.pass(20), vec![], "said once");
    w.marks("b", 50_000, &[2], &[2]);
    w.pass(5);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![1], vec![1]));
}

#[test]
fn a_room_its_media_server_forgot_keeps_its_flows_and_the_port_stays_shared_until_its_end() {
    let mut w = sharing();
    w.rtp("a", 50, 0);
    w.omit("a");
    w.pass(100);
    assert_eq!(w.state("a"), Some(State::Expired));
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![1], vec![1]));
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![2], vec![2]));
    w.pass(320);
    assert_eq!(
        bound_marks(&w, "b"),
        (vec![50_000], vec![], vec![]),
        "its alone now"
    );
}

#[test]
fn a_flow_that_moves_to_another_room_is_that_rooms_and_one_that_ended_is_nobodys() {
    let mut w = sharing();
    w.marks("a", 50_000, &[3], &[1]);
    w.marks("b", 50_000, &[1, 2], &[2]);
    w.pass(5);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![3], vec![1]));
    w.pass(5);
    assert_eq!(bound_marks(&w, "b"), (vec![], vec![1, 2], vec![2]));
    w.marks("a", 50_000, &[], &[]);
    w.pass(5);
    assert_eq!(
        bound_marks(&w, "a"),
        (vec![], vec![3], vec![1]),
        "senders may go on"
    );
}
