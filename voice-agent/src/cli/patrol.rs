//! `diff [ROOM]` and `repair [ROOM|--all]`.

use super::{
    Code, Failure,
    client::call_patiently,
    output::{Output, Tone},
    text,
};
use crate::{
    config::Paths,
    proto::admin::{
        DiffRequest, DiffResponse, Difference, PatrolRound, RepairRequest, RepairResponse, RepairResult,
        Unknown,
    },
};
use voice_room::RoomId;

/// How rooms compare with what is held of them elsewhere.
pub(super) async fn diff(paths: &Paths, out: Output, room: Option<&RoomId>) -> Result<String, Failure> {
    let request = DiffRequest {
        room: room.map(ToString::to_string),
    };
    let answer = call_patiently!(paths, diff(request))?;
    out.print(&answer, differences)
}

/// Repairs what this agent may. One that failed makes the command fail, after all were tried.
pub(super) async fn repair(
    paths: &Paths,
    out: Output,
    room: Option<&RoomId>,
    dry_run: bool,
) -> Result<String, Failure> {
    let request = RepairRequest {
        room: room.map(ToString::to_string),
        dry_run,
    };
    repaired(&call_patiently!(paths, repair(request))?, out)
}

fn differences(answer: &DiffResponse, out: Output) -> String {
    let rooms = text::many(answer.rooms.into(), "room");
    let mut said = format!("{rooms} compared in {}. ", text::duration(answer.took_ms));
    said += &match answer.differences.len() {
        0 => out.tone(Tone::Good, "No difference.\n"),
        n => out.tone(Tone::Look, &format!("{}:\n", text::many(n as u64, "difference"))),
    };
    let mut room = "";
    for d in &answer.differences {
        if d.room != room {
            room = &d.room;
            said += &format!("\n{}\n", out.tone(Tone::Strong, room));
        }
        said += &difference(d, out);
    }
    if answer.left_out > 0 {
        said += &format!("\n{} more are not shown.\n", text::count(answer.left_out.into()));
    }
    said += &unknown(&answer.unknown, out);
    if answer.unsettled > 0 {
        let n = text::many(answer.unsettled.into(), "room");
        said += &format!("{n} not held here, or changing just now: compared with the kernel only.\n");
    }
    said + &last(answer.last_round.as_ref())
}

fn difference(d: &Difference, out: Output) -> String {
    let (here, there) = (text::value(d.here.as_ref()), text::value(d.there.as_ref()));
    let right = match d.right.as_str() {
        "here" => "here is right",
        "there" => "there is right",
        _ => "who is right is not known",
    };
    let stands = match d.rounds {
        0 => "new".into(),
        1 => "found by 1 round, counts with the next".into(),
        n => format!("found by {n} rounds, since {}", text::moment(d.since.as_ref())),
    };
    let tone = match d.class.as_str() {
        "human" => Tone::Bad,
        "repairable" => Tone::Look,
        _ => Tone::Faint,
    };
    let class = out.tone(tone, &d.class);
    let why = d.why.trim_end_matches('.');
    format!(
        "  {}: {here} here, {there} there; {right}\n    {class}, {stands}: {why}.\n",
        d.path
    )
}

fn unknown(unknown: &[Unknown], out: Output) -> String {
    let one = |u: &Unknown| {
        let said = format!(
            "The {} could not be looked at, nothing is known of it: {}.",
            u.place, u.problem
        );
        out.tone(Tone::Look, &said) + "\n"
    };
    unknown.iter().map(one).collect()
}

fn last(round: Option<&PatrolRound>) -> String {
    let Some(round) = round else {
        return "No round of all rooms has ended yet.\n".into();
    };
    let (ended, took) = (text::moment(round.ended.as_ref()), text::duration(round.took_ms));
    let rooms = text::many(round.rooms.into(), "room");
    format!("The last round of all rooms ended {ended}: {rooms} in {took}.\n")
}

fn repaired(answer: &RepairResponse, out: Output) -> Result<String, Failure> {
    let of = |outcome: &str| answer.results.iter().filter(|r| r.outcome == outcome).count();
    let failed = of("failed");
    let said = out.print(answer, outcomes)?;
    if failed == 0 {
        return Ok(said);
    }
    let message = format!("{failed} of {} differences not repaired", answer.results.len());
    Err(Failure {
        done: said,
        ..Failure::new(Code::Failed, message)
    })
}

fn outcomes(answer: &RepairResponse, out: Output) -> String {
    let mut said: String = answer.results.iter().map(|r| outcome(r, out)).collect();
    if answer.results.is_empty() {
        said = "No difference; nothing to repair.\n".into();
    }
    said + &unknown(&answer.unknown, out)
}

fn outcome(r: &RepairResult, out: Output) -> String {
    let Some(d) = &r.difference else {
        return String::new();
    };
    let (tone, word) = match r.outcome.as_str() {
        "repaired" => (Tone::Good, "Repaired"),
        "would_repair" => (Tone::Look, "Would repair"),
        "left" => (Tone::Faint, "Left"),
        _ => (Tone::Bad, "NOT repaired"),
    };
    let (here, there) = (text::value(d.here.as_ref()), text::value(d.there.as_ref()));
    let why = match r.detail.trim_end_matches('.') {
        "" => String::new(),
        why => format!(": {why}"),
    };
    let word = out.tone(tone, word);
    format!("{word} {} {}: {here} here, {there} there{why}.\n", d.room, d.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{Time, Value, value};

    fn found() -> Difference {
        let text = |text: &str| {
            let value = Some(value::Value::Text(text.into()));
            Some(Value { value })
        };
        Difference {
            room: "talk-1".into(),
            place: "store".into(),
            path: "/store/state".into(),
            here: text("LIVEING"),
            there: text("EXPIRED"),
            right: "here".into(),
            class: "repairable".into(),
            why: "what is stored is not what was stored".into(),
            rounds: 2,
            since: Some(Time {
                rfc3339: "2026-11-28T20:00:00.000Z".into(),
                unix_ms: 0,
            }),
        }
    }

    #[test]
    fn a_difference_is_shown_with_its_path_both_values_who_is_right_and_for_how_long() {
        let answer = DiffResponse {
            rooms: 2,
            differences: vec![found()],
            took_ms: 3,
            ..DiffResponse::default()
        };
        assert_eq!(
            differences(&answer, Output::plain()),
            "2 rooms compared in 3 ms. 1 difference:\n\ntalk-1\n  /store/state: \"LIVEING\" here, \"EXPIRED\" there; \
             here is right\n    repairable, found by 2 rounds, since 2026-11-28T20:00:00.000Z: what is stored is not what \
             was stored.\nNo round of all rooms has ended yet.\n"
        );
        let json = serde_json::to_value(&answer).unwrap();
        let json = &json["differences"][0];
        assert_eq!(
            (&json["here"], &json["path"]),
            (&"LIVEING".into(), &"/store/state".into())
        );
    }

    #[test]
    fn a_place_that_is_away_is_said_and_nothing_found_is_no_word_of_it() {
        let answer = DiffResponse {
            rooms: 1,
            unknown: vec![Unknown {
                place: "store".into(),
                problem: "Redis: no answer".into(),
            }],
            ..DiffResponse::default()
        };
        let said = differences(&answer, Output::plain());
        assert!(
            said.contains("No difference.\nThe store could not be looked at, nothing is known of it: Redis"),
            "{said}"
        );
    }

    #[test]
    fn one_repair_that_failed_fails_the_command_and_what_was_left_says_why() {
        let result = |outcome: &str, detail: &str| RepairResult {
            difference: Some(found()),
            outcome: outcome.into(),
            detail: detail.into(),
        };
        let answer = RepairResponse {
            results: vec![result("repaired", ""), result("left", "written under epoch 0.9")],
            ..RepairResponse::default()
        };
        let said = repaired(&answer, Output::plain()).unwrap();
        assert!(
            said.starts_with("Repaired talk-1 /store/state: \"LIVEING\" here, \"EXPIRED\" there.\nLeft "),
            "{said}"
        );
        assert!(said.ends_with("there: written under epoch 0.9.\n"), "{said}");
        let answer = RepairResponse {
            results: vec![result("failed", "it still stands")],
            ..RepairResponse::default()
        };
        let failure = repaired(&answer, Output::plain()).unwrap_err();
        assert_eq!(failure.message, "1 of 1 differences not repaired");
        assert!(failure.done.contains("NOT repaired"));
    }
}
