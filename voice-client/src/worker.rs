//! A peer's task: keeps a stream up, hears the agent, asks for the application. One loop; what is heard is in `heard`, what is
//! done when streams come and go in `link`.

mod heard;
mod link;

use crate::{
    backoff::Backoff,
    builder::Settings,
    clock::Clock,
    desk::{Asked, Desk, NotSent, RequestError},
    event::{Decision, Event, Expired, Prepare, Why},
    heartbeat,
    keepalive::Due,
    memory::Memory,
    proto::v1::{self, KeepaliveKind, peer_message::Message},
    served::Served,
    wire,
};
use link::{Link, Step};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use voice_room::{
    Epoch, RoomId, Version,
    sync::Attempt,
    tier::{Change, Health, Limits, Outcome, Tier, Work},
};

/// How often time alone is judged: health, requests whose time is up.
const TICK: Duration = Duration::from_millis(250);
/// How often rooms that are long over are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// An agent pings every 30 s and gives 15 s, twice: silent for longer, a stream is ended anyway.
const SILENT: Duration = Duration::from_secs(75);
/// How long the application may leave its full queue alone before the stream is given up: as long as a PONG may take.
const TAKE_WITHIN: Duration = Duration::from_secs(15);
/// The longest reason of a refusal, in bytes.
const MAX_REASON: usize = 256;

/// What the task is given besides its settings.
#[derive(Debug)]
pub(crate) struct Inlets {
    pub(crate) requests: mpsc::Receiver<Asked>,
    pub(crate) taken: mpsc::UnboundedReceiver<Taken>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop: CancellationToken,
}

/// Names a STATE_EXPIRED.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Taken {
    room: RoomId,
    version: Version,
    epoch: Epoch,
}

impl Taken {
    pub(crate) fn of(expired: &Expired) -> Taken {
        Taken {
            room: expired.room.clone(),
            version: expired.version,
            epoch: expired.epoch,
        }
    }
}

/// A PREPARE that waits for the application's word.
#[derive(Debug)]
struct Open {
    proposal: voice_room::sync::Proposal,
    by: Instant,
}

struct Worker {
    settings: Settings,
    clock: Clock,
    memory: Memory,
    health: Health,
    backoff: Backoff,
    desk: Desk,
    served: Served,
    link: Link,
    /// Which endpoint is next.
    endpoint: usize,
    events: mpsc::Sender<Event>,
    /// Events that found no place yet. What one message causes, so a handful.
    outbox: VecDeque<Event>,
    /// Since when the outbox waits.
    held_since: Option<Instant>,
    /// STATE_EXPIRED that the application has not dealt with yet.
    unacked: HashSet<Taken>,
    open: BTreeMap<RoomId, Open>,
    decisions: (mpsc::UnboundedSender<Decision>, mpsc::UnboundedReceiver<Decision>),
    next_tick: Instant,
    next_sweep: Instant,
    /// The peer's end, once its last event is told.
    over: bool,
}

/// Until the peer is dropped, or no attempt to connect is worth it.
pub(crate) async fn run(settings: Settings, clock: Clock, memory: Memory, mut inlets: Inlets) {
    let now = Instant::now();
    let limits = Limits {
        silent: SILENT,
        probe: None,
        ..Limits::PROBED
    };
    let mut worker = Worker {
        served: Served::default(),
        health: Health::new(limits, clock.now()),
        backoff: Backoff::new(),
        desk: Desk::default(),
        link: Link::Down { until: now },
        endpoint: 0,
        events: inlets.events.clone(),
        outbox: VecDeque::new(),
        held_since: None,
        unacked: HashSet::new(),
        open: BTreeMap::new(),
        decisions: mpsc::unbounded_channel(),
        next_tick: now + TICK,
        next_sweep: now + SWEEP_EVERY,
        over: false,
        settings,
        clock,
        memory,
    };
    for room in &worker.settings.rooms {
        worker.served.name(room);
    }
    let stop = inlets.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = worker.work(&mut inlets) => {}
    }
    worker.memory.lock().channel = None;
}

impl Worker {
    async fn work(&mut self, inlets: &mut Inlets) {
        while !(self.over && self.outbox.is_empty()) {
            let heartbeat_at = self.link.heartbeat_at();
            let wake_at = self.wake_at();
            // While events wait for a place, nothing more is read.
            let reads = self.outbox.is_empty();
            tokio::select! {
                () = sleep_until(heartbeat_at.unwrap_or(wake_at)), if heartbeat_at.is_some() => self.heartbeat(),
                step = self.link.next(reads), if !self.over => self.step(step),
                place = self.events.clone().reserve_owned(), if !self.outbox.is_empty() => match place {
                    Ok(place) => {
                        if let Some(event) = self.outbox.pop_front() {
                            drop(place.send(event));
                        }
                        self.held_since = None;
                    }
                    // The peer is gone, and `stop` with it.
                    Err(_) => return,
                },
                Some(asked) = inlets.requests.recv() => self.ask(asked),
                Some(taken) = inlets.taken.recv() => self.acknowledge(&taken),
                Some(decision) = self.decisions.1.recv() => self.decided(decision),
                () = sleep_until(wake_at) => self.on_time(),
            }
            self.flush();
        }
    }

    fn wake_at(&self) -> Instant {
        let asked = self.open.values().map(|open| open.by);
        let link = self.link.wake_at();
        asked.chain(link).fold(self.next_tick, Instant::min)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Dial => self.dial(),
            Step::Up(dialled) => self.up(*dialled),
            Step::Failed(failed) => self.failed(failed),
            Step::Heard(message) => self.heard(message),
            Step::Ended(status) => self.ended(status),
        }
    }

    /// Time alone has passed.
    fn on_time(&mut self) {
        let now = Instant::now();
        match self.link.due(now) {
            Due::Nothing => {}
            Due::Ping(nonce) => self.beat(KeepaliveKind::Ping, nonce),
            Due::Dead => self.down(Why::Silent, None, true),
        }
        self.refuse_late(now);
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let change = self.health.tick(self.clock.now());
        self.health_changed(change);
        self.desk.overdue(now);
        self.judge_application(now);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            let mono = self.clock.now();
            self.memory.lock().rooms.sweep(mono);
        }
    }

    /// An application that takes no events keeps us from hearing the agent. The stream ends, and what it would have told is
    /// told by the next one.
    fn judge_application(&mut self, now: Instant) {
        if self.outbox.is_empty() {
            self.held_since = None;
            return;
        }
        let since = *self.held_since.get_or_insert(now);
        if self.link.is_up() && now.saturating_duration_since(since) >= TAKE_WITHIN {
            self.down(Why::SlowApplication(TAKE_WITHIN), None, true);
        }
    }

    fn ask(&mut self, asked: Asked) {
        let work = if asked.begins { Work::New } else { Work::Running };
        // Its backoff paces our connecting; a request simply waits for the stream.
        let refused = match (self.health.tier(), work) {
            (Tier::Broken, _) | (Tier::Degraded, Work::New) => {
                self.health.allows(self.clock.now(), work).err()
            }
            _ => None,
        };
        let Some(not_now) = refused else {
            self.desk.take(asked);
            return;
        };
        let error = RequestError::NotSent {
            why: NotSent::Tier(not_now.tier),
            retry_after: not_now.retry_after,
        };
        // Whoever asked may have gone.
        let _ = asked.reply.send(Err(error));
    }

    /// The application has dealt with a STATE_EXPIRED.
    fn acknowledge(&mut self, taken: &Taken) {
        self.unacked.remove(taken);
        self.ack_expired(taken);
    }

    /// Without a stream it is told again by the next one, and acknowledged then.
    fn ack_expired(&mut self, taken: &Taken) {
        self.send(Message::ExpiredAck(v1::ExpiredAck {
            room: taken.room.to_string(),
            version: taken.version.0,
            epoch: Some(wire::to_epoch(taken.epoch)),
        }));
    }

    /// The application has decided about a PREPARE.
    fn decided(&mut self, decision: Decision) {
        let waits = |open: &Open| open.proposal.attempt == decision.attempt;
        if !self.open.get(&decision.room).is_some_and(waits) {
            return; // Over meanwhile, or too late: the agent has its answer.
        }
        if let Some(open) = self.open.remove(&decision.room) {
            self.vote(&open.proposal, decision.agreed);
        }
    }

    fn refuse_late(&mut self, now: Instant) {
        let late: Vec<RoomId> = self
            .open
            .iter()
            .filter(|(_, open)| open.by <= now)
            .map(|(room, _)| room.clone())
            .collect();
        for room in late {
            if let Some(open) = self.open.remove(&room) {
                let said = "the application did not answer in time".to_owned();
                self.vote(&open.proposal, Err(said));
            }
        }
    }

    fn heartbeat(&mut self) {
        let Some(snapshot) = self.settings.snapshot.clone() else {
            return;
        };
        self.link.heartbeat_said(self.settings.heartbeat_every);
        let heartbeat = snapshot.take();
        let ids = heartbeat
            .rooms
            .iter()
            .filter_map(|room| RoomId::new(&room.room).ok());
        self.served.list(ids.collect());
        for message in heartbeat::split(heartbeat) {
            self.send(Message::MediaHeartbeat(message));
        }
    }

    /// Sends what the desk has.
    fn flush(&mut self) {
        while self.link.is_up() {
            let Some(message) = self.desk.next() else { break };
            self.send(message);
        }
    }

    fn beat(&mut self, kind: KeepaliveKind, nonce: u64) {
        self.send(Message::Keepalive(v1::Keepalive {
            kind: kind.into(),
            nonce,
        }));
    }

    /// Sends, if a stream is up; one that takes nothing more is given up.
    fn send(&mut self, message: Message) {
        if !self.link.send(message) {
            self.down(Why::NotRead, None, true);
        }
    }

    fn tell(&mut self, event: Event) {
        self.outbox.push_back(event);
    }

    fn call(&mut self, outcome: Outcome) {
        let change = self.health.call(self.clock.now(), outcome);
        self.health_changed(change);
    }

    fn health_changed(&mut self, change: Option<Change>) {
        let Some(Change { from, to, why }) = change else {
            return;
        };
        tracing::info!(peer = %self.settings.caller.id, %from, %to, "the agent's health: {why}");
        self.memory.lock().tier = to;
        self.tell(Event::Health { from, to, why });
        if to == Tier::Broken {
            let left = Limits::PROBED.cool_down;
            self.desk.clear(Instant::now(), NotSent::Tier(to), left);
            self.cool_down();
        }
    }

    /// Asks the application about a PREPARE.
    fn open(&mut self, proposal: voice_room::sync::Proposal) {
        // Four fifths: the answer needs its own time on the way.
        let by = Instant::now() + proposal.within.mul_f32(0.8);
        let prepare = Prepare::new(proposal.clone(), self.decisions.0.clone());
        self.open.insert(proposal.room.clone(), Open { proposal, by });
        self.tell(Event::Prepare(prepare));
    }

    /// Answers a PREPARE. What the rules refuse is refused whatever was decided.
    fn vote(&mut self, proposal: &voice_room::sync::Proposal, decision: Result<(), String>) {
        let now = self.clock.now();
        let vote = self.memory.lock().rooms.prepare(now, proposal, decision);
        let refused = vote
            .err()
            .map(|not_taken| not_taken.to_string())
            .unwrap_or_default();
        self.answer_prepare(&proposal.room, proposal.attempt, &refused);
    }

    fn answer_prepare(&mut self, room: &RoomId, attempt: Attempt, refused: &str) {
        self.send(Message::PrepareAck(v1::PrepareAck {
            room: room.to_string(),
            epoch: Some(wire::to_epoch(attempt.epoch)),
            attempt: attempt.number,
            refused: wire::cut(refused, MAX_REASON).to_owned(),
        }));
    }
}
