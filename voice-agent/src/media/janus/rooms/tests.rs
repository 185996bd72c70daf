//! Inputs compared: what the core is told for each thing Janus says.

use super::*;
use std::time::Duration;
use voice_room::{
    Epoch, Incarnation, Version, Wall,
    input::{ClientFact, Request},
    timeline::{Actor, Progress},
};

fn source() -> SourceId {
    SourceId::new("janus").unwrap()
}

fn room_id(room: &str) -> RoomId {
    RoomId::new(room).unwrap()
}

fn client_id(id: &str) -> ClientId {
    ClientId::new(id).unwrap()
}

/// Handle, session and creation time are derived from the id, the port from the last two digits.
fn participant(room: &str, id: &str) -> Participant {
    let number: u64 = id.parse().unwrap();
    Participant {
        room: room_id(room),
        id: client_id(id),
        session: number + 1_000_000,
        handle: number + 2_000_000,
        created: number,
        port: Some(Port(50000 + u16::try_from(number % 100).unwrap() * 2)),
    }
}

fn served(room: &str, ports: &[u16], participants: u32, host: Option<&str>) -> Served {
    Served {
        room: room_id(room),
        ports: ports.iter().copied().map(Port).collect(),
        flows: vec![],
        ssrcs: vec![],
        participants,
        host: host.map(client_id),
    }
}

fn heartbeat(rooms: impl Into<Vec<Served>>) -> Input {
    Input::Heartbeat(Heartbeat {
        source: source(),
        rooms: rooms.into(),
        capacity: None,
    })
}

fn fact(room: &str, id: &str, what: ClientAct, is_host: bool) -> Input {
    Input::Client(ClientFact {
        room: room_id(room),
        client: client_id(id),
        what,
        is_host,
        actor: Actor::Source(source()),
        incarnation: None,
        reply: None,
    })
}

fn ask(room: &str, ask: Ask) -> Input {
    Input::Request(Request {
        room: room_id(room),
        ask,
        actor: Actor::Source(source()),
        op_id: None,
        incarnation: None,
        sequence: None,
        trace_id: None,
        reply: None,
        participants: Vec::new(),
    })
}

fn no_hosts() -> Hosts {
    Hosts::new()
}

fn host_gone(room: &str, reason: &str) -> Input {
    let reason = reason.into();
    ask(room, Ask::HostDisconnect { reason })
}

fn left(room: &str, id: &str) -> Event {
    Event::Left {
        room: room_id(room),
        id: client_id(id),
        handle: None,
        why: "it left the room".into(),
    }
}

fn listing(participants: &[Participant], rooms: &[&str]) -> Listing {
    Listing {
        participants: participants.to_vec(),
        rooms: rooms.iter().map(|room| room_id(room)).collect(),
    }
}

/// Host 1 and guest 2 in room A, learned by events.
fn two_in_a() -> Rooms {
    let mut rooms = Rooms::new(source());
    rooms.looked(participant("A", "1"), &no_hosts());
    rooms.looked(participant("A", "2"), &no_hosts());
    rooms
}

use ClientAct::{Join, Keepalive, Leave};

#[test]
fn the_first_to_join_makes_the_room_known_with_its_port_before_anything_else_and_is_the_host() {
    let mut rooms = Rooms::new(source());
    let told = rooms.looked(participant("A", "1"), &no_hosts());
    let expected = [
        heartbeat([served("A", &[50002], 1, Some("1"))]),
        fact("A", "1", Join, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_guest_that_joins_is_told_with_every_port_of_its_room_and_no_other_room() {
    let mut rooms = two_in_a();
    rooms.looked(participant("B", "5"), &no_hosts());
    let told = rooms.looked(participant("A", "3"), &no_hosts());
    let expected = [
        heartbeat([served("A", &[50002, 50004, 50006], 3, Some("1"))]),
        fact("A", "3", Join, false),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_participant_whose_port_becomes_known_later_does_not_join_twice() {
    let mut rooms = Rooms::new(source());
    let first = Participant {
        port: None,
        ..participant("A", "1")
    };
    rooms.looked(first, &no_hosts());
    let told = rooms.looked(participant("A", "1"), &no_hosts());
    let expected = [
        heartbeat([served("A", &[50002], 1, Some("1"))]),
        fact("A", "1", Keepalive, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_listing_at_start_tells_every_room_and_takes_the_oldest_handle_for_the_host() {
    let mut rooms = Rooms::new(source());
    rooms.listing_begins();
    let found = [
        participant("A", "3"),
        participant("A", "2"),
        participant("B", "4"),
    ];
    let told = rooms.listed(listing(&found, &["A", "B", "C"]), &no_hosts());
    let expected = [
        heartbeat([
            served("A", &[50004, 50006], 2, Some("2")),
            served("B", &[50008], 1, Some("4")),
            served("C", &[], 0, None),
        ]),
        fact("A", "2", Join, true),
        fact("A", "3", Join, false),
        fact("B", "4", Join, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn each_listing_keeps_the_clients_that_are_in_it_alive() {
    let mut rooms = two_in_a();
    rooms.listing_begins();
    let told = rooms.listed(
        listing(&[participant("A", "1"), participant("A", "2")], &["A"]),
        &no_hosts(),
    );
    let expected = [
        heartbeat([served("A", &[50002, 50004], 2, Some("1"))]),
        fact("A", "1", Keepalive, true),
        fact("A", "2", Keepalive, false),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_answered_listing_without_rooms_is_a_heartbeat_that_leaves_all_of_them_out() {
    let mut rooms = Rooms::new(source());
    rooms.listing_begins();
    assert_eq!(rooms.listed(Listing::default(), &no_hosts()), [heartbeat([])]);
}

#[test]
fn a_room_whose_participants_all_went_idle_is_listed_with_none() {
    let mut rooms = two_in_a();
    rooms.listing_begins();
    let told = rooms.listed(listing(&[], &["A"]), &no_hosts());
    let expected = [
        heartbeat([served("A", &[], 0, None)]),
        host_gone("A", "host 1: it is no longer listed"),
        fact("A", "1", Leave, true),
        fact("A", "2", Leave, false),
        ask("A", Ask::NoActiveUser),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_host_that_leaves_disconnects_and_a_guest_that_leaves_does_not() {
    let mut rooms = two_in_a();
    assert_eq!(rooms.happened(left("A", "2")), [fact("A", "2", Leave, false)]);
    let mut rooms = two_in_a();
    let expected = [
        host_gone("A", "host 1: it left the room"),
        fact("A", "1", Leave, true),
    ];
    assert_eq!(rooms.happened(left("A", "1")), expected);
}

#[test]
fn a_session_that_times_out_ends_the_host_once_however_many_events_say_so() {
    let mut rooms = two_in_a();
    let why = "its session timed out".to_owned();
    let told = rooms.happened(Event::SessionOver {
        session: 1_000_001,
        why,
    });
    let expected = [
        host_gone("A", "host 1: its session timed out"),
        fact("A", "1", Leave, true),
    ];
    assert_eq!(told, expected);
    assert_eq!(rooms.happened(left("A", "1")), []);
    assert_eq!(rooms.happened(Event::Detached { handle: 2_000_001 }), []);
}

#[test]
fn a_detached_handle_ends_its_participant() {
    let mut rooms = two_in_a();
    let told = rooms.happened(Event::Detached { handle: 2_000_001 });
    let expected = [
        host_gone("A", "host 1: its handle was detached"),
        fact("A", "1", Leave, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_last_to_leave_asks_for_the_end_once_and_the_room_is_forgotten() {
    let mut rooms = two_in_a();
    rooms.happened(left("A", "1"));
    let expected = [fact("A", "2", Leave, false), ask("A", Ask::NoActiveUser)];
    assert_eq!(rooms.happened(left("A", "2")), expected);
    rooms.listing_begins();
    let told = rooms.listed(listing(&[], &["A"]), &no_hosts());
    assert_eq!(told, [heartbeat([served("A", &[], 0, None)])]);
    assert!(!rooms.knows(&room_id("A")));
}

#[test]
fn a_room_whose_host_left_is_served_without_one_until_it_joins_again() {
    let mut rooms = two_in_a();
    rooms.happened(left("A", "1"));
    rooms.listing_begins();
    let told = rooms.listed(listing(&[participant("A", "2")], &["A"]), &no_hosts());
    assert_eq!(told[0], heartbeat([served("A", &[50004], 1, None)]));
    let told = rooms.looked(participant("A", "1"), &no_hosts());
    let expected = [
        heartbeat([served("A", &[50002, 50004], 2, Some("1"))]),
        fact("A", "1", Join, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_host_on_record_is_the_host_whoever_joins_first() {
    let mut rooms = Rooms::new(source());
    let hosts: Hosts = [(room_id("A"), client_id("2"))].into();
    let told = rooms.looked(participant("A", "1"), &hosts);
    let expected = [
        heartbeat([served("A", &[50002], 1, None)]),
        fact("A", "1", Join, false),
    ];
    assert_eq!(told, expected);
    rooms.listing_begins();
    let told = rooms.listed(
        listing(&[participant("A", "1"), participant("A", "2")], &["A"]),
        &no_hosts(),
    );
    let expected = [
        heartbeat([served("A", &[50002, 50004], 2, Some("2"))]),
        fact("A", "1", Keepalive, false),
        fact("A", "2", Join, true),
    ];
    assert_eq!(told, expected);
    assert_eq!(rooms.happened(left("A", "1")), [fact("A", "1", Leave, false)]);
}

#[test]
fn a_destroyed_room_loses_all_its_participants_and_no_other_room_does() {
    let mut rooms = two_in_a();
    rooms.looked(participant("B", "5"), &no_hosts());
    let told = rooms.happened(Event::RoomDestroyed(room_id("A")));
    let expected = [
        host_gone("A", "host 1: the room was destroyed"),
        fact("A", "1", Leave, true),
        fact("A", "2", Leave, false),
        ask("A", Ask::NoActiveUser),
    ];
    assert_eq!(told, expected);
    rooms.listing_begins();
    let told = rooms.listed(listing(&[participant("B", "5")], &["B"]), &no_hosts());
    assert_eq!(told[0], heartbeat([served("B", &[50010], 1, Some("5"))]));
}

#[test]
fn who_joined_while_a_listing_was_under_way_is_not_missing_in_it_but_in_the_next() {
    let mut rooms = Rooms::new(source());
    rooms.listing_begins();
    rooms.looked(participant("A", "1"), &no_hosts());
    let told = rooms.listed(listing(&[], &[]), &no_hosts());
    assert_eq!(told, [heartbeat([served("A", &[50002], 1, Some("1"))])]);
    rooms.listing_begins();
    let told = rooms.listed(listing(&[], &[]), &no_hosts());
    let expected = [
        heartbeat([]),
        host_gone("A", "host 1: it is no longer listed"),
        fact("A", "1", Leave, true),
        ask("A", Ask::NoActiveUser),
    ];
    assert_eq!(told, expected);
}

#[test]
fn who_left_while_a_listing_was_under_way_does_not_come_back_with_it() {
    let mut rooms = two_in_a();
    rooms.listing_begins();
    rooms.happened(left("A", "2"));
    let told = rooms.listed(
        listing(&[participant("A", "1"), participant("A", "2")], &["A"]),
        &no_hosts(),
    );
    let expected = [
        heartbeat([served("A", &[50002], 1, Some("1"))]),
        fact("A", "1", Keepalive, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_late_leave_of_an_old_handle_does_not_end_the_new_one() {
    let mut rooms = two_in_a();
    rooms.listing_begins();
    let late = Event::Left {
        room: room_id("A"),
        id: client_id("2"),
        handle: Some(7),
        why: "it left the room".into(),
    };
    assert_eq!(rooms.happened(late), []);
    let told = rooms.listed(
        listing(&[participant("A", "1"), participant("A", "2")], &["A"]),
        &no_hosts(),
    );
    assert_eq!(told[0], heartbeat([served("A", &[50002, 50004], 2, Some("1"))]));
}

#[test]
fn events_about_the_unknown_change_nothing() {
    let mut rooms = two_in_a();
    assert_eq!(rooms.happened(left("B", "1")), []);
    assert_eq!(rooms.happened(left("A", "9")), []);
    assert_eq!(rooms.happened(Event::RoomDestroyed(room_id("B"))), []);
    assert_eq!(rooms.happened(Event::Detached { handle: 9 }), []);
    assert_eq!(
        rooms.happened(Event::Look {
            session: 1,
            handle: 1
        }),
        []
    );
}

fn view(room: &str, state: State, source: Option<SourceId>) -> RoomView {
    RoomView {
        room: room_id(room),
        state,
        version: Version(1),
        epoch: Epoch::default(),
        incarnation: Incarnation(1),
        since: Wall(0),
        host: None,
        clients: 0,
        degraded: None,
        source,
        flows: vec![],
        ssrcs: vec![],
        ports: Vec::new(),
        heartbeat_age: None,
        misses: 0,
        progress_age: Duration::ZERO,
        progress: Progress::AgentStart,
        held: None,
        maintenance: None,
        would_trip: false,
        witness: None,
        passed: 0,
        dropped: 0,
        drop_rate: None,
        would_drop: 0,
        block: None,
        authority: voice_room::core::Authority::Held(voice_room::Epoch::default()),
        unstored: 0,
    }
}

#[test]
fn a_room_on_record_that_nobody_is_in_after_the_first_listing_lost_its_host() {
    let other = SourceId::new("peer/sfu").unwrap();
    let on_record = [
        view("A", State::Liveing, Some(source())),
        view("gone", State::Liveing, Some(source())),
        view("closing", State::GraceClosing, Some(source())),
        view("created", State::Created, Some(source())),
        view("of-another", State::Liveing, Some(other)),
        view("of-nobody", State::Liveing, None),
    ];
    let mut rooms = Rooms::new(source());
    rooms.listing_begins();
    rooms.listed(listing(&[participant("A", "1")], &["A", "gone"]), &no_hosts());
    let expected = [host_gone("gone", "nobody was in it when the agent came back")];
    assert_eq!(rooms.ended_unseen(&on_record), expected);
}
