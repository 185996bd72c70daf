//! `explain ROOM`: the recorded evidence as plain sentences with figures, for a person at three in the morning. What each
//! kind of entry says is in `explain/sentences.rs`.

mod evidence;
mod sentences;
#[cfg(test)]
mod tests;

use super::{
    Failure,
    client::call,
    output::{Output, Tone},
    text,
};
use crate::{
    config::Paths,
    proto::admin::{Entry, ExplainRequest, ExplainResponse, entry::What},
};
use voice_room::RoomId;

/// Sentences begin here: after `  13:11:12.345  `.
const INDENT: &str = "                ";

/// Asks and prints.
pub(super) async fn explain(paths: &Paths, out: Output, room: &RoomId) -> Result<String, Failure> {
    let request = ExplainRequest {
        room: room.to_string(),
    };
    let answer = call!(paths, explain(request))?;
    out.print(&answer, story)
}

/// The evidence as text.
pub(super) fn story(answer: &ExplainResponse, out: Output) -> String {
    if answer.entries.is_empty() {
        return format!("Nothing is recorded of room {} yet.\n", answer.room);
    }
    let n = text::many(answer.entries.len() as u64, "record");
    let mut told = format!(
        "Room {}: {n}, oldest first, times in UTC.\n",
        out.tone(Tone::Strong, &answer.room)
    );
    let mut before: Option<&Entry> = None;
    for entry in &answer.entries {
        let new_life = before.is_none_or(|b| b.incarnation != entry.incarnation);
        if new_life || before.is_some_and(|b| day(b) != day(entry)) {
            let head = format!("Life {}, {}", entry.incarnation, day(entry));
            told += &format!("\n{}\n", out.tone(Tone::Strong, &head));
        }
        told += &paragraph(entry, out);
        before = Some(entry);
    }
    told + &next(answer)
}

/// What can be done now, while the last word on the room is a cut or a hold.
fn next(answer: &ExplainResponse) -> String {
    let room = &answer.room;
    let decides = |e: &&Entry| {
        matches!(
            e.what,
            Some(
                What::Transition(_)
                    | What::Trip(_)
                    | What::Lifted(_)
                    | What::Held(_)
                    | What::WouldTrip(_)
                    | What::Recovered(_)
            )
        )
    };
    match answer
        .entries
        .iter()
        .rev()
        .find(decides)
        .and_then(|e| e.what.as_ref())
    {
        Some(What::Trip(_)) => {
            format!("\nIt is cut. If that is wrong: voice-agent release {room} --reason TEXT\n")
        }
        Some(What::Held(_)) => {
            format!("\nIt is not cut. If it is dead all the same: voice-agent block {room} --reason TEXT\n")
        }
        _ => String::new(),
    }
}

fn day(entry: &Entry) -> &str {
    text::day(entry.at.as_ref())
}

/// The time, and the sentences below each other.
fn paragraph(entry: &Entry, out: Output) -> String {
    let Some(what) = &entry.what else {
        return format!(
            "  {}  (a record this version cannot read)\n",
            text::clock(entry.at.as_ref())
        );
    };
    let (tone, sentences) = sentences::of(what);
    let mut lines = sentences.iter().flat_map(|s| wrap(s));
    let first = lines.next().unwrap_or_default();
    let first = tone.map_or(first.clone(), |tone| out.tone(tone, &first));
    let mut told = format!("  {}  {first}\n", text::clock(entry.at.as_ref()));
    for line in lines {
        told += &format!("{INDENT}{line}\n");
    }
    told
}

/// Breaks a sentence at blanks, so that a line with its indent fits the screen. A word that is longer stays whole.
fn wrap(sentence: &str) -> Vec<String> {
    let room = usize::from(super::output::WIDTH) - INDENT.len();
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let is_full = lines
            .last()
            .is_some_and(|l| !l.is_empty() && l.chars().count() + 1 + word.chars().count() > room);
        if is_full {
            lines.push("  ".into());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
