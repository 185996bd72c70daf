//! The recorded evidence of a room.

use super::{
    evidence, name,
    patrol::{differs, repaired},
    time,
};
use crate::proto::admin::{
    Acknowledged, Agreed, Declined, Entry, Event, FirstDrop, Held, HostChanged, Lifted, MaintenanceChanged,
    MarkShared, PortShared, PortsChanged, Recovered, StepEnded, Synced, Transition, Trip, Warning, WouldTrip,
    entry,
};
use crate::store::Position;
use std::time::Duration;
use voice_room::{PeerId, StateChangeEvent, timeline, timeline::What};

/// One entry of a timeline.
pub fn entry(e: &timeline::Entry) -> Entry {
    Entry {
        incarnation: e.incarnation.0,
        at: Some(time(e.at)),
        what: Some(what(&e.what)),
    }
}

/// One stored change of state.
pub fn event(position: Position, e: &StateChangeEvent) -> Event {
    Event {
        position: position.to_string(),
        at: Some(time(e.timestamp)),
        room: e.room.to_string(),
        incarnation: e.incarnation.0,
        transition: Some(transition(e)),
        gap: None,
    }
}

fn what(w: &What) -> entry::What {
    match w {
        What::Transition(e) => entry::What::Transition(transition(e)),
        What::Warning(e) => entry::What::Warning(Warning {
            evidence: Some(evidence(e)),
        }),
        What::Held { hold, evidence: e } => entry::What::Held(Held {
            hold: name(hold),
            evidence: Some(evidence(e)),
        }),
        What::WouldTrip { rule, evidence: e } => entry::What::WouldTrip(WouldTrip {
            rule: name(rule),
            evidence: Some(evidence(e)),
        }),
        What::Trip {
            rule,
            evidence: e,
            until,
            version,
        } => entry::What::Trip(Trip {
            rule: name(rule),
            evidence: e.as_ref().map(evidence),
            until: Some(time(*until)),
            version: version.0,
        }),
        What::Differs(d) => entry::What::Differs(differs(d)),
        What::Repaired(r) => entry::What::Repaired(repaired(r)),
        What::Recovered => entry::What::Recovered(Recovered {}),
        What::Step { step, result } => entry::What::Step(step_ended(*step, result)),
        What::Acked { peers } => entry::What::Acknowledged(Acknowledged {
            peers: peers.iter().map(ToString::to_string).collect(),
        }),
        What::FirstDrop { ingress, after } => entry::What::FirstDrop(first_drop(*ingress, *after)),
        What::Lifted { dropped, reason } => entry::What::Lifted(Lifted {
            dropped_packets: *dropped,
            reason: reason.clone(),
        }),
        What::Ports { ports, flows, ssrcs } => entry::What::Ports(PortsChanged {
            ports: ports.iter().map(|p| p.0.into()).collect(),
            flows: *flows,
            ssrcs: *ssrcs,
        }),
        What::PortShared { port, other } => entry::What::PortShared(PortShared {
            port: port.0.into(),
            other_room: other.to_string(),
        }),
        What::MarkShared { mark, other } => entry::What::MarkShared(MarkShared {
            mark: mark.clone(),
            other_room: other.to_string(),
        }),
        What::Maintenance {
            until,
            every_room,
            reason,
            actor,
        } => entry::What::Maintenance(MaintenanceChanged {
            until: until.map(time),
            every_room: *every_room,
            reason: reason.clone(),
            actor: actor.to_string(),
        }),
        What::Synced(s) => entry::What::Synced(synced(s)),
        What::Host { host } => entry::What::Host(HostChanged {
            host: host.to_string(),
        }),
    }
}

fn transition(e: &StateChangeEvent) -> Transition {
    Transition {
        event_type: e.event_type.name().into(),
        old_state: e.old_state.map(|s| s.name().into()),
        new_state: e.new_state.name().into(),
        version: e.version.0,
        epoch: e.epoch.to_string(),
        op_id: e.op_id.to_string(),
        actor: e.actor.to_string(),
        reason: e.reason.clone(),
        trace_id: e.trace_id.as_ref().map(ToString::to_string),
    }
}

fn synced(s: &timeline::Synced) -> Synced {
    let names = |peers: &[PeerId]| peers.iter().map(ToString::to_string).collect();
    let agreed = |(peer, after): &(PeerId, Duration)| Agreed {
        peer: peer.to_string(),
        after_us: micros(*after),
    };
    let declined = |(peer, why): &(PeerId, String)| Declined {
        peer: peer.to_string(),
        why: why.clone(),
    };
    Synced {
        event: s.event.name().into(),
        attempt: s.attempt.to_string(),
        version: s.version.0,
        failed: s.result.clone().err(),
        agreed: s.agreed.iter().map(agreed).collect(),
        refused: s.refused.iter().map(declined).collect(),
        silent: names(&s.silent),
        gone: names(&s.gone),
        committed: names(&s.committed),
        took_us: micros(s.took),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn step_ended(step: timeline::Step, result: &Result<String, String>) -> StepEnded {
    let (Ok(detail) | Err(detail)) = result;
    StepEnded {
        step: step.name().into(),
        ok: result.is_ok(),
        detail: detail.clone(),
    }
}

fn first_drop(ingress: bool, after: Duration) -> FirstDrop {
    FirstDrop {
        direction: if ingress { "ingress" } else { "egress" }.into(),
        after_us: u64::try_from(after.as_micros()).unwrap_or(u64::MAX),
    }
}
