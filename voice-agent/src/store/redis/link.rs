//! The connection to Redis, single or Cluster: multiplexed, made when it is needed, and made anew when it failed. Each call
//! has a deadline. What a call means is not known here.

use super::problem::Problem;
use crate::{
    config::{
        read_authorities, read_file, read_secret,
        redis::{HostPort, RedisConfig},
    },
    store::StoreError,
    telemetry::Counter,
};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisResult, TlsCertificates, Value,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// After a connection could not be made, who asks next is told so at once for this long.
const NOT_AGAIN_FOR: Duration = Duration::from_millis(200);
/// Calls that may wait for the connection's task; who comes then waits too, within its deadline.
const WAITING: usize = 1024;
/// Bytes of calls that are put together before they are written, while more wait.
const AT_A_TIME: usize = 64 * 1024;
/// What a cluster's client does by itself about redirections, a slot on its way, or a node that is gone.
const CLUSTER_RETRIES: u32 = 6;
const CLUSTER_WAIT_MS: (u64, u64) = (20, 300);

/// The way to Redis.
pub(super) struct Link {
    client: Client,
    /// For messages.
    place: String,
    /// Of one call.
    within: Duration,
    made: Mutex<Made>,
    making: tokio::sync::Mutex<()>,
}

enum Client {
    Single(Box<redis::Client>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[derive(Default)]
struct Made {
    connection: Option<Connection>,
    /// Told by who finds a connection broken, so that only that one is given up.
    generation: u64,
    failed: Option<(Instant, Problem)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Reads the files the configuration names. Connects to nothing yet.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn new(config: &RedisConfig) -> Result<Link, StoreError> {
        let nodes: Vec<ConnectionInfo> = infos(config)?;
        let place = config
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let refuse = |e: redis::RedisError| StoreError::Unavailable(format!("store.redis: {e}"));
        let certificates = certificates(config)?;
        let client = if config.cluster {
            let (least, most) = CLUSTER_WAIT_MS;
            let mut builder = ClusterClientBuilder::new(nodes)
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(least)
                .max_retry_wait(most)
                .connection_timeout(config.timeout)
                .response_timeout(config.timeout)
                .use_protocol(ProtocolVersion::RESP2);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Client::Cluster(Box::new(builder.build().map_err(refuse)?))
        } else {
            let first = nodes.into_iter().next();
            let first =
                first.ok_or_else(|| StoreError::Unavailable("store.redis.addresses is empty".into()))?;
            let client = match certificates {
                Some(certificates) => redis::Client::build_with_tls(first, certificates),
                None => redis::Client::open(first),
            };
            Client::Single(Box::new(client.map_err(refuse)?))
        };
        Ok(Link {
            client,
            place,
            within: config.timeout,
            made: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        })
    }

    /// Sends one command and waits for its answer. A script that is not there is an answer too.
    pub(super) async fn call(&self, cmd: &Cmd) -> Result<Value, Problem> {
        let deadline = tokio::time::Instant::now() + self.within;
        let (generation, connection) = self.connection(deadline).await?;
        let asked = async {
            match connection {
                Connection::Single(mut connection) => cmd.query_async::<Value>(&mut connection).await,
                Connection::Cluster(mut connection) => cmd.query_async::<Value>(&mut connection).await,
            }
        };
        let problem = match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Problem::of(&error, &self.place),
            Err(_) => Problem::Again(format!(
                "no answer from {} within {}",
                self.place,
                humantime::format_duration(self.within)
            )),
        };
        if let Problem::Again(_) = &problem {
            // It may be half open, or lead to a server that is none any more: a new one finds out.
            self.give_up(generation);
        }
        Err(problem)
    }

    /// A connection of its own that listens to `channel`: to the single server, or to any node of the cluster, which hears all.
    pub(super) async fn subscribe(
        &self,
        config: &RedisConfig,
        channel: &str,
    ) -> Result<redis::aio::PubSub, Problem> {
        let mut last = Problem::Again("no address".into());
        let certificates = certificates(config).map_err(|e| Problem::Refused(e.to_string()))?;
        for info in infos(config).map_err(|e| Problem::Refused(e.to_string()))? {
            let client = match &certificates {
                Some(certificates) => redis::Client::build_with_tls(info, certificates.clone()),
                None => redis::Client::open(info),
            };
            let subscribed = async {
                let mut listener = client?.get_async_pubsub().await?;
                listener.subscribe(channel).await?;
                RedisResult::Ok(listener)
            };
            last = match tokio::time::timeout(self.within, subscribed).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => Problem::of(&error, &self.place),
                Err(_) => Problem::Again(format!("no subscription at {} in time", self.place)),
            };
        }
        Err(last)
    }

    async fn connection(&self, deadline: tokio::time::Instant) -> Result<(u64, Connection), Problem> {
        if let Some(there) = self.there()? {
            return Ok(there);
        }
        // One connects, the others wait for what becomes of it.
        let late = |_| Problem::Again(format!("no connection to {} in time", self.place));
        let _one = tokio::time::timeout_at(deadline, self.making.lock())
            .await
            .map_err(late)?;
        if let Some(there) = self.there()? {
            return Ok(there);
        }
        let connected = tokio::time::timeout_at(deadline, self.connect()).await;
        let connected = match connected {
            Ok(connected) => connected.map_err(|error| Problem::of(&error, &self.place)),
            Err(elapsed) => Err(late(elapsed)),
        };
        let mut made = self.made();
        match connected {
            Ok(connection) => {
                Counter::StoreConnected.count();
                made.generation += 1;
                made.failed = None;
                made.connection = Some(connection.clone());
                Ok((made.generation, connection))
            }
            Err(problem) => {
                made.failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    fn there(&self) -> Result<Option<(u64, Connection)>, Problem> {
        let made = self.made();
        if let Some(connection) = &made.connection {
            return Ok(Some((made.generation, connection.clone())));
        }
        match &made.failed {
            Some((at, problem)) if at.elapsed() < NOT_AGAIN_FOR => Err(problem.clone()),
            _ => Ok(None),
        }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        match &self.client {
            Client::Single(client) => {
                // The deadline is that of the call, which drops what it waits for.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None)
                    .set_pipeline_buffer_size(WAITING)
                    .set_write_backpressure_boundary(AT_A_TIME);
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Connection::Single(connection.await?))
            }
            Client::Cluster(client) => Ok(Connection::Cluster(client.get_async_connection().await?)),
        }
    }

    fn give_up(&self, generation: u64) {
        let mut made = self.made();
        if made.generation == generation {
            made.connection = None;
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn infos(config: &RedisConfig) -> Result<Vec<ConnectionInfo>, StoreError> {
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_lib_name("voice-agent", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &config.username {
        settings = settings.set_username(user);
    }
    if let Some(path) = &config.password_file {
        let text = closed("store.redis.password_file", path)?;
        let text =
            String::from_utf8(text).map_err(|_| unusable("store.redis.password_file", path, "is no text"))?;
        settings = settings.set_password(text.trim_end_matches(['\r', '\n']));
    }
    let info = |HostPort { host, port }: &HostPort| {
        let (host, port) = (host.clone(), *port);
        let address = match config.tls {
            true => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
            false => ConnectionAddr::Tcp(host, port),
        };
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info();
        info.map(|info| info.set_redis_settings(settings.clone()).set_tcp_settings(tcp))
    };
    let infos: RedisResult<Vec<ConnectionInfo>> = config.addresses.iter().map(info).collect();
    infos.map_err(|e| StoreError::Unavailable(format!("store.redis.addresses: {e}")))
}

fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, StoreError> {
    if !config.tls {
        return Ok(None);
    }
    // The process has one provider of ciphers; whoever comes first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let identity = match &config.tls_identity {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: named("store.redis.tls_cert", cert)?,
            client_key: closed("store.redis.tls_key", key)?,
        }),
        _ => None,
    };
    let root = config
        .tls_ca
        .as_ref()
        .map(|path| read_authorities(path).map_err(|e| unusable("store.redis.tls_ca", path, &e.to_string())))
        .transpose()?;
    Ok(Some(TlsCertificates {
        client_tls: identity,
        root_cert: root.map(String::into_bytes),
    }))
}

fn named(key: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    read_file(path).map_err(|e| unusable(key, path, &e.to_string()))
}

/// A file that holds a secret: not open to everybody.
fn closed(key: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    read_secret(path).map_err(|e| unusable(key, path, &e.to_string()))
}

fn unusable(key: &str, path: &Path, problem: &str) -> StoreError {
    StoreError::Unavailable(format!("{key}: cannot use {}: {problem}", path.display()))
}
