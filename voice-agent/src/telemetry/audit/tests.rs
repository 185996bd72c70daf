//! Lines, thread and file together, on real files.

use super::*;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _};
use voice_room::{
    Incarnation, RoomId,
    timeline::{Actor, Step, What},
};

fn config(path: &Path, max_bytes: u64, keep: u32) -> AuditConfig {
    AuditConfig {
        file: Some(path.into()),
        max_bytes,
        keep,
    }
}

fn line(n: u64) -> Line {
    agent("test", Wall(n)).result(json!({ "n": n }))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn times(text: &str) -> Vec<u64> {
    parsed(text)
        .iter()
        .map(|line| line["unix_ms"].as_u64().unwrap())
        .collect()
}

/// What is in the file once all that `tell` handed over is written.
fn written(tell: impl FnOnce(&Audit)) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (audit, writer) = Audit::start(&config(&path, 1 << 20, 2)).unwrap();
    tell(&audit);
    drop(audit);
    drop(writer);
    parsed(&fs::read_to_string(path).unwrap())
}

#[test]
fn lines_are_whole_in_order_and_readable_by_owner_and_group_only_and_a_torn_one_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    for n in 0..2 {
        let (audit, writer) = Audit::start(&config(&path, 1 << 20, 2)).unwrap();
        (n * 1000..(n + 1) * 1000).for_each(|n| audit.write(line(n)));
        drop(audit);
        drop(writer);
        // As a crash leaves it.
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"torn");
        fs::write(&path, text).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("{\"torn").count(), 2);
    let whole: Vec<&str> = text.split_inclusive("{\"torn").collect();
    let of = |n: usize| times(whole[n].trim_start_matches('\n').trim_end_matches("{\"torn"));
    assert_eq!((of(0), of(1)), ((0..1000).collect(), (1000..2000).collect()));
    assert!(whole[1].starts_with('\n'));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_file_is_rotated_before_it_grows_too_large_and_only_so_many_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (audit, writer) = Audit::start(&config(&path, 1000, 3)).unwrap();
    (0..200).for_each(|n| audit.write(line(n)));
    drop(audit);
    drop(writer);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    let mut all = Vec::new();
    for name in ["audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.len() <= 1000, "{name} has {} bytes", text.len());
        all.extend(times(&text));
    }
    let last = 200 - u64::try_from(all.len()).unwrap();
    assert_eq!(all, (last..200).collect::<Vec<_>>(), "none lost in between");
    assert!(all.len() > 15);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_rotation_that_a_crash_cut_short_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let at = |name: &str| dir.path().join(name);
    // As after the first move of a rotation: .1 is .2 already, and there is no .1.
    fs::write(at("audit.jsonl.2"), "old\n").unwrap();
    fs::write(&path, "x".repeat(990) + "\n").unwrap();
    let mut lines = VecDeque::from([Told::Line(line(1)).text()]);
    Rotated::new(path.clone(), 1000, 3).append(&mut lines).unwrap();
    assert_eq!(fs::read_to_string(at("audit.jsonl.3")).unwrap(), "old\n");
    assert!(
        fs::read_to_string(at("audit.jsonl.1"))
            .unwrap()
            .starts_with("xxx")
    );
    assert_eq!(times(&fs::read_to_string(&path).unwrap()), [1]);
}

#[test]
fn a_file_that_cannot_be_made_is_counted_and_shown_and_its_lines_follow_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not-yet/audit.jsonl");
    let failed = Counter::AuditFailed.value();
    let (audit, _writer) = Audit::start(&config(&path, 1 << 20, 2)).unwrap();
    audit.write(line(1));
    until("the failure is shown", || audit.problem().is_some());
    assert!(Counter::AuditFailed.value() > failed);
    let problem = audit.problem().unwrap();
    assert!(problem.contains("not-yet/audit.jsonl: No such file"), "{problem}");
    fs::create_dir(dir.path().join("not-yet")).unwrap();
    until("the line is written", || {
        fs::read_to_string(&path).is_ok_and(|text| times(&text) == [1])
    });
    until("nothing is wrong any more", || audit.problem().is_none());
}

#[test]
fn when_the_queue_is_full_lines_are_counted_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = config(&dir.path().join("nowhere/audit.jsonl"), 1 << 20, 2);
    let (audit, _writer) = Audit::start(&nowhere).unwrap();
    let dropped = Counter::AuditDropped.value();
    let more = QUEUE + BATCH + 100;
    (0..u64::try_from(more).unwrap()).for_each(|n| audit.write(line(n)));
    assert!(Counter::AuditDropped.value() >= dropped + 100);
}

#[test]
fn what_an_operator_asked_for_is_one_line_also_when_refused_or_not_waited_for() {
    let uid = |uid| Actor::Operator { uid };
    let lines = written(|audit| {
        let asked = audit.asked("block", uid(Some(7)));
        asked.of_room("a").because("why").done(&json!({ "version": 3 }));
        let long = "x".repeat(1 << 20);
        let asked = audit.asked("release", uid(None)).of_room(&long).because(&long);
        asked.refused(Some("unknown_room"), "no such room");
        drop(audit.asked("close", uid(Some(7))));
    });
    let [done, refused, gone] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!((&done["actor"], &done["uid"]), (&json!("operator"), &json!(7)));
    assert_eq!(done["result"], json!({ "ok": true, "answer": { "version": 3 } }));
    assert_eq!(
        (&refused["uid"], &refused["result"]["ok"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(refused["result"]["code"], "unknown_room");
    assert!(refused.to_string().len() < 1000, "bounded: {refused}");
    assert_eq!(gone["result"]["ok"], Value::Null, "{gone}");
}

#[test]
fn of_what_the_core_records_decisions_and_results_of_trips_become_lines() {
    let entry = |what| Entry {
        room: RoomId::new("a").unwrap(),
        incarnation: Incarnation(4),
        at: Wall(1_700_000_000_000),
        what,
    };
    let step = |step, result| What::Step { step, result };
    let lines = written(|audit| {
        audit.decided(&entry(What::Recovered));
        audit.decided(&entry(What::Ports {
            ports: Vec::new(),
            flows: 0,
            ssrcs: 0,
        }));
        audit.decided(&entry(step(Step::Journal, Ok("written".into()))));
        audit.decided(&entry(step(Step::Push, Err("nobody".into()))));
        let reason = "the isolation is over".into();
        let dropped = Some(12);
        audit.decided(&entry(What::Lifted { dropped, reason }));
    });
    let [push, lifted] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (&push["action"], &push["reason"]),
        (&json!("step"), &json!("push"))
    );
    assert_eq!(push["result"], json!({ "ok": false, "problem": "nobody" }));
    assert_eq!(lifted["result"], json!({ "dropped_packets": 12 }));
    assert_eq!(lifted["time"], "2023-11-14T22:13:20.000Z");
    assert_eq!(
        (&lifted["room"], &lifted["incarnation"]),
        (&json!("a"), &json!(4))
    );
}
