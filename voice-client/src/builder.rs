//! How a peer is set up. Every mistake is found here, before anything is started.

use crate::{
    Peer, Role, Tls,
    dial::{Caller, MAX_NAMED},
    heartbeat::{self, Snapshot},
    proto::v1::MediaHeartbeat,
};
use std::{sync::Arc, time::Duration};
use tonic::{metadata::AsciiMetadataValue, transport::Endpoint};
use voice_room::{PeerId, RoomId};

/// The longest node tag.
const MAX_TAG: usize = 64;
/// The highest load weight.
const MAX_WEIGHT: u32 = 1_000_000;
/// The longest name or version of a peer's software.
const MAX_SOFTWARE: usize = 64;
/// How long a request waits for its answer, over reconnects.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A mistake in how a peer is set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("peer {id:?}: {said}")]
pub struct BuildError {
    id: String,
    said: String,
}

/// Sets up a peer; [`Builder::start`] starts it.
#[derive(Debug)]
#[must_use = "nothing runs before start()"]
pub struct Builder {
    role: Role,
    id: String,
    endpoints: Vec<String>,
    tls: Option<Tls>,
    tag: Option<String>,
    weight: Option<u32>,
    rooms: Vec<String>,
    software: (String, String),
    decides: bool,
    snapshot: Option<Snapshot>,
    heartbeat_every: Duration,
    request_within: Duration,
    protocol_version: u32,
}

/// The same, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) caller: Arc<Caller>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) rooms: Vec<RoomId>,
    pub(crate) decides: bool,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) heartbeat_every: Duration,
    pub(crate) request_within: Duration,
}

impl Builder {
    pub(crate) fn new(role: Role, id: &str) -> Builder {
        Builder {
            role,
            id: id.to_owned(),
            endpoints: Vec::new(),
            tls: None,
            tag: None,
            weight: None,
            rooms: Vec::new(),
            software: (
                env!("CARGO_PKG_NAME").to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            decides: false,
            snapshot: None,
            heartbeat_every: heartbeat::EVERY,
            request_within: REQUEST_WITHIN,
            protocol_version: crate::PROTOCOL_VERSION,
        }
    }

    /// Where the agent listens, `http://HOST:PORT`, or `https://HOST:PORT` with [`Builder::tls`]. Several: the next one is tried when one cannot be reached. They must lead
    /// to the same agent, or to agents that share their state.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Builder {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Connects by TLS, showing this peer's certificate. All endpoints are then `https://HOST:PORT`.
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// Shown in the topology: up to 64 visible ASCII characters.
    pub fn node_tag(mut self, tag: impl Into<String>) -> Builder {
        self.tag = Some(tag.into());
        self
    }

    /// Shown in the topology: 0 to 1000000.
    pub fn weight(mut self, weight: u32) -> Builder {
        self.weight = Some(weight);
        self
    }

    /// A room that is served from the start, and after each reconnect. At most 64: others are served once this peer asked for
    /// a change of them, once a client of its is in them, or once it lists them.
    pub fn room(mut self, room: impl Into<String>) -> Builder {
        self.rooms.push(room.into());
        self
    }

    /// Name and version of the application, for the agent's log: up to 64 characters each.
    pub fn software(mut self, name: impl Into<String>, version: impl Into<String>) -> Builder {
        self.software = (name.into(), version.into());
        self
    }

    /// The application decides about each PREPARE ([`Event::Prepare`](crate::Event::Prepare)); what it does not answer in time
    /// is refused. Without this, each is agreed to at once and the application learns what was committed.
    pub fn decides(mut self) -> Builder {
        self.decides = true;
        self
    }

    /// Role media: what is served now. Called every heartbeat on the peer's own task while a stream is up, so it must not block:
    /// copy what another task keeps. It may list any number of rooms.
    pub fn heartbeat(mut self, snapshot: impl Fn() -> MediaHeartbeat + Send + Sync + 'static) -> Builder {
        self.snapshot = Some(Snapshot::new(snapshot));
        self
    }

    /// Role media: how often. Default 5 s; it must be the agent's `rooms.heartbeat`.
    pub fn heartbeat_every(mut self, every: Duration) -> Builder {
        self.heartbeat_every = every;
        self
    }

    /// How long a request waits for its answer, over reconnects. Default 10 s.
    pub fn request_within(mut self, within: Duration) -> Builder {
        self.request_within = within;
        self
    }

    /// The highest protocol version to speak: 1 or 2. Default 2; with an agent that only knows 1, 1 is spoken.
    pub fn protocol_version(mut self, version: u32) -> Builder {
        self.protocol_version = version;
        self
    }

    /// Checks everything, and starts the peer's task. It connects in the background: whether that succeeds is the first event.
    /// Must be called inside a tokio runtime.
    pub fn start(self) -> Result<Peer, BuildError> {
        let id = self.id.clone();
        let wrong = |said: String| BuildError { id: id.clone(), said };
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(wrong("start() must be called inside a tokio runtime".into()));
        }
        self.check().map(Peer::run).map_err(wrong)
    }

    fn check(self) -> Result<Settings, String> {
        let id = PeerId::new(&self.id).map_err(|e| e.to_string())?;
        self.check_endpoints()?;
        self.check_role()?;
        self.check_software()?;
        if self.rooms.len() > MAX_NAMED {
            return Err(format!(
                "{} rooms are named: at most {MAX_NAMED} may be",
                self.rooms.len()
            ));
        }
        let rooms: Result<Vec<RoomId>, _> = self.rooms.iter().map(|room| RoomId::new(room)).collect();
        if !(crate::OLDEST_PROTOCOL_VERSION..=crate::PROTOCOL_VERSION).contains(&self.protocol_version) {
            return Err(format!(
                "protocol version {}: allowed are {} to {}",
                self.protocol_version,
                crate::OLDEST_PROTOCOL_VERSION,
                crate::PROTOCOL_VERSION
            ));
        }
        let caller = Caller {
            role: self.role,
            id,
            tls: self.tls,
            tag: self.tag.map(tag).transpose()?,
            weight: self.weight.map(weight).transpose()?,
            software: self.software.0,
            software_version: self.software.1,
            protocol_version: self.protocol_version,
        };
        Ok(Settings {
            caller: Arc::new(caller),
            endpoints: self.endpoints,
            rooms: rooms.map_err(|e| e.to_string())?,
            decides: self.decides,
            snapshot: self.snapshot,
            heartbeat_every: self.heartbeat_every,
            request_within: self.request_within,
        })
    }

    fn check_endpoints(&self) -> Result<(), String> {
        if self.endpoints.is_empty() {
            return Err("no endpoint is given: where does the agent listen?".into());
        }
        for endpoint in &self.endpoints {
            let parsed = Endpoint::from_shared(endpoint.clone()).map_err(|e| format!("{endpoint:?}: {e}"))?;
            let (scheme, because) = match self.tls {
                None => ("http", "without tls(…)"),
                Some(_) => ("https", "with tls(…)"),
            };
            if parsed.uri().scheme_str() != Some(scheme) || parsed.uri().authority().is_none() {
                return Err(format!(
                    "endpoint {endpoint:?}: allowed is {scheme}://HOST:PORT {because}"
                ));
            }
        }
        self.tls.as_ref().map_or(Ok(()), |tls| tls.read().map(drop))
    }

    fn check_role(&self) -> Result<(), String> {
        match (self.role, &self.snapshot) {
            (Role::Media, None) => {
                Err("a media server needs heartbeat(…): without it its rooms are cut".into())
            }
            (Role::Gateway | Role::Signalling, Some(_)) => Err(format!(
                "heartbeat(…) is for role media: a {} sends none",
                self.role
            )),
            _ if self.heartbeat_every.is_zero() => Err("heartbeat_every must be above 0".into()),
            _ => Ok(()),
        }
    }

    fn check_software(&self) -> Result<(), String> {
        let (name, version) = &self.software;
        let fits = |text: &str| text.chars().count() <= MAX_SOFTWARE && text.len() <= MAX_SOFTWARE;
        if !fits(name) || !fits(version) {
            return Err(format!(
                "software: name and version may have up to {MAX_SOFTWARE} characters each"
            ));
        }
        Ok(())
    }
}

fn tag(tag: String) -> Result<AsciiMetadataValue, String> {
    let allowed = tag.len() <= MAX_TAG && tag.bytes().all(|b| b.is_ascii_graphic());
    let value = AsciiMetadataValue::try_from(tag).ok().filter(|_| allowed);
    value.ok_or_else(|| format!("node tag: allowed are up to {MAX_TAG} visible ASCII characters"))
}

fn weight(weight: u32) -> Result<u32, String> {
    match weight {
        0..=MAX_WEIGHT => Ok(weight),
        _ => Err(format!("weight {weight}: allowed are 0 to {MAX_WEIGHT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Builder {
        Peer::builder(Role::Gateway, "gw").endpoint("http://127.0.0.1:7400")
    }

    #[test]
    fn every_mistake_is_found_before_the_start_and_says_what_is_allowed() {
        let media = || Peer::builder(Role::Media, "sfu").endpoint("http://127.0.0.1:7400");
        let wrong: Vec<(Builder, &str)> = vec![
            (Peer::builder(Role::Gateway, "gw"), "no endpoint"),
            (gateway().endpoint("127.0.0.1:7400"), "http://HOST:PORT"),
            (gateway().endpoint("https://a:1"), "http://HOST:PORT without tls"),
            (
                gateway().tls(Tls::new("/nowhere/ca", "/nowhere/cert", "/nowhere/key")),
                "https://HOST:PORT with tls",
            ),
            (
                Peer::builder(Role::Gateway, "gw")
                    .endpoint("https://a:1")
                    .tls(Tls::new("/nowhere/ca", "/nowhere/cert", "/nowhere/key")),
                "/nowhere/cert: No such file",
            ),
            (
                Peer::builder(Role::Gateway, "a b").endpoint("http://a:1"),
                "1 to 128 visible ASCII",
            ),
            (gateway().room("a/b"), "A-Z a-z 0-9"),
            (gateway().node_tag("a b"), "up to 64"),
            (gateway().weight(1_000_001), "0 to 1000000"),
            (gateway().software("x".repeat(65), "1"), "up to 64"),
            (gateway().protocol_version(3), "1 to 2"),
            (gateway().heartbeat(MediaHeartbeat::default), "role media"),
            (media(), "needs heartbeat"),
            (
                media()
                    .heartbeat(MediaHeartbeat::default)
                    .heartbeat_every(Duration::ZERO),
                "above 0",
            ),
            (
                (0..65).fold(gateway(), |b, n| b.room(format!("r{n}"))),
                "at most 64",
            ),
        ];
        for (builder, said) in wrong {
            let error = builder.check().unwrap_err();
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
        assert!(gateway().room("r").node_tag("rack-1").weight(10).check().is_ok());
        let outside = gateway().start().unwrap_err().to_string();
        assert!(outside.contains("inside a tokio runtime"), "{outside}");
    }
}
