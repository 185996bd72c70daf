//! Recorded events and answers of Janus 1.1.2, and what must be refused.

use super::*;
use std::sync::atomic::Ordering::Relaxed;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/janus/samples/",
            $name
        ))
    };
}

const MEDIA: RangeInclusive<u16> = 50000..=60000;

fn recorded(lines: &str) -> Vec<Event> {
    let counters = Counters::default();
    let read = |line: &str| events(line.as_bytes(), &counters).unwrap();
    let found = lines.lines().flat_map(read).collect();
    assert!(
        counters.all().iter().all(|(_, value)| *value == 0),
        "{counters:?}"
    );
    found
}

fn info(answer: &str) -> Info {
    serde_json::from_str::<Answer>(answer).unwrap().info.unwrap()
}

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn client(id: &str) -> ClientId {
    ClientId::new(id).unwrap()
}

fn left(room_id: &str, id: &str, handle: Option<u64>, why: &str) -> Event {
    Event::Left {
        room: room(room_id),
        id: client(id),
        handle,
        why: why.into(),
    }
}

#[test]
fn the_recorded_start_of_two_rooms_asks_for_each_joined_handle_and_for_nothing_else() {
    let looks = [
        (2368202804957579, 5382326733013231),
        (2202998956640568, 774187433120929),
        (7212279200418133, 7248217267399162),
        (1492779156771633, 3820773829730280),
        (4639985802481869, 8111798885751089),
        (867504832306336, 7607178296738564),
    ];
    let expected: Vec<_> = looks
        .map(|(session, handle)| Event::Look { session, handle })
        .into();
    assert_eq!(recorded(sample!("events_start_2rooms.jsonl")), expected);
}

#[test]
fn the_recorded_timeout_ends_sessions_members_and_handles_and_the_destroy_ends_the_room() {
    let ended = recorded(sample!("events_stuck_timeout_destroy.jsonl")).split_off(6);
    let over = |session| Event::SessionOver {
        session,
        why: "its session timed out".into(),
    };
    let expected = vec![
        over(2368202804957579),
        over(867504832306336),
        over(1492779156771633),
        over(4639985802481869),
        left(
            "1001",
            "100101",
            None,
            "it left the room, or its session timed out",
        ),
        Event::Detached {
            handle: 5382326733013231,
        },
        left(
            "1002",
            "100203",
            None,
            "it left the room, or its session timed out",
        ),
        Event::Detached {
            handle: 7607178296738564,
        },
        left(
            "1002",
            "100202",
            None,
            "it left the room, or its session timed out",
        ),
        Event::Detached {
            handle: 8111798885751089,
        },
        left(
            "1002",
            "100201",
            None,
            "it left the room, or its session timed out",
        ),
        Event::Detached {
            handle: 3820773829730280,
        },
        Event::RoomDestroyed(room("1001")),
    ];
    assert_eq!(ended, expected);
}

#[test]
fn the_recorded_kick_destroy_and_leave_name_who_went_and_why() {
    let ended = recorded(sample!("events_kick_destroy_leave.jsonl")).split_off(6);
    let expected = vec![
        left("1001", "100103", None, "it was kicked from the room"),
        left(
            "1001",
            "100103",
            None,
            "it left the room, or its session timed out",
        ),
        Event::RoomDestroyed(room("1002")),
        left("1001", "100101", Some(1614455181870895), "it left the room"),
        Event::SessionOver {
            session: 7790095601765286,
            why: "its session was destroyed".into(),
        },
        Event::Detached {
            handle: 1614455181870895,
        },
    ];
    assert_eq!(ended, expected);
}

#[test]
fn a_recorded_webrtc_connection_asks_for_its_handle_once_a_pair_is_selected() {
    let (session, handle) = (6694584687133662, 8147055579109808);
    assert_eq!(
        recorded(sample!("events_webrtc.jsonl")),
        [Event::Look { session, handle }]
    );
}

#[test]
fn a_recorded_plain_rtp_handle_is_a_participant_with_its_local_port() {
    let found = info(sample!("handle_info_plain.json")).participant((7, 8), &MEDIA, &Counters::default());
    let expected = Participant {
        room: room("1001"),
        id: client("100103"),
        session: 7,
        handle: 8,
        created: 2996403227,
        port: Some(Port(50004)),
    };
    assert_eq!(found.unwrap(), Some(expected));
}

#[test]
fn a_recorded_webrtc_handle_is_a_participant_with_the_local_port_of_its_selected_pair() {
    let found = info(sample!("handle_info_webrtc.json")).participant((7, 8), &MEDIA, &Counters::default());
    assert_eq!(found.unwrap().unwrap().port, Some(Port(51087)));
}

#[test]
fn a_recorded_idle_handle_is_no_participant_although_its_socket_is_still_open() {
    let sample = sample!("handle_info_idle.json");
    assert!(sample.contains("local-port"));
    let found = info(sample).participant((7, 8), &MEDIA, &Counters::default());
    assert_eq!(found.unwrap(), None);
}

#[test]
fn a_port_outside_the_media_range_is_counted_and_left_out_and_the_participant_stays() {
    let counters = Counters::default();
    let found = info(sample!("handle_info_plain.json")).participant((7, 8), &(50006..=60000), &counters);
    assert_eq!(found.unwrap().unwrap().port, None);
    assert_eq!(counters.ports_outside.load(Relaxed), 1);
}

#[test]
fn a_handle_of_another_plugin_is_no_participant() {
    let answer = sample!("handle_info_plain.json").replace("plugin.audiobridge", "plugin.videoroom");
    let found = info(&answer).participant((7, 8), &MEDIA, &Counters::default());
    assert_eq!(found.unwrap(), None);
}

#[test]
fn a_participant_without_a_room_is_an_error_and_not_a_guess() {
    let answer = sample!("handle_info_plain.json").replace("\"room\"", "\"raum\"");
    assert!(
        info(&answer)
            .participant((7, 8), &MEDIA, &Counters::default())
            .is_err()
    );
}

#[test]
fn a_pair_gives_its_local_udp_port_and_nothing_else() {
    let v4 = "10.77.0.1:51087 [host,udp] <-> 10.77.2.13:54210 [prflx,udp]";
    assert_eq!(local_port(v4), Some(51087));
    assert_eq!(
        local_port("fd00::1:51087 [host,udp] <-> fd00::2:1 [host,udp]"),
        Some(51087)
    );
    assert_eq!(
        local_port("10.77.0.1:51087 [host,tcp] <-> 10.77.2.13:54210 [host,tcp]"),
        None
    );
    for broken in [
        "",
        " <-> ",
        "10.77.0.1 [host,udp] <-> x",
        "10.77.0.1:70000 [host,udp] <-> x",
        "x",
    ] {
        assert_eq!(local_port(broken), None, "{broken}");
    }
}

#[test]
fn text_ids_are_taken_and_invalid_ids_are_counted_and_left_out() {
    let counters = Counters::default();
    let event = |room: &str| {
        format!(
            r#"{{"type":64,"event":{{"plugin":"{PLUGIN}","data":{{"event":"left","room":{room},"id":"u 1"}}}}}}"#
        )
    };
    let good = event("\"lounge\"").replace("u 1", "u1");
    let found = events(good.as_bytes(), &counters).unwrap();
    assert_eq!(
        found,
        [left(
            "lounge",
            "u1",
            None,
            "it left the room, or its session timed out"
        )]
    );
    assert_eq!(events(event("\"a/b\"").as_bytes(), &counters).unwrap(), []);
    assert_eq!(counters.invalid_ids.load(Relaxed), 2);
}

#[test]
fn an_array_is_taken_whole_or_not_at_all() {
    let counters = Counters::default();
    let good = r#"{"type":2,"handle_id":5,"event":{"name":"detached"}}"#;
    let both = format!("[{good},{good}]");
    assert_eq!(events(both.as_bytes(), &counters).unwrap().len(), 2);
    for bad in [
        "1",
        "{}",
        r#"{"type":2,"event":{"name":"detached"}}"#,
        r#"{"type":-1}"#,
        "[]",
    ] {
        let body = format!("[{good},{bad}]");
        assert!(events(body.as_bytes(), &counters).is_err(), "{body}");
    }
}

#[test]
fn bodies_that_are_no_events_are_refused_with_what_was_expected() {
    let deep = "[".repeat(100_000);
    let lacking = [
        r#"{"type":1,"event":{"name":"timeout"}}"#,
        r#"{"type":1,"session_id":"x","event":{"name":"timeout"}}"#,
        r#"{"type":64,"event":{}}"#,
        r#"{"type":64,"event":{"plugin":"janus.plugin.audiobridge","data":{"event":"joined","room":1,"id":2}}}"#,
        r#"{"type":64,"event":{"plugin":"janus.plugin.audiobridge","data":{"event":"left","room":1.5,"id":2}}}"#,
        r#"{"type":64,"event":{"plugin":"janus.plugin.audiobridge","data":{"event":"destroyed"}}}"#,
    ];
    for body in ["", "x", "null", "7", "{}", "\"x\"", deep.as_str()]
        .into_iter()
        .chain(lacking)
    {
        let error = events(body.as_bytes(), &Counters::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("event"), "{error}");
    }
}

#[test]
fn events_of_no_concern_are_taken_and_say_nothing() {
    for body in [
        "[]",
        r#"{"type":256,"subtype":2,"event":{"status":"shutdown"}}"#,
        r#"{"type":32,"event":[1,2]}"#,
        r#"{"type":64,"event":{"plugin":"janus.plugin.videoroom","data":{"event":"joined"}}}"#,
        r#"{"type":1,"event":{"name":"created"}}"#,
    ] {
        assert_eq!(
            events(body.as_bytes(), &Counters::default()).unwrap(),
            [],
            "{body}"
        );
    }
}
