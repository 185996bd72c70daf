//! Opening a stream: connection, metadata, Hello in the highest version the agent takes.

use crate::{
    OLDEST_PROTOCOL_VERSION, Role, Tls,
    backoff::hint_of,
    event::Why,
    proto::v1::Hello,
    stream::{ClientError, PeerClient},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};
use voice_room::{PeerId, RoomId};

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long Welcome may take after it. The agent itself gives a Hello 10 s.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// HTTP/2 pings, besides the protocol's own: as often as an agent's.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(30);
const HTTP2_PONG_WITHIN: Duration = Duration::from_secs(15);
/// Rooms that one call may name.
pub(crate) const MAX_NAMED: usize = 64;

/// Who calls, and how.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    pub(crate) id: PeerId,
    pub(crate) tls: Option<Tls>,
    pub(crate) tag: Option<AsciiMetadataValue>,
    pub(crate) weight: Option<u32>,
    pub(crate) software: String,
    pub(crate) software_version: String,
    /// The highest to speak.
    pub(crate) protocol_version: u32,
}

/// A stream that is up.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: PeerClient,
    pub(crate) channel: Channel,
    pub(crate) endpoint: String,
}

/// Why none is.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) why: Why,
    pub(crate) hint: Option<Duration>,
    /// Whether the agent answered at all.
    pub(crate) answered: bool,
    /// Whether trying again is worth it.
    pub(crate) again: bool,
}

/// Connects to `endpoint`, naming these rooms (the first 64). Speaks the version before when the agent does not know ours.
pub(crate) async fn dial(
    caller: Arc<Caller>,
    endpoint: String,
    rooms: Vec<RoomId>,
) -> Result<Dialled, Failed> {
    let channel = connect(&endpoint, caller.tls.as_ref()).await?;
    let mut version = caller.protocol_version;
    loop {
        let opened = timeout(WELCOME_WITHIN, open(&caller, channel.clone(), &rooms, version)).await;
        match opened {
            Ok(Ok(stream)) => {
                return Ok(Dialled {
                    stream,
                    channel,
                    endpoint,
                });
            }
            Ok(Err(ClientError::Status(status)))
                if status.code() == Code::FailedPrecondition && version > OLDEST_PROTOCOL_VERSION =>
            {
                tracing::debug!(version, "the agent does not speak it: {}", status.message());
                version -= 1;
            }
            Ok(Err(ClientError::Status(status))) => return Err(refused(&status)),
            Ok(Err(other)) => return Err(unreachable(&endpoint, other.to_string())),
            Err(_) => {
                let said = format!("no Welcome within {} s", WELCOME_WITHIN.as_secs());
                return Err(unreachable(&endpoint, said));
            }
        }
    }
}

async fn connect(endpoint: &str, tls: Option<&Tls>) -> Result<Channel, Failed> {
    let failed = |e: tonic::transport::Error| unreachable(endpoint, causes(&e));
    let mut to = Endpoint::from_shared(endpoint.to_owned()).map_err(failed)?;
    if let Some(tls) = tls {
        let files = tls.read().map_err(|said| unreachable(endpoint, said))?;
        to = to.tls_config(files).map_err(failed)?;
    }
    to.connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PONG_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(failed)
}

async fn open(
    caller: &Caller,
    channel: Channel,
    rooms: &[RoomId],
    protocol_version: u32,
) -> Result<PeerClient, ClientError> {
    let hello = Hello {
        protocol_version,
        software: caller.software.clone(),
        software_version: caller.software_version.clone(),
    };
    PeerClient::open(channel, metadata(caller, rooms)?, hello).await
}

fn metadata(caller: &Caller, rooms: &[RoomId]) -> Result<MetadataMap, Status> {
    let ascii = |text: &str| {
        AsciiMetadataValue::try_from(text).map_err(|e| Status::invalid_argument(format!("{text:?}: {e}")))
    };
    let mut metadata = MetadataMap::new();
    metadata.insert("peer-role", ascii(caller.role.name())?);
    metadata.insert("peer-id", ascii(&caller.id)?);
    if let Some(tag) = &caller.tag {
        metadata.insert("node-tag", tag.clone());
    }
    if let Some(weight) = caller.weight {
        metadata.insert("load-weight", ascii(&weight.to_string())?);
    }
    for room in rooms.iter().take(MAX_NAMED) {
        metadata.append("room-id", ascii(room)?);
    }
    Ok(metadata)
}

fn unreachable(endpoint: &str, said: String) -> Failed {
    Failed {
        why: Why::Unreachable {
            endpoint: endpoint.to_owned(),
            said,
        },
        hint: None,
        answered: false,
        again: true,
    }
}

/// The agent, or something before it, answered with a status.
fn refused(status: &Status) -> Failed {
    let hint = hint_of(status);
    Failed {
        hint,
        answered: hint.is_some() || !matches!(status.code(), Code::Unavailable | Code::Unknown),
        again: worth_trying_again(status.code()),
        why: Why::Status {
            code: status.code(),
            said: status.message().to_owned(),
        },
    }
}

/// What is wrong with our metadata or Hello stays wrong.
fn worth_trying_again(code: Code) -> bool {
    !matches!(code, Code::InvalidArgument | Code::FailedPrecondition)
}

/// tonic's errors say what is wrong in their sources only.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}
