//! Peers on the client library, as real gateways, signalling and media servers are: in a namespace, on a thread of their own,
//! with what they heard kept for the test. Peers that misbehave are in `peer` and `hostile`.

use crate::{clock, netns::Netns, rtp::lock};
use anyhow::Context;
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{runtime::Runtime, task::JoinHandle};
use voice_agent::proto::v1::{Accepted, ClientEvent, ClientEventKind, EventType, RoomEvent};
use voice_client::{Builder, Connected, Disconnected, Event, Handle, Prepare, RequestError};
use voice_room::{RoomId, State, Version, command::RoomUpdate, sync::participant::Committed};

/// What a member heard, each in order.
#[derive(Debug, Default)]
pub struct Heard {
    /// Streams that came up.
    pub connected: Vec<Connected>,
    /// Streams that ended or could not be opened.
    pub disconnected: Vec<Disconnected>,
    /// Rooms that were tripped.
    pub expired: Vec<RoomId>,
    /// Changes that are stored.
    pub changed: Vec<RoomUpdate>,
    /// Attempts that were given up: the room, and why.
    pub rolled_back: Vec<(RoomId, String)>,
    /// Questions that wait for an answer, of a member that decides.
    open: Vec<Prepare>,
    /// From now on each is agreed to at once.
    agrees: bool,
}

/// A peer that connects, and comes back, by itself. Gone when dropped.
pub struct Member {
    handle: Handle,
    heard: Arc<Mutex<Heard>>,
    /// The peer's tasks end with it.
    runtime: Option<Runtime>,
}

/// A request that waits for its answer.
pub type Asked = JoinHandle<Result<Accepted, RequestError>>;

impl Member {
    /// Starts it in `ns` and waits until its stream is up.
    pub fn start(ns: &Netns, builder: Builder) -> anyhow::Result<Member> {
        let member = Member::begin(ns, builder)?;
        let up = clock::poll(Duration::from_secs(20), || {
            member.handle.is_connected().then_some(())
        });
        up.with_context(|| format!("no stream came up within 20 s: {:?}", member.heard()))?;
        Ok(member)
    }

    /// Starts it in `ns`, and waits for nothing.
    pub fn begin(ns: &Netns, builder: Builder) -> anyhow::Result<Member> {
        // Its threads stay where they are made, and so do their sockets.
        let runtime = ns.run(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
        })??;
        let entered = runtime.enter();
        let mut peer = builder.start()?;
        drop(entered);
        let handle = peer.handle();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let inside = heard.clone();
        runtime.spawn(async move {
            while let Some(event) = peer.next().await {
                lock(&inside).take(event);
            }
        });
        Ok(Member {
            handle,
            heard,
            runtime: Some(runtime),
        })
    }

    /// What it heard so far.
    pub fn heard(&self) -> impl std::ops::Deref<Target = Heard> + fmt::Debug {
        lock(&self.heard)
    }

    /// Waits until it heard enough.
    pub fn wait(&self, what: &str, within: Duration, enough: impl Fn(&Heard) -> bool) {
        let heard = clock::poll(within, || enough(&self.heard()).then_some(()));
        assert!(
            heard.is_some(),
            "not within {within:?}: {what}; {:?}",
            self.heard()
        );
    }

    /// The library's own side of it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The state of a room as it was last told.
    pub fn holds(&self, room: &str) -> Option<(State, Version)> {
        let held: Committed = self.handle.committed(&crate::node::room(room))?;
        Some((held.state, held.version))
    }

    /// Asks for a change, and does not wait for the answer.
    pub fn ask(&self, room: &str, event: EventType) -> Asked {
        let (handle, event) = (self.handle.clone(), asks(room, event));
        self.runtime()
            .spawn(async move { handle.room_event(event).await })
    }

    /// The answer, within the time that the library gives it.
    pub fn answer(&self, asked: Asked) -> Result<Accepted, RequestError> {
        let answer = self.runtime().block_on(asked);
        answer.unwrap_or_else(|e| panic!("the request's task: {e}"))
    }

    /// A client joins a room here: from then on this peer serves it.
    pub fn join(&self, room: &str, client: &str) -> Result<Accepted, RequestError> {
        let join = ClientEvent {
            room: room.to_owned(),
            client_id: client.to_owned(),
            kind: ClientEventKind::Join.into(),
            ..ClientEvent::default()
        };
        self.runtime().block_on(self.handle.client_event(join))
    }

    /// Waits until it is asked about a room. It has not answered then.
    pub fn wait_asked(&self, room: &str, within: Duration) {
        let about = |heard: &Heard| heard.open.iter().any(|p| &*p.proposal().room == room);
        self.wait(&format!("a PREPARE of {room}"), within, about);
    }

    /// Agrees to all it was asked.
    pub fn agree(&self) {
        for prepare in std::mem::take(&mut lock(&self.heard).open) {
            prepare.agree();
        }
    }

    /// Agrees to all it was asked, and from now on to each question.
    pub fn agree_always(&self) {
        lock(&self.heard).agrees = true;
        self.agree();
    }

    fn runtime(&self) -> &Runtime {
        // Taken by drop alone.
        self.runtime
            .as_ref()
            .unwrap_or_else(|| unreachable!("it is dropped"))
    }
}

impl Heard {
    fn take(&mut self, event: Event) {
        match event {
            Event::Connected(connected) => self.connected.push(connected),
            Event::Disconnected(end) => self.disconnected.push(end),
            Event::Expired(expired) => self.expired.push(expired.room),
            Event::Changed(update) => self.changed.push(update),
            Event::RolledBack { room, reason, .. } => {
                self.open.retain(|p| p.proposal().room != room);
                self.rolled_back.push((room, reason));
            }
            Event::Prepare(prepare) if self.agrees => prepare.agree(),
            Event::Prepare(prepare) => self.open.push(prepare),
            _ => {}
        }
    }
}

/// A request for a change.
pub fn asks(room: &str, event: EventType) -> RoomEvent {
    RoomEvent {
        room: room.to_owned(),
        event: event.into(),
        ..RoomEvent::default()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Member").field(&self.handle).finish()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
