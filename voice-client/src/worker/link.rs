//! The stream as it comes and goes: dialling, Welcome, its end and the cleanup.

use super::Worker;
use crate::{
    backoff::{GOOD_STREAM, hint_of},
    dial::{self, Dialled, Failed},
    event::{Connected, Disconnected, Event, Why},
    keepalive::{Due, Keepalive},
    proto::v1::{self, AgentMessage, PeerMessage, peer_message::Message},
    stream::PeerSender,
    wire,
};
use std::{fmt, future::Future, pin::Pin, time::Duration};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};
use voice_room::{
    Epoch, Incarnation, RoomId, Version,
    sync::Known,
    tier::{Limits, Outcome, Tier},
};

/// Rooms in one message of what is known.
const MAX_KNOWN: usize = 10_000;
/// The shortest time between pings that an agent's Welcome can ask for.
const MIN_PING: Duration = Duration::from_millis(10);

type Dialling = Pin<Box<dyn Future<Output = Result<Dialled, Failed>> + Send>>;

/// Where the stream is.
pub(super) enum Link {
    /// There is none; dialled again then.
    Down { until: Instant },
    /// It is being opened.
    Dialling(Dialling),
    /// It is up.
    Up(Box<Live>),
}

/// A stream that is up.
#[derive(Debug)]
pub(super) struct Live {
    outgoing: PeerSender,
    incoming: Streaming<AgentMessage>,
    pub(super) protocol_version: u32,
    keepalive: Keepalive,
    since: Instant,
    /// Media servers: when the next heartbeat is due. The first is said at once.
    heartbeat_at: Option<Instant>,
    /// What the agent said before the end.
    pub(super) goodbye: Option<v1::Goodbye>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Link::Down { .. } => "Down",
            Link::Dialling(_) => "Dialling",
            Link::Up(_) => "Up",
        })
    }
}

/// What happened to the stream.
pub(super) enum Step {
    /// It is time to dial.
    Dial,
    /// It is up.
    Up(Box<Dialled>),
    /// It is not.
    Failed(Failed),
    /// The agent said something.
    Heard(AgentMessage),
    /// It ended; `None`: without an error.
    Ended(Option<Status>),
}

impl Link {
    /// The next thing that happens to it. Nothing is lost when this is dropped while it waits. A stream is read only if `reads`.
    pub(super) async fn next(&mut self, reads: bool) -> Step {
        match self {
            Link::Down { until } => {
                sleep_until(*until).await;
                Step::Dial
            }
            Link::Dialling(dialling) => match dialling.await {
                Ok(dialled) => Step::Up(Box::new(dialled)),
                Err(failed) => Step::Failed(failed),
            },
            Link::Up(_) if !reads => std::future::pending().await,
            Link::Up(live) => match live.incoming.message().await {
                Ok(Some(message)) => {
                    live.keepalive.alive();
                    Step::Heard(message)
                }
                Ok(None) => Step::Ended(None),
                Err(status) => Step::Ended(Some(status)),
            },
        }
    }

    pub(super) fn live(&mut self) -> Option<&mut Live> {
        match self {
            Link::Up(live) => Some(live),
            Link::Down { .. } | Link::Dialling(_) => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self, Link::Up(_))
    }

    /// False: the stream takes nothing more. Without a stream nothing is sent, and nothing is wrong.
    pub(super) fn send(&mut self, message: Message) -> bool {
        let message = PeerMessage {
            message: Some(message),
        };
        self.live().is_none_or(|live| live.outgoing.try_send(message))
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self {
            Link::Up(live) => Some(live.keepalive.wake_at()),
            Link::Down { .. } | Link::Dialling(_) => None,
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        self.live().map_or(Due::Nothing, |live| live.keepalive.due(now))
    }

    pub(super) fn heartbeat_at(&self) -> Option<Instant> {
        match self {
            Link::Up(live) => live.heartbeat_at,
            Link::Down { .. } | Link::Dialling(_) => None,
        }
    }

    /// The next one is due `every` after this; one that comes late is not made up for.
    pub(super) fn heartbeat_said(&mut self, every: Duration) {
        if let Some(live) = self.live() {
            live.heartbeat_at = Some(Instant::now() + every);
        }
    }
}

impl Worker {
    /// It is time to connect.
    pub(super) fn dial(&mut self) {
        let endpoints = &self.settings.endpoints;
        // There is at least one: checked when the peer was built.
        let endpoint = endpoints[self.endpoint % endpoints.len()].clone();
        let rooms: Vec<RoomId> = self.served.rooms().cloned().collect();
        let named = self.settings.rooms.iter().cloned();
        // Those named at the start first: there is room for 64.
        let rest = rooms
            .into_iter()
            .filter(|room| !self.settings.rooms.contains(room));
        let rooms = named.chain(rest).take(dial::MAX_NAMED).collect();
        let caller = self.settings.caller.clone();
        self.link = Link::Dialling(Box::pin(dial::dial(caller, endpoint, rooms)));
    }

    /// A stream is up.
    pub(super) fn up(&mut self, dialled: Dialled) {
        let Dialled {
            stream,
            channel,
            endpoint,
        } = dialled;
        let (outgoing, incoming, welcome) = stream.into_parts();
        let now = Instant::now();
        let every = Duration::from_millis(welcome.ping_every_ms).max(MIN_PING);
        let within = Duration::from_millis(welcome.pong_within_ms).max(MIN_PING);
        self.link = Link::Up(Box::new(Live {
            outgoing,
            incoming,
            protocol_version: welcome.protocol_version,
            keepalive: Keepalive::new(every, within, now),
            since: now,
            heartbeat_at: None,
            goodbye: None,
        }));
        self.memory.lock().channel = Some(channel);
        let isolated = self.isolations(&welcome);
        let change = self.health.probe(self.clock.now(), Outcome::Answered);
        self.health_changed(change);
        tracing::info!(peer = %self.settings.caller.id, endpoint, node = welcome.node, "connected");
        self.tell(Event::Connected(Connected {
            endpoint,
            node: welcome.node,
            protocol_version: welcome.protocol_version,
            epoch: wire::epoch(welcome.epoch),
            isolated,
        }));
        // A heartbeat is due at once. It tells which rooms are served, of which something may be known.
        self.heartbeat();
        self.say_known();
    }

    fn isolations(&mut self, welcome: &v1::Welcome) -> Vec<RoomId> {
        let mut rooms = Vec::new();
        for isolation in &welcome.isolations {
            let Ok(room) = RoomId::new(&isolation.room) else {
                tracing::debug!("an isolation of a room that is none: {:?}", isolation.room);
                continue;
            };
            let lasts = Duration::from_millis(isolation.retry_after_ms);
            self.memory.isolate(&room, &isolation.reason, lasts);
            rooms.push(room);
        }
        rooms
    }

    /// Says which rooms are served and what is held of them. Version 1 has the metadata only; there, rooms above 64 come back
    /// with their clients' next KEEPALIVE.
    fn say_known(&mut self) {
        if self.link.live().is_none_or(|live| live.protocol_version < 2) {
            return;
        }
        let mut known = self.memory.lock().rooms.known();
        known.retain(|known| self.served.contains(&known.room));
        let unknown = self
            .served
            .rooms()
            .filter(|room| known.binary_search_by(|known| known.room.cmp(room)).is_err())
            .map(|room| Known {
                room: room.clone(),
                epoch: Epoch::default(),
                incarnation: Incarnation::default(),
                version: Version::default(),
                prepared: false,
            });
        let rooms: Vec<v1::KnownRoom> = known
            .iter()
            .map(wire::known)
            .chain(unknown.map(|known| wire::known(&known)))
            .collect();
        for rooms in rooms.chunks(MAX_KNOWN) {
            let rooms = rooms.to_vec();
            self.send(Message::KnownRooms(v1::KnownRooms { rooms }));
        }
    }

    /// A stream could not be opened.
    pub(super) fn failed(&mut self, failed: Failed) {
        self.endpoint = self.endpoint.wrapping_add(1);
        let outcome = match failed.answered {
            true => Outcome::Answered,
            false => Outcome::Unavailable,
        };
        let change = self.health.probe(self.clock.now(), outcome);
        self.health_changed(change);
        if !failed.answered {
            self.call(Outcome::Unavailable);
        }
        self.down(failed.why, failed.hint, failed.again);
    }

    /// The stream ended.
    pub(super) fn ended(&mut self, status: Option<Status>) {
        let goodbye = self.link.live().and_then(|live| live.goodbye.take());
        let said = goodbye.as_ref().map(|goodbye| goodbye.reason.clone());
        let asked = goodbye.map_or(0, |goodbye| goodbye.retry_after_ms);
        let hint = (asked > 0).then(|| Duration::from_millis(asked));
        let Some(status) = status else {
            self.down(Why::Closed(said.unwrap_or_default()), hint, true);
            return;
        };
        let hint = hint_of(&status).or(hint);
        match status.code() {
            Code::Aborted => self.down(Why::Replaced, None, false),
            code => {
                let said = said.unwrap_or_else(|| status.message().to_owned());
                self.down(Why::Status { code, said }, hint, true);
            }
        }
    }

    /// There is no stream any more: the cleanup, whatever the reason. `again`: whether another attempt is worth it.
    pub(super) fn down(&mut self, why: Why, hint: Option<Duration>, again: bool) {
        let now = Instant::now();
        if self
            .link
            .live()
            .is_some_and(|live| now.saturating_duration_since(live.since) >= GOOD_STREAM)
        {
            self.backoff.reset();
        }
        self.memory.lock().channel = None;
        // Their answers would go nowhere: the agent has counted us out, and asks anew.
        self.open.clear();
        let unanswered = self.desk.broken();
        let prepared = self.prepared();
        let wait = again.then(|| self.wait(hint));
        tracing::info!(peer = %self.settings.caller.id, ?wait, unanswered, "no stream to the agent: {why}");
        self.tell(Event::Disconnected(Disconnected {
            why,
            unanswered,
            prepared,
            again_in: wait,
        }));
        self.over = wait.is_none();
        self.link = Link::Down {
            until: now + wait.unwrap_or_default(),
        };
    }

    /// The agent is Broken: an attempt that waits is put off until it has cooled down.
    pub(super) fn cool_down(&mut self) {
        if matches!(self.link, Link::Down { .. }) {
            self.down(Why::Tier(Tier::Broken), None, true);
        }
    }

    fn prepared(&self) -> Vec<RoomId> {
        let memory = self.memory.lock();
        let known = memory.rooms.known();
        known
            .into_iter()
            .filter(|known| known.prepared)
            .map(|known| known.room)
            .collect()
    }

    /// How long to wait before the next attempt: a Broken agent cools down first.
    fn wait(&mut self, hint: Option<Duration>) -> Duration {
        let wait = self.backoff.next(hint);
        match self.health.tier() {
            Tier::Broken => {
                let over = self.health.since() + Limits::PROBED.cool_down;
                wait.max(over.since(self.clock.now()))
            }
            Tier::Healthy | Tier::Degraded => wait,
        }
    }
}
