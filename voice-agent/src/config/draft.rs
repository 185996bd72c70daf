//! A configuration being filled key by key. What it starts from is overwritten by the defaults of `keys.rs`; it
//! becomes a [`Config`] once its parts fit together (`check.rs`).

use super::{
    AuditConfig, Config, EtcdConfig, HealthConfig, HistoryConfig, JanusConfig, KernelConfig, LogConfig,
    MetricsConfig, Paths, PatrolConfig, RegistryConfig, RegistryKind, Secret, SessionConfig, SessionTls,
    StoreConfig, StoreKind, TokensConfig, TracesConfig, XdpPolicy, livekit::LivekitDraft, redis::RedisConfig,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use voice_room::{NodeName, Rules};

/// As [`Config`], before the instance is part of the paths.
#[derive(Debug)]
pub(super) struct Draft {
    /// `None`: the host name.
    pub(super) node: Option<NodeName>,
    pub(super) instance: Option<String>,
    pub(super) paths: Paths,
    pub(super) rules: Rules,
    pub(super) kernel: KernelConfig,
    pub(super) session: SessionConfig,
    /// Certificate, key, authorities: all or none.
    pub(super) session_tls: [Option<PathBuf>; 3],
    pub(super) tokens: TokensConfig,
    pub(super) store: StoreConfig,
    pub(super) registry: RegistryConfig,
    pub(super) history: HistoryConfig,
    pub(super) patrol: PatrolConfig,
    /// No adapter while its `admin_socket` is empty.
    pub(super) janus: JanusConfig,
    pub(super) livekit: LivekitDraft,
    pub(super) metrics: MetricsConfig,
    pub(super) traces: TracesConfig,
    pub(super) health: HealthConfig,
    /// An empty file stands for the one in `paths.state`.
    pub(super) audit: AuditConfig,
    pub(super) log: LogConfig,
}

impl Draft {
    pub(super) fn new() -> Draft {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Draft {
            node: None,
            instance: None,
            paths: Paths {
                state: PathBuf::new(),
                run: PathBuf::new(),
                bpffs: PathBuf::new(),
            },
            rules: Rules::default(),
            kernel: KernelConfig {
                interfaces: Vec::new(),
                xdp: XdpPolicy::OnTrip,
                ports: 0..=0,
                max_slots: 0,
                detach_on_stop: false,
                log: false,
            },
            session: SessionConfig {
                listen,
                insecure: false,
                tls: None,
                ping_every: Duration::ZERO,
                pong_within: Duration::ZERO,
                max_peers: 0,
                admit_per_second: 0,
                admit_burst: 0,
                max_rooms: 0,
                events_per_second: 0,
                event_burst: 0,
            },
            session_tls: [None, None, None],
            tokens: TokensConfig {
                keys: Vec::new(),
                issuer: None,
                audience: None,
                leeway: Duration::ZERO,
            },
            store: StoreConfig {
                kind: StoreKind::Embedded,
                redis: RedisConfig::default(),
            },
            registry: RegistryConfig {
                kind: RegistryKind::Local,
                etcd: EtcdConfig {
                    endpoints: Vec::new(),
                    era: 0,
                    ttl: Duration::ZERO,
                    grace: Duration::ZERO,
                    username: None,
                    password_file: None,
                    ca_file: None,
                    cert_file: None,
                    key_file: None,
                },
            },
            history: HistoryConfig::default(),
            patrol: PatrolConfig {
                every: Duration::ZERO,
            },
            janus: JanusConfig {
                admin_socket: PathBuf::new(),
                admin_secret: Secret(String::new()),
                events_listen: listen,
            },
            livekit: LivekitDraft {
                api: None,
                api_key: String::new(),
                api_secret_file: None,
                webhook_listen: listen,
            },
            metrics: MetricsConfig {
                listen: None,
                insecure: false,
            },
            traces: TracesConfig::default(),
            health: HealthConfig {
                listen: None,
                insecure: false,
            },
            audit: AuditConfig {
                file: None,
                max_bytes: 0,
                keep: 0,
            },
            log: LogConfig {
                filter: String::new(),
                json: false,
            },
        }
    }

    /// The listener's TLS. Some of the three files alone are a mistake that `check` tells.
    pub(super) fn tls(&self) -> Option<SessionTls> {
        let [cert, key, client_ca] = self.session_tls.clone();
        Some(SessionTls {
            cert: cert?,
            key: key?,
            client_ca: client_ca?,
        })
    }

    /// The finished configuration; `node` is the name to go by.
    pub(super) fn finish(self, node: NodeName) -> Config {
        let (tls, instance) = (self.tls(), self.instance);
        let own = |path: &Path| own_directory(path, instance.as_deref());
        let paths = Paths {
            state: own(&self.paths.state),
            run: own(&self.paths.run),
            bpffs: own(&self.paths.bpffs.join("voice-agent")),
        };
        let mut audit = self.audit;
        if audit
            .file
            .as_ref()
            .is_some_and(|file| file.as_os_str().is_empty())
        {
            audit.file = Some(paths.state.join("audit.jsonl"));
        }
        let livekit = self.livekit.whole();
        let has_janus = !self.janus.admin_socket.as_os_str().is_empty();
        Config {
            node,
            instance,
            paths,
            rules: self.rules,
            kernel: self.kernel,
            session: SessionConfig { tls, ..self.session },
            tokens: self.tokens,
            store: self.store,
            registry: self.registry,
            history: self.history,
            patrol: self.patrol,
            janus: has_janus.then_some(self.janus),
            livekit,
            metrics: self.metrics,
            traces: self.traces,
            health: self.health,
            audit,
            log: self.log,
        }
    }
}

/// `/var/lib/voice-agent` becomes `/var/lib/voice-agent-INSTANCE`.
fn own_directory(path: &Path, instance: Option<&str>) -> PathBuf {
    match (path.file_name(), instance) {
        (Some(name), Some(instance)) => {
            let mut name = name.to_os_string();
            name.push("-");
            name.push(instance);
            path.with_file_name(name)
        }
        _ => path.to_path_buf(),
    }
}
