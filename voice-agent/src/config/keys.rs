//! The one table of keys. It alone yields parsing, range checks, unknown-key errors, the environment's names and the
//! documented default file.

use super::{
    HistoryKind, RegistryKind, Secret, StoreKind, XdpPolicy, draft::Draft, file, redis::HostPort, value::Kind,
};
use crate::{history::probe::Probe, tokens::KeyFile};
use std::{
    collections::BTreeSet,
    fmt::Write,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use tonic::codegen::http::Uri;
use voice_room::{NodeName, RoomId, config::Mode};

/// One key.
pub(super) struct Key {
    /// `section.name`.
    pub(super) path: &'static str,
    /// For the default file; lines of up to 110 characters.
    pub(super) doc: &'static str,
    /// A TOML value.
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    /// Never shown in a message.
    pub(super) secret: bool,
    /// Whether a reload (SIGHUP) takes it; else it is read at start only.
    pub(super) live: bool,
}

/// The sections, in the order of the default file.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("node", "This agent."),
    ("paths", "Where things lie on disk. All are absolute."),
    ("rooms", "When a room counts as served, silent or idle."),
    ("trip", "When a stuck room is cut, and when it is not."),
    ("kernel", "The XDP and TC programs."),
    (
        "session",
        "The gRPC stream to gateways, signalling and media servers.",
    ),
    (
        "tokens",
        "Host device tokens: JWTs with which gateways and signalling servers may start rooms.",
    ),
    ("store", "Where rooms are kept."),
    ("registry", "Who owns a room."),
    ("history", "Snapshots of every room, for `voice-agent history`."),
    (
        "patrol",
        "Every room compared with what store, registry and kernel hold of it; see `voice-agent diff`.",
    ),
    (
        "janus",
        "The adapter that learns rooms from a Janus on this host.",
    ),
    (
        "livekit",
        "The adapter that learns rooms from the one LiveKit on this host (not from a cluster of them).",
    ),
    (
        "metrics",
        "Figures for Prometheus (/metrics), and whether the agent is alive and ready (/livez, /readyz).",
    ),
    (
        "health",
        "The gRPC health service (grpc.health.v1) for probes, on a port that serves nothing else.",
    ),
    (
        "traces",
        "Spans of what peers ask for (with a traceparent), for an OpenTelemetry receiver.",
    ),
    (
        "audit",
        "Every decision and every operator's action, one JSON object a line.",
    ),
    ("log", "The agent's own log, on standard error."),
];

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const fn key(path: &'static str, default: &'static str, doc: &'static str, kind: Kind) -> Key {
    Key {
        path,
        doc,
        default,
        kind,
        secret: false,
        live: false,
    }
}

/// One that a reload takes.
const fn live(key: Key) -> Key {
    Key { live: true, ..key }
}

const fn time(from_ms: u32, to: Duration, set: fn(&mut Draft, Duration)) -> Kind {
    Kind::Time {
        from: MS.saturating_mul(from_ms),
        to,
        set,
    }
}

const fn number(range: RangeInclusive<u32>, set: fn(&mut Draft, u32)) -> Kind {
    Kind::Number {
        from: *range.start(),
        to: *range.end(),
        set,
    }
}

const fn text(allowed: &'static str, set: fn(&mut Draft, &str) -> bool) -> Kind {
    Kind::Text { allowed, set }
}

/// Every key, by section.
pub(super) static KEYS: &[Key] = &[
    key(
        "node.name",
        "\"\"",
        "This node's name among the agents. Empty: the host name.",
        text("empty, or 1 to 128 visible ASCII characters", |d, t| {
            d.node = NodeName::new(t).ok();
            t.is_empty() || d.node.is_some()
        }),
    ),
    key(
        "node.instance",
        "\"\"",
        "A second agent on one host needs an instance name of its own. It is appended to the name of each directory\n\
         below (/var/lib/voice-agent-INSTANCE), so that the two share nothing.",
        text("empty, or 1 to 32 characters of a-z 0-9 -", |d, t| {
            d.instance = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 32
                && t.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        }),
    ),
    key(
        "paths.state",
        "\"/var/lib/voice-agent\"",
        "Store, journal and lock. Survives reboots.",
        text(ABSOLUTE, |d, t| directory(t, &mut d.paths.state)),
    ),
    key(
        "paths.run",
        "\"/run/voice-agent\"",
        "The admin socket (admin.sock) and the kill-switch file (kill-switch).",
        text(ABSOLUTE, |d, t| directory(t, &mut d.paths.run)),
    ),
    key(
        "paths.bpffs",
        "\"/sys/fs/bpf\"",
        "A bpf file system. Maps and links are pinned below its directory voice-agent.",
        text(ABSOLUTE, |d, t| directory(t, &mut d.paths.bpffs)),
    ),
    key(
        "rooms.heartbeat",
        "\"5s\"",
        "How often a media server says which rooms it serves; how often the Janus adapter lists them.",
        time(100, MINUTE, |d, v| d.rules.heartbeat = v),
    ),
    live(key(
        "rooms.misses",
        "5",
        "Media heartbeats missed in a row before a room may trip.",
        number(1..=1_000, |d, v| d.rules.misses = v),
    )),
    live(key(
        "rooms.warn_misses",
        "3",
        "Media heartbeats missed in a row before a warning. Less than `misses`.",
        number(1..=1_000, |d, v| d.rules.warn_misses = v),
    )),
    live(key(
        "rooms.host_silence",
        "\"30s\"",
        "A host silent for longer is disconnected, and the room goes to GRACE_CLOSING.",
        time(100, DAY, |d, v| d.rules.host_silence = v),
    )),
    live(key(
        "rooms.idle",
        "\"60s\"",
        "A room in GRACE_CLOSING without user signalling and without RTP for so long is destroyed.",
        time(100, DAY, |d, v| d.rules.idle = v),
    )),
    key(
        "rooms.quota",
        "10000",
        "Rooms that may be live on this node at one time.",
        number(1..=1_000_000, |d, v| d.rules.quota = v),
    ),
    live(key(
        "rooms.prepare_within",
        "\"2s\"",
        "How long the peers that serve a room have to agree to a change (PREPARE). Whoever is silent for longer has not\n\
         agreed. Looked at once a second.",
        time(100, MINUTE, |d, v| d.rules.prepare_within = v),
    )),
    live(key(
        "trip.mode",
        "\"enforce\"",
        "enforce: cut, push STATE_EXPIRED, isolate. shadow: count in the kernel what would be dropped, nothing else.\n\
         off: never trip.",
        Kind::Choice(&[
            ("enforce", |d| d.rules.mode = Mode::Enforce),
            ("shadow", |d| d.rules.mode = Mode::Shadow),
            ("off", |d| d.rules.mode = Mode::Off),
        ]),
    )),
    live(key(
        "trip.stuck_after",
        "\"90s\"",
        "Time without progress before a room may trip. At least rooms.misses times rooms.heartbeat.",
        time(100, DAY, |d, v| d.rules.stuck_after = v),
    )),
    live(key(
        "trip.isolation",
        "\"300s\"",
        "How long a tripped room is cut and refuses rejoins. The kernel lifts the cut by itself then.",
        time(100, DAY, |d, v| d.rules.isolation = v),
    )),
    live(key(
        "trip.witness_window",
        "\"25s\"",
        "The span over which the kernel's packet counters are judged.",
        time(100, HOUR, |d, v| d.rules.witness_window = v),
    )),
    live(key(
        "trip.release_fresh",
        "\"10s\"",
        "A media heartbeat no older than this brings a released room back to LIVEING; else it is destroyed.",
        time(100, HOUR, |d, v| d.rules.release_fresh = v),
    )),
    live(key(
        "trip.never_cut",
        "[]",
        "Rooms that are never cut.",
        Kind::List {
            allowed: "up to 10000 room ids, each 1 to 64 characters of A-Z a-z 0-9 . _ -",
            set: |d, rooms| {
                let parsed: Option<BTreeSet<RoomId>> = rooms.iter().map(|r| RoomId::new(r).ok()).collect();
                d.rules.never_cut = parsed.clone().unwrap_or_default();
                parsed.is_some_and(|rooms| rooms.len() <= 10_000)
            },
        },
    )),
    live(key(
        "trip.cap_percent",
        "50",
        "Blast cap: percent of this node's rooms that may trip within `cap_window` without a witness; at least one may.",
        number(1..=100, |d, v| d.rules.cap_percent = v),
    )),
    live(key(
        "trip.cap_window",
        "\"10m\"",
        "The span of the blast cap.",
        time(100, DAY, |d, v| d.rules.cap_window = v),
    )),
    live(key(
        "trip.trip_on_contradiction_after",
        "\"off\"",
        "RTP that moves both ways vetoes a trip: then the control path is broken, not the room. This bounds that veto.",
        Kind::TimeOrOff {
            from: MS.saturating_mul(100),
            to: DAY,
            set: |d, v| d.rules.trip_on_contradiction_after = v,
        },
    )),
    key(
        "kernel.interfaces",
        "[]",
        "The interfaces that carry media. Empty: every interface that is up, is not loopback and has an address.",
        Kind::List {
            allowed: "up to 64 interface names, each 1 to 15 characters without blanks, \"/\" or \":\"",
            set: |d, names| {
                d.kernel.interfaces = names.to_vec();
                names.len() <= 64 && names.iter().all(|name| is_interface(name))
            },
        },
    ),
    key(
        "kernel.xdp",
        "\"on-trip\"",
        "When XDP is attached; attaching makes some NICs lose their link for a moment. on-trip: at the first trip.\n\
         always: at start. off: never, TC does the work.",
        Kind::Choice(&[
            ("on-trip", |d| d.kernel.xdp = XdpPolicy::OnTrip),
            ("always", |d| d.kernel.xdp = XdpPolicy::Always),
            ("off", |d| d.kernel.xdp = XdpPolicy::Off),
        ]),
    ),
    key(
        "kernel.ports",
        "\"50000-60000\"",
        "The media servers' UDP ports, first and last.",
        text(
            "FIRST-LAST, both from 1024 to 65535, FIRST not above LAST",
            |d, t| {
                let range = t.split_once('-').and_then(|(from, to)| {
                    let range = from.trim().parse().ok()?..=to.trim().parse().ok()?;
                    (!range.is_empty() && *range.start() >= 1_024).then_some(range)
                });
                range.is_some_and(|range| {
                    d.kernel.ports = range;
                    true
                })
            },
        ),
    ),
    key(
        "kernel.max_slots",
        "4096",
        "Rooms with ports at one time. Each slot costs kernel memory for its counters, on every CPU.",
        number(1..=65_535, |d, v| d.kernel.max_slots = v),
    ),
    live(key(
        "kernel.detach_on_stop",
        "false",
        "Remove programs and maps when the agent is told to stop, which ends its cuts. For taking it off a node for good: with\n\
         it a restart, and so an upgrade, lets packets through that are cut.",
        Kind::Switch(|d, v| d.kernel.detach_on_stop = v),
    )),
    key(
        "kernel.log",
        "false",
        "Log lines of the kernel programs themselves. They cost 30 to 140 ns each; for debugging.",
        Kind::Switch(|d, v| d.kernel.log = v),
    ),
    key(
        "session.listen",
        "\"127.0.0.1:7400\"",
        "Where peers connect. Beyond loopback it needs TLS (the three keys below), or `insecure = true`.",
        text(ADDRESS, |d, t| t.parse().map(|v| d.session.listen = v).is_ok()),
    ),
    key(
        "session.insecure",
        "false",
        "Accept that without TLS anybody who reaches `listen` can drive rooms.",
        Kind::Switch(|d, v| d.session.insecure = v),
    ),
    key(
        "session.tls_cert",
        "\"\"",
        "TLS for `listen`: this agent's certificate (PEM), and those between it and its authority. Together with `tls_key` and\n\
         `tls_client_ca`. All three are looked at every 10 s; new ones hold for streams that begin from then on.",
        text(FILE, |d, t| file_of(t, &mut d.session_tls[0])),
    ),
    key(
        "session.tls_key",
        "\"\"",
        "Its key (PEM); closed to others.",
        text(FILE, |d, t| file_of(t, &mut d.session_tls[1])),
    ),
    key(
        "session.tls_client_ca",
        "\"\"",
        "The authorities (PEM) that peers' certificates come from. Every peer has to show one; its subjectAltName names it:\n\
         spiffe://TRUST-DOMAIN/voice-agent/ROLE or …/ROLE/PEER-ID, ROLE being gateway, signalling or media.",
        text(FILE, |d, t| file_of(t, &mut d.session_tls[2])),
    ),
    key(
        "session.ping_every",
        "\"30s\"",
        "How often a peer is pinged.",
        time(100, HOUR, |d, v| d.session.ping_every = v),
    ),
    key(
        "session.pong_within",
        "\"15s\"",
        "How long a peer may take to answer a ping; two misses in a row close its stream.",
        time(100, HOUR, |d, v| d.session.pong_within = v),
    ),
    key(
        "session.max_peers",
        "4096",
        "Streams at one time; one more is refused.",
        number(1..=65_535, |d, v| d.session.max_peers = v),
    ),
    key(
        "session.admit_per_second",
        "500",
        "Streams that may begin, of gateways and signalling servers together, and as many of media servers. One more is told\n\
         when to come again.",
        number(1..=100_000, |d, v| d.session.admit_per_second = v),
    ),
    key(
        "session.admit_burst",
        "500",
        "How many of them may begin at once after a time without.",
        number(1..=100_000, |d, v| d.session.admit_burst = v),
    ),
    key(
        "session.max_rooms",
        "16384",
        "Rooms that one peer may serve at one time; what names one more is refused.",
        number(64..=65_536, |d, v| d.session.max_rooms = v),
    ),
    key(
        "session.events_per_second",
        "10000",
        "Messages of one peer; a heartbeat counts as many as it lists rooms. More are refused with `limit` and the time\n\
         to wait. The most clients that one peer may have, 262144, make 8738 keepalives a second.",
        number(1..=1_000_000, |d, v| d.session.events_per_second = v),
    ),
    key(
        "session.event_burst",
        "20000",
        "How many of them one peer may send at once after a silence. A heartbeat of more rooms takes all of them.",
        number(1..=1_000_000, |d, v| d.session.event_burst = v),
    ),
    live(key(
        "tokens.keys",
        "[]",
        "The keys that tokens are signed with, each \"ID:ALGORITHM:FILE\"; ID is the token's kid. HS256: FILE holds the secret,\n\
         one line of 32 or more visible characters, and is closed to others. EdDSA: FILE holds an Ed25519 public key (PEM).\n\
         A reload reads the files again. Without keys, only media servers and adapters may start rooms.",
        Kind::List {
            allowed: "up to 16 of ID:ALGORITHM:FILE: ID 1 to 64 visible ASCII characters without \":\" and \",\", each \
                      once; ALGORITHM HS256 or EdDSA; FILE an absolute path",
            set: |d, texts| {
                let keys: Option<Vec<KeyFile>> = texts.iter().map(|text| text.parse().ok()).collect();
                d.tokens.keys = keys.unwrap_or_default();
                let ids: BTreeSet<&str> = d.tokens.keys.iter().map(|key| key.id.as_str()).collect();
                ids.len() == texts.len() && texts.len() <= 16
            },
        },
    )),
    live(key(
        "tokens.issuer",
        "\"\"",
        "What a token's iss must be. Empty: it is not looked at.",
        text(NAME_IN_TOKEN, |d, t| {
            d.tokens.issuer = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 256
        }),
    )),
    live(key(
        "tokens.audience",
        "\"\"",
        "What a token's aud must be, or have among others. Empty: it is not looked at.",
        text(NAME_IN_TOKEN, |d, t| {
            d.tokens.audience = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 256
        }),
    )),
    live(key(
        "tokens.leeway",
        "\"60s\"",
        "How far the clocks of who signs and of this node may differ: a token holds for so long after its exp, and before its\n\
         nbf and iat. RFC 7519 says a few minutes at most; 60s is what JWT libraries take.",
        time(0, MINUTE.saturating_mul(5), |d, v| d.tokens.leeway = v),
    )),
    key(
        "store.kind",
        "\"embedded\"",
        "embedded: in paths.state, for this node alone. redis: in Redis, shared by many nodes.",
        Kind::Choice(&[
            ("embedded", |d| d.store.kind = StoreKind::Embedded),
            ("redis", |d| d.store.kind = StoreKind::Redis),
        ]),
    ),
    key(
        "store.redis.addresses",
        "[]",
        "The Redis server, or some nodes of a cluster, each HOST:PORT.",
        Kind::List {
            allowed: "up to 64 of HOST:PORT, an IPv6 address in brackets",
            set: |d, texts| {
                let parsed: Option<Vec<HostPort>> = texts.iter().map(|text| text.parse().ok()).collect();
                d.store.redis.addresses = parsed.clone().unwrap_or_default();
                parsed.is_some_and(|addresses| addresses.len() <= 64)
            },
        },
    ),
    key(
        "store.redis.cluster",
        "false",
        "Whether it is a Redis Cluster.",
        Kind::Switch(|d, v| d.store.redis.cluster = v),
    ),
    key(
        "store.redis.username",
        "\"\"",
        "The user (ACL). Empty: the default user.",
        text("empty, or up to 256 visible ASCII characters", |d, t| {
            d.store.redis.username = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 256 && t.bytes().all(|b| b.is_ascii_graphic())
        }),
    ),
    key(
        "store.redis.password_file",
        "\"\"",
        "Holds the password, one line; closed to others. Read at start only. Empty: no password.",
        text(FILE, |d, t| file_of(t, &mut d.store.redis.password_file)),
    ),
    key(
        "store.redis.tls",
        "false",
        "Talk TLS, and verify the server's certificate against `tls_ca` and its host name.",
        Kind::Switch(|d, v| d.store.redis.tls = v),
    ),
    key(
        "store.redis.tls_ca",
        "\"\"",
        "The authorities to trust (PEM). Empty: the system's.",
        text(FILE, |d, t| file_of(t, &mut d.store.redis.tls_ca)),
    ),
    key(
        "store.redis.tls_cert",
        "\"\"",
        "This node's certificate (PEM), for a server that wants one. Together with `tls_key`.",
        text(FILE, |d, t| file_of(t, &mut d.store.redis.tls_identity.0)),
    ),
    key(
        "store.redis.tls_key",
        "\"\"",
        "Its key (PEM); closed to others.",
        text(FILE, |d, t| file_of(t, &mut d.store.redis.tls_identity.1)),
    ),
    key(
        "store.redis.timeout",
        "\"1s\"",
        "Longest wait for one answer. A change without one is sent again by its op_id, so that it is never done twice.",
        time(50, MINUTE, |d, v| d.store.redis.timeout = v),
    ),
    key(
        "store.redis.record_ttl",
        "\"300s\"",
        "How long a room's record lives without the refresh of its owner, who does it every 60s.",
        time(1_000, DAY, |d, v| d.store.redis.record_ttl = v),
    ),
    key(
        "store.redis.events_kept",
        "\"24h\"",
        "How long events are kept. One that a consumer group has not acknowledged is kept longer.",
        time(1_000, DAY.saturating_mul(365), |d, v| {
            d.store.redis.events_kept = v;
        }),
    ),
    key(
        "registry.kind",
        "\"local\"",
        "local: this node owns every room that it serves. etcd: rooms are claimed in an etcd that many agents share;\n\
         needs store.kind = \"redis\".",
        Kind::Choice(&[
            ("local", |d| d.registry.kind = RegistryKind::Local),
            ("etcd", |d| d.registry.kind = RegistryKind::Etcd),
        ]),
    ),
    key(
        "registry.etcd.endpoints",
        "[]",
        "The members of the etcd cluster.",
        Kind::List {
            allowed: "up to 16 of http://HOST:PORT or https://HOST:PORT",
            set: |d, endpoints| {
                d.registry.etcd.endpoints = endpoints.to_vec();
                endpoints.len() <= 16 && endpoints.iter().all(|endpoint| is_endpoint(endpoint))
            },
        },
    ),
    key(
        "registry.etcd.era",
        "0",
        "The first part of every epoch. Raise it by one on every agent when etcd was restored from a backup: its revisions,\n\
         the second part, went back then.",
        number(0..=u32::MAX, |d, v| d.registry.etcd.era = v),
    ),
    key(
        "registry.etcd.ttl",
        "\"30s\"",
        "How long the lease of this agent outlives its last renewal. It is renewed every third of that. In whole seconds.",
        time(2_000, MINUTE.saturating_mul(10), |d, v| d.registry.etcd.ttl = v),
    ),
    key(
        "registry.etcd.grace",
        "\"300s\"",
        "A room whose owner's lease has been over for so long, and that nobody has claimed, gets a custodian, which ends it if\n\
         the store's record was not refreshed either.",
        time(1_000, DAY, |d, v| d.registry.etcd.grace = v),
    ),
    key(
        "registry.etcd.username",
        "\"\"",
        "A user of etcd. Empty: none.",
        text("empty, or up to 256 bytes", |d, t| {
            d.registry.etcd.username = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 256
        }),
    ),
    key(
        "registry.etcd.password_file",
        "\"\"",
        "A file that holds the user's password on one line, closed to others. Read at start only.",
        text(FILE, |d, t| file_of(t, &mut d.registry.etcd.password_file)),
    ),
    key(
        "registry.etcd.ca_file",
        "\"\"",
        "PEM certificates of the authorities that https endpoints are trusted by. Read at start only.",
        text(FILE, |d, t| file_of(t, &mut d.registry.etcd.ca_file)),
    ),
    key(
        "registry.etcd.cert_file",
        "\"\"",
        "This agent's own PEM certificate, for https endpoints that ask for one. Read at start only.",
        text(FILE, |d, t| file_of(t, &mut d.registry.etcd.cert_file)),
    ),
    key(
        "registry.etcd.key_file",
        "\"\"",
        "The PEM key of `cert_file`, closed to others. Read at start only.",
        text(FILE, |d, t| file_of(t, &mut d.registry.etcd.key_file)),
    ),
    key(
        "history.kind",
        "\"embedded\"",
        "embedded: in paths.state, compressed. influx: in an InfluxDB 1.x. off: none are taken.",
        Kind::Choice(&[
            ("embedded", |d| d.history.kind = HistoryKind::Embedded),
            ("influx", |d| d.history.kind = HistoryKind::Influx),
            ("off", |d| d.history.kind = HistoryKind::Off),
        ]),
    ),
    key(
        "history.every",
        "\"5s\"",
        "How often a snapshot of each room is taken.",
        time(1_000, HOUR, |d, v| d.history.every = v),
    ),
    key(
        "history.max_age",
        "\"7d\"",
        "Snapshots that are older go.",
        time(3_600_000, DAY.saturating_mul(400), |d, v| d.history.max_age = v),
    ),
    key(
        "history.max_mib",
        "2048",
        "When snapshots take more than this, in MiB, the oldest go. Some 200 MiB of journals come on top.",
        number(64..=1_048_576, |d, v| d.history.max_mib = v),
    ),
    key(
        "history.reserve_mib",
        "512",
        "So much of the file system, in MiB, is left to others: when less is free the oldest snapshots go, and then\n\
         no more are written.",
        number(0..=1_048_576, |d, v| d.history.reserve_mib = v),
    ),
    key(
        "history.probes",
        "[]",
        "What else is asked every 5 s and shown beside the rooms, each NAME=KIND://HOST:PORT. KIND tcp: it connects;\n\
         http (then with a path): GET is answered with 2xx or 3xx; grpc: grpc.health.v1 says SERVING.",
        Kind::List {
            allowed: "up to 64 of NAME=KIND://HOST:PORT: NAME 1 to 64 characters of A-Z a-z 0-9 . _ -, each once; KIND tcp, http \
                      or grpc; a path after http only",
            set: |d, texts| {
                let probes: Option<Vec<Probe>> = texts.iter().map(|text| text.parse().ok()).collect();
                d.history.probes = probes.unwrap_or_default();
                let names: BTreeSet<&str> =
                    d.history.probes.iter().map(|probe| probe.name.as_str()).collect();
                names.len() == texts.len() && texts.len() <= 64
            },
        },
    ),
    key(
        "history.influx.address",
        "\"\"",
        "The InfluxDB, http://HOST:PORT. Its traffic is not encrypted.",
        text(
            "empty, or http://HOST:PORT, an IPv6 address in brackets",
            |d, t| {
                d.history.influx.address = t.parse().ok();
                t.is_empty() || d.history.influx.address.is_some()
            },
        ),
    ),
    key(
        "history.influx.database",
        "\"voice\"",
        "The database. It is made when it is not there, with `max_age`.",
        text("1 to 64 characters of A-Z a-z 0-9 . _ -", |d, t| {
            d.history.influx.database = t.to_owned();
            RoomId::new(t).is_ok()
        }),
    ),
    key(
        "history.influx.username",
        "\"\"",
        "The user. Empty: none.",
        text("empty, or up to 256 visible ASCII characters", |d, t| {
            d.history.influx.username = (!t.is_empty()).then(|| t.to_owned());
            t.len() <= 256 && t.bytes().all(|b| b.is_ascii_graphic())
        }),
    ),
    key(
        "history.influx.password_file",
        "\"\"",
        "Holds the password, one line; closed to others. Read at start only. Empty: no password.",
        text(FILE, |d, t| file_of(t, &mut d.history.influx.password_file)),
    ),
    key(
        "history.influx.spool_mib",
        "512",
        "Snapshots that wait for the database lie in paths.state, at most so many MiB; then the oldest are lost.",
        number(1..=1_048_576, |d, v| d.history.influx.spool_mib = v),
    ),
    key(
        "patrol.every",
        "\"30s\"",
        "How often. A difference counts when two rounds in a row have found it.",
        time(1_000, HOUR, |d, v| d.patrol.every = v),
    ),
    key(
        "janus.admin_socket",
        "\"\"",
        "The unix socket (SOCK_SEQPACKET) of the Janus admin API. Empty: no Janus adapter.",
        text("empty, or an absolute path", |d, t| {
            d.janus.admin_socket = PathBuf::from(t);
            t.is_empty() || d.janus.admin_socket.is_absolute()
        }),
    ),
    Key {
        secret: true,
        ..key(
            "janus.admin_secret",
            "\"\"",
            "The admin_secret of the Janus. Best given as VOICE_AGENT_JANUS_ADMIN_SECRET. Never logged or shown.",
            text("text", |d, t| {
                d.janus.admin_secret = Secret(t.to_owned());
                true
            }),
        )
    },
    key(
        "janus.events_listen",
        "\"127.0.0.1:7401\"",
        "Where the Janus posts its events to (its sampleevh plugin, `backend = \"http://127.0.0.1:7401\"`).",
        text(
            "a loopback address and port, such as \"127.0.0.1:7401\"",
            |d, t| t.parse().map(|v| d.janus.events_listen = v).is_ok(),
        ),
    ),
    key(
        "livekit.api",
        "\"\"",
        "LiveKit's server API, such as \"127.0.0.1:7880\". Empty: no LiveKit adapter.",
        text(
            "empty, or a loopback address and port, such as \"127.0.0.1:7880\"",
            |d, t| {
                d.livekit.api = t.parse().ok();
                t.is_empty() || d.livekit.api.is_some()
            },
        ),
    ),
    key(
        "livekit.api_key",
        "\"\"",
        "The API key that LiveKit signs its webhooks with (`webhook.api_key`).",
        text("text", |d, t| {
            t.clone_into(&mut d.livekit.api_key);
            true
        }),
    ),
    key(
        "livekit.api_secret_file",
        "\"\"",
        "Holds the key's secret, one line; not readable for others. Read at start only.",
        text(FILE, |d, t| file_of(t, &mut d.livekit.api_secret_file)),
    ),
    key(
        "livekit.webhook_listen",
        "\"127.0.0.1:7404\"",
        "Where LiveKit posts its webhooks to (its `webhook.urls`, \"http://127.0.0.1:7404\").",
        text(
            "a loopback address and port, such as \"127.0.0.1:7404\"",
            |d, t| t.parse().map(|v| d.livekit.webhook_listen = v).is_ok(),
        ),
    ),
    key(
        "metrics.listen",
        "\"127.0.0.1:7402\"",
        "Where /metrics, /livez and /readyz are served over HTTP. Beyond loopback it needs `insecure = true`.",
        text(ADDRESS_OR_OFF, |d, t| {
            d.metrics.listen = t.parse().ok();
            t == "off" || d.metrics.listen.is_some()
        }),
    ),
    key(
        "metrics.insecure",
        "false",
        "Accept that anybody who reaches `listen` can read the figures.",
        Kind::Switch(|d, v| d.metrics.insecure = v),
    ),
    key(
        "traces.endpoint",
        "\"\"",
        "An OTLP receiver over gRPC, such as \"http://127.0.0.1:4317\". Empty: none.\nOne that is away or slow costs spans, never time.",
        text("empty, or http://HOST:PORT, or https://HOST:PORT", |d, t| {
            d.traces.endpoint = (!t.is_empty()).then(|| t.to_owned());
            t.is_empty() || is_endpoint(t)
        }),
    ),
    key(
        "traces.sample_percent",
        "100",
        "Of the traces that peers record themselves, so many in a hundred are told: the same ones on every agent.",
        number(1..=100, |d, v| d.traces.sample_percent = v),
    ),
    key(
        "traces.headers_file",
        "\"\"",
        "Sent with every batch, a header a line, such as \"authorization: Bearer SECRET\". Read at start.",
        text(FILE, |d, t| file_of(t, &mut d.traces.headers_file)),
    ),
    key(
        "traces.ca_file",
        "\"\"",
        "Who may have signed the receiver's certificate (PEM); needed with https. Read at start.",
        text(FILE, |d, t| file_of(t, &mut d.traces.ca_file)),
    ),
    key(
        "health.listen",
        "\"off\"",
        "Where it is served, with the services liveness and readiness. Beyond loopback it needs `insecure = true`.",
        text(ADDRESS_OR_OFF, |d, t| {
            d.health.listen = t.parse().ok();
            t == "off" || d.health.listen.is_some()
        }),
    ),
    key(
        "health.insecure",
        "false",
        "Accept that anybody who reaches `listen` can see whether the agent is alive and ready.",
        Kind::Switch(|d, v| d.health.insecure = v),
    ),
    key(
        "audit.file",
        "\"\"",
        "Empty: audit.jsonl in paths.state. off: none. Rotated files lie beside it, the youngest with .1 at its end.",
        text("empty, \"off\", or an absolute path", |d, t| {
            d.audit.file = (t != "off").then(|| PathBuf::from(t));
            t.is_empty() || t == "off" || Path::new(t).is_absolute()
        }),
    ),
    key(
        "audit.max_bytes",
        "67108864",
        "The file is rotated before it grows larger.",
        number(4_096..=u32::MAX, |d, v| d.audit.max_bytes = v.into()),
    ),
    key(
        "audit.keep",
        "8",
        "Rotated files that are kept.",
        number(1..=1_000, |d, v| d.audit.keep = v),
    ),
    live(key(
        "log.filter",
        "\"info,fjall=warn,lsm_tree=warn\"",
        "What is logged, as a tracing filter. The kernel programs' own lines have the target `kernel`.",
        text(
            "a tracing filter, such as \"info\" or \"info,voice_agent::kernel=debug\"",
            |d, t| {
                d.log.filter = t.to_owned();
                tracing_subscriber::EnvFilter::try_new(t).is_ok()
            },
        ),
    )),
    key(
        "log.format",
        "\"text\"",
        "text: for people. json: one object a line.",
        Kind::Choice(&[("text", |d| d.log.json = false), ("json", |d| d.log.json = true)]),
    ),
];

const NAME_IN_TOKEN: &str = "empty, or up to 256 bytes";
const ABSOLUTE: &str = "the absolute path of a directory, not \"/\"";
const ADDRESS_OR_OFF: &str = "\"off\", or an IP address and port, such as \"127.0.0.1:7402\"";
const ADDRESS: &str = "an IP address and port, such as \"127.0.0.1:7400\" or \"[::1]:7400\"";

fn directory(text: &str, target: &mut PathBuf) -> bool {
    *target = PathBuf::from(text);
    target.is_absolute() && target.file_name().is_some() && !text.contains('\0')
}

const FILE: &str = "empty, or the absolute path of a file";

fn file_of(text: &str, target: &mut Option<PathBuf>) -> bool {
    let usable = Path::new(text).is_absolute() && !text.contains('\0');
    *target = usable.then(|| PathBuf::from(text));
    usable || text.is_empty()
}

/// `http://HOST:PORT` or `https://HOST:PORT`, and no more.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    scheme && authority && uri.port_u16().is_some() && matches!(uri.path(), "" | "/") && uri.query().is_none()
}

fn is_interface(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    (1..=15).contains(&name.len()) && name.bytes().all(ok) && name != "." && name != ".."
}

impl Key {
    pub(super) fn section(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(section, _)| section)
    }

    pub(super) fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The environment's name of it.
    pub(super) fn env(&self) -> String {
        format!("VOICE_AGENT_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }
}

/// The key of this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether there are keys below this path, as `store.redis.cluster` is below `store.redis`.
pub(super) fn has_below(path: &str) -> bool {
    let below = |key: &&Key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    KEYS.iter().any(|key| below(&key))
}

/// The defaults, read as a file would be.
pub(super) fn default_values() -> file::FileValues {
    let mut text = String::new();
    for (section, _) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{section}]");
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            let _ = writeln!(text, "{} = {}", key.name(), key.default);
        }
    }
    file::parse(&text, Path::new("(defaults)"))
}

/// What `text` begins with as far as it could be a key: the rest may be a secret.
pub(super) fn leading_name(text: &str) -> &str {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text = text.trim_start();
    text.split(|c| !ok(c)).next().unwrap_or_default()
}

/// What to say of a name that is not known: which one was probably meant.
pub(super) fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = |name: &str| {
        let last = name.rsplit('.').next().unwrap_or(name);
        strsim::jaro_winkler(given, name).max(strsim::jaro_winkler(given, last))
    };
    let best = known
        .map(|name| (near(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > 0.8 => format!("no such {what}; did you mean {name}?"),
        _ => format!("no such {what}; `voice-agent config default` prints all of them"),
    }
}
