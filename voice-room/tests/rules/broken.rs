//! The end of a peer's stream: who is not a member any more, and what it does not mean.

use crate::world::*;
use voice_room::{
    Command, Core, Epoch, Input, Mono, NodeName, Rules, State, Tenure,
    core::broken::DEGRADED_FOR,
    input::{Ask, BrokenStream, ClientAct, Restored},
    record::Member,
};

/// A world whose members are told to a shared store, with room `r` live and its host `h` and client `c` in it.
fn world() -> World {
    let mut w = World::new();
    let node = NodeName::new("node-1").unwrap();
    let tenure = Tenure {
        epoch: Some(Epoch { era: 0, revision: 7 }),
        shared: Some(1),
    };
    w.core = Core::new(node, tenure, Rules::default(), Restored::default(), w.now);
    w.serve("r", "sfu", &[50_000]);
    w.rtp("r", 50, 50);
    w.ask("r", Ask::Create).unwrap();
    w.ask("r", start_live("h")).unwrap();
    for (who, is_host) in [("h", true), ("c", false)] {
        w.client_says(gateway(), "r", who, ClientAct::Join, is_host)
            .unwrap();
    }
    told(&mut w);
    w
}

/// Ticks, and answers the store's part; every member that was told of.
fn told(w: &mut World) -> Vec<(String, bool)> {
    let commands = w.tick();
    members(w, commands)
}

fn members(w: &mut World, commands: Vec<Command>) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    for command in commands {
        if let Command::Members(some) = command {
            all.extend(some.into_iter().map(|m: Member| (m.client.to_string(), m.joined)));
            w.feed(Input::Members(Ok(())));
        }
    }
    all
}

fn breaks(w: &mut World, members: &[&str], at: Mono) -> Vec<Command> {
    w.feed(Input::StreamBroke(BrokenStream {
        why: "the stream of gateway gw-1 ended: reset".into(),
        members: members.iter().map(|who| (room("r"), client(who))).collect(),
        rooms: vec![room("r"), room("unknown")],
        at,
    }))
}

#[test]
fn members_of_a_broken_stream_go_at_once_and_the_host_keeps_the_time_of_a_silent_host() {
    let mut w = world();
    let now = w.now.mono;
    let commands = breaks(&mut w, &["h", "c"], now);
    let gone = members(&mut w, commands);
    assert_eq!(gone, [("h".into(), false), ("c".into(), false)]);
    assert_eq!((w.view("r").clients, w.state("r")), (0, Some(State::Liveing)));
    w.pass(30);
    assert_eq!(w.state("r"), Some(State::Liveing));
    w.pass(2);
    assert_eq!(w.state("r"), Some(State::GraceClosing));
}

#[test]
fn a_host_that_is_heard_again_in_time_keeps_its_room_and_is_a_member_again() {
    let mut w = world();
    let now = w.now.mono;
    breaks(&mut w, &["h", "c"], now);
    w.feed(Input::Members(Ok(())));
    w.pass(20);
    w.client_says(gateway(), "r", "h", ClientAct::Keepalive, true)
        .unwrap();
    assert_eq!(told(&mut w), [("h".into(), true)]);
    w.pass(25);
    assert_eq!(w.state("r"), Some(State::Liveing));
}

#[test]
fn who_was_heard_through_another_stream_since_stays_a_member() {
    let mut w = world();
    let ended = w.now.mono;
    w.now = w.now + secs(1);
    w.client_says(gateway(), "r", "c", ClientAct::Keepalive, false)
        .unwrap();
    let commands = breaks(&mut w, &["h", "c"], ended);
    assert_eq!(members(&mut w, commands), [("h".into(), false)]);
    assert_eq!(w.view("r").clients, 1);
}

#[test]
fn the_rooms_of_a_broken_stream_are_degraded_for_a_while_and_the_registry_is_told() {
    let mut w = world();
    let now = w.now.mono;
    let commands = breaks(&mut w, &[], now);
    let told: Vec<&Command> = commands
        .iter()
        .filter(|c| matches!(c, Command::Degraded { .. }))
        .collect();
    let reason = "the stream of gateway gw-1 ended: reset".to_owned();
    let room = room("r");
    assert_eq!(
        told,
        [&Command::Degraded {
            room,
            reason: reason.clone()
        }]
    );
    assert_eq!(w.view("r").degraded, Some(reason));
    w.pass(DEGRADED_FOR.as_secs());
    assert_eq!(w.view("r").degraded, None);
}
