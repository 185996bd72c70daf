//! The facts a decision was made on, as sentences.

use crate::{
    cli::text,
    proto::admin::{Evidence, Witness},
};

/// One sentence for each kind of fact.
pub(super) fn evidence(e: &Evidence) -> Vec<String> {
    vec![
        heartbeats(e),
        progress(e),
        source(e),
        witness(e.witness.as_ref()),
        limits(e),
    ]
}

fn heartbeats(e: &Evidence) -> String {
    let missed = format!("{} missed in a row", text::many(e.misses.into(), "heartbeat"));
    match e.heartbeat_age_ms {
        None => format!("{missed}; none ever came in this life."),
        Some(age) => format!("{missed}; the last one came {} ago.", text::duration(age)),
    }
}

fn progress(e: &Evidence) -> String {
    let what = match e.progress.as_str() {
        "entry" => "the room entered its state",
        "heartbeat" => "a media heartbeat",
        "release" => "an operator released it",
        "agent_start" => "the agent started",
        "ownership" => "ownership was gained",
        "tick_gap" => "the agent itself had stood still",
        "media_refused" => "a media session was refused by our own limits",
        other => other,
    };
    format!(
        "No progress for {}; the latest was: {what}.",
        text::duration(e.progress_age_ms)
    )
}

fn source(e: &Evidence) -> String {
    let Some(source) = &e.source else {
        return "No media server ever listed it.".into();
    };
    let answered = match e.source_silent_ms {
        None => "has not answered".into(),
        Some(ms) => format!("last answered {} ago", text::duration(ms)),
    };
    let sockets = match e.sockets_gone {
        None => "whether its sockets are open is not known",
        Some(true) => "its sockets are gone",
        Some(false) => "its sockets are open",
    };
    format!("Media server {source} {answered}; {sockets}.")
}

fn witness(w: Option<&Witness>) -> String {
    let Some(w) = w else {
        return "The kernel has no counters of this room, so it is no witness.".into();
    };
    let (rtp_in, rtp_out) = (text::count(w.rtp_in_packets), text::count(w.rtp_out_packets));
    let window = text::duration(w.window_ms);
    let said = format!("The kernel counted {rtp_in} RTP packets in and {rtp_out} out over the last {window}");
    match w.saw_egress {
        true => format!("{said}."),
        false => format!("{said}; it never saw egress of this life, so it is no witness."),
    }
}

fn limits(e: &Evidence) -> String {
    format!(
        "Blast cap: {} of {} used. Mode: {}.",
        e.cap_used, e.cap_allowed, e.mode
    )
}
