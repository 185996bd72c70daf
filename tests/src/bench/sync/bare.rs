//! A tonic service that does nothing but send one message to all its streams: what the fan-out of an agent is compared with.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use voice_agent::proto::v1::{
    AgentMessage, PeerMessage, StateExpired, Welcome,
    agent_message::Message,
    session_server::{Session, SessionServer},
};

type Outgoing = mpsc::Sender<Result<AgentMessage, Status>>;

/// Its streams, as they begin.
pub(super) struct Bare(mpsc::UnboundedSender<Outgoing>);

#[tonic::async_trait]
impl Session for Bare {
    type StreamStream = ReceiverStream<Result<AgentMessage, Status>>;

    async fn stream(
        &self,
        _: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (to, outgoing) = mpsc::channel(16);
        // The receiver outlives the service.
        drop(to.try_send(Ok(wrap(Message::Welcome(Welcome::default())))));
        drop(self.0.send(to));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Serves until it is dropped; the streams come out at the other end.
pub(super) async fn serve(
    listener: tokio::net::TcpListener,
    streams: mpsc::UnboundedSender<Outgoing>,
) -> Result<(), tonic::transport::Error> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(SessionServer::new(Bare(streams)))
        .serve_with_incoming(incoming)
        .await
}

/// To all of them.
pub(super) fn tell_all(streams: &[Outgoing], expired: &StateExpired) {
    for to in streams {
        // Never full: each is read before the next.
        drop(to.try_send(Ok(wrap(Message::StateExpired(expired.clone())))));
    }
}

fn wrap(message: Message) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}
