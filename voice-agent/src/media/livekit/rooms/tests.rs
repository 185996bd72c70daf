//! Inputs compared: what the core is told for each thing LiveKit answers.

use super::*;
use voice_room::timeline::Actor;

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn client(id: &str) -> ClientId {
    ClientId::new(id).unwrap()
}

fn rooms() -> Rooms {
    Rooms::new(SourceId::new("livekit").unwrap())
}

fn listed(rooms: &mut Rooms, listed: &[(&str, u32)]) -> Vec<String> {
    rooms.listing_begins();
    answered(rooms, listed)
}

fn answered(rooms: &mut Rooms, listed: &[(&str, u32)]) -> Vec<String> {
    let listed = listed.iter().map(|(id, participants)| Listed {
        room: room(id),
        participants: *participants,
    });
    words(&rooms.listed(listed.collect()))
}

/// The earlier in the list, the earlier it joined.
fn looked(rooms: &mut Rooms, id: &str, present: &[&str]) -> Vec<String> {
    looked_as(rooms, id, present, None, None)
}

fn looked_as(
    rooms: &mut Rooms,
    id: &str,
    present: &[&str],
    host: Option<&str>,
    left: Option<(&str, &str)>,
) -> Vec<String> {
    let present = present.iter().zip(0..).map(|(id, joined_at)| Participant {
        id: client(id),
        joined_at,
    });
    let left = left.map(|(id, why)| (client(id), why.to_owned()));
    words(&rooms.looked(&room(id), present.collect(), host.map(client), left.as_ref()))
}

/// Inputs in short: `alpha:2` in a heartbeat, `alpha/ann join host`, `alpha disconnect (why)`.
fn words(inputs: &[Input]) -> Vec<String> {
    inputs.iter().map(word).collect()
}

fn word(input: &Input) -> String {
    match input {
        Input::Heartbeat(beat) => {
            let one = |served: &Served| {
                assert!(served.ports.is_empty() && served.flows.is_empty() && served.ssrcs.is_empty());
                let host = served
                    .host
                    .as_ref()
                    .map_or(String::new(), |host| format!("@{host}"));
                format!(" {}:{}{host}", served.room, served.participants)
            };
            format!("beat{}", beat.rooms.iter().map(one).collect::<String>())
        }
        Input::Client(fact) => {
            assert_eq!(fact.actor, Actor::Source(SourceId::new("livekit").unwrap()));
            let host = if fact.is_host { " host" } else { "" };
            format!("{}/{} {:?}{host}", fact.room, fact.client, fact.what)
        }
        Input::Request(request) => format!("{} {:?}", request.room, request.ask),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listing_is_a_heartbeat_of_every_room_with_the_number_of_its_participants() {
    let mut rooms = rooms();
    assert_eq!(
        listed(&mut rooms, &[("alpha", 2), ("beta", 0)]),
        ["beat alpha:2 beta:0"]
    );
}

#[test]
fn the_first_to_join_is_the_host_unless_the_core_has_one_on_record() {
    let mut rooms = rooms();
    assert_eq!(
        looked(&mut rooms, "alpha", &["ann", "ben"]),
        ["beat alpha:2@ann", "alpha/ann Join host", "alpha/ben Join"]
    );
    assert_eq!(
        looked_as(&mut rooms, "beta", &["ann", "ben"], Some("ben"), None),
        ["beat beta:2@ben", "beta/ann Join", "beta/ben Join host"]
    );
}

#[test]
fn the_same_answer_again_tells_no_second_join() {
    let mut rooms = rooms();
    looked(&mut rooms, "alpha", &["ann"]);
    assert_eq!(
        looked(&mut rooms, "alpha", &["ann"]),
        ["beat alpha:1@ann", "alpha/ann Keepalive host"]
    );
}

#[test]
fn a_host_that_is_gone_is_a_disconnect_with_the_webhooks_reason_and_the_last_one_ends_the_room() {
    let mut rooms = rooms();
    looked(&mut rooms, "alpha", &["ann", "ben"]);
    assert_eq!(
        looked_as(
            &mut rooms,
            "alpha",
            &["ben"],
            None,
            Some(("ann", "it left the room (X)"))
        ),
        [
            "beat alpha:1",
            "alpha/ben Keepalive",
            "alpha HostDisconnect { reason: \"host ann: it left the room (X)\" }",
            "alpha/ann Leave host",
        ]
    );
    assert_eq!(
        looked(&mut rooms, "alpha", &[]),
        ["alpha/ben Leave", "alpha NoActiveUser"]
    );
    assert_eq!(looked(&mut rooms, "alpha", &[]), [""; 0], "and once only");
}

#[test]
fn a_room_that_is_no_longer_listed_is_left_by_everybody() {
    let mut rooms = rooms();
    listed(&mut rooms, &[("alpha", 1)]);
    looked(&mut rooms, "alpha", &["ann"]);
    assert_eq!(
        listed(&mut rooms, &[]),
        [
            "beat",
            "alpha HostDisconnect { reason: \"host ann: it is no longer listed\" }",
            "alpha/ann Leave host",
            "alpha NoActiveUser",
        ]
    );
    assert_eq!(listed(&mut rooms, &[]), ["beat"]);
}

#[test]
fn a_room_that_was_looked_at_while_a_listing_was_under_way_is_not_ended_by_that_listing() {
    let mut rooms = rooms();
    rooms.listing_begins();
    looked(&mut rooms, "alpha", &["ann"]);
    assert_eq!(answered(&mut rooms, &[]), ["beat alpha:1@ann"]);
    assert_eq!(listed(&mut rooms, &[]).len(), 4, "but by the next");
}

#[test]
fn rooms_that_changed_are_due_first_then_those_looked_at_longest_ago_and_empty_ones_never() {
    let mut rooms = rooms();
    listed(&mut rooms, &[("alpha", 1), ("beta", 1), ("empty", 0)]);
    looked(&mut rooms, "alpha", &["ann"]);
    listed(&mut rooms, &[("alpha", 1), ("beta", 1), ("empty", 0)]);
    looked(&mut rooms, "beta", &["ben"]);
    assert_eq!(rooms.due(), [room("alpha"), room("beta")]);
    listed(&mut rooms, &[("alpha", 1), ("beta", 2), ("empty", 0)]);
    assert_eq!(rooms.due(), [room("beta"), room("alpha")]);
}

#[test]
fn no_more_rooms_are_due_than_one_round_may_ask_for() {
    let mut rooms = rooms();
    let many: Vec<String> = (0..LOOKS + 50).map(|n| format!("room-{n}")).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|id| (id.as_str(), 1)).collect();
    listed(&mut rooms, &many);
    assert_eq!(rooms.due().len(), LOOKS);
}
