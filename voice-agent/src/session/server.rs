//! The gRPC server: the session and admission services, health and reflection, and its end.

use crate::{
    driver::Handle,
    proto::{
        DESCRIPTORS,
        v1::{
            CheckJoinRequest, CheckJoinResponse, PeerMessage,
            admission_server::{Admission, AdmissionServer},
            session_server::{Session, SessionServer},
        },
    },
    session::{Sessions, connections, identity::Caller, outgoing::Drain, peer::PeerInfo, stream},
    telemetry::Counter,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, server::NamedService, transport::Server};
use voice_room::RoomId;

/// The largest message a peer may send, encoded.
const MAX_MESSAGE: usize = 1 << 20;
/// Calls open at a time on one connection.
const MAX_CALLS: u32 = 1024;
/// Questions of admission before the driver at a time, of all connections together; others wait. They share its queue with
/// heartbeats, which a flood of them must not delay.
pub(super) const MAX_QUESTIONS: usize = 64;
/// How long a shutdown waits for peers to read their Goodbye.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Why the session service could not run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server broke.
    #[error("session service: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors that the build embedded cannot be read.
    #[error("session service: reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

type SessionService = SessionServer<Service>;
type AdmissionService = AdmissionServer<Service>;

/// See [`Sessions::serve`].
pub(super) async fn serve(
    sessions: Sessions,
    handle: Handle,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), SessionError> {
    // A child of our own, so that the streams also end when this future is dropped.
    let stop = shutdown.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let tasks = sessions.0.tasks.clone();
    let (ping_every, pong_within) = (sessions.0.ping_every, sessions.0.pong_within);
    let (max_peers, tls) = (sessions.0.limits.peers, sessions.0.tls.clone());
    if let Some(tls) = tls.clone() {
        tokio::spawn(tls.keep_fresh(stop.clone()));
    }
    let service = Service::new(sessions, handle, stop.clone());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<SessionService>().await;
    reporter.set_serving::<AdmissionService>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .with_service_name(SessionService::NAME)
        .with_service_name(AdmissionService::NAME)
        .build_v1()?;
    let server = Server::builder()
        .http2_keepalive_interval(Some(ping_every))
        .http2_keepalive_timeout(Some(pong_within))
        .max_concurrent_streams(Some(MAX_CALLS))
        .add_service(health)
        .add_service(reflection)
        .add_service(SessionServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AdmissionServer::new(service).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(connections::accept(listener, max_peers, tls), stop.cancelled());
    let result = tokio::select! {
        result = server => result,
        () = async { stop.cancelled().await; sleep(DRAIN_WITHIN).await } => Ok(()),
    };
    stop.cancel();
    tasks.close();
    if timeout(DRAIN_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "session tasks did not end in time");
    }
    Ok(result?)
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    sessions: Sessions,
    handle: Handle,
    stop: CancellationToken,
    questions: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(sessions: Sessions, handle: Handle, stop: CancellationToken) -> Service {
        let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Service {
            sessions,
            handle,
            stop,
            questions,
        }
    }
}

/// Every connection says who calls; one that did not would be nobody's.
fn caller<T>(call: &Request<T>) -> Caller {
    let unknown = || Caller(Some(Err("the connection does not say who calls".to_owned())));
    call.extensions().get::<Caller>().cloned().unwrap_or_else(unknown)
}

#[tonic::async_trait]
impl Session for Service {
    type StreamStream = Drain;

    async fn stream(&self, call: Request<Streaming<PeerMessage>>) -> Result<Response<Drain>, Status> {
        let info = PeerInfo::from_metadata(call.metadata())?;
        caller(&call).may_be(&info)?;
        let (sessions, handle) = (self.sessions.clone(), self.handle.clone());
        let drain = stream::open(sessions, handle, self.stop.clone(), info, call.into_inner()).await?;
        Ok(Response::new(drain))
    }
}

#[tonic::async_trait]
impl Admission for Service {
    async fn check_join(
        &self,
        call: Request<CheckJoinRequest>,
    ) -> Result<Response<CheckJoinResponse>, Status> {
        caller(&call).named()?;
        let room = RoomId::new(&call.get_ref().room).map_err(|e| {
            Counter::SessionMalformed.count();
            Status::invalid_argument(e.to_string())
        })?;
        // Never closed; without a permit the answer is as good.
        let _permit = self.questions.acquire().await.ok();
        let answer = self.handle.check_join(room).await.map_err(stream::stopping)?;
        let (reason, retry_after_ms) = match &answer.refused {
            None => (String::new(), 0),
            // At least 1: a refusal never says "now".
            Some((reason, after)) => (reason.clone(), stream::millis(*after).max(1)),
        };
        Ok(Response::new(CheckJoinResponse {
            allowed: answer.refused.is_none(),
            reason,
            retry_after_ms,
            authoritative: answer.authoritative,
        }))
    }
}
