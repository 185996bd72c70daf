//! Questions that have no answer, or a very long one, put to a real agent by its CLI: the same clear words, exit code and bounded
//! work with both kinds of history.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use serde_json::Value;
use std::time::{Duration, Instant};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    influx::Influxd,
    netns::Pair,
    stage::{ALPHA, Stage},
};

const BACK: Duration = Duration::from_secs(60);
/// A question is answered, or refused, within 5 s; and busy cores.
const ANSWERED: Duration = Duration::from_secs(10);

const LONG: &str = "a234567890123456789012345678901234567890123456789012345678901234x";
const NINE: &str = "CREATED>LIVEING>EXPIRED>LIVEING>EXPIRED>LIVEING>EXPIRED>LIVEING>EXPIRED>DESTROYED";
const ALLOWED_PATH: &str = "the states are CREATED, LIVEING, GRACE_CLOSING, EXPIRED and DESTROYED";

/// Refused: arguments, exit code, and what is said of what is wrong or allowed.
const REFUSED: &[(&[&str], i32, &str)] = &[
    (&["never"], 4, "the history knows no room never"),
    (&["never", "--at", "1s"], 4, "the history knows no room never"),
    (
        &["never", "--since", "100y"],
        4,
        "the history knows no room never",
    ),
    (
        &["never", "--plot", "/dev/null"],
        4,
        "the history knows no room never",
    ),
    (&["a/b"], 2, "A-Z a-z 0-9 . _ -"),
    (&[""], 2, "A-Z a-z 0-9 . _ -"),
    (&[LONG], 2, "1 to 64"),
    (&["' OR '1'='1"], 2, "A-Z a-z 0-9 . _ -"),
    (&[ALPHA, "--from", "1m", "--to", "2m"], 2, "ends before it begins"),
    (
        &[ALPHA, "--to", "1999-01-01T00:00:00Z"],
        2,
        "ends before it begins",
    ),
    (
        &["--path", "LIVEING>EXPIRED", "--from", "1m", "--to", "2m"],
        2,
        "ends before it begins",
    ),
    (&[ALPHA, "--from", "noon"], 2, "allowed are RFC 3339"),
    (
        &[ALPHA, "--at", "2026-13-45T99:00:00Z"],
        2,
        "allowed are RFC 3339",
    ),
    (&[ALPHA, "--since=-1h"], 2, "is no length of time"),
    (
        &[ALPHA, "--since", "99999999999999999999y"],
        2,
        "is no length of time",
    ),
    (
        &[ALPHA, "--since", "1h", "--from", "2h"],
        2,
        "cannot be used with",
    ),
    (&[ALPHA, "--path", "LIVEING>EXPIRED"], 2, "cannot be used with"),
    (&[ALPHA, "--points", "0"], 2, "1..=100000"),
    (&["--path", ""], 2, ALLOWED_PATH),
    (&["--path", ">"], 2, ALLOWED_PATH),
    (&["--path", "LIVEING"], 2, ALLOWED_PATH),
    (&["--path", "LIVEING>>EXPIRED"], 2, ALLOWED_PATH),
    (&["--path", "LIVEING>NONE"], 2, ALLOWED_PATH),
    (&["--path", "LIVEING>\u{1f600}"], 2, ALLOWED_PATH),
    (
        &["--path", "LIVEING'; DROP DATABASE voice>EXPIRED"],
        2,
        ALLOWED_PATH,
    ),
    (&["--path", NINE], 2, ALLOWED_PATH),
    (&[], 2, "<ROOM>"),
];

/// Answered, however long the time: arguments, and whether anything is found.
const ANSWERED_WITH: &[(&[&str], &str, bool)] = &[
    (&[ALPHA, "--since", "100y"], "snapshots", true),
    (
        &[
            ALPHA,
            "--from",
            "1970-01-01T00:00:00Z",
            "--to",
            "9999-12-31T23:59:59Z",
        ],
        "snapshots",
        true,
    ),
    (
        &[
            ALPHA,
            "--from",
            "9998-01-01T00:00:00Z",
            "--to",
            "9999-01-01T00:00:00Z",
        ],
        "snapshots",
        false,
    ),
    (
        &[
            ALPHA,
            "--from",
            "1970-01-01T00:00:00Z",
            "--to",
            "1999-01-01T00:00:00Z",
        ],
        "snapshots",
        false,
    ),
    (&["--path", "NONE>LIVEING", "--since", "100y"], "trips", true),
    (&["--path", "EXPIRED>CREATED", "--since", "100y"], "trips", false),
    (&["--path", "NONE>liveing", "--since", "100y"], "trips", true),
    (
        &[
            "--path",
            "NONE>LIVEING",
            "--from",
            "1970-01-01T00:00:00Z",
            "--to",
            "9999-12-31T23:59:59Z",
        ],
        "trips",
        true,
    ),
];

fn ask(agent: &Agent, args: &[&str]) -> std::process::Output {
    let begun = Instant::now();
    let out = agent.cli(&[&["history"], args].concat()).unwrap();
    assert!(begun.elapsed() < ANSWERED, "{args:?} took {:?}", begun.elapsed());
    out
}

/// All of them, on an agent that has snapshots of alpha.
fn questions(stage: &Stage) {
    let agent = &stage.agent;
    clock::wait_for("snapshots", BACK, || {
        let answer = agent.json(&["history", ALPHA]).unwrap_or_default();
        answer["snapshots"].as_array().is_some_and(|all| all.len() > 2)
    });
    for (args, code, said) in REFUSED {
        let out = ask(agent, args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
    for (args, what, found) in ANSWERED_WITH {
        let out = ask(agent, &[args, &["--json"][..]].concat());
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {stderr}");
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
        let all = answer[what].as_array().unwrap();
        assert_eq!(!all.is_empty(), *found, "{args:?}: {answer}");
        // The same for people.
        let out = ask(agent, args);
        assert_eq!(out.status.code(), Some(0), "{args:?}");
        assert!(!out.stdout.is_empty(), "{args:?}");
    }
    // Before its first snapshot, and long after its last.
    let before = agent.json(&["history", ALPHA, "--at", "1999-01-01T00:00:00Z"]);
    assert_eq!(before.unwrap()["snapshot"], Value::Null);
    let after = agent.json(&["history", ALPHA, "--at", "9999-01-01T00:00:00Z"]);
    assert_eq!(after.unwrap()["snapshot"]["state"], "LIVEING");
    assert_eq!(agent.state(ALPHA), "LIVEING", "nothing came of any of it");
}

#[test]
fn the_history_on_disk_answers_every_question_with_what_is_wrong_and_what_is_allowed() {
    let settings = Settings::new(Times::TEST)
        .set("history.every", "\"1s\"")
        .set("history.reserve_mib", "0");
    questions(&Stage::new(settings));
}

#[test]
fn the_history_in_a_database_answers_every_question_with_what_is_wrong_and_what_is_allowed() {
    let pair = Pair::new().unwrap();
    let influxd = Influxd::start(&pair.node).unwrap();
    let settings = Settings::new(Times::TEST)
        .set("history.every", "\"1s\"")
        .set("history.kind", "\"influx\"")
        .set("history.influx.address", &format!("{:?}", influxd.address()));
    questions(&Stage::on(pair, settings).unwrap());
}
