//! The node: how it is, how its rooms are, what it depends on, what was cut.

use super::super::{
    colour::{span, style},
    state::Top,
};
use crate::{
    cli::{
        output::{Output, Tone},
        text,
    },
    proto::admin::{Dependency, RoomCounts, TopResponse},
};
use ratatui::text::{Line, Span};
use std::time::{Duration, Instant};

/// Lines it takes.
pub(super) const LINES: u16 = 6;

/// How the node is.
pub(super) fn lines(top: &Top, out: Output, now: Instant) -> Vec<Line<'static>> {
    let Some(found) = top.found() else {
        return vec![Line::raw("waiting for the agent …")];
    };
    let counts = found.counts.unwrap_or_default();
    vec![
        agent(found, top.away(now), out),
        rooms(&counts),
        attention(&counts, out),
        packets(&counts),
        depends(&found.dependencies, out),
        trips_by_rule(found),
    ]
}

fn agent(found: &TopResponse, away: Option<(Duration, &str)>, out: Output) -> Line<'static> {
    if let Some((since, why)) = away {
        let since = text::duration(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let said = format!("AGENT AWAY, shown is what it said {since} ago: {why}");
        return Line::styled(said, style(Tone::Bad, out));
    }
    let up = text::duration(found.uptime_ms);
    let mut spans = vec![
        span(Tone::Strong, found.node.clone(), out),
        Span::raw(format!("  voice-agent {}, up {up}, mode ", found.version)),
    ];
    let tone = if found.mode == "enforce" {
        Tone::Good
    } else {
        Tone::Look
    };
    spans.push(span(tone, found.mode.clone(), out));
    if found.kill_switch {
        spans.push(span(
            Tone::Bad,
            "  KILL SWITCH ON: nothing is dropped, nothing trips",
            out,
        ));
    }
    Line::from(spans)
}

fn rooms(c: &RoomCounts) -> Line<'static> {
    let states = [
        ("CREATED", c.created),
        ("LIVEING", c.liveing),
        ("GRACE_CLOSING", c.grace_closing),
        ("EXPIRED", c.expired),
        ("DESTROYED", c.destroyed),
    ];
    let states = states.iter().filter(|(_, n)| *n > 0);
    let states: Vec<String> = states
        .map(|(name, n)| format!("{} {name}", text::count((*n).into())))
        .collect();
    Line::raw(format!(
        "rooms       {}  {}",
        text::count(c.total.into()),
        states.join(", ")
    ))
}

fn attention(c: &RoomCounts, out: Output) -> Line<'static> {
    let all = [
        (c.blocked, "blocked", Tone::Bad),
        (c.held, "held", Tone::Look),
        (c.would_trip, "would trip", Tone::Look),
        (c.missing_heartbeats, "missing heartbeats", Tone::Look),
        (c.unstored_changes, "not stored", Tone::Look),
        (c.claiming, "being claimed", Tone::Look),
        (c.ceded, "of other nodes", Tone::Look),
    ];
    let mut spans = vec![Span::raw("attention   ")];
    for (i, (n, what, tone)) in all.into_iter().enumerate() {
        let text = format!("{} {what}", text::count(n.into()));
        let gap = if i == 0 { "" } else { ", " };
        spans.push(Span::raw(gap));
        spans.push(match n {
            0 => span(Tone::Faint, text, out),
            _ => span(tone, text, out),
        });
    }
    Line::from(spans)
}

fn packets(c: &RoomCounts) -> Line<'static> {
    let (passed, dropped) = (text::count(c.passed_packets), text::count(c.dropped_packets));
    let shadow = match c.would_drop_packets {
        0 => String::new(),
        n => format!(", {} would drop (shadow)", text::count(n)),
    };
    Line::raw(format!("packets     {passed} passed, {dropped} dropped{shadow}"))
}

fn depends(all: &[Dependency], out: Output) -> Line<'static> {
    let mut spans = vec![Span::raw("depends on  ")];
    if all.is_empty() {
        spans.push(span(Tone::Faint, "nothing outside of this host", out));
    }
    for (i, dependency) in all.iter().enumerate() {
        let tone = match dependency.tier.as_str() {
            "Healthy" => Tone::Good,
            "Degraded" => Tone::Look,
            _ => Tone::Bad,
        };
        let gap = if i == 0 { "" } else { ", " };
        spans.push(Span::raw(format!("{gap}{} ", dependency.name)));
        spans.push(span(tone, dependency.tier.clone(), out));
        spans.push(Span::raw(format!(" {}", text::duration(dependency.lasts_ms))));
    }
    Line::from(spans)
}

fn trips_by_rule(found: &TopResponse) -> Line<'static> {
    let rules: Vec<String> = found
        .trips
        .iter()
        .map(|by| format!("{} {}", text::count(by.trips), by.rule.replace('_', " ")))
        .collect();
    let said = if rules.is_empty() {
        "none since the start".into()
    } else {
        rules.join(", ")
    };
    Line::raw(format!("trips       {said}"))
}

/// The last trips, the latest first.
pub(super) fn trips(top: &Top, out: Output) -> Vec<Line<'static>> {
    let trips = top
        .found()
        .map(|found| found.recent_trips.as_slice())
        .unwrap_or_default();
    let mut lines = vec![super::head("LAST TRIPS".into(), out)];
    if trips.is_empty() {
        lines.push(Line::styled("none since the start", style(Tone::Faint, out)));
    }
    lines.extend(trips.iter().map(|trip| {
        let (day, clock) = (text::day(trip.at.as_ref()), text::clock(trip.at.as_ref()));
        let rule = trip.rule.replace('_', " ");
        Line::raw(format!("{day} {clock}  {}  {rule}", trip.room))
    }));
    lines
}
