//! What must hold between keys, each of which is allowed by itself.

use super::{
    draft::Draft,
    error::{Mistake, Origin},
    reload::Values,
};
use crate::config::{HistoryKind, RegistryKind, StoreKind};
use std::net::SocketAddr;
use voice_room::NodeName;

/// A rule that is broken: the key to blame, its value, and what must hold.
type Broken = Option<(&'static str, String, String)>;

const RULES: &[fn(&Draft) -> Broken] = &[
    listener_beyond_loopback_has_tls_or_is_marked_insecure,
    session_tls_is_whole,
    metrics_beyond_loopback_are_marked_insecure,
    health_beyond_loopback_is_marked_insecure,
    janus_events_come_from_this_host,
    warning_comes_before_the_trip,
    stuck_time_holds_its_misses,
    janus_secret_has_a_socket,
    livekit_is_on_this_host,
    livekit_webhooks_come_from_this_host,
    livekit_is_whole,
    etcd_has_members,
    etcd_has_a_shared_store,
    etcd_ttl_is_in_seconds,
    etcd_user_has_a_password,
    etcd_password_is_not_readable_on_the_way,
    etcd_https_has_an_authority,
    etcd_certificate_has_its_key,
    redis_has_an_address,
    influx_has_an_address,
    one_redis_or_a_cluster,
    redis_tls_is_on_where_it_is_configured,
    redis_certificate_has_its_key,
    redis_user_has_a_password,
    traces_over_https_have_an_authority,
];

/// Every rule that is broken, blamed on where the key was last set.
pub(super) fn together(draft: &Draft, values: &Values) -> Vec<Mistake> {
    let blame = |(key, given, problem): (&'static str, String, String)| {
        let origin = values
            .get(key)
            .map_or(Origin::Default, |(_, origin)| origin.clone());
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

fn listener_beyond_loopback_has_tls_or_is_marked_insecure(draft: &Draft) -> Broken {
    let (listen, tls) = (
        draft.session.listen,
        draft.session_tls.iter().any(Option::is_some),
    );
    (!listen.ip().is_loopback() && !draft.session.insecure && !tls).then(|| {
        let problem = "a listener beyond loopback needs TLS: set session.tls_cert, session.tls_key and session.tls_client_ca; or \
                       listen on 127.0.0.1 or [::1], or accept that anybody who reaches the port can drive rooms with \
                       session.insecure = true";
        ("session.listen", listen.to_string(), problem.into())
    })
}

fn session_tls_is_whole(draft: &Draft) -> Broken {
    let [cert, key, ca] = &draft.session_tls;
    let files = [
        ("session.tls_cert", cert),
        ("session.tls_key", key),
        ("session.tls_client_ca", ca),
    ];
    let missing = files.iter().any(|(_, file)| file.is_none());
    let (name, file) = files
        .iter()
        .find_map(|(name, file)| Some((*name, file.as_ref()?)))?;
    missing.then(|| {
        let problem = "session.tls_cert, session.tls_key and session.tls_client_ca belong together: set all three, or none";
        (name, file.display().to_string(), problem.into())
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

fn health_beyond_loopback_is_marked_insecure(draft: &Draft) -> Broken {
    let listen = draft.health.listen?;
    (!listen.ip().is_loopback() && !draft.health.insecure).then(|| {
        let problem = "a listener beyond loopback has no TLS: listen on 127.0.0.1 or [::1], or accept that anybody who \
                       reaches the port can see how the agent does with health.insecure = true";
        ("health.listen", listen.to_string(), problem.into())
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

/// Its answers are not authenticated.
fn livekit_is_on_this_host(draft: &Draft) -> Broken {
    let api = draft.livekit.api?;
    (!api.ip().is_loopback()).then(|| {
        let problem = "allowed: a loopback address and port; the adapter follows the LiveKit of this host";
        ("livekit.api", api.to_string(), problem.into())
    })
}

fn livekit_webhooks_come_from_this_host(draft: &Draft) -> Broken {
    let listen = draft.livekit.webhook_listen;
    (!listen.ip().is_loopback()).then(|| {
        let problem = "allowed: a loopback address and port; the LiveKit of this host posts there";
        ("livekit.webhook_listen", listen.to_string(), problem.into())
    })
}

fn livekit_is_whole(draft: &Draft) -> Broken {
    let livekit = &draft.livekit;
    let secret = livekit.api_secret_file.as_ref();
    match (livekit.api, livekit.api_key.is_empty(), secret) {
        (Some(_), true, _) => {
            let problem = "livekit.api is set: name the API key that LiveKit signs its webhooks with";
            Some(("livekit.api_key", String::new(), problem.into()))
        }
        (Some(_), false, None) => {
            let problem = "livekit.api is set: name the file that holds the secret of livekit.api_key";
            Some(("livekit.api_secret_file", String::new(), problem.into()))
        }
        (None, false, _) => {
            let problem = "is set although livekit.api is not: set the address too, or neither";
            Some(("livekit.api_key", livekit.api_key.clone(), problem.into()))
        }
        (None, true, Some(file)) => {
            let problem = "is set although livekit.api is not: set the address too, or neither";
            Some((
                "livekit.api_secret_file",
                file.display().to_string(),
                problem.into(),
            ))
        }
        _ => None,
    }
}

fn etcd_has_members(draft: &Draft) -> Broken {
    let registry = &draft.registry;
    (registry.kind == RegistryKind::Etcd && registry.etcd.endpoints.is_empty()).then(|| {
        let problem = "registry.kind is etcd: name its members, such as [\"http://127.0.0.1:2379\"]";
        ("registry.etcd.endpoints", "[]".into(), problem.into())
    })
}

/// A custodian takes a record that is not in the store for one that its owner did not refresh: of a store of its own that
/// would be every room of another node.
fn etcd_has_a_shared_store(draft: &Draft) -> Broken {
    let apart = draft.registry.kind == RegistryKind::Etcd && draft.store.kind == StoreKind::Embedded;
    apart.then(|| {
        let problem = "rooms that agents share need a store that they share, and store.kind is embedded: set store.kind to \
                       redis, or registry.kind to local for a node alone";
        ("registry.kind", "etcd".into(), problem.into())
    })
}

fn etcd_ttl_is_in_seconds(draft: &Draft) -> Broken {
    let ttl = draft.registry.etcd.ttl;
    (ttl.subsec_nanos() != 0).then(|| {
        let problem = "etcd counts leases in whole seconds";
        (
            "registry.etcd.ttl",
            humantime::format_duration(ttl).to_string(),
            problem.into(),
        )
    })
}

fn etcd_user_has_a_password(draft: &Draft) -> Broken {
    let etcd = &draft.registry.etcd;
    match (&etcd.username, &etcd.password_file) {
        (Some(name), None) => {
            let problem = "has no password: set registry.etcd.password_file too, or neither";
            Some(("registry.etcd.username", name.clone(), problem.into()))
        }
        (None, Some(file)) => {
            let problem = "is set although registry.etcd.username is not: set the user too, or neither";
            Some((
                "registry.etcd.password_file",
                file.display().to_string(),
                problem.into(),
            ))
        }
        _ => None,
    }
}

fn etcd_password_is_not_readable_on_the_way(draft: &Draft) -> Broken {
    let etcd = &draft.registry.etcd;
    let open = etcd
        .endpoints
        .iter()
        .find(|endpoint| endpoint.starts_with("http://") && !is_loopback(endpoint))?;
    etcd.username.as_ref().map(|_| {
        let problem = "the user's password would go there readable for all: use https, or no user";
        ("registry.etcd.endpoints", open.clone(), problem.into())
    })
}

/// Whether `http://HOST:PORT` is on this host.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let address = host.replacen("localhost", "127.0.0.1", 1).parse::<SocketAddr>();
    address.is_ok_and(|address| address.ip().is_loopback())
}

fn etcd_https_has_an_authority(draft: &Draft) -> Broken {
    let etcd = &draft.registry.etcd;
    let https = etcd
        .endpoints
        .iter()
        .find(|endpoint| endpoint.starts_with("https://"));
    match (https, &etcd.ca_file, &etcd.cert_file) {
        (Some(endpoint), None, _) => {
            let problem = "https needs registry.etcd.ca_file: by whose word the member is trusted";
            Some(("registry.etcd.endpoints", endpoint.clone(), problem.into()))
        }
        (None, Some(file), _) if !etcd.endpoints.is_empty() => {
            let problem = "is set, and no endpoint begins with https://";
            Some((
                "registry.etcd.ca_file",
                file.display().to_string(),
                problem.into(),
            ))
        }
        _ => None,
    }
}

fn etcd_certificate_has_its_key(draft: &Draft) -> Broken {
    let etcd = &draft.registry.etcd;
    let (key, file) = match (&etcd.cert_file, &etcd.key_file) {
        (Some(file), None) => ("registry.etcd.cert_file", file),
        (None, Some(file)) => ("registry.etcd.key_file", file),
        _ => return None,
    };
    let problem = "a certificate needs its key, and a key its certificate: set both, or neither";
    Some((key, file.display().to_string(), problem.into()))
}

fn redis_has_an_address(draft: &Draft) -> Broken {
    let store = &draft.store;
    (store.kind == StoreKind::Redis && store.redis.addresses.is_empty()).then(|| {
        let problem = "store.kind is redis: name the server, such as [\"127.0.0.1:6379\"], or some nodes of the cluster";
        ("store.redis.addresses", "[]".into(), problem.into())
    })
}

fn influx_has_an_address(draft: &Draft) -> Broken {
    let history = &draft.history;
    (history.kind == HistoryKind::Influx && history.influx.address.is_none()).then(|| {
        let problem = "history.kind is influx: name the server, such as \"http://127.0.0.1:8086\"";
        ("history.influx.address", String::new(), problem.into())
    })
}

fn traces_over_https_have_an_authority(draft: &Draft) -> Broken {
    let endpoint = draft.traces.endpoint.as_ref()?;
    (endpoint.starts_with("https:") && draft.traces.ca_file.is_none()).then(|| {
        let problem = "is https: say who may have signed its certificate, with traces.ca_file";
        ("traces.endpoint", endpoint.clone(), problem.into())
    })
}

fn one_redis_or_a_cluster(draft: &Draft) -> Broken {
    let redis = &draft.store.redis;
    (redis.addresses.len() > 1 && !redis.cluster).then(|| {
        let given: Vec<String> = redis.addresses.iter().map(ToString::to_string).collect();
        let problem = "are several, but store.redis.cluster is false: give the one server, or set it to true";
        ("store.redis.addresses", given.join(","), problem.into())
    })
}

fn redis_tls_is_on_where_it_is_configured(draft: &Draft) -> Broken {
    let redis = &draft.store.redis;
    let (cert, key) = &redis.tls_identity;
    let files = [
        ("store.redis.tls_ca", &redis.tls_ca),
        ("store.redis.tls_cert", cert),
        ("store.redis.tls_key", key),
    ];
    let (name, file) = files
        .into_iter()
        .find_map(|(name, file)| Some((name, file.as_ref()?)))?;
    (!redis.tls).then(|| {
        let problem = "is set although store.redis.tls is false: nothing would be encrypted; set it to true, or take this out";
        (name, file.display().to_string(), problem.into())
    })
}

fn redis_certificate_has_its_key(draft: &Draft) -> Broken {
    let (name, file) = match &draft.store.redis.tls_identity {
        (Some(cert), None) => ("store.redis.tls_cert", cert),
        (None, Some(key)) => ("store.redis.tls_key", key),
        _ => return None,
    };
    let problem =
        "is set without the other of store.redis.tls_cert and store.redis.tls_key: set both, or neither";
    Some((name, file.display().to_string(), problem.into()))
}

fn redis_user_has_a_password(draft: &Draft) -> Broken {
    let redis = &draft.store.redis;
    let user = redis
        .username
        .as_ref()
        .filter(|_| redis.password_file.is_none())?;
    let problem = "is set without store.redis.password_file: set that too, or neither";
    Some(("store.redis.username", user.clone(), problem.into()))
}
