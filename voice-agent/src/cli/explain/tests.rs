//! Whole stories, line by line.

use super::*;
use crate::proto::admin::{
    Acknowledged, Agreed, Declined, Evidence, FirstDrop, Held, Lifted, MaintenanceChanged, PortShared,
    StepEnded, Synced, Time, Transition, Trip, Witness, entry::What,
};

fn at(clock: &str, what: What) -> Entry {
    Entry {
        incarnation: 3,
        at: Some(Time {
            rfc3339: format!("2026-11-22T{clock}Z"),
            unix_ms: 0,
        }),
        what: Some(what),
    }
}

fn evidence() -> Evidence {
    Evidence {
        misses: 18,
        heartbeat_age_ms: Some(92_300),
        progress_age_ms: 92_300,
        progress: "heartbeat".into(),
        source: Some("janus".into()),
        source_silent_ms: Some(1_200),
        sockets_gone: Some(false),
        witness: Some(Witness {
            window_ms: 25_000,
            rtp_in_packets: 1_240,
            rtp_out_packets: 0,
            saw_egress: true,
        }),
        cap_used: 0,
        cap_allowed: 2,
        mode: "enforce".into(),
    }
}

fn told(entries: Vec<Entry>) -> String {
    let room = "talk-1".into();
    story(&ExplainResponse { room, entries }, Output::plain())
}

#[test]
fn a_trip_is_told_from_its_evidence_to_its_lift() {
    let trip = Trip {
        rule: "omitted".into(),
        evidence: Some(evidence()),
        until: Some(Time {
            rfc3339: "2026-11-22T03:16:31.500Z".into(),
            unix_ms: 0,
        }),
        version: 4,
    };
    let armed = StepEnded {
        step: "arm".into(),
        ok: true,
        detail: "4 ports".into(),
    };
    let dropped = FirstDrop {
        direction: "ingress".into(),
        after_us: 42,
    };
    let lifted = Lifted {
        dropped_packets: Some(60_012),
        reason: "the deadline passed".into(),
    };
    let story = told(vec![
        at("03:11:31.500", What::Trip(trip)),
        at("03:11:31.501", What::Step(armed)),
        at("03:11:31.501", What::FirstDrop(dropped)),
        at(
            "03:11:31.510",
            What::Acknowledged(Acknowledged {
                peers: vec!["gw-1".into(), "gw-2".into()],
            }),
        ),
        at("03:16:31.500", What::Lifted(lifted)),
    ]);
    assert_eq!(
        story,
        "\
Room talk-1: 5 records, oldest first, times in UTC.

Life 3, 2026-11-22
  03:11:31.500  TRIPPED: its media server answers and leaves out this room, and RTP does not move
                  both ways.
                The cut lifts by itself at 2026-11-22T03:16:31.500Z. Record version 4.
                18 heartbeats missed in a row; the last one came 92 s ago.
                No progress for 92 s; the latest was: a media heartbeat.
                Media server janus last answered 1.2 s ago; its sockets are open.
                The kernel counted 1,240 RTP packets in and 0 out over the last 25 s.
                Blast cap: 0 of 2 used. Mode: enforce.
  03:11:31.501  Arm the kernel's verdict: done (4 ports).
  03:11:31.501  First packet dropped (towards the node), 42 µs after arming.
  03:11:31.510  gw-1, gw-2 took note of STATE_EXPIRED.
  03:16:31.500  The cut is over: the deadline passed; 60,012 packets dropped in all.
"
    );
}

#[test]
fn an_operators_block_is_told_with_what_was_known_then_and_without_it_where_that_was_not_recorded() {
    let block = |evidence| Trip {
        rule: "operator".into(),
        evidence,
        until: None,
        version: 4,
    };
    let lines = |evidence| {
        let story = told(vec![at("03:11:31.500", What::Trip(block(evidence)))]);
        let entry = story.lines().skip(3).take_while(|line| !line.is_empty());
        let lines = entry.map(|line| line.trim_start().to_owned());
        lines.collect::<Vec<_>>()
    };
    let known = lines(Some(evidence()));
    assert!(known[0].ends_with("TRIPPED: an operator said so."), "{known:?}");
    assert_eq!(
        known[2..4],
        [
            "What was known then, whether the operator looked at it or not:",
            "18 heartbeats missed in a row; the last one came 92 s ago.",
        ]
    );
    assert_eq!(lines(None).len(), 2);
}

#[test]
fn a_hold_says_why_and_what_is_not_known() {
    let facts = Evidence {
        heartbeat_age_ms: None,
        source: None,
        witness: None,
        ..evidence()
    };
    let held = Held {
        hold: "blast_cap".into(),
        evidence: Some(facts),
    };
    let story = told(vec![at("03:11:31.500", What::Held(held))]);
    let lines: Vec<&str> = story.lines().skip(3).map(str::trim_start).collect();
    assert_eq!(
        lines,
        [
            "03:11:31.500  Stuck, yet not cut: the blast cap is used up.",
            "18 heartbeats missed in a row; none ever came in this life.",
            "No progress for 92 s; the latest was: a media heartbeat.",
            "No media server ever listed it.",
            "The kernel has no counters of this room, so it is no witness.",
            "Blast cap: 0 of 2 used. Mode: enforce.",
            "",
            "It is not cut. If it is dead all the same: voice-agent block talk-1 --reason TEXT",
        ]
    );
}

#[test]
fn a_room_that_is_still_cut_is_told_with_the_command_that_lifts_it_and_one_that_went_on_without() {
    let trip = || at("03:11:31.500", What::Trip(Trip::default()));
    let lift = "\nIt is cut. If that is wrong: voice-agent release talk-1 --reason TEXT\n";
    assert!(told(vec![trip()]).ends_with(lift));
    let after = at("03:12:00.000", What::Transition(Transition::default()));
    assert!(!told(vec![trip(), after]).contains("voice-agent release"));
}

#[test]
fn a_failed_step_and_a_shared_port_say_what_follows_from_them() {
    let failed = StepEnded {
        step: "push".into(),
        ok: false,
        detail: "no session serves the room".into(),
    };
    let shared = PortShared {
        port: 50_002,
        other_room: "talk-2".into(),
    };
    let story = told(vec![
        at("03:00:00.000", What::Step(failed)),
        at("03:00:01.000", What::PortShared(shared)),
    ]);
    assert!(story.contains(
        "  03:00:00.000  Push STATE_EXPIRED: FAILED (no session serves the room). It never stops the other\n"
    ));
    assert!(story.contains("  03:00:01.000  Port 50002 is claimed by room talk-2 too.\n"));
}

#[test]
fn a_new_life_gets_a_heading_and_a_transition_names_its_actor() {
    let first = at("03:00:00.000", What::Recovered(crate::proto::admin::Recovered {}));
    let created = Transition {
        event_type: "CREATE".into(),
        new_state: "CREATED".into(),
        version: 9,
        epoch: "0.7".into(),
        op_id: "op-1".into(),
        actor: "peer gw-1".into(),
        ..Transition::default()
    };
    let second = Entry {
        incarnation: 4,
        ..at("03:00:01.000", What::Transition(created))
    };
    let story = told(vec![first, second]);
    assert!(
        story.contains("\nLife 3, 2026-11-22\n  03:00:00.000  Recovered: a media heartbeat came again.\n")
    );
    assert!(story.contains(
        "\nLife 4, 2026-11-22\n  03:00:01.000  (no room) -> CREATED by CREATE (peer gw-1).\n                \
         Version 9, epoch 0.7, op_id op-1.\n"
    ));
}

#[test]
fn nothing_recorded_is_said_in_words_and_no_line_is_longer_than_the_screen() {
    assert_eq!(told(Vec::new()), "Nothing is recorded of room talk-1 yet.\n");
    let long = Lifted {
        dropped_packets: None,
        reason: "many words ".repeat(40),
    };
    let story = told(vec![at("03:00:00.000", What::Lifted(long))]);
    assert!(story.lines().all(|l| l.chars().count() <= 100), "{story}");
}

#[test]
fn maintenance_is_told_with_its_end_who_and_why() {
    let on = MaintenanceChanged {
        until: Some(Time {
            rfc3339: "2026-11-22T03:16:31.500Z".into(),
            unix_ms: 0,
        }),
        every_room: true,
        reason: "kernel upgrade.".into(),
        actor: "operator uid=0".into(),
    };
    let off = MaintenanceChanged {
        until: None,
        every_room: false,
        reason: "its time is over".into(),
        actor: "agent".into(),
    };
    let entries = vec![
        at("03:11:31.500", What::Maintenance(on)),
        at("03:16:31.500", What::Maintenance(off)),
    ];
    let story = told(entries);
    let lines: Vec<&str> = story.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "  03:11:31.500  Maintenance of every room until 2026-11-22T03:16:31.500Z: no trip.",
            "                By operator uid=0: kernel upgrade.",
            "  03:16:31.500  Maintenance of this room is over.",
            "                By agent: its time is over.",
        ]
    );
}

#[test]
fn a_sync_is_told_with_who_agreed_who_refused_and_who_was_silent() {
    let sync = Synced {
        event: "START_LIVE".into(),
        attempt: "0.7/12".into(),
        version: 2,
        failed: Some("not agreed".into()),
        agreed: vec![Agreed {
            peer: "gw-1".into(),
            after_us: 1_250,
        }],
        refused: vec![Declined {
            peer: "sfu-1".into(),
            why: "full".into(),
        }],
        silent: vec!["sig-1".into()],
        ..Synced::default()
    };
    let story = told(vec![at("03:11:31.500", What::Synced(sync))]);
    let lines: Vec<&str> = story.lines().skip(3).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "03:11:31.500  Sync 0.7/12 of START_LIVE failed: not agreed.",
            "Agreed: gw-1 after 1.2 ms.",
            "Refused: sfu-1 (full).",
            "Silent: sig-1.",
        ]
    );
}
