//! `status`: one screen.

use super::{
    Failure,
    client::call,
    kernel, maintenance,
    output::{Output, Tone},
    text,
};
use crate::{
    config::Paths,
    proto::admin::{RoomCounts, StatusRequest, StatusResponse},
};

/// Asks and prints. A dead agent is exit code 3.
pub(super) async fn status(paths: &Paths, out: Output) -> Result<String, Failure> {
    let status = call!(paths, status(StatusRequest {}))?;
    out.print(&status, show)
}

fn show(s: &StatusResponse, out: Output) -> String {
    let rooms = s.rooms.unwrap_or_default();
    let kernel = s.kernel.clone().unwrap_or_default();
    let mode = match s.mode.as_str() {
        "enforce" => out.tone(Tone::Good, "enforce"),
        mode => out.tone(Tone::Look, mode),
    };
    let instance = s
        .instance
        .as_ref()
        .map_or(String::new(), |i| format!(", instance {i}"));
    let up = text::duration(s.uptime_ms);
    let mut screen = format!(
        "agent        {} on {}{instance}, version {}, pid {}, up {up}\n\
         mode         {mode}\n",
        out.tone(Tone::Good, "alive"),
        s.node,
        s.version,
        s.pid,
    );
    screen += &maintained(s, out);
    if let Some(problem) = &s.audit_problem {
        screen += &format!(
            "audit log    {}\n",
            out.tone(Tone::Bad, &format!("NOT WRITTEN: {problem}"))
        );
    }
    screen += &counts(&rooms, s.store_lost_records, out);
    if !s.recovered.is_empty() {
        screen += &format!("at start     {}\n", s.recovered);
    }
    screen += &kernel::summary(&kernel, out);
    screen += "\n";
    screen += &kernel::interfaces(&kernel.interfaces, out);
    screen
}

/// Nothing, when nothing is under maintenance.
fn maintained(s: &StatusResponse, out: Output) -> String {
    let every_room = s.maintenance_of_every_room.as_ref().map(maintenance::line);
    let rooms = match s.rooms_under_maintenance {
        0 => None,
        n => Some(text::many(n.into(), "room") + " of their own"),
    };
    let lines = every_room.into_iter().chain(rooms);
    lines
        .map(|line| format!("maintenance  {}\n", out.tone(Tone::Look, &line)))
        .collect()
}

fn counts(c: &RoomCounts, lost: u64, out: Output) -> String {
    let states = [
        ("CREATED", c.created),
        ("LIVEING", c.liveing),
        ("GRACE_CLOSING", c.grace_closing),
        ("EXPIRED", c.expired),
        ("DESTROYED", c.destroyed),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|s| s.1 > 0)
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    let states = if states.is_empty() {
        String::new()
    } else {
        format!(": {}", states.join(", "))
    };
    let look = |n: u32, what: &str, tone| match n {
        0 => format!("0 {what}"),
        n => out.tone(tone, &format!("{n} {what}")),
    };
    let lost = match lost {
        0 => String::new(),
        n => {
            let lost = format!("{} lost by it and put back", text::many(n, "record"));
            format!(", {}", out.tone(Tone::Look, &lost))
        }
    };
    format!(
        "rooms        {}{states}\n\
         attention    {}, {}, {}, {}\n\
         store        {}{lost}\n\
         {}\
         packets      {} passed, {} dropped, {} would drop (shadow)\n",
        c.total,
        look(c.blocked, "blocked", Tone::Bad),
        look(c.held, "stuck but held", Tone::Look),
        look(c.would_trip, "would trip (shadow)", Tone::Look),
        look(c.missing_heartbeats, "missing heartbeats", Tone::Look),
        look(c.unstored_changes, "changes not stored yet", Tone::Look),
        owners(c, out),
        text::count(c.passed_packets),
        text::count(c.dropped_packets),
        text::count(c.would_drop_packets),
    )
}

/// Only where a room is not this node's: else it goes without saying.
fn owners(c: &RoomCounts, out: Output) -> String {
    let claiming = (c.claiming > 0).then(|| format!("{} being claimed", c.claiming));
    let ceded = (c.ceded > 0).then(|| format!("{} of other nodes", c.ceded));
    let all: Vec<String> = claiming.into_iter().chain(ceded).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("owned        {}\n", out.tone(Tone::Look, &all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_screen_tells_the_agent_its_rooms_by_state_and_what_needs_attention() {
        let status = StatusResponse {
            node: "media-1".into(),
            version: "0.1.0".into(),
            pid: 42,
            uptime_ms: 95_000,
            mode: "enforce".into(),
            rooms: Some(RoomCounts {
                total: 3,
                liveing: 2,
                expired: 1,
                blocked: 1,
                missing_heartbeats: 1,
                passed_packets: 1_000_000,
                dropped_packets: 2_000,
                ..RoomCounts::default()
            }),
            ..StatusResponse::default()
        };
        let screen = show(&status, Output::plain());
        let lines: Vec<&str> = screen.lines().take(6).collect();
        assert_eq!(
            lines,
            [
                "agent        alive on media-1, version 0.1.0, pid 42, up 95 s",
                "mode         enforce",
                "rooms        3: 2 LIVEING, 1 EXPIRED",
                "attention    1 blocked, 0 stuck but held, 0 would trip (shadow), 1 missing heartbeats",
                "store        0 changes not stored yet",
                "packets      1,000,000 passed, 2,000 dropped, 0 would drop (shadow)",
            ]
        );
        assert!(screen.lines().all(|l| l.chars().count() <= 100));
    }
}
