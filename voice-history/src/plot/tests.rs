use super::*;
use crate::{
    query::{HealthAt, Taken},
    snapshot::{Health, NodeHealth},
    testing::{change, room, snapshot},
};
use voice_common::Count;
use voice_room::State;

const START: u64 = 1_763_817_000_000;

/// A room that stops sending, is cut after 95 s, and whose cut lifts.
fn story() -> Answer {
    let mut answer = Answer::default();
    let mut now = snapshot();
    for n in 0..180u64 {
        let at = START + n * 5000;
        let stuck = (60..140).contains(&n);
        now.misses = if stuck { (n - 60).min(20) as u32 } else { 0 };
        now.heartbeat_age = Some(if stuck { (n as u32 - 60) * 50 } else { 7 });
        now.state = if (80..140).contains(&n) {
            State::Expired
        } else {
            State::Liveing
        };
        let dropping = now.state == State::Expired;
        for (place, rate) in [
            (usize::from(dropping), 250),
            (3 + usize::from(dropping), 9),
            (9, if stuck { 0 } else { 245 }),
        ] {
            let count = &mut now.media.0[place];
            *count = Count {
                packets: count.packets + rate + n % 7,
                bytes: count.bytes + rate * 172,
            };
        }
        answer.snapshots.push(Taken {
            at: Wall(at),
            snapshot: now.clone(),
        });
    }
    answer.transitions.push(change(
        "a",
        START + 400_000,
        Some(State::Liveing),
        State::Expired,
        3,
    ));
    for (n, etcd) in [
        (0, Health::Healthy),
        (70, Health::Degraded),
        (90, Health::Broken),
        (120, Health::Healthy),
    ] {
        let health = NodeHealth::from([("etcd".into(), etcd), ("store".into(), Health::Healthy)]);
        answer.health.push(HealthAt {
            at: Wall(START + n * 5000),
            health,
        });
    }
    answer.transitions[0].reason = "5 heartbeats missed & nothing leaves".into();
    answer
}

fn drawn(answer: &Answer) -> String {
    svg(&room("room-7"), Wall(START), Wall(START + 900_000), answer)
}

#[test]
fn the_picture_has_every_state_line_and_dependency_and_the_trip() {
    let svg = drawn(&story());
    for part in [
        "class=\"LIVEING\"",
        "class=\"EXPIRED\"",
        "line rtp in",
        "line rtp out",
        "line rtcp in",
        "line drop in",
        "line age",
        "class=\"broken\"",
        "class=\"missed\"",
        ">etcd<",
        "class=\"trip\"",
        "cut: 5 heartbeats missed &amp; nothing leaves",
        "prefers-color-scheme:dark",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(!svg.contains("line other"), "what never moved has no line");
    if let Ok(file) = std::env::var("VOICE_HISTORY_PLOT") {
        std::fs::write(file, svg).unwrap();
    }
}

#[test]
fn every_place_lies_on_the_paper_whatever_the_answer() {
    let mut odd = story();
    odd.snapshots[5].at = Wall(u64::MAX);
    odd.snapshots[6].at = Wall(0);
    odd.snapshots[7].snapshot.media.0[0].packets = u64::MAX;
    odd.snapshots[8].snapshot.media.0[0].packets = 0;
    let one = Answer {
        snapshots: odd.snapshots[..1].to_vec(),
        ..Answer::default()
    };
    for answer in [story(), odd, one, Answer::default()] {
        let svg = drawn(&answer);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for x in svg
            .split("x1=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!((0.0..=1200.0).contains(&x.parse::<f64>().unwrap()), "{x}");
        }
    }
}

#[test]
fn no_line_is_drawn_over_a_gap() {
    let mut answer = story();
    answer.snapshots.drain(20..50);
    let count = |answer: &Answer| drawn(answer).matches("line rtp in").count();
    assert_eq!(count(&answer), count(&story()) + 1);
}
