//! The agent, played by the test: it takes calls, and each call says and hears what the test wants.

use super::{PATIENCE, within};
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};
use voice_client::proto::v1::{
    self, AgentMessage, PeerMessage, admission_server, agent_message::Message as FromAgent,
    peer_message::Message as FromPeer, session_server,
};

/// A running agent; ends with the test.
pub(crate) struct Agent {
    url: String,
    calls: mpsc::UnboundedReceiver<Call>,
    service: Service,
    _stop: DropGuard,
}

/// One stream that a peer opened, its Hello heard.
pub(crate) struct Call {
    pub(crate) metadata: MetadataMap,
    pub(crate) hello: v1::Hello,
    says: mpsc::UnboundedSender<Result<AgentMessage, Status>>,
    hears: Streaming<PeerMessage>,
    heard: Option<FromPeer>,
    /// How often pings are said to come, in milliseconds.
    pub(crate) ping_every_ms: u64,
    pub(crate) isolations: Vec<v1::Isolation>,
}

#[derive(Clone)]
struct Service {
    calls: mpsc::UnboundedSender<Call>,
    speaks: u32,
    join: Arc<Mutex<Result<v1::CheckJoinResponse, Status>>>,
}

impl Agent {
    pub(crate) async fn start() -> Agent {
        Agent::speaking(2).await
    }

    /// One that speaks up to this version.
    pub(crate) async fn speaking(speaks: u32) -> Agent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (calls_in, calls) = mpsc::unbounded_channel();
        let allowed = v1::CheckJoinResponse {
            allowed: true,
            authoritative: true,
            ..Default::default()
        };
        let service = Service {
            calls: calls_in,
            speaks,
            join: Arc::new(Mutex::new(Ok(allowed))),
        };
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .add_service(session_server::SessionServer::new(service.clone()))
            .add_service(admission_server::AdmissionServer::new(service.clone()))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(serving);
        Agent {
            url,
            calls,
            service,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The next stream that is opened.
    pub(crate) async fn call(&mut self) -> Call {
        within("a call", self.calls.recv()).await.unwrap()
    }

    /// What it answers to questions of admission from now on.
    pub(crate) fn answers_joins(&self, answer: Result<v1::CheckJoinResponse, Status>) {
        *self.service.join.lock().unwrap() = answer;
    }
}

impl Call {
    /// Welcomes the peer in this version.
    pub(crate) fn welcome(&self, protocol_version: u32) {
        self.say(FromAgent::Welcome(v1::Welcome {
            protocol_version,
            node: "node-1".into(),
            epoch: Some(v1::Epoch { era: 1, revision: 7 }),
            isolations: self.isolations.clone(),
            ping_every_ms: self.ping_every_ms,
            pong_within_ms: self.ping_every_ms / 2,
        }));
    }

    pub(crate) fn say(&self, message: FromAgent) {
        let message = AgentMessage {
            message: Some(message),
        };
        // A peer that has hung up hears nothing; tests look at what it says.
        let _ = self.says.send(Ok(message));
    }

    /// Ends the stream.
    pub(crate) fn end(self, status: Status) {
        let _ = self.says.send(Err(status));
    }

    /// What the peer says next, and leaves it to be heard. `None`: nothing within a short while.
    pub(crate) async fn peek(&mut self) -> Option<&FromPeer> {
        if self.heard.is_none() {
            let short = std::time::Duration::from_millis(200);
            let message = tokio::time::timeout(short, self.hears.message()).await.ok()?;
            self.heard = message.ok()??.message;
        }
        self.heard.as_ref()
    }

    /// What the peer says next.
    pub(crate) async fn hear(&mut self) -> FromPeer {
        match self.try_hear().await {
            Some(message) => message,
            None => panic!("the peer hung up"),
        }
    }

    /// The same; `None`: it hung up.
    pub(crate) async fn try_hear(&mut self) -> Option<FromPeer> {
        if let Some(heard) = self.heard.take() {
            return Some(heard);
        }
        let message = within("a message of the peer", self.hears.message()).await;
        message.ok().flatten()?.message
    }

    /// The next request, and its id.
    pub(crate) async fn request(&mut self) -> v1::RoomEvent {
        match self.hear().await {
            FromPeer::RoomEvent(event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Accepts a request.
    pub(crate) fn accept(&self, request_id: u64) {
        let accepted = v1::Accepted {
            state: v1::RoomState::Liveing.into(),
            version: 2,
            epoch: Some(v1::Epoch { era: 1, revision: 7 }),
            incarnation: 1,
        };
        self.say(FromAgent::EventResult(v1::EventResult {
            request_id,
            result: Some(v1::event_result::Result::Accepted(accepted)),
        }));
    }
}

#[tonic::async_trait]
impl session_server::Session for Service {
    type StreamStream = UnboundedReceiverStream<Result<AgentMessage, Status>>;

    async fn stream(
        &self,
        call: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let metadata = call.metadata().clone();
        let mut hears = call.into_inner();
        let (says, stream) = mpsc::unbounded_channel();
        let (calls, speaks) = (self.calls.clone(), self.speaks);
        tokio::spawn(async move {
            let first = tokio::time::timeout(PATIENCE, hears.message()).await;
            let Ok(Ok(Some(PeerMessage {
                message: Some(FromPeer::Hello(hello)),
            }))) = first
            else {
                return;
            };
            if hello.protocol_version > speaks {
                let _ = says.send(Err(Status::failed_precondition(format!("supported is {speaks}"))));
                return;
            }
            let _ = calls.send(Call {
                metadata,
                hello,
                says,
                hears,
                heard: None,
                ping_every_ms: 30_000,
                isolations: Vec::new(),
            });
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl admission_server::Admission for Service {
    async fn check_join(
        &self,
        _: Request<v1::CheckJoinRequest>,
    ) -> Result<Response<v1::CheckJoinResponse>, Status> {
        self.join.lock().unwrap().clone().map(Response::new)
    }
}
