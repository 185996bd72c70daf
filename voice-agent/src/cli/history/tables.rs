//! Answers of the history as text.

use super::times::shown;
use crate::cli::{
    output::{Output, Tone},
    text,
};
use comfy_table::Cell;
use std::fmt::Write;
use voice_common::{Class, Direction, Verdict};
use voice_history::{Answer, HealthAt, Moment, PathPage, Snapshot, Taken, Transition};
use voice_room::{RoomId, State, Wall};

type Span = (Wall, Wall);

/// A room over a time.
pub(super) fn room(room: &RoomId, span: Span, answer: &Answer, out: Output) -> String {
    let mut told = format!(
        "Room {} from {} to {} UTC: {} of its snapshots.\n",
        out.tone(Tone::Strong, room),
        shown(span.0),
        shown(span.1),
        answer.snapshots.len()
    );
    if answer.snapshots.is_empty() {
        told +=
            "It has no snapshots in that time, but in others: give another with --from, --to or --since.\n";
    } else {
        let mut before = None;
        let mut rows = Vec::new();
        for taken in &answer.snapshots {
            rows.push(row(before, taken, out));
            before = Some(taken);
        }
        let header = [
            "TIME",
            "STATE",
            "VERSION",
            "MISSED",
            "HEARTBEAT",
            "CLIENTS",
            "RTP IN/S",
            "RTP OUT/S",
            "DROPPED/S",
        ];
        told = told + "\n" + &out.table(&header, rows);
    }
    told += &changes(&answer.transitions, out);
    told += &healths(&answer.health, out);
    told + &end(answer.damaged, answer.next.is_some())
}

fn row(before: Option<&Taken>, taken: &Taken, out: Output) -> Vec<Cell> {
    let now = &taken.snapshot;
    let rate = |of: fn(&Snapshot) -> u64| {
        let rate = before.and_then(|before| {
            let ms = taken.at.0.checked_sub(before.at.0).filter(|ms| *ms > 0)?;
            Some(of(now).checked_sub(of(&before.snapshot))?.saturating_mul(1000) / ms)
        });
        rate.map_or_else(|| "-".to_owned(), text::count)
    };
    let missed = (now.misses > 0).then_some(Tone::Look);
    vec![
        out.cell(None, shown(taken.at)),
        out.cell(Some(tone(now.state)), now.state),
        out.cell(None, now.version),
        out.cell(missed, now.misses),
        out.cell(missed, heartbeat(now)),
        out.cell(None, now.members),
        out.cell(
            None,
            rate(|s| s.media.get(Direction::Ingress, Class::Rtp, Verdict::Pass).packets),
        ),
        out.cell(
            None,
            rate(|s| s.media.get(Direction::Egress, Class::Rtp, Verdict::Pass).packets),
        ),
        out.cell(None, rate(dropped)),
    ]
}

fn heartbeat(snapshot: &Snapshot) -> String {
    snapshot.heartbeat_age.map_or_else(
        || "never".into(),
        |age| text::duration(u64::from(age) * 100) + " ago",
    )
}

fn dropped(snapshot: &Snapshot) -> u64 {
    let named = snapshot.media.named().filter(|(name, _)| name.ends_with(".drop"));
    named.map(|(_, count)| count.packets).sum()
}

fn tone(state: State) -> Tone {
    match state {
        State::Liveing => Tone::Good,
        State::Created | State::GraceClosing => Tone::Look,
        State::Expired => Tone::Bad,
        State::Destroyed => Tone::Faint,
    }
}

fn changes(changes: &[Transition], out: Output) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut told = format!("\n{}\n", out.tone(Tone::Strong, "Changes of state"));
    for change in changes {
        // Writing to a String cannot fail.
        let _ = writeln!(
            told,
            "  {}  {}>{}  {} by {}: {}{}",
            shown(change.timestamp),
            change.old_state.map_or("NONE", State::name),
            out.tone(tone(change.new_state), change.new_state.name()),
            change.event_type,
            change.actor,
            change.reason,
            change
                .trace_id
                .as_ref()
                .map(|id| format!("  [trace {id}]"))
                .unwrap_or_default(),
        );
    }
    told
}

fn healths(all: &[HealthAt], out: Output) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut told = format!("\n{}\n", out.tone(Tone::Strong, "What the node depends on"));
    for HealthAt { at, health } in all {
        let each: Vec<String> = health
            .iter()
            .map(|(name, health)| format!("{name} {}", health.name()))
            .collect();
        let each = if each.is_empty() {
            "nothing".into()
        } else {
            each.join(", ")
        };
        let _ = writeln!(told, "  {}  {each}", shown(*at));
    }
    told
}

/// A room at a time.
pub(super) fn moment(room: &RoomId, at: Wall, moment: &Moment, out: Output) -> String {
    let mut told = format!("Room {} at {} UTC\n", out.tone(Tone::Strong, room), shown(at));
    match &moment.snapshot {
        None => told += "  No snapshot of it was taken until then.\n",
        Some(taken) => {
            let s = &taken.snapshot;
            let ago = text::duration(at.0.saturating_sub(taken.at.0));
            let lines = [
                ("snapshot", format!("of {}, {ago} before", shown(taken.at))),
                (
                    "state",
                    format!(
                        "{} since {}",
                        out.tone(tone(s.state), s.state.name()),
                        shown(s.since)
                    ),
                ),
                (
                    "record",
                    format!("version {}, epoch {}, life {}", s.version, s.epoch, s.incarnation),
                ),
                ("heartbeat", format!("{}, {} missed", heartbeat(s), s.misses)),
                ("clients", s.members.to_string()),
                (
                    "cut",
                    s.blocked_until
                        .map_or_else(|| "no".into(), |until| format!("until {}", shown(until))),
                ),
            ];
            for (name, value) in lines {
                let _ = writeln!(told, "  {name:<10} {value}");
            }
            for (name, count) in s.media.named().filter(|(_, count)| count.packets > 0) {
                let (packets, bytes) = (text::count(count.packets), text::count(count.bytes));
                let _ = writeln!(told, "  {name:<20} {packets} packets, {bytes} bytes");
            }
        }
    }
    told += &changes(&moment.transitions, out);
    let health = HealthAt {
        at: moment.snapshot.as_ref().map_or(at, |taken| taken.at),
        health: moment.health.clone(),
    };
    told + &healths(&[health], out)
}

/// Rooms that went a way.
pub(super) fn path(span: Span, page: &PathPage, out: Output) -> String {
    let rooms = text::many(page.trips.len() as u64, "time");
    let mut told = format!("Gone {rooms} from {} to {} UTC.\n", shown(span.0), shown(span.1));
    let rows = page.trips.iter().map(|trip| {
        let (first, last) = (trip.changes.first(), trip.changes.last());
        let took = first
            .zip(last)
            .map_or(0, |(a, b)| b.timestamp.0.saturating_sub(a.timestamp.0));
        vec![
            out.cell(None, first.map(|c| shown(c.timestamp)).unwrap_or_default()),
            out.cell(Some(Tone::Strong), &trip.room),
            out.cell(
                None,
                if trip.changes.len() > 1 {
                    text::duration(took)
                } else {
                    "-".into()
                },
            ),
            out.cell(None, last.map(|c| c.reason.clone()).unwrap_or_default()),
            out.cell(
                None,
                last.and_then(|c| c.trace_id.as_ref())
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        told = told + "\n" + &out.table(&["TIME", "ROOM", "TOOK", "REASON", "TRACE"], rows);
    }
    told + &end(page.damaged, page.next.is_some())
}

fn end(damaged: u32, more: bool) -> String {
    let mut told = String::new();
    if more {
        told += "\nThere is more: ask for a shorter time with --from and --to.\n";
    }
    if damaged > 0 {
        let _ = writeln!(
            told,
            "\n{damaged} records cannot be read and are left out; see the agent's log."
        );
    }
    told
}
