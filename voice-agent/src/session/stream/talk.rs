//! What a connected peer says, and what it is answered. Requests go to the driver in the order they came, and up to
//! `MAX_WAITING` of them wait for their answers at a time; then the peer is not read until one is there. If none comes
//! for `MAX_HOLD`, because the store is away, further requests are refused: heartbeats behind them must be heard, or
//! rooms would be cut for our own disk.

mod sync;

use super::{count_unreadable, stopping};
use crate::{
    driver::{
        Handle,
        handle::{self, Stopped},
    },
    proto::v1::{
        ClientEvent, ExpiredAck, Keepalive as Beat, KeepaliveKind, MediaHeartbeat, PeerMessage, RoomEvent,
        agent_message, peer_message::Message,
    },
    session::{
        Role, Sessions,
        bucket::Bucket,
        hub::StreamId,
        outgoing::{NotTaken, Outgoing},
        peer::PeerInfo,
        served::Because,
        translate::{self, Refusal},
        wall_now, wire,
    },
    telemetry::{Counter, traces::RequestSpan},
};
use futures::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use std::time::Duration;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, sleep_until},
};
use tokio_stream::Stream;
use tonic::Status;
use voice_client::keepalive::{Due, Keepalive};
use voice_room::{
    ClientId, Input, Rejected, RoomId, State,
    command::Accepted,
    input::{ClientAct, Request},
};

/// Requests of one peer that wait for their answers.
const MAX_WAITING: usize = 64;

/// The longest that waiting answers keep a peer from being read. Far below a heartbeat, well above a slow disk.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// How often the driver is told that heartbeats of one peer are refused. It looks at every room then: a flood must not
/// keep it busy, and a room's time without progress is far longer.
const TELL_REFUSED_EVERY: Duration = Duration::from_millis(100);

/// How often the log tells that one peer says too much.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A request's answer.
struct Answer {
    request_id: u64,
    room: RoomId,
    meant: Meant,
    /// Of a request that is traced.
    span: Option<RequestSpan>,
    result: Result<Result<Accepted, Rejected>, Stopped>,
}

/// What a request means for the topology.
enum Meant {
    /// The peer serves the room, if this is accepted.
    Serve(Because),
    /// The client is not in the room any more.
    Leave(ClientId),
}

/// The conversation with one connected peer.
pub(super) struct Talk<'s> {
    sessions: &'s Sessions,
    handle: &'s Handle,
    info: &'s PeerInfo,
    outgoing: &'s Outgoing,
    stream: StreamId,
    /// The protocol version that is spoken.
    protocol: u32,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// When the last answer came, or the last request was sent to be answered.
    moved: Instant,
    keepalive: Keepalive,
    bucket: Bucket,
    /// When the driver was last told that a heartbeat was refused.
    told_refused: Option<Instant>,
    /// When the log was last told that the peer says too much.
    warned: Option<Instant>,
}

impl<'s> Talk<'s> {
    pub(super) fn new(
        sessions: &'s Sessions,
        handle: &'s Handle,
        info: &'s PeerInfo,
        outgoing: &'s Outgoing,
        (stream, protocol): (StreamId, u32),
    ) -> Talk<'s> {
        Talk {
            sessions,
            handle,
            info,
            outgoing,
            stream,
            protocol,
            waiting: FuturesUnordered::new(),
            moved: Instant::now(),
            keepalive: Keepalive::new(sessions.0.ping_every, sessions.0.pong_within, Instant::now()),
            bucket: Bucket::new(
                sessions.0.events_per_second,
                sessions.0.event_burst,
                Instant::now(),
            ),
            told_refused: None,
            warned: None,
        }
    }

    /// Until the peer closes its side (`Ok`) or the stream is unusable. Frames that wait are read before silence is
    /// judged, so that our own slowness is never the peer's.
    pub(super) async fn run<S>(mut self, mut inbound: S) -> Result<(), Status>
    where
        S: Stream<Item = Result<PeerMessage, Status>> + Unpin,
    {
        if self.of_version_2().is_err() {
            // It has no way to say what it holds of the rooms that it named in the metadata.
            self.knows_nothing_of(self.info.rooms.clone()).await?;
        }
        loop {
            consume_budget().await;
            let held = self.is_full() && self.moved.elapsed() < MAX_HOLD;
            tokio::select! {
                biased;
                Some(answer) = self.waiting.next() => self.answer(answer).await?,
                message = inbound.next(), if !held => match message {
                    None => return Ok(()),
                    Some(Ok(message)) => {
                        self.keepalive.alive();
                        self.take(message).await?;
                    }
                    Some(Err(status)) => {
                        self.unreadable(&status).await?;
                        return Err(status);
                    }
                },
                () = sleep_until(self.moved + MAX_HOLD), if held => {}
                () = sleep_until(self.keepalive.wake_at()) => self.on_time()?,
            }
        }
    }

    async fn take(&mut self, message: PeerMessage) -> Result<(), Status> {
        if let Err(wait) = self.bucket.take(cost(&message), Instant::now()) {
            return self.too_fast(message.message, wait).await;
        }
        match message.message {
            Some(Message::RoomEvent(event)) => self.room_event(event).await,
            Some(Message::ClientEvent(event)) => self.client_event(&event).await,
            Some(Message::MediaHeartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(Message::ExpiredAck(ack)) => self.ack(&ack).await,
            Some(Message::Keepalive(beat)) => self.beat(beat),
            Some(Message::Hello(_)) => self.refuse(0, Refusal::malformed("Hello was said already")),
            Some(Message::PrepareAck(ack)) => self.vote(ack).await,
            Some(Message::CommitAck(ack)) => self.commit_ack(&ack).await,
            Some(Message::KnownRooms(known)) => self.known_rooms(&known).await,
            None => self.refuse(
                0,
                Refusal::malformed("an empty message, or one of a later protocol"),
            ),
        }
    }

    /// The peer says more than it may. A refused heartbeat proves life like any other.
    async fn too_fast(&mut self, message: Option<Message>, wait: Duration) -> Result<(), Status> {
        Counter::SessionTooFast.count();
        let refusal = Refusal::too_fast(self.sessions.0.events_per_second, wait);
        let now = Instant::now();
        let lately = |at: Instant| now.saturating_duration_since(at) < WARN_EVERY;
        if !self.warned.is_some_and(lately) {
            self.warned = Some(now);
            tracing::warn!(peer = %self.info.id, role = %self.info.role, "messages refused: {}", refusal.message);
        }
        match message {
            Some(Message::MediaHeartbeat(_)) => self.refuse_heartbeat(refusal).await,
            Some(Message::RoomEvent(event)) => self.refuse(event.request_id, refusal),
            Some(Message::ClientEvent(event)) => self.refuse(event.request_id, refusal),
            _ => self.refuse(0, refusal),
        }
    }

    /// The stream ends with it, and the peer's next one may end the same way: what it wanted to list is not known.
    async fn unreadable(&mut self, status: &Status) -> Result<(), Status> {
        if count_unreadable(status) && self.info.role == Role::Media {
            tell(self.handle, Input::HeartbeatRefused(self.info.source.clone())).await?;
        }
        Ok(())
    }

    /// Whether no more requests may wait.
    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    fn too_many(&self) -> Refusal {
        Refusal::limit(format!(
            "{} requests wait for their answers, the most; none came for {} ms. Try again later",
            self.waiting.len(),
            MAX_HOLD.as_millis()
        ))
    }

    async fn room_event(&mut self, event: RoomEvent) -> Result<(), Status> {
        let request_id = event.request_id;
        if self.is_full() {
            return self.refuse(request_id, self.too_many());
        }
        let request = translate::room_event(self.info, event, &self.sessions.tokens(), wall_now())
            .and_then(|request| self.fits(&request.room, &Because::Named).map(|()| request));
        match request {
            Ok(request) => self.request(request_id, request).await,
            Err(refusal) => self.refuse(request_id, refusal),
        }
    }

    async fn request(&mut self, request_id: u64, mut request: Request) -> Result<(), Status> {
        let room = request.room.clone();
        if request.ask.to_be_agreed().is_some() {
            request.participants = self.sessions.hub().participants(&room, &self.info.id);
        }
        let (traces, event) = (self.sessions.0.traces.get(), request.ask.event().name());
        let span = traces.and_then(|traces| traces.request(self.info.parent.as_ref(), &room, event));
        let answer = self.handle.send_request(request).await.map_err(stopping)?;
        self.wait_for(request_id, room, (Meant::Serve(Because::Named), span), answer);
        Ok(())
    }

    async fn client_event(&mut self, event: &ClientEvent) -> Result<(), Status> {
        if self.is_full() {
            return self.refuse(event.request_id, self.too_many());
        }
        let fact = match translate::client_event(self.info, event) {
            Ok(fact) => fact,
            Err(refusal) => return self.refuse(event.request_id, refusal),
        };
        let meant = match fact.what {
            ClientAct::Leave => Meant::Leave(fact.client.clone()),
            ClientAct::Join | ClientAct::Keepalive => Meant::Serve(Because::Client(fact.client.clone())),
        };
        if let Meant::Serve(because) = &meant
            && let Err(refusal) = self.fits(&fact.room, because)
        {
            return self.refuse(event.request_id, refusal);
        }
        let room = fact.room.clone();
        let answer = self.handle.send_client(fact).await.map_err(stopping)?;
        self.wait_for(event.request_id, room, (meant, None), answer);
        Ok(())
    }

    fn wait_for(
        &mut self,
        request_id: u64,
        room: RoomId,
        (meant, span): (Meant, Option<RequestSpan>),
        answer: handle::Answer,
    ) {
        let answer = async move {
            Answer {
                request_id,
                room,
                meant,
                span,
                result: answer.await.map_err(|_| Stopped),
            }
        };
        self.moved = Instant::now();
        self.waiting.push(answer.boxed());
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), Status> {
        self.moved = Instant::now();
        let result = answer.result.map_err(stopping)?;
        if let Some(span) = answer.span {
            span.end(result.as_ref());
        }
        let message = match &result {
            Ok(accepted) => wire::accepted(answer.request_id, accepted),
            Err(rejected) => {
                Counter::SessionRefused.count();
                wire::refused(answer.request_id, Refusal::from(rejected))
            }
        };
        self.push(agent_message::Message::EventResult(message))?;
        let (id, stream, room) = (&self.info.id, self.stream, &answer.room);
        let new = match (answer.meant, result) {
            (Meant::Serve(_), Ok(accepted)) if accepted.state == State::Destroyed => false,
            (Meant::Serve(because), Ok(_)) => self.sessions.hub().serves(id, stream, room, because),
            (Meant::Serve(_), Err(_)) => {
                self.sessions.hub().catch_up(id, stream, room);
                false
            }
            // The client may have joined the present life meanwhile.
            (Meant::Leave(_), Err(Rejected::OldIncarnation { .. })) => false,
            (Meant::Leave(client), _) => {
                self.sessions.hub().left(id, stream, room, &client);
                false
            }
        };
        if new {
            self.knows_nothing_of(vec![answer.room]).await?;
        }
        Ok(())
    }

    async fn heartbeat(&mut self, heartbeat: MediaHeartbeat) -> Result<(), Status> {
        let heartbeat = match translate::heartbeat(self.info, &heartbeat, &self.sessions.0.ports) {
            Ok(heartbeat) => heartbeat,
            Err(refusal) => return self.refuse_heartbeat(refusal).await,
        };
        let rooms: Vec<&RoomId> = heartbeat.rooms.iter().map(|served| &served.room).collect();
        let listed = self
            .sessions
            .hub()
            .listed(&self.info.id, self.stream, rooms.into_iter());
        match listed {
            Ok(new) => {
                tell(self.handle, Input::Heartbeat(heartbeat)).await?;
                self.knows_nothing_of(new).await
            }
            Err(said) => self.refuse_heartbeat(Refusal::limit(said)).await,
        }
    }

    /// A media server that is alive and was not understood: no room may be cut for what it could not say.
    async fn refuse_heartbeat(&mut self, refusal: Refusal) -> Result<(), Status> {
        let now = Instant::now();
        let lately = |at: Instant| now.saturating_duration_since(at) < TELL_REFUSED_EVERY;
        if self.info.role == Role::Media && !self.told_refused.is_some_and(lately) {
            tell(self.handle, Input::HeartbeatRefused(self.info.source.clone())).await?;
            self.told_refused = Some(now);
        }
        self.refuse(0, refusal)
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

/// What a message takes of what its peer may say: the work is in the rooms that a heartbeat lists.
fn cost(message: &PeerMessage) -> usize {
    match &message.message {
        Some(Message::MediaHeartbeat(heartbeat)) => heartbeat.rooms.len().max(1),
        Some(Message::KnownRooms(known)) => known.rooms.len().max(1),
        _ => 1,
    }
}

async fn tell(handle: &Handle, input: Input) -> Result<(), Status> {
    handle.fact(input).await.map_err(stopping)
}
