//! What a connection to etcd needs, made from the configuration once at the start: files are read while that is allowed.

use crate::config::{EtcdConfig, Secret};
use std::{fs, path::Path, time::Duration};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// HTTP/2 pings, so that a half-open connection is found. etcd closes connections that ping more often than every 5 s.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
/// A longer file is no certificate, key or password.
const MAX_FILE: u64 = 1 << 20;

/// Why the registry cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// The key to blame.
    pub key: &'static str,
    /// In words.
    pub problem: String,
}

/// The members and how to speak to them.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) members: Vec<Member>,
    pub(super) user: Option<(String, Secret)>,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// As configured, for messages.
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
}

impl Settings {
    pub(super) fn new(config: &EtcdConfig) -> Result<Settings, SettingsError> {
        let tls = tls(config)?;
        let member = |name: &String| {
            let problem = |error: tonic::transport::Error| SettingsError {
                key: "registry.etcd.endpoints",
                problem: format!("{name}: {error}"),
            };
            let mut endpoint = Endpoint::from_shared(name.clone())
                .map_err(problem)?
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(PING)
                .keep_alive_timeout(PONG)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            if let Some(tls) = tls.as_ref().filter(|_| name.starts_with("https://")) {
                endpoint = endpoint.tls_config(tls.clone()).map_err(problem)?;
            }
            Ok(Member {
                name: name.clone(),
                endpoint,
            })
        };
        Ok(Settings {
            members: config.endpoints.iter().map(member).collect::<Result<_, _>>()?,
            user: user(config)?,
        })
    }
}

fn tls(config: &EtcdConfig) -> Result<Option<ClientTlsConfig>, SettingsError> {
    let Some(ca) = &config.ca_file else {
        return Ok(None);
    };
    let ca = Certificate::from_pem(read("registry.etcd.ca_file", ca)?);
    let tls = ClientTlsConfig::new().ca_certificate(ca);
    let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) else {
        return Ok(Some(tls));
    };
    let cert = read("registry.etcd.cert_file", cert)?;
    let key = read("registry.etcd.key_file", key)?;
    Ok(Some(tls.identity(Identity::from_pem(cert, key))))
}

fn user(config: &EtcdConfig) -> Result<Option<(String, Secret)>, SettingsError> {
    let (Some(name), Some(file)) = (&config.username, &config.password_file) else {
        return Ok(None);
    };
    let key = "registry.etcd.password_file";
    let text = read(key, file)?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() || password.contains('\n') {
        let problem = format!("{} has to hold the password on one line", file.display());
        return Err(SettingsError { key, problem });
    }
    Ok(Some((name.clone(), Secret(password.to_owned()))))
}

fn read(key: &'static str, path: &Path) -> Result<String, SettingsError> {
    let wrong = |problem: String| SettingsError {
        key,
        problem: format!("{}: {problem}", path.display()),
    };
    let length = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if length > MAX_FILE {
        return Err(wrong(format!("is {length} bytes long; allowed are {MAX_FILE}")));
    }
    fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}
