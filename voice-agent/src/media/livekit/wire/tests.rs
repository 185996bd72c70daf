use super::*;

fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap()
}

fn client(id: &str) -> ClientId {
    ClientId::new(id).unwrap()
}

#[test]
fn the_events_of_rooms_and_participants_name_their_room_and_who_left_and_why() {
    let started = br#"{"event":"room_started","room":{"sid":"RM_1","name":"alpha","numParticipants":0},"id":"EV_1","createdAt":"1700000000"}"#;
    let only = |id| Event {
        room: room(id),
        left: None,
    };
    assert_eq!(event(started).unwrap(), Some(only("alpha")));
    let joined = br#"{"event":"participant_joined","room":{"name":"alpha"},"participant":{"sid":"PA_1","identity":"ann"}}"#;
    assert_eq!(event(joined).unwrap(), Some(only("alpha")));
    for (reason, words) in [
        (r#","disconnectReason":"CLIENT_INITIATED""#, "CLIENT_INITIATED"),
        (r#","disconnect_reason":3"#, "disconnect reason 3"),
        ("", "no reason given"),
    ] {
        let left = format!(
            r#"{{"event":"participant_left","room":{{"name":"alpha"}},"participant":{{"identity":"ann"{reason}}}}}"#
        );
        let (who, why) = event(left.as_bytes()).unwrap().unwrap().left.unwrap();
        assert_eq!((who, why), (client("ann"), format!("it left the room ({words})")));
    }
}

#[test]
fn events_of_no_concern_are_left_out_and_those_that_lack_what_they_must_say_are_errors() {
    assert_eq!(
        event(br#"{"event":"track_published","room":{"name":"alpha"}}"#).unwrap(),
        None
    );
    assert_eq!(event(br#"{"event":"egress_started"}"#).unwrap(), None);
    for bad in [
        &b"not json"[..],
        b"[]",
        b"{}",
        br#"{"event":"room_started"}"#,
        br#"{"event":"participant_left","room":{"name":"alpha"}}"#,
        br#"{"event":7,"room":{"name":"alpha"}}"#,
    ] {
        assert!(event(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn a_room_whose_name_is_no_room_id_here_is_left_out_and_counted() {
    let before = Counter::LivekitInvalidIds.value();
    let odd = br#"{"event":"room_started","room":{"name":"a room with spaces"}}"#;
    assert_eq!(event(odd).unwrap(), None);
    let listed: Rooms = serde_json::from_str(
        r#"{"rooms":[{"name":"a b","num_participants":1},{"name":"alpha","numParticipants":2}]}"#,
    )
    .unwrap();
    let alpha = Listed {
        room: room("alpha"),
        participants: 2,
    };
    assert_eq!(listed.listed(), [alpha]);
    assert!(Counter::LivekitInvalidIds.value() >= before + 2);
}

#[test]
fn a_listing_without_its_list_is_no_listing() {
    assert!(serde_json::from_str::<Rooms>("{}").is_err());
    assert!(serde_json::from_str::<Participants>("{}").is_err());
    assert!(
        serde_json::from_str::<Rooms>(r#"{"rooms":[]}"#)
            .unwrap()
            .listed()
            .is_empty()
    );
}

#[test]
fn participants_are_those_that_are_not_disconnected_in_either_spelling() {
    let answer = r#"{"participants":[
        {"identity":"ann","state":"ACTIVE","joined_at":"1700000001"},
        {"identity":"ben","state":1,"joinedAt":1700000002},
        {"identity":"eve","state":"DISCONNECTED"},
        {"identity":"fay","state":3},
        {"identity":"gus"}]}"#;
    let present = serde_json::from_str::<Participants>(answer).unwrap().present();
    let found: Vec<_> = present.iter().map(|p| (p.id.as_str(), p.joined_at)).collect();
    assert_eq!(
        found,
        [("ann", 1_700_000_001), ("ben", 1_700_000_002), ("gus", 0)]
    );
}
