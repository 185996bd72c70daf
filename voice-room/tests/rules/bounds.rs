//! What is kept in memory is bounded, whatever peers send.

use crate::world::*;
use voice_room::{
    Input, Rejected, Rules, State,
    input::{Ask, ClientAct, ReplyId},
};

#[test]
fn destroyed_rooms_are_forgotten_after_five_minutes() {
    let mut w = World::new();
    w.go_live("r");
    w.ask("r", close(w.view("r").version)).unwrap();
    w.pass(299);
    assert_eq!(w.state("r"), Some(State::Destroyed));
    w.pass(6);
    assert_eq!(w.state("r"), None);
}

#[test]
fn in_a_storm_of_short_lives_they_are_forgotten_sooner() {
    let mut w = World::with(Rules {
        quota: 10,
        ..Rules::default()
    });
    for n in 0..50 {
        let name = format!("r{n}");
        w.ask(&name, Ask::Create).unwrap();
        w.ask(&name, close(w.view(&name).version)).unwrap();
    }
    w.pass(15);
    assert_eq!(w.core.count(State::Destroyed), 0);
}

#[test]
fn silent_clients_are_forgotten_and_ten_thousand_are_the_most() {
    let mut w = World::new();
    w.go_live("r");
    for n in 0..10_000 {
        w.client_says(gateway(), "r", &format!("c{n}"), ClientAct::Join, false)
            .unwrap();
    }
    let one_more = w.client_says(gateway(), "r", "more", ClientAct::Join, false);
    assert!(matches!(one_more, Err(Rejected::Limit(_))));
    w.client_says(gateway(), "r", "c7", ClientAct::Keepalive, false)
        .unwrap();
    w.pass(65);
    assert_eq!(w.view("r").clients, 0);
}

#[test]
fn those_who_wait_for_one_answer_are_bounded_and_each_is_answered() {
    let mut w = World::new();
    w.answers = false;
    let mut request = w.request(gateway(), "r", Ask::Create);
    request.op_id = Some(op("one"));
    let mut refused = 0;
    for n in 0..1000 {
        request.reply = Some(ReplyId(n));
        let commands = w.feed(Input::Request(request.clone()));
        refused += replies(&commands, ReplyId(n))
            .iter()
            .filter(|r| matches!(r, Err(Rejected::Limit(_))))
            .count();
    }
    assert_eq!(refused, 1000 - 256);
}

#[test]
fn announced_rooms_are_bounded_by_twice_the_quota() {
    let mut w = World::with(Rules {
        quota: 2,
        ..Rules::default()
    });
    for n in 0..4 {
        w.ask(&format!("r{n}"), Ask::Create).unwrap();
    }
    assert!(matches!(
        w.refused(gateway(), "r9", Ask::Create),
        Rejected::Limit(_)
    ));
}

#[test]
fn a_flood_of_rooms_that_one_source_lists_and_forgets_cuts_none_of_another_even_with_its_port() {
    let mut w = World::live(
        Rules {
            quota: 1000,
            ..Rules::default()
        },
        &["healthy"],
    );
    let listing = |rooms: std::ops::Range<u16>| {
        let served = |n: u16| voice_room::input::Served {
            room: room(&format!("flood{n}")),
            ports: vec![voice_room::Port(50_000 + n)],
            flows: vec![],
            ssrcs: vec![],
            participants: 1,
            host: None,
        };
        Input::Heartbeat(voice_room::input::Heartbeat {
            source: source("flood"),
            rooms: rooms.map(served).collect(),
            capacity: None,
        })
    };
    w.feed(listing(0..1000));
    assert_eq!(
        w.core.count(State::Liveing),
        1000,
        "the quota: one too many is not adopted"
    );
    let mut armed = Vec::new();
    for _ in 0..120 {
        w.feed(listing(0..1));
        armed.extend(w.pass(1).into_iter().filter_map(|command| match command {
            voice_room::Command::Arm { room, .. } => Some(room),
            _ => None,
        }));
    }
    assert!(!armed.is_empty(), "what was forgotten is stuck");
    assert!(!armed.contains(&room("healthy")));
    assert_eq!(w.state("healthy"), Some(State::Liveing));
}
