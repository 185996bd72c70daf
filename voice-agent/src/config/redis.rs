//! `[store.redis]`: how the Redis store is reached.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// The Redis store.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    /// `store.redis.addresses`: one server, or some nodes of a cluster.
    pub addresses: Vec<HostPort>,
    /// `store.redis.cluster`
    pub cluster: bool,
    /// `store.redis.username`; `None`: the default user.
    pub username: Option<String>,
    /// `store.redis.password_file`; `None`: no password.
    pub password_file: Option<PathBuf>,
    /// `store.redis.tls`
    pub tls: bool,
    /// `store.redis.tls_ca`; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// `store.redis.tls_cert` and `store.redis.tls_key`.
    pub tls_identity: (Option<PathBuf>, Option<PathBuf>),
    /// `store.redis.timeout`: of one call.
    pub timeout: Duration,
    /// `store.redis.record_ttl`: how long a record lives without its owner's refresh.
    pub record_ttl: Duration,
    /// `store.redis.events_kept`: how long events are kept that no group waits for.
    pub events_kept: Duration,
}

/// A host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<HostPort, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let ok = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.len() <= 253 && host.bytes().all(bare),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(())?;
        let host = inner.unwrap_or(host).to_owned();
        ok.then_some(HostPort { host, port }).ok_or(())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for good in ["127.0.0.1:6379", "redis-1.example:6380", "[::1]:6379"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for wrong in [
            "",
            "redis",
            ":6379",
            "a:0",
            "a:70000",
            "::1:6379",
            "redis://a:1",
            "u:p@h:1",
            "[a]:1",
        ] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }
}
