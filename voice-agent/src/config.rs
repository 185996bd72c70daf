//! The configuration, typed. Where its keys, defaults and documentation come from is in `config/keys.rs`.

mod check;
mod default_file;
mod draft;
mod env;
mod error;
mod file;
mod files;
pub mod history;
mod keys;
mod livekit;
mod load;
pub mod redis;
pub mod reload;
mod value;

#[cfg(test)]
mod tests;

pub use env::environment;
pub use error::{ConfigErrors, Mistake, Origin};
pub(crate) use files::{read_authorities, read_file, read_secret};
pub use history::{HistoryConfig, HistoryKind};
pub use livekit::LivekitConfig;
pub use load::DEFAULT_FILE;

use crate::tokens::KeyFile;
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};
use voice_common::ABI_VERSION;
use voice_room::{NodeName, Rules};

/// Everything that can be configured. Made by [`Config::load`] (file, then environment, then flags), valid once made.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node.name`: this node's name. Default: the host name.
    pub node: NodeName,
    /// `node.instance`: a second agent on one host needs a name of its own, which becomes part of every path below.
    pub instance: Option<String>,
    /// `[paths]`
    pub paths: Paths,
    /// `[rooms]`, `[trip]`: the numbers of the rules.
    pub rules: Rules,
    /// `[kernel]`
    pub kernel: KernelConfig,
    /// `[session]`
    pub session: SessionConfig,
    /// `[tokens]`
    pub tokens: TokensConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[registry]`
    pub registry: RegistryConfig,
    /// `[history]`
    pub history: HistoryConfig,
    /// `[patrol]`
    pub patrol: PatrolConfig,
    /// `[janus]`; `None` unless `janus.admin_socket` is set.
    pub janus: Option<JanusConfig>,
    /// `[livekit]`; `None` unless `livekit.api` is set.
    pub livekit: Option<LivekitConfig>,
    /// `[metrics]`
    pub metrics: MetricsConfig,
    /// `[traces]`
    pub traces: TracesConfig,
    /// `[health]`
    pub health: HealthConfig,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// Where things lie on disk. The instance, if any, is already part of them: it is appended to each directory's own
/// name, so that `/var/lib/voice-agent` becomes `/var/lib/voice-agent-INSTANCE`.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `paths.state`: store, journal, lock. Default /var/lib/voice-agent.
    pub state: PathBuf,
    /// `paths.run`: admin socket (`admin.sock`) and kill-switch file (`kill-switch`). Default /run/voice-agent.
    pub run: PathBuf,
    /// `paths.bpffs` joined with `voice-agent[-INSTANCE]`: this instance's pins. The key's default is /sys/fs/bpf.
    pub bpffs: PathBuf,
}

/// The kernel side.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// `kernel.interfaces`: names; empty means auto (every interface that is up, is not loopback and has an address).
    pub interfaces: Vec<String>,
    /// `kernel.xdp`
    pub xdp: XdpPolicy,
    /// `kernel.ports`: the media range, default 50000-60000.
    pub ports: RangeInclusive<u16>,
    /// `kernel.max_slots`: rooms with ports at one time, default 4096.
    pub max_slots: u32,
    /// `kernel.detach_on_stop`: whether nothing of this instance stays in the kernel after SIGTERM. Default false.
    pub detach_on_stop: bool,
    /// `kernel.log`: whether the programs' own log lines are compiled in (30-140 ns a line). Default false.
    pub log: bool,
}

/// When XDP is attached. Attaching flaps some NICs, so production may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpPolicy {
    /// At the first trip.
    #[default]
    OnTrip,
    /// At start.
    Always,
    /// Never; TC does the work.
    Off,
}

/// The session stream.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// `session.listen`, default 127.0.0.1:7400.
    pub listen: SocketAddr,
    /// `session.insecure`: must be true for a listener beyond loopback without TLS.
    pub insecure: bool,
    /// `session.tls_cert`, `session.tls_key`, `session.tls_client_ca`; `None` unless they are set.
    pub tls: Option<SessionTls>,
    /// `session.ping_every`, default 30 s.
    pub ping_every: Duration,
    /// `session.pong_within`, default 15 s; two misses in a row close the stream.
    pub pong_within: Duration,
    /// `session.max_peers`, default 4096.
    pub max_peers: u32,
    /// `session.admit_per_second`: streams that may begin, default 500; media servers apart.
    pub admit_per_second: u32,
    /// `session.admit_burst`: at once, default 500.
    pub admit_burst: u32,
    /// `session.max_rooms`: rooms one peer may serve, default 16384.
    pub max_rooms: u32,
    /// `session.events_per_second`: of one peer, default 10000.
    pub events_per_second: u32,
    /// `session.event_burst`: of one peer at once, default 20000.
    pub event_burst: u32,
}

/// The files of the session listener's TLS, in PEM. Peers have to show a certificate of `client_ca`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTls {
    /// `session.tls_cert`: the agent's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// `session.tls_key`: its private key.
    pub key: PathBuf,
    /// `session.tls_client_ca`: the authorities that peers' certificates come from.
    pub client_ca: PathBuf,
}

/// Host device tokens.
#[derive(Debug, Clone)]
pub struct TokensConfig {
    /// `tokens.keys`; none: no token holds. Their files are read by [`Tokens::load`](crate::tokens::Tokens::load).
    pub keys: Vec<KeyFile>,
    /// `tokens.issuer`; `None`: every issuer.
    pub issuer: Option<String>,
    /// `tokens.audience`; `None`: every audience.
    pub audience: Option<String>,
    /// `tokens.leeway`, default 60 s.
    pub leeway: Duration,
}

/// Where rooms are kept.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `store.kind`
    pub kind: StoreKind,
    /// `[store.redis]`
    pub redis: redis::RedisConfig,
}

/// Kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreKind {
    /// In the state directory, for this node alone.
    #[default]
    Embedded,
    /// Redis, shared by many nodes.
    Redis,
}

/// Who owns a room.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `registry.kind`
    pub kind: RegistryKind,
    /// `[registry.etcd]`
    pub etcd: EtcdConfig,
}

/// The registry in etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `registry.etcd.endpoints`, each `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// `registry.etcd.era`, default 0.
    pub era: u32,
    /// `registry.etcd.ttl`, default 30 s; in whole seconds.
    pub ttl: Duration,
    /// `registry.etcd.grace`, default 300 s.
    pub grace: Duration,
    /// `registry.etcd.username`; `None`: no user.
    pub username: Option<String>,
    /// `registry.etcd.password_file`, with `username`.
    pub password_file: Option<PathBuf>,
    /// `registry.etcd.ca_file`; with https only.
    pub ca_file: Option<PathBuf>,
    /// `registry.etcd.cert_file`, with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// `registry.etcd.key_file`, with `cert_file`.
    pub key_file: Option<PathBuf>,
}

/// Kinds of registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistryKind {
    /// This node owns every room that it serves.
    #[default]
    Local,
    /// Rooms are claimed in etcd.
    Etcd,
}

/// The comparison of rooms with what is held of them elsewhere.
#[derive(Debug, Clone)]
pub struct PatrolConfig {
    /// `patrol.every`, default 30 s.
    pub every: Duration,
}

/// The Janus adapter.
#[derive(Debug, Clone)]
pub struct JanusConfig {
    /// `janus.admin_socket`: unix socket (SOCK_SEQPACKET) of the admin API.
    pub admin_socket: PathBuf,
    /// `janus.admin_secret`; never logged or shown.
    pub admin_secret: Secret,
    /// `janus.events_listen`: where sampleevh posts to; loopback only. Default 127.0.0.1:7401.
    pub events_listen: SocketAddr,
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The figures for Prometheus.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// `metrics.listen`, default 127.0.0.1:7402; `None`: off.
    pub listen: Option<SocketAddr>,
    /// `metrics.insecure`: must be true for a listener beyond loopback.
    pub insecure: bool,
}

/// Spans for an OTLP receiver.
#[derive(Debug, Clone, Default)]
pub struct TracesConfig {
    /// `traces.endpoint`; `None`: off.
    pub endpoint: Option<String>,
    /// `traces.sample_percent`, default 100: of the traces that peers record themselves.
    pub sample_percent: u32,
    /// `traces.headers_file`: a header a line, such as `authorization: Bearer SECRET`.
    pub headers_file: Option<PathBuf>,
    /// `traces.ca_file`: who may have signed the certificate of an `https` endpoint.
    pub ca_file: Option<PathBuf>,
}

/// The gRPC health service.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// `health.listen`; `None`, the default: off.
    pub listen: Option<SocketAddr>,
    /// `health.insecure`: must be true for a listener beyond loopback.
    pub insecure: bool,
}

/// The audit log.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// `audit.file`, default `audit.jsonl` in `paths.state`; `None`: off.
    pub file: Option<PathBuf>,
    /// `audit.max_bytes`: the file is rotated before it is larger. Default 64 MiB.
    pub max_bytes: u64,
    /// `audit.keep`: rotated files beside it, default 8.
    pub keep: u32,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `log.filter`: a tracing filter, default "info".
    pub filter: String,
    /// `log.format`: "text" or "json".
    pub json: bool,
}

impl Paths {
    /// Where this instance's pins of every ABI version lie. `run`, `state` and `bpffs` already tell instances apart by
    /// the directory name `voice-agent[-INSTANCE]`.
    pub fn pin_root(&self) -> PathBuf {
        self.bpffs.clone()
    }

    /// Where the pins of this build's ABI version lie.
    pub fn pin_dir(&self) -> PathBuf {
        self.pin_root().join(format!("v{ABI_VERSION}"))
    }
}
