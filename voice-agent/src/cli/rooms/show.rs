//! One room, line by line.

use super::state_tone;
use crate::{
    cli::{
        maintenance,
        output::{Output, Tone},
        text,
    },
    proto::admin::{Authority, BlockInfo, BlockStep, Room, Witness},
};
use std::fmt::Write;

/// Line by line, and what to type next.
pub(in crate::cli) fn show(room: &Room, out: Output) -> String {
    let mut lines = Lines {
        out,
        text: String::new(),
    };
    let state = match state_tone(&room.state) {
        Some(tone) => out.tone(tone, &room.state),
        None => room.state.clone(),
    };
    lines.add("room", &out.tone(Tone::Strong, &room.room));
    let age = text::duration(room.state_age_ms);
    lines.add(
        "state",
        &format!("{state} for {age}, since {}", text::moment(room.since.as_ref())),
    );
    if let Some(why) = &room.degraded {
        lines.add("status", &out.tone(Tone::Look, &format!("degraded: {why}")));
    }
    let (version, epoch, life) = (room.version, &room.epoch, room.incarnation);
    lines.add(
        "record",
        &format!("version {version}, epoch {epoch}, life {life}{}", unstored(room)),
    );
    if let Some(a) = &room.authority {
        let tone = if a.state == "held" { None } else { Some(Tone::Look) };
        let text = authority(a);
        lines.add("owner", &tone.map_or(text.clone(), |tone| out.tone(tone, &text)));
    }
    lines.add("host", room.host.as_deref().unwrap_or("not known"));
    lines.add("clients", &room.clients.to_string());
    lines.add("source", room.source.as_deref().unwrap_or("nobody"));
    lines.add(
        "ports",
        &text::bound(&room.ports, room.flows.len(), room.ssrcs.len()),
    );
    lines.marks(room.flows.iter().chain(&room.ssrcs));
    lines.add("heartbeat", &heartbeat(room));
    let progress = room.progress.replace('_', " ");
    lines.add(
        "progress",
        &format!("{} ago ({progress})", text::duration(room.progress_age_ms)),
    );
    lines.add(
        "witness",
        &room.witness.as_ref().map_or("no kernel counters".into(), witness),
    );
    lines.add("packets", &packets(room));
    if let Some(hold) = &room.held {
        let held = format!("stuck, yet not cut: {}", hold.replace('_', " "));
        lines.add("held", &out.tone(Tone::Look, &held));
    }
    if let Some(m) = &room.maintenance {
        lines.add("maintained", &out.tone(Tone::Look, &maintenance::line(m)));
    }
    if room.would_trip {
        lines.add("shadow", &out.tone(Tone::Look, "would have been cut"));
    }
    match &room.block {
        Some(block) => lines.block(
            block,
            room.ports.is_empty() && room.flows.is_empty() && room.ssrcs.is_empty(),
        ),
        None => lines.add("cut", "no"),
    }
    let _ = writeln!(lines.text, "\nWhy:     voice-agent explain {}", room.room);
    if room.block.is_some() {
        let _ = writeln!(
            lines.text,
            "Lift it: voice-agent release {} --reason TEXT",
            room.room
        );
    }
    lines.text
}

struct Lines {
    out: Output,
    text: String,
}

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail, here and above.
        let _ = writeln!(self.text, "{name:<10} {value}");
    }

    /// The first few; all are in `--json`.
    fn marks<'a>(&mut self, marks: impl Iterator<Item = &'a String>) {
        const SHOWN: usize = 8;
        let marks: Vec<&String> = marks.collect();
        for mark in marks.iter().take(SHOWN) {
            self.add("", mark);
        }
        if marks.len() > SHOWN {
            self.add("", &format!("and {} more", marks.len() - SHOWN));
        }
    }

    fn block(&mut self, block: &BlockInfo, nothing_bound: bool) {
        let until = text::moment(block.until.as_ref());
        let cut = format!(
            "{} left, until {until}: {}",
            text::duration(block.left_ms),
            block.reason
        );
        self.add("cut", &self.out.tone(Tone::Bad, &cut));
        if nothing_bound {
            self.add(
                "",
                &self
                    .out
                    .tone(Tone::Look, "nothing bound: no port to drop packets on"),
            );
        }
        for step in &block.steps {
            self.add("", &step_line(step, self.out));
        }
        match block.acknowledged_by.as_slice() {
            [] => self.add("", "acknowledged by nobody yet"),
            peers => self.add("", &format!("acknowledged by {}", peers.join(", "))),
        }
    }
}

fn step_line(step: &BlockStep, out: Output) -> String {
    let tone = match step.state.as_str() {
        "done" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Look,
    };
    let line = format!("{:<8} {} {}", step.step, out.tone(tone, &step.state), step.detail);
    line.trim_end().into()
}

fn authority(a: &Authority) -> String {
    let (owner, problem) = (a.owner.as_deref(), a.problem.as_deref());
    match a.state.as_str() {
        "held" => format!(
            "{}, this node, under epoch {}",
            owner.unwrap_or("unnamed"),
            a.epoch.as_deref().unwrap_or("unknown")
        ),
        "ceded" => format!(
            "{}: served here, yet nothing of it is stored from here",
            owner.unwrap_or("another node")
        ),
        "claiming" => format!(
            "being claimed, nothing is stored until it is owned: {}",
            problem.unwrap_or("not answered yet")
        ),
        _ => "nobody: its life is over, or it was not asked for".into(),
    }
}

fn unstored(room: &Room) -> String {
    match room.unstored_changes {
        0 => String::new(),
        n => format!(", {} not stored yet", text::many(n.into(), "change")),
    }
}

fn heartbeat(room: &Room) -> String {
    match room.heartbeat_age_ms {
        None => format!("never in this life, {} missed", room.misses),
        // Misses are counted while they matter: a room that is cut is not expected to be listed.
        Some(age) if room.block.is_some() => format!("{} ago", text::duration(age)),
        Some(age) => format!("{} ago, {} missed", text::duration(age), room.misses),
    }
}

fn witness(w: &Witness) -> String {
    let (window, rtp_in, rtp_out) = (
        text::duration(w.window_ms),
        text::count(w.rtp_in_packets),
        text::count(w.rtp_out_packets),
    );
    let doubt = if w.saw_egress {
        ""
    } else {
        "; egress never seen in this life: no witness"
    };
    format!("{rtp_in} RTP in, {rtp_out} RTP out over the last {window}{doubt}")
}

fn packets(room: &Room) -> String {
    let mut line = format!(
        "{} passed, {} dropped",
        text::count(room.passed_packets),
        text::count(room.dropped_packets)
    );
    if room.would_drop_packets > 0 {
        let _ = write!(
            line,
            ", {} would drop (shadow)",
            text::count(room.would_drop_packets)
        );
    }
    line
}
