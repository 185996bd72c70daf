//! What a connected peer says, and what it is answered. Requests go to the driver in the order they came, and up to
//! `MAX_WAITING` of them wait for their answers at a time; then the peer is not read until one is there.

use super::{count_unreadable, stopping};
use crate::{
    driver::{Handle, handle::Stopped},
    proto::v1::{
        ClientEvent, ExpiredAck, Keepalive as Beat, KeepaliveKind, MediaHeartbeat, PeerMessage, RoomEvent,
        agent_message, peer_message::Message,
    },
    session::{
        Sessions,
        hub::StreamId,
        keepalive::{Due, Keepalive},
        outgoing::{NotTaken, Outgoing},
        peer::PeerInfo,
        served::Because,
        translate::{self, Refusal},
        wire,
    },
    telemetry::Counter,
};
use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use std::task::Poll;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tonic::Status;
use voice_room::{
    Input, Rejected, RoomId, State,
    command::Accepted,
    input::{ClientAct, ClientFact, Request},
};

/// Requests of one peer that wait for their answers.
const MAX_WAITING: usize = 64;

/// A request's answer, and what it means for the topology.
struct Answer {
    request_id: u64,
    room: RoomId,
    /// Why the peer serves the room, if this is accepted.
    because: Option<Because>,
    result: Result<Result<Accepted, Rejected>, Stopped>,
}

/// The conversation with one connected peer.
pub(super) struct Talk<'s> {
    sessions: &'s Sessions,
    handle: &'s Handle,
    info: &'s PeerInfo,
    outgoing: &'s Outgoing,
    stream: StreamId,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
    keepalive: Keepalive,
}

impl<'s> Talk<'s> {
    pub(super) fn new(
        sessions: &'s Sessions,
        handle: &'s Handle,
        info: &'s PeerInfo,
        outgoing: &'s Outgoing,
        stream: StreamId,
    ) -> Talk<'s> {
        Talk {
            sessions,
            handle,
            info,
            outgoing,
            stream,
            waiting: FuturesUnordered::new(),
            keepalive: Keepalive::new(sessions.0.ping_every, sessions.0.pong_within, Instant::now()),
        }
    }

    /// Until the peer closes its side (`Ok`) or the stream is unusable. Frames that wait are read before silence is
    /// judged, so that our own slowness is never the peer's.
    pub(super) async fn run<S>(mut self, mut inbound: S) -> Result<(), Status>
    where
        S: Stream<Item = Result<PeerMessage, Status>> + Unpin,
    {
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.waiting.next() => self.answer(answer)?,
                message = inbound.next(), if self.waiting.len() < MAX_WAITING => match message {
                    None => return Ok(()),
                    Some(Ok(message)) => {
                        self.keepalive.alive();
                        self.take(message).await?;
                    }
                    Some(Err(status)) => {
                        count_unreadable(&status);
                        return Err(status);
                    }
                },
                () = sleep_until(self.keepalive.wake_at()) => self.on_time()?,
            }
        }
    }

    async fn take(&mut self, message: PeerMessage) -> Result<(), Status> {
        match message.message {
            Some(Message::RoomEvent(event)) => self.room_event(event),
            Some(Message::ClientEvent(event)) => self.client_event(&event),
            Some(Message::MediaHeartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(Message::ExpiredAck(ack)) => self.ack(&ack).await,
            Some(Message::Keepalive(beat)) => self.beat(beat),
            Some(Message::Hello(_)) => self.refuse(0, Refusal::malformed("Hello was said already")),
            None => self.refuse(
                0,
                Refusal::malformed("an empty message, or one of a later protocol"),
            ),
        }
    }

    fn room_event(&mut self, event: RoomEvent) -> Result<(), Status> {
        let request_id = event.request_id;
        let request = translate::room_event(self.info, event)
            .and_then(|request| self.fits(&request.room, &Because::Named).map(|()| request));
        match request {
            Ok(request) => self.request(request_id, request),
            Err(refusal) => self.refuse(request_id, refusal),
        }
    }

    fn request(&mut self, request_id: u64, request: Request) -> Result<(), Status> {
        let handle = self.handle.clone();
        self.wait_for(async move {
            Answer {
                request_id,
                room: request.room.clone(),
                because: Some(Because::Named),
                result: handle.request(request).await,
            }
        })
    }

    fn client_event(&mut self, event: &ClientEvent) -> Result<(), Status> {
        let fact = match translate::client_event(self.info, event) {
            Ok(fact) => fact,
            Err(refusal) => return self.refuse(event.request_id, refusal),
        };
        let because = match fact.what {
            ClientAct::Leave => {
                let mut hub = self.sessions.hub();
                hub.left(&self.info.id, self.stream, &fact.room, &fact.client);
                None
            }
            ClientAct::Join | ClientAct::Keepalive => Some(Because::Client(fact.client.clone())),
        };
        let fits = because.as_ref().map_or(Ok(()), |b| self.fits(&fact.room, b));
        match fits {
            Ok(()) => self.client(event.request_id, because, fact),
            Err(refusal) => self.refuse(event.request_id, refusal),
        }
    }

    fn client(&mut self, request_id: u64, because: Option<Because>, fact: ClientFact) -> Result<(), Status> {
        let handle = self.handle.clone();
        self.wait_for(async move {
            Answer {
                request_id,
                room: fact.room.clone(),
                because,
                result: handle.client(fact).await,
            }
        })
    }

    /// Polled once here, so that requests enter the driver's queue in the order they came.
    fn wait_for(&mut self, answer: impl Future<Output = Answer> + Send + 'static) -> Result<(), Status> {
        let mut answer: BoxFuture<'static, Answer> = Box::pin(answer);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(answer) => self.answer(answer),
            Poll::Pending => {
                self.waiting.push(answer);
                Ok(())
            }
        }
    }

    fn answer(&mut self, answer: Answer) -> Result<(), Status> {
        let Answer {
            request_id,
            room,
            because,
            result,
        } = answer;
        let id = &self.info.id;
        match result.map_err(stopping)? {
            Ok(accepted) => {
                let message = wire::accepted(request_id, &accepted);
                self.push(agent_message::Message::EventResult(message))?;
                if let Some(because) = because.filter(|_| accepted.state != State::Destroyed) {
                    let mut hub = self.sessions.hub();
                    hub.serves(id, self.stream, &room, because);
                }
            }
            Err(rejected) => {
                Counter::SessionRefused.count();
                let message = wire::refused(request_id, Refusal::from(&rejected));
                self.push(agent_message::Message::EventResult(message))?;
                if because.is_some() {
                    let mut hub = self.sessions.hub();
                    hub.catch_up(id, self.stream, &room);
                }
            }
        }
        Ok(())
    }

    async fn heartbeat(&mut self, heartbeat: MediaHeartbeat) -> Result<(), Status> {
        let heartbeat = match translate::heartbeat(self.info, &heartbeat, &self.sessions.0.ports) {
            Ok(heartbeat) => heartbeat,
            Err(refusal) => return self.refuse(0, refusal),
        };
        let rooms: Vec<&RoomId> = heartbeat.rooms.iter().map(|served| &served.room).collect();
        let listed = self
            .sessions
            .hub()
            .listed(&self.info.id, self.stream, rooms.into_iter());
        match listed {
            Ok(()) => tell(self.handle, Input::Heartbeat(heartbeat)).await,
            Err(said) => self.refuse(0, Refusal::limit(said)),
        }
    }

    async fn ack(&mut self, ack: &ExpiredAck) -> Result<(), Status> {
        let (room, version, epoch) = match translate::ack(ack) {
            Ok(ack) => ack,
            Err(refusal) => return self.refuse(0, refusal),
        };
        let peer = self.info.id.clone();
        let was_pending = self.sessions.hub().ack(&peer, &room, version, epoch);
        if !was_pending {
            Counter::SessionStrayAcks.count();
            return Ok(());
        }
        tell(self.handle, Input::Acked { room, peer, version }).await
    }

    fn beat(&mut self, beat: Beat) -> Result<(), Status> {
        match KeepaliveKind::try_from(beat.kind) {
            Ok(KeepaliveKind::Ping) => self.say(KeepaliveKind::Pong, beat.nonce),
            Ok(KeepaliveKind::Pong) => Ok(()),
            Ok(KeepaliveKind::Unspecified) | Err(_) => {
                let said = format!("keepalive kind {} is not one: 1 is PING, 2 is PONG", beat.kind);
                self.refuse(0, Refusal::malformed(said))
            }
        }
    }

    fn on_time(&mut self) -> Result<(), Status> {
        match self.keepalive.due(Instant::now()) {
            Due::Nothing => Ok(()),
            Due::Ping(nonce) => self.say(KeepaliveKind::Ping, nonce),
            Due::Dead => {
                Counter::SessionSilentPeers.count();
                Err(Status::deadline_exceeded(
                    "two pings in a row were not answered in time",
                ))
            }
        }
    }

    fn fits(&self, room: &RoomId, because: &Because) -> Result<(), Refusal> {
        let mut hub = self.sessions.hub();
        hub.fits(&self.info.id, self.stream, room, because)
            .map_err(Refusal::limit)
    }

    fn say(&self, kind: KeepaliveKind, nonce: u64) -> Result<(), Status> {
        self.push(agent_message::Message::Keepalive(Beat {
            kind: kind.into(),
            nonce,
        }))
    }

    fn refuse(&self, request_id: u64, refusal: Refusal) -> Result<(), Status> {
        match refusal.code {
            "malformed" => Counter::SessionMalformed.count(),
            "not_allowed" => Counter::SessionNotAllowed.count(),
            _ => Counter::SessionRefused.count(),
        }
        tracing::debug!(peer = %self.info.id, code = refusal.code, "refused: {}", refusal.message);
        let message = wire::refused(request_id, refusal);
        self.push(agent_message::Message::EventResult(message))
    }

    fn push(&self, message: agent_message::Message) -> Result<(), Status> {
        self.outgoing.push(message).map_err(|not_taken| {
            if not_taken == NotTaken::Full {
                Counter::SessionSlowReaders.count();
            }
            // The queue has its own, earlier end to tell; this one only ends the task.
            Status::cancelled("the stream was ended")
        })
    }
}

async fn tell(handle: &Handle, input: Input) -> Result<(), Status> {
    handle.fact(input).await.map_err(stopping)
}
