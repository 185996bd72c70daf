//! What a connection to etcd needs, made from the configuration once at the start: files are read while that is allowed.

use crate::config::{EtcdConfig, Secret, read_authorities, read_file, read_secret};
use std::{io, path::Path, time::Duration};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// HTTP/2 pings, so that a half-open connection is found. etcd closes connections that ping more often than every 5 s.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

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
    let ca = read_authorities(ca).map_err(|error| unusable("registry.etcd.ca_file", ca, &error))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) else {
        return Ok(Some(tls));
    };
    let cert = read_file(cert).map_err(|error| unusable("registry.etcd.cert_file", cert, &error))?;
    let key = secret("registry.etcd.key_file", key)?;
    Ok(Some(tls.identity(Identity::from_pem(cert, key))))
}

fn user(config: &EtcdConfig) -> Result<Option<(String, Secret)>, SettingsError> {
    let (Some(name), Some(file)) = (&config.username, &config.password_file) else {
        return Ok(None);
    };
    let key = "registry.etcd.password_file";
    let text = secret(key, file)?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() || password.contains('\n') {
        let problem = format!("{} has to hold the password on one line", file.display());
        return Err(SettingsError { key, problem });
    }
    Ok(Some((name.clone(), Secret(password.to_owned()))))
}

fn secret(key: &'static str, path: &Path) -> Result<String, SettingsError> {
    let text = read_secret(path).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.map_err(|error| unusable(key, path, &error))
}

fn unusable(key: &'static str, path: &Path, error: &io::Error) -> SettingsError {
    SettingsError {
        key,
        problem: format!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_key_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| -> PathBuf {
            let path = dir.path().join(name);
            fs::write(&path, "no PEM").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (open, closed) = (file("open", 0o644), file("closed", 0o640));
        let none = EtcdConfig {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            era: 0,
            ttl: Duration::from_secs(30),
            grace: Duration::from_secs(300),
            username: Some("agent".into()),
            password_file: Some(closed.clone()),
            ca_file: None,
            cert_file: None,
            key_file: None,
        };
        assert!(Settings::new(&none).is_ok());
        let without = EtcdConfig {
            ca_file: Some(open.clone()),
            ..none.clone()
        };
        let told = EtcdConfig {
            password_file: Some(open.clone()),
            ..none.clone()
        };
        let gone = EtcdConfig {
            password_file: Some(dir.path().join("gone")),
            ..none
        };
        for (config, key, problem) in [
            (without, "registry.etcd.ca_file", "no certificate in it"),
            (told, "registry.etcd.password_file", "chmod o="),
            (gone, "registry.etcd.password_file", "No such file"),
        ] {
            let error = Settings::new(&config).unwrap_err();
            assert_eq!(error.key, key);
            assert!(error.problem.contains(problem), "{error}");
        }
    }
}
