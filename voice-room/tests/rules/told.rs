//! Rooms whose media server does not say what their packets are: another source tells it, and never reaches a third's rooms.

use crate::{
    ports::{armed, bound_marks, notes},
    world::*,
};
use voice_room::{
    Command, Flow, Input, Port, Rules, Ssrc, State,
    input::{Heartbeat, Served},
};

/// A listing of a source that does not serve the room, with 0 participants: ports, and flows and SSRCs on port 50000.
fn tell(w: &mut World, name: &str, ports: &[u16], flows: &[u16], ssrcs: &[u32]) -> Vec<Command> {
    let port = Port(50_000);
    w.feed(Input::Heartbeat(Heartbeat {
        source: source("marks"),
        rooms: vec![Served {
            room: room(name),
            ports: ports.iter().map(|p| Port(*p)).collect(),
            flows: flows
                .iter()
                .map(|f| Flow::new(port, [10, 0, 0, 1].into(), *f))
                .collect(),
            ssrcs: ssrcs.iter().map(|ssrc| Ssrc { port, ssrc: *ssrc }).collect(),
            participants: 0,
            host: None,
        }],
        capacity: None,
    }))
}

/// Rooms that LiveKit serves, without a word on their packets.
fn livekit(w: &mut World, rooms: &[&str]) {
    for name in rooms {
        w.serve(name, "livekit", &[]);
        w.rtp(name, 50, 50);
    }
    w.pass(10);
}

#[test]
fn a_room_whose_media_server_names_nothing_is_bound_by_what_another_says_and_lives_by_its_own_word_alone() {
    let mut w = World::new();
    livekit(&mut w, &["a"]);
    assert_eq!(notes(&tell(&mut w, "a", &[], &[7], &[]), "not_your_room"), 0);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![7], vec![]));
    w.pass(10);
    let kept = "a listing that names nothing takes nothing away";
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![7], vec![]), "{kept}");
    assert_eq!(w.view("a").source, Some(source("livekit")));
    w.omit("a");
    w.rtp("a", 50, 0);
    let mut cut = Vec::new();
    for _ in 0..12 {
        tell(&mut w, "a", &[], &[7], &[]);
        cut.extend(w.pass(10));
    }
    assert_eq!(armed(&cut), ["a"], "although its flow was told all the time");
}

#[test]
fn a_flow_that_is_told_never_stands_for_its_port_since_others_may_be_there_that_nobody_told() {
    let mut w = World::new();
    livekit(&mut w, &["a", "b"]);
    tell(&mut w, "a", &[], &[7], &[7]);
    w.pass(10);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![7], vec![7]));
    assert_eq!(
        tell(&mut w, "a", &[], &[7], &[7]),
        [],
        "told again, it asks for nothing"
    );
}

#[test]
fn a_room_whose_media_server_names_its_ports_is_bound_by_nothing_that_another_says_even_while_it_names_none()
{
    let mut w = World::live(Rules::default(), &["a"]);
    let before = bound_marks(&w, "a");
    assert_eq!(notes(&tell(&mut w, "a", &[], &[7], &[]), "not_your_room"), 1);
    assert_eq!(bound_marks(&w, "a"), before);
    w.serve("a", "sfu", &[]);
    w.pass(10);
    assert_eq!(
        notes(&tell(&mut w, "a", &[50_004], &[7], &[]), "not_your_room"),
        1
    );
    assert_eq!(bound_marks(&w, "a"), before);
}

#[test]
fn what_another_room_is_known_by_is_not_bound_when_told_and_stays_that_rooms() {
    let mut w = World::live(Rules::default(), &["named"]);
    livekit(&mut w, &["a"]);
    let before = bound_marks(&w, "named");
    for (ports, flows, ssrcs) in [
        (&[50_000_u16][..], &[][..], &[][..]),
        (&[], &[7], &[]),
        (&[], &[], &[7]),
    ] {
        let commands = tell(&mut w, "a", ports, flows, ssrcs);
        assert_eq!(notes(&commands, "told_anothers"), 1, "{commands:?}");
        w.pass(10);
        assert_eq!(bound_marks(&w, "a"), (vec![], vec![], vec![]));
        assert_eq!(bound_marks(&w, "named"), before);
    }
    assert_eq!(armed(&w.block("a")), ["a"]);
    assert_eq!(
        bound_marks(&w, "a"),
        (vec![], vec![], vec![]),
        "the cut reaches nothing"
    );
    assert_eq!(w.state("named"), Some(State::Liveing));
}

#[test]
fn the_rtcp_of_a_room_whose_source_names_its_ports_is_not_bound_when_told() {
    let mut w = World::live(Rules::default(), &["named"]);
    livekit(&mut w, &["a"]);
    assert_eq!(notes(&tell(&mut w, "a", &[50_001], &[], &[]), "told_anothers"), 1);
    tell(&mut w, "a", &[50_003], &[], &[]);
    assert_eq!(bound_marks(&w, "a"), (vec![50_003], vec![], vec![]));
    w.serve("next", "sfu", &[50_002]);
    w.pass(5);
    assert_eq!(
        bound_marks(&w, "a"),
        (vec![], vec![], vec![]),
        "it gives way there too"
    );
}

#[test]
fn a_flow_on_a_port_that_named_rooms_share_is_not_bound_when_told() {
    let mut w = World::new();
    for name in ["x", "y"] {
        w.serve(name, "sfu", &[50_000]);
    }
    w.marks("y", 50_000, &[1], &[]);
    livekit(&mut w, &["a"]);
    assert_eq!(notes(&tell(&mut w, "a", &[], &[2], &[3]), "told_anothers"), 1);
    assert_eq!(bound_marks(&w, "a"), (vec![], vec![], vec![]));
    assert_eq!(bound_marks(&w, "y"), (vec![], vec![1], vec![]));
}

#[test]
fn what_was_told_of_one_room_is_not_bound_to_another_by_flow_ssrc_or_port() {
    let mut w = World::new();
    livekit(&mut w, &["a", "b"]);
    tell(&mut w, "a", &[], &[7], &[7]);
    for (ports, flows, ssrcs) in [
        (&[50_000_u16][..], &[][..], &[][..]),
        (&[], &[7], &[]),
        (&[], &[], &[7]),
    ] {
        assert_eq!(notes(&tell(&mut w, "b", ports, flows, ssrcs), "told_anothers"), 1);
        assert_eq!(bound_marks(&w, "b"), (vec![], vec![], vec![]));
        assert_eq!(bound_marks(&w, "a"), (vec![], vec![7], vec![7]));
    }
    tell(&mut w, "b", &[], &[8], &[]);
    assert_eq!(
        bound_marks(&w, "b"),
        (vec![], vec![8], vec![]),
        "its own, on the same port"
    );
}

#[test]
fn what_was_told_gives_way_as_soon_as_a_rooms_own_source_names_the_port() {
    for by_flow in [true, false] {
        let mut w = World::new();
        livekit(&mut w, &["a", "b"]);
        tell(&mut w, "a", &[50_010], &[7], &[7]);
        tell(&mut w, "b", &[], &[8], &[]);
        w.serve("named", "sfu", if by_flow { &[] } else { &[50_000] });
        if by_flow {
            w.marks("named", 50_000, &[7], &[]);
        }
        let commands = w.pass(10);
        assert_eq!(bound_marks(&w, "named"), (vec![50_000], vec![], vec![]));
        assert_eq!(bound_marks(&w, "a"), (vec![50_010], vec![], vec![]));
        assert_eq!(bound_marks(&w, "b"), (vec![], vec![], vec![]));
        assert_eq!(notes(&commands, "told_anothers"), 2);
        tell(&mut w, "a", &[50_010], &[7], &[7]);
        assert_eq!(bound_marks(&w, "a"), (vec![50_010], vec![], vec![]));
        assert_eq!(bound_marks(&w, "named"), (vec![50_000], vec![], vec![]));
    }
}

#[test]
fn a_room_that_was_told_of_is_known_by_what_its_own_source_names_once_it_does() {
    let mut w = World::new();
    livekit(&mut w, &["a"]);
    tell(&mut w, "a", &[50_010], &[7], &[7]);
    w.serve("a", "livekit", &[50_020]);
    w.pass(10);
    assert_eq!(bound_marks(&w, "a"), (vec![50_020], vec![], vec![]));
    assert_eq!(notes(&tell(&mut w, "a", &[50_010], &[], &[]), "not_your_room"), 1);
}

#[test]
fn what_was_told_is_given_back_at_the_rooms_end() {
    let mut w = World::new();
    livekit(&mut w, &["a", "b"]);
    tell(&mut w, "a", &[50_010], &[7], &[]);
    w.omit("a");
    w.rtp("a", 50, 0);
    w.pass(420);
    assert_ne!(w.state("a"), Some(State::Expired));
    tell(&mut w, "b", &[50_010], &[7], &[]);
    assert_eq!(bound_marks(&w, "b"), (vec![50_010], vec![7], vec![]));
}
