//! One kind of entry, a few sentences. The words for rules and holds stand here once.

use super::evidence::evidence;
use crate::{
    cli::{output::Tone, text},
    proto::admin::{
        Apart, Differs, FirstDrop, Lifted, MaintenanceChanged, Repaired, StepEnded, Synced, Transition, Trip,
        entry::What,
    },
};

/// What an entry says, most important first, and the tone of its first line.
pub(super) fn of(what: &What) -> (Option<Tone>, Vec<String>) {
    match what {
        What::Transition(t) => (None, transition(t)),
        What::Warning(w) => {
            let mut said = vec!["Warning: media heartbeats are missing.".to_string()];
            said.extend(w.evidence.iter().flat_map(evidence));
            (Some(Tone::Look), said)
        }
        What::Held(h) => {
            let mut said = vec![format!("Stuck, yet not cut: {}.", hold(&h.hold))];
            said.extend(h.evidence.iter().flat_map(evidence));
            (Some(Tone::Look), said)
        }
        What::WouldTrip(w) => {
            let mut said = vec![format!(
                "Shadow mode: this room would have been cut, because {}.",
                rule(&w.rule)
            )];
            said.push("Nothing was dropped, pushed or isolated.".into());
            said.extend(w.evidence.iter().flat_map(evidence));
            (Some(Tone::Look), said)
        }
        What::Trip(t) => (Some(Tone::Bad), trip(t)),
        What::Recovered(_) => (
            Some(Tone::Good),
            vec!["Recovered: a media heartbeat came again.".into()],
        ),
        What::Step(s) => step(s),
        What::Acknowledged(a) => (
            Some(Tone::Good),
            vec![format!("{} took note of STATE_EXPIRED.", a.peers.join(", "))],
        ),
        What::FirstDrop(d) => (Some(Tone::Bad), vec![first_drop(d)]),
        What::Lifted(l) => (Some(Tone::Good), vec![lifted(l)]),
        What::Ports(p) => (
            None,
            vec![format!(
                "Media ports now: {}.",
                text::bound(&p.ports, p.flows as usize, p.ssrcs as usize)
            )],
        ),
        What::PortShared(p) => {
            let shared = format!("Port {} is claimed by room {} too.", p.port, p.other_room);
            (
                Some(Tone::Look),
                vec![
                    shared,
                    "It is bound to neither; on it a room is cut by its flows and SSRCs only.".into(),
                ],
            )
        }
        What::MarkShared(m) => {
            let shared = format!("{} is claimed by room {} too.", m.mark, m.other_room);
            let unbound = "It is not bound, so that neither is cut for the other.".into();
            (Some(Tone::Look), vec![shared, unbound])
        }
        What::Maintenance(m) => (Some(Tone::Look), maintenance(m)),
        What::Synced(s) => synced(s),
        What::Differs(d) => (Some(Tone::Look), differs(d)),
        What::Repaired(r) => repaired(r),
        What::Host(h) => (None, vec![format!("The host is {}.", h.host)]),
    }
}

fn synced(s: &Synced) -> (Option<Tone>, Vec<String>) {
    let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
    let (tone, first) = match &s.failed {
        None => (
            None,
            format!(
                "Sync {} of {}: committed in {}.",
                s.attempt,
                s.event,
                ms(s.took_us)
            ),
        ),
        Some(why) => {
            let why = why.trim_end_matches('.');
            (
                Some(Tone::Look),
                format!("Sync {} of {} failed: {why}.", s.attempt, s.event),
            )
        }
    };
    let agreed = s
        .agreed
        .iter()
        .map(|a| format!("{} after {}", a.peer, ms(a.after_us)));
    let refused = s.refused.iter().map(|d| format!("{} ({})", d.peer, d.why));
    let mut said = vec![first];
    for (what, who) in [
        ("Agreed", agreed.collect()),
        ("Refused", refused.collect()),
        ("Silent", s.silent.clone()),
        ("Its stream ended", s.gone.clone()),
        ("Took note of the commit", s.committed.clone()),
    ] {
        let who: Vec<String> = who;
        if !who.is_empty() {
            said.push(format!("{what}: {}.", who.join(", ")));
        }
    }
    (tone, said)
}

fn differs(d: &Differs) -> Vec<String> {
    let mut said = vec![format!(
        "Patrol: the {} differs, and that stood for two rounds.",
        d.place
    )];
    said.extend(d.fields.iter().map(apart));
    let why = d.why.trim_end_matches('.');
    said.push(match d.class.as_str() {
        "human" => format!("A person has to look: {why}."),
        _ => format!("Repairable: {why}."),
    });
    said
}

fn repaired(r: &Repaired) -> (Option<Tone>, Vec<String>) {
    let detail = r.detail.trim_end_matches('.');
    let (tone, first) = match r.ok {
        true => (
            Tone::Good,
            format!("Repaired in the {} by {}: {detail}.", r.place, r.actor),
        ),
        false => (
            Tone::Bad,
            format!("Repair in the {} by {} FAILED: {detail}.", r.place, r.actor),
        ),
    };
    let mut said = vec![first];
    said.extend(r.fields.iter().map(apart));
    (Some(tone), said)
}

fn apart(a: &Apart) -> String {
    let (here, there) = (text::value(a.here.as_ref()), text::value(a.there.as_ref()));
    format!("{}: {here} here, {there} there.", a.path)
}

fn transition(t: &Transition) -> Vec<String> {
    let from = t.old_state.as_deref().unwrap_or("(no room)");
    let mut said = vec![format!(
        "{from} -> {} by {} ({}).",
        t.new_state, t.event_type, t.actor
    )];
    if !t.reason.is_empty() {
        said.push(format!("Reason: {}.", t.reason.trim_end_matches('.')));
    }
    let trace = t
        .trace_id
        .as_ref()
        .map_or(String::new(), |id| format!(", trace {id}"));
    said.push(format!(
        "Version {}, epoch {}, op_id {}{trace}.",
        t.version, t.epoch, t.op_id
    ));
    said
}

fn trip(t: &Trip) -> Vec<String> {
    let until = text::moment(t.until.as_ref());
    let mut said = vec![
        format!("TRIPPED: {}.", rule(&t.rule)),
        format!(
            "The cut lifts by itself at {until}. Record version {}.",
            t.version
        ),
    ];
    if t.rule == "operator" && t.evidence.is_some() {
        said.push("What was known then, whether the operator looked at it or not:".into());
    }
    said.extend(t.evidence.iter().flat_map(evidence));
    said
}

fn step(s: &StepEnded) -> (Option<Tone>, Vec<String>) {
    let name = match s.step.as_str() {
        "journal" => "Write the intent to the journal",
        "arm" => "Arm the kernel's verdict",
        "push" => "Push STATE_EXPIRED",
        "store" => "Store EXPIRED",
        "audit" => "Record the evidence",
        other => other,
    };
    let detail = match s.detail.as_str() {
        "" => String::new(),
        detail => format!(" ({detail})"),
    };
    match s.ok {
        true => (None, vec![format!("{name}: done{detail}.")]),
        false => (
            Some(Tone::Bad),
            vec![format!("{name}: FAILED{detail}. It never stops the other steps.")],
        ),
    }
}

fn first_drop(d: &FirstDrop) -> String {
    let way = match d.direction.as_str() {
        "ingress" => "towards the node",
        _ => "from the node",
    };
    format!(
        "First packet dropped ({way}), {} after arming.",
        text::short(d.after_us)
    )
}

fn lifted(l: &Lifted) -> String {
    let dropped = match l.dropped_packets {
        None => "how many packets were dropped is not known".into(),
        Some(n) => format!("{} dropped in all", text::many(n, "packet")),
    };
    format!("The cut is over: {}; {dropped}.", l.reason.trim_end_matches('.'))
}

fn maintenance(m: &MaintenanceChanged) -> Vec<String> {
    let of = if m.every_room { "every room" } else { "this room" };
    let first = match m.until.as_ref() {
        None => format!("Maintenance of {of} is over."),
        until => format!("Maintenance of {of} until {}: no trip.", text::moment(until)),
    };
    let (actor, reason) = (&m.actor, m.reason.trim_end_matches('.'));
    vec![first, format!("By {actor}: {reason}.")]
}

fn rule(name: &str) -> &str {
    match name {
        "omitted" => "its media server answers and leaves out this room, and RTP does not move both ways",
        "sockets_gone" => "its media server is silent and its sockets are gone",
        "source_silent" => {
            "its media server is silent and no RTP leaves for any of its rooms (under the blast cap)"
        }
        "no_witness" => "heartbeats are missing and the kernel is no witness (under the blast cap)",
        "contradiction_too_long" => {
            "RTP moves both ways, but for longer than trip_on_contradiction_after allows without a heartbeat"
        }
        "operator" => "an operator said so",
        other => other,
    }
}

fn hold(name: &str) -> &str {
    match name {
        "contradiction" => "RTP moves both ways, so the control path is broken and not the room",
        "source_still_sends" => "its media server is silent, but RTP leaves for one of its rooms",
        "blast_cap" => "the blast cap is used up",
        "never_cut" => "the room is on the never-cut list",
        "maintenance" => "the room is under maintenance",
        "mode_off" => "the mode is off",
        "kill_switch" => "the kill switch is on",
        other => other,
    }
}
