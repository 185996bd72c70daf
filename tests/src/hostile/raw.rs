//! Bytes of the test's choice: as messages of a session stream, and on the bare TCP port. And a peer that never reads.

use crate::{netns::Netns, peer::AGENT_URL};
use anyhow::Context;
use prost::{Message as _, bytes::Bytes};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};
use tokio_stream::StreamExt;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Endpoint,
};
use voice_agent::proto::v1::{
    AgentMessage, Goodbye, Hello, PeerMessage, agent_message::Message as FromAgent,
    peer_message::Message as ToAgent,
};

/// A stream ends within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// What HTTP/2 lets an agent send to a peer that does not read. The least that tonic allows to set.
const WINDOW: u32 = 65_535;

/// A message of the protocol, as bytes.
pub fn encoded(message: ToAgent) -> Vec<u8> {
    let message = PeerMessage {
        message: Some(message),
    };
    message.encode_to_vec()
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub struct End {
    /// The call's status.
    pub code: Code,
    /// Its words, and those of the Goodbye before it.
    pub words: String,
}

/// Opens a stream, says Hello and then each of `messages` as it is, and reads nothing for as long as there are messages.
/// Returns how the agent ended the stream.
pub fn stream(ns: &Netns, role: &'static str, id: &str, messages: Vec<Vec<u8>>) -> anyhow::Result<End> {
    let hello = encoded(ToAgent::Hello(Hello {
        protocol_version: 1,
        ..Default::default()
    }));
    let said: Vec<Bytes> = [hello].into_iter().chain(messages).map(Bytes::from).collect();
    let id = id.to_owned();
    ns.run(move || -> anyhow::Result<End> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let end = runtime.block_on(async { tokio::time::timeout(PATIENCE, converse(role, &id, said)).await });
        end.context("the stream did not end")?
    })?
}

async fn converse(role: &'static str, id: &str, said: Vec<Bytes>) -> anyhow::Result<End> {
    let endpoint = Endpoint::from_static(AGENT_URL).initial_stream_window_size(WINDOW);
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await?);
    grpc.ready().await?;
    let (all_said, mut is_said) = tokio::sync::oneshot::channel::<()>();
    let mut all_said = Some(all_said);
    let mut left = said.into_iter();
    let says = std::iter::from_fn(move || {
        let next = left.next();
        if next.is_none() {
            all_said.take();
        }
        next
    });
    // Its side stays open: a stream that the peer closes ends well.
    let says = tokio_stream::iter(says).chain(tokio_stream::pending());
    let mut call = tonic::Request::new(says);
    call.metadata_mut().insert("peer-role", role.parse()?);
    call.metadata_mut().insert("peer-id", id.parse()?);
    let path = PathAndQuery::from_static("/voice.agent.v1.Session/Stream");
    let mut answers = grpc.streaming(call, path, Raw).await?.into_inner();
    // What cannot be said any more because the stream ended is not waited for.
    let _ = tokio::time::timeout(PATIENCE / 2, &mut is_said).await;
    let mut words = String::new();
    loop {
        match answers.message().await {
            Ok(Some(AgentMessage {
                message: Some(FromAgent::Goodbye(Goodbye { reason, .. })),
            })) => words = reason,
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the stream ended without an error: {words}"),
            Err(status) => {
                return Ok(End {
                    code: status.code(),
                    words: format!("{words}; {}", status.message()),
                });
            }
        }
    }
}

/// Sends `bytes` to the agent's port and returns everything that comes until the agent closes the connection.
pub fn tcp(ns: &Netns, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    tcp_to(ns, AGENT_URL.trim_start_matches("http://"), bytes)
}

/// The same to another address that the agent listens at.
pub fn tcp_to(ns: &Netns, addr: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let bytes = bytes.to_vec();
    ns.run(move || -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Closed while bytes of ours were unread.
        let closed =
            |e: &std::io::Error| matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        match stream.write_all(&bytes) {
            Err(e) if !closed(&e) => return Err(e).context("send to the agent"),
            _ => {}
        }
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Err(e) if !closed(&e) => Err(e).context("the agent did not close the connection"),
            _ => Ok(said),
        }
    })?
}

/// Sends bytes as they are, reads messages of the agent.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = AgentMessage;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put(to, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = AgentMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<AgentMessage>, Status> {
        AgentMessage::decode(from)
            .map(Some)
            .map_err(|e| Status::data_loss(e.to_string()))
    }
}
