//! What must hold between keys, each of which is allowed by itself.

use super::{
    draft::Draft,
    error::{Mistake, Origin},
};
use std::collections::BTreeMap;
use voice_room::NodeName;

/// A rule that is broken: the key to blame, its value, and what must hold.
type Broken = Option<(&'static str, String, String)>;

const RULES: &[fn(&Draft) -> Broken] = &[
    listener_beyond_loopback_is_marked_insecure,
    metrics_beyond_loopback_are_marked_insecure,
    janus_events_come_from_this_host,
    warning_comes_before_the_trip,
    stuck_time_holds_its_misses,
    janus_secret_has_a_socket,
];

/// Every rule that is broken, blamed on where the key was last set.
pub(super) fn together(draft: &Draft, origins: &BTreeMap<&'static str, Origin>) -> Vec<Mistake> {
    let blame = |(key, given, problem): (&'static str, String, String)| {
        let origin = origins.get(key).cloned().unwrap_or(Origin::Default);
        Mistake::value(key, origin, &given, problem)
    };
    RULES.iter().filter_map(|rule| rule(draft)).map(blame).collect()
}

/// The configured name, else the host name.
pub(super) fn node_name(configured: Option<&NodeName>) -> Result<NodeName, Mistake> {
    if let Some(name) = configured {
        return Ok(name.clone());
    }
    let refuse = |given: &str, problem: String| {
        let problem = format!("the host name cannot be used ({problem}); set node.name");
        Mistake::value("node.name", Origin::Default, given, problem)
    };
    let host = nix::unistd::gethostname().map_err(|e| refuse("", e.to_string()))?;
    let host = host.to_string_lossy();
    NodeName::new(&host).map_err(|e| refuse(&host, e.to_string()))
}

fn listener_beyond_loopback_is_marked_insecure(draft: &Draft) -> Broken {
    let listen = draft.session.listen;
    (!listen.ip().is_loopback() && !draft.session.insecure).then(|| {
        let problem = "a listener beyond loopback has no TLS yet: listen on 127.0.0.1 or [::1], or accept that anybody \
                       who reaches the port can drive rooms with session.insecure = true";
        ("session.listen", listen.to_string(), problem.into())
    })
}

fn metrics_beyond_loopback_are_marked_insecure(draft: &Draft) -> Broken {
    let listen = draft.metrics.listen?;
    (!listen.ip().is_loopback() && !draft.metrics.insecure).then(|| {
        let problem = "a listener beyond loopback has no TLS: listen on 127.0.0.1 or [::1], or accept that anybody who \
                       reaches the port can read the figures with metrics.insecure = true";
        ("metrics.listen", listen.to_string(), problem.into())
    })
}

fn janus_events_come_from_this_host(draft: &Draft) -> Broken {
    let listen = draft.janus.events_listen;
    (!listen.ip().is_loopback()).then(|| {
        let problem = "allowed: a loopback address and port; the events are not authenticated";
        ("janus.events_listen", listen.to_string(), problem.into())
    })
}

fn warning_comes_before_the_trip(draft: &Draft) -> Broken {
    let (warn, misses) = (draft.rules.warn_misses, draft.rules.misses);
    (warn >= misses).then(|| {
        let problem = format!("must be less than rooms.misses, which is {misses}");
        ("rooms.warn_misses", warn.to_string(), problem)
    })
}

fn stuck_time_holds_its_misses(draft: &Draft) -> Broken {
    let rules = &draft.rules;
    let least = rules.heartbeat.saturating_mul(rules.misses);
    (rules.stuck_after < least).then(|| {
        let (misses, heartbeat) = (rules.misses, humantime::format_duration(rules.heartbeat));
        let least = humantime::format_duration(least);
        let problem = format!(
            "must be at least \"{least}\": rooms.misses ({misses}) heartbeats of rooms.heartbeat (\"{heartbeat}\")"
        );
        let given = humantime::format_duration(rules.stuck_after).to_string();
        ("trip.stuck_after", given, problem)
    })
}

fn janus_secret_has_a_socket(draft: &Draft) -> Broken {
    let socket = draft.janus.admin_socket.as_os_str().is_empty();
    (socket && !draft.janus.admin_secret.0.is_empty()).then(|| {
        let problem = "is set although janus.admin_socket is not: set the socket too, or neither";
        ("janus.admin_secret", "***".into(), problem.into())
    })
}
