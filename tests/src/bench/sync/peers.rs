//! The peers of the bench, on the client library as any other: media servers that ask for changes of their own rooms, and
//! participants that must agree to each and keep what they are told.

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use voice_agent::{
    proto::v1::{ClientEvent, ClientEventKind, EventType, MediaHeartbeat, RoomEvent, RoomState, ServedRoom},
    session::Role,
};
use voice_client::{Event, Handle, Peer};
use voice_room::{RoomId, State, Version, command::RoomUpdate};

/// Requests of one peer that wait for their answers while it is set up.
const AT_ONCE: usize = 64;
/// Nothing that is expected takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A change as its asker has it: when it was due, what was answered and when.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) room: RoomId,
    pub(super) version: Version,
    state: State,
    due: Instant,
    answered: Instant,
}

/// Agrees to every PREPARE. Gone when dropped.
pub(super) struct Participant {
    id: String,
    told: Arc<Mutex<Told>>,
    _task: AbortOnDropHandle<()>,
}

/// What a participant was told of each room, in order; and what should not have come.
#[derive(Default)]
struct Told {
    rooms: HashMap<RoomId, Vec<(Version, State, Instant)>>,
    problems: Vec<String>,
}

/// A media server that changes its rooms to and fro: live, closing, live… Gone when dropped.
pub(super) struct Asker {
    handle: Handle,
    rooms: Vec<RoomId>,
    live: Vec<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Participant {
    /// Connects, and lets a client into each of `rooms`: from then on it serves them.
    pub(super) async fn start(
        url: &str,
        role: Role,
        id: &str,
        rooms: &[RoomId],
    ) -> anyhow::Result<Participant> {
        let mut peer = Peer::builder(role, id).endpoint(url).start()?;
        let handle = peer.handle();
        let told = Arc::new(Mutex::new(Told::default()));
        let inside = told.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = peer.next().await {
                lock(&inside).hear(event);
            }
        });
        let participant = Participant {
            id: id.to_owned(),
            told,
            _task: AbortOnDropHandle::new(task),
        };
        let join = |room: &RoomId| {
            let (handle, join) = (handle.clone(), join(room, id));
            async move { handle.client_event(join).await.map(drop) }
        };
        let joins = futures::stream::iter(rooms.iter().map(join));
        joins.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        participant.wait(|told| told.rooms.len() == rooms.len()).await?;
        Ok(participant)
    }

    /// Until what it was told is enough.
    async fn wait(&self, enough: impl Fn(&Told) -> bool) -> anyhow::Result<()> {
        let waiting = async {
            while !enough(&lock(&self.told)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, waiting).await;
        came.with_context(|| format!("{} was not told all; {:?}", self.id, lock(&self.told).problems))
    }

    /// Waits until it knows of all these changes, and checks that it was told each once, in order, as it was answered. When
    /// each came.
    pub(super) async fn check(&self, changes: &[Done]) -> anyhow::Result<Vec<Instant>> {
        let has = |told: &Told, d: &Done| told.at(d).is_some();
        self.wait(|told| changes.iter().all(|d| has(told, d))).await?;
        let told = lock(&self.told);
        ensure!(told.problems.is_empty(), "{}: {:?}", self.id, told.problems);
        for (room, all) in &told.rooms {
            let each = all.windows(2).all(|two| two[0].0.next() == two[1].0);
            ensure!(
                each,
                "{} was not told each version of {room} once: {all:?}",
                self.id
            );
        }
        changes
            .iter()
            .map(|done| match told.at(done) {
                Some((state, at)) if state == done.state => Ok(at),
                other => bail!("{}: {done:?} was told as {other:?}", self.id),
            })
            .collect()
    }
}

impl Told {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Changed(RoomUpdate {
                room, version, state, ..
            }) => {
                let all = self.rooms.entry(room).or_default();
                all.push((version, state, Instant::now()));
            }
            Event::Connected(_) | Event::Health { .. } => {}
            other => self.problems.push(format!("{other:?}")),
        }
    }

    fn at(&self, done: &Done) -> Option<(State, Instant)> {
        let all = self.rooms.get(&done.room)?;
        let at = all
            .binary_search_by_key(&done.version, |(version, ..)| *version)
            .ok()?;
        all.get(at).map(|(_, state, at)| (*state, *at))
    }
}

impl Asker {
    /// Connects, and brings its rooms to LIVEING. It lists them as a media server does.
    pub(super) async fn start(url: &str, id: &str, rooms: &[RoomId]) -> anyhow::Result<Asker> {
        let served: Vec<ServedRoom> = rooms.iter().map(served).collect();
        let listing = move || MediaHeartbeat {
            rooms: served.clone(),
            capacity: None,
        };
        let mut peer = Peer::builder(Role::Media, id)
            .endpoint(url)
            .heartbeat(listing)
            .start()?;
        let handle = peer.handle();
        let task = tokio::spawn(async move { while peer.next().await.is_some() {} });
        let asker = Asker {
            handle: handle.clone(),
            rooms: rooms.to_vec(),
            live: vec![true; rooms.len()],
            _task: AbortOnDropHandle::new(task),
        };
        let live = || rooms.iter().all(|room| is_live(&handle, room));
        let waiting = async {
            while !live() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, waiting).await;
        came.with_context(|| format!("the rooms of {id} are not live"))?;
        Ok(asker)
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Changes the next of its rooms, which was due then.
    pub(super) fn change(
        &mut self,
        n: usize,
        due: Instant,
    ) -> impl Future<Output = anyhow::Result<Done>> + Send + use<> {
        let at = n % self.rooms.len();
        let event = if self.live[at] {
            EventType::HostDisconnect
        } else {
            EventType::HostReturn
        };
        self.live[at] = !self.live[at];
        let (handle, room) = (self.handle.clone(), self.rooms[at].clone());
        async move {
            let accepted = handle.room_event(ask(&room, event)).await?;
            let answered = Instant::now();
            let state = match accepted.state() {
                RoomState::Liveing => State::Liveing,
                RoomState::GraceClosing => State::GraceClosing,
                other => bail!("{event:?} of {room} led to {other:?}"),
            };
            let version = Version(accepted.version);
            Ok(Done {
                room,
                version,
                state,
                due,
                answered,
            })
        }
    }
}

impl Done {
    /// Milliseconds from when it was due until its asker and all others had it.
    pub(super) fn took(&self, told: impl Iterator<Item = Instant>) -> f64 {
        let last = told.fold(self.answered, Instant::max);
        last.saturating_duration_since(self.due).as_secs_f64() * 1000.0
    }
}

fn is_live(handle: &Handle, room: &RoomId) -> bool {
    let known = handle.committed(room);
    known.is_some_and(|committed| committed.state == State::Liveing)
}

/// Two participants, so that it is served; no ports, as nothing is cut here.
fn served(room: &RoomId) -> ServedRoom {
    ServedRoom {
        room: room.to_string(),
        participants: 2,
        ..ServedRoom::default()
    }
}

fn ask(room: &RoomId, event: EventType) -> RoomEvent {
    RoomEvent {
        room: room.to_string(),
        event: event.into(),
        host: (event == EventType::HostReturn).then(|| "host".into()),
        ..RoomEvent::default()
    }
}

fn join(room: &RoomId, at: &str) -> ClientEvent {
    ClientEvent {
        room: room.to_string(),
        client_id: format!("client-of-{at}"),
        kind: ClientEventKind::Join.into(),
        ..ClientEvent::default()
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
