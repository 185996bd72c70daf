//! Probes: is what the operator named reachable? Each is asked every few seconds; the latest answers stand beside the rooms'
//! snapshots. A probe decides nothing.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{codegen::http::Uri, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use voice_history::{Health, NodeHealth};

/// How often each is asked.
const EVERY: Duration = Duration::from_secs(5);
/// An answer that takes longer is none.
const WITHIN: Duration = Duration::from_secs(2);
/// An answer that takes longer is a degraded one.
const SLOW: Duration = Duration::from_millis(500);

/// What is asked, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name in snapshots.
    pub name: String,
    kind: Kind,
    host: String,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A connection is taken.
    Tcp,
    /// GET is answered with 2xx or 3xx.
    Http,
    /// grpc.health.v1 says SERVING.
    Grpc,
}

/// `NAME=KIND://HOST:PORT`, and for http a path.
impl FromStr for Probe {
    type Err = ();

    fn from_str(text: &str) -> Result<Probe, ()> {
        let (name, url) = text.split_once('=').ok_or(())?;
        let name_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(name_ok) {
            return Err(());
        }
        let uri: Uri = url.parse().map_err(|_| ())?;
        let kind = match uri.scheme_str() {
            Some("tcp") => Kind::Tcp,
            Some("http") => Kind::Http,
            Some("grpc") => Kind::Grpc,
            _ => return Err(()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if (kind != Kind::Http && path != "/" && !path.is_empty()) || url.contains('@') {
            return Err(());
        }
        Ok(Probe {
            name: name.into(),
            kind,
            host: uri.host().filter(|host| !host.is_empty()).ok_or(())?.into(),
            port: uri.port_u16().filter(|port| *port != 0).ok_or(())?,
            path: if path.is_empty() { "/".into() } else { path.into() },
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match self.kind {
            Kind::Tcp => ("tcp", ""),
            Kind::Http => ("http", self.path.as_str()),
            Kind::Grpc => ("grpc", ""),
        };
        write!(f, "{}={kind}://{}:{}{path}", self.name, self.host, self.port)
    }
}

/// The latest answers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Probed(Arc<Mutex<NodeHealth>>);

impl Probed {
    /// Of each probe that was asked.
    pub fn health(&self) -> NodeHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: &str, health: Health) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.insert(name.to_owned(), health);
        if before != Some(health) && (before.is_some() || health != Health::Healthy) {
            tracing::info!(probe = name, health = health.name(), "a probe's answer changed");
        }
    }
}

/// Asks every probe until `stop`.
pub async fn run(probes: Vec<Probe>, probed: Probed, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    for probe in probes {
        let (probed, stop) = (probed.clone(), stop.clone());
        tasks.spawn(async move {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => probed.set(&probe.name, probe.ask().await),
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    stop.cancelled().await;
}

impl Probe {
    /// Asks once.
    pub async fn ask(&self) -> Health {
        let began = Instant::now();
        let answered = match self.kind {
            Kind::Tcp => timeout(WITHIN, self.connect()).await.map(|c| c.is_ok()),
            Kind::Http => timeout(WITHIN, self.get()).await.map(|ok| ok.unwrap_or(false)),
            Kind::Grpc => timeout(WITHIN, self.serving())
                .await
                .map(|ok| ok.unwrap_or(false)),
        };
        match answered {
            Ok(true) if began.elapsed() > SLOW => Health::Degraded,
            Ok(true) => Health::Healthy,
            Ok(false) | Err(_) => Health::Broken,
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        TcpStream::connect((host, self.port)).await
    }

    /// Only the status line is read.
    async fn get(&self) -> std::io::Result<bool> {
        let mut stream = self.connect().await?;
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}:{}\r\nUser-Agent: voice-agent\r\n\r\n",
            self.path, self.host, self.port
        );
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok(status.starts_with(b"HTTP/1.") && matches!(status.get(9), Some(b'2' | b'3')))
    }

    async fn serving(&self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let endpoint = Endpoint::try_from(format!("http://{}:{}", self.host, self.port))?;
        let channel = endpoint.connect_timeout(WITHIN).connect().await?;
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let answer = HealthClient::new(channel).check(request).await?;
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_probe_is_a_name_and_an_address_of_a_known_kind_and_nothing_else() {
        for good in [
            "sfu=tcp://127.0.0.1:8188",
            "api=http://media.example:80/health?x=1",
            "peer=grpc://[::1]:7400",
        ] {
            assert_eq!(good.parse::<Probe>().unwrap().to_string(), good);
        }
        for wrong in [
            "",
            "tcp://127.0.0.1:1",
            "a b=tcp://127.0.0.1:1",
            "a=ftp://127.0.0.1:1",
            "a=tcp://127.0.0.1",
            "a=tcp://127.0.0.1:0",
            "a=tcp://127.0.0.1:1/path",
            "a=http://u:p@h:1/",
        ] {
            assert!(wrong.parse::<Probe>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn who_answers_well_is_healthy_and_who_answers_badly_or_not_at_all_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 503 Away\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.ok();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let http: Probe = format!("a=http://127.0.0.1:{port}/health").parse().unwrap();
        assert_ne!(http.ask().await, Health::Broken);
        assert_eq!(http.ask().await, Health::Broken, "503");
        assert_eq!(http.ask().await, Health::Broken, "hangs up");
        serving.await.unwrap();
        let tcp: Probe = format!("a=tcp://127.0.0.1:{port}").parse().unwrap();
        assert_eq!(tcp.ask().await, Health::Broken, "nobody listens");
    }
}
