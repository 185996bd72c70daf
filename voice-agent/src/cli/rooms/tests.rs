//! The tables and the page of one room, line by line.

use super::{show, *};
use crate::proto::admin::{Authority, BlockInfo, BlockStep, Time, Witness};

fn room(name: &str) -> Room {
    Room {
        room: name.into(),
        state: "LIVEING".into(),
        since: Some(Time {
            rfc3339: "2026-11-22T03:00:00.000Z".into(),
            unix_ms: 0,
        }),
        state_age_ms: 725_000,
        version: 2,
        epoch: "0.7".into(),
        incarnation: 1,
        host: Some("alice".into()),
        clients: 5,
        source: Some("janus".into()),
        ports: vec![50_000, 50_001, 50_010],
        heartbeat_age_ms: Some(1_200),
        progress_age_ms: 1_200,
        progress: "heartbeat".into(),
        witness: Some(Witness {
            window_ms: 25_000,
            rtp_in_packets: 5_000,
            rtp_out_packets: 4_800,
            saw_egress: true,
        }),
        passed_packets: 123_456,
        ..Room::default()
    }
}

fn cut(name: &str) -> Room {
    Room {
        state: "EXPIRED".into(),
        misses: 18,
        heartbeat_age_ms: Some(95_000),
        dropped_packets: 60_012,
        block: Some(BlockInfo {
            reason: "stuck".into(),
            until: Some(Time {
                rfc3339: "2026-11-22T03:17:05.000Z".into(),
                unix_ms: 0,
            }),
            left_ms: 212_000,
            steps: vec![
                BlockStep {
                    step: "arm".into(),
                    state: "done".into(),
                    detail: "3 ports".into(),
                },
                BlockStep {
                    step: "push".into(),
                    state: "pending".into(),
                    detail: String::new(),
                },
            ],
            acknowledged_by: vec!["gw-1".into()],
            armed_monotonic_ns: 0,
            deadline_monotonic_ns: 0,
        }),
        ..room(name)
    }
}

#[test]
fn rooms_are_listed_with_the_one_thing_most_worth_knowing_of_each() {
    let held = Room {
        held: Some("blast_cap".into()),
        ..room("talk-2")
    };
    let rooms = vec![cut("talk-1"), held, room("talk-3")];
    assert_eq!(
        list(&RoomsResponse { rooms }, Output::plain(), false),
        "\
ROOM    STATE    SINCE       HEARTBEAT        CLIENTS  PORTS  DROPPED  NOTE
talk-1  EXPIRED  12 min 5 s  95 s, 18 missed  5        3      60,012   cut: 3 min 32 s left
talk-2  LIVEING  12 min 5 s  1.2 s            5        3      0        stuck, held: blast cap
talk-3  LIVEING  12 min 5 s  1.2 s            5        3      0
"
    );
}

#[test]
fn no_rooms_and_no_blocked_rooms_are_said_in_words() {
    let nothing = RoomsResponse::default();
    assert_eq!(list(&nothing, Output::plain(), false), "No rooms on this node.\n");
    assert_eq!(list(&nothing, Output::plain(), true), "No room is blocked.\n");
}

#[test]
fn the_longest_room_id_does_not_make_a_table_wider_than_100_characters() {
    let rooms = vec![cut(&"x".repeat(64))];
    let table = list(&RoomsResponse { rooms }, Output::plain(), false);
    assert!(table.lines().all(|l| l.chars().count() <= 100), "{table}");
}

#[test]
fn a_cut_room_shows_its_steps_and_who_took_note() {
    assert_eq!(
        show::show(&cut("talk-1"), Output::plain()),
        "\
room       talk-1
state      EXPIRED for 12 min 5 s, since 2026-11-22T03:00:00.000Z
record     version 2, epoch 0.7, life 1
host       alice
clients    5
source     janus
ports      50000-50001, 50010
heartbeat  95 s ago
progress   1.2 s ago (heartbeat)
witness    5,000 RTP in, 4,800 RTP out over the last 25 s
packets    123,456 passed, 60,012 dropped
cut        3 min 32 s left, until 2026-11-22T03:17:05.000Z: stuck
           arm      done 3 ports
           push     pending
           acknowledged by gw-1

Why:     voice-agent explain talk-1
Lift it: voice-agent release talk-1 --reason TEXT
"
    );
}

fn owned(name: &str, authority: Authority) -> Room {
    let authority = Some(authority);
    Room {
        authority,
        ..room(name)
    }
}

fn authority(state: &str, owner: Option<&str>) -> Authority {
    Authority {
        state: state.into(),
        owner: owner.map(Into::into),
        ..Authority::default()
    }
}

#[test]
fn whose_a_room_is_is_listed_as_soon_as_one_is_not_this_nodes() {
    let held = || owned("talk-1", authority("held", Some("media-1")));
    let listed = |rooms| list(&RoomsResponse { rooms }, Output::plain(), false);
    assert!(!listed(vec![held()]).contains("OWNER"));
    let rooms = vec![
        held(),
        owned("talk-2", authority("ceded", Some("media-2"))),
        owned("talk-3", authority("claiming", None)),
        owned("talk-4", authority("unclaimed", None)),
    ];
    assert_eq!(
        listed(rooms),
        "\
ROOM    STATE    SINCE       HEARTBEAT  CLIENTS  PORTS  DROPPED  OWNER      NOTE
talk-1  LIVEING  12 min 5 s  1.2 s      5        3      0        this node
talk-2  LIVEING  12 min 5 s  1.2 s      5        3      0        media-2
talk-3  LIVEING  12 min 5 s  1.2 s      5        3      0        claiming
talk-4  LIVEING  12 min 5 s  1.2 s      5        3      0        nobody
"
    );
}

#[test]
fn a_room_shows_under_which_epoch_it_is_held_whose_it_is_or_why_it_is_not_owned_yet() {
    let line = |authority| {
        let page = show::show(&owned("talk-1", authority), Output::plain());
        let line = page.lines().find(|line| line.starts_with("owner "));
        line.unwrap_or_default().to_owned()
    };
    let held = Authority {
        epoch: Some("1.42".into()),
        ..authority("held", Some("media-1"))
    };
    assert_eq!(line(held), "owner      media-1, this node, under epoch 1.42");
    assert_eq!(
        line(authority("ceded", Some("media-2"))),
        "owner      media-2: served here, yet nothing of it is stored from here"
    );
    let claiming = Authority {
        problem: Some("etcd has not answered the claim yet".into()),
        ..authority("claiming", None)
    };
    assert_eq!(
        line(claiming),
        "owner      being claimed, nothing is stored until it is owned: etcd has not answered the claim yet"
    );
    assert!(line(authority("unclaimed", None)).contains("nobody"));
}
