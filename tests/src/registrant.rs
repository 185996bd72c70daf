//! The registry's etcd side of an agent, as the agent runs it, with the driver played: it claims what it wants again after a
//! lost lease, cedes what is another's, and keeps what it was told in order.

use crate::clock;
use anyhow::Context;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use voice_agent::{
    config::EtcdConfig,
    driver::{self, Message},
    registry::etcd::{About, Etcd, Handle},
};
use voice_room::{Epoch, Incarnation, Input, NodeName, RoomId, State, Version, command::Meta};

/// For what takes milliseconds on a machine that is not loaded.
pub const SOON: Duration = Duration::from_secs(60);

/// Messages that may wait for the played driver.
const QUEUE: usize = 8192;

/// A running registry; ended on drop, its lease not revoked, as when an agent ends.
#[derive(Debug)]
pub struct Registrant {
    handle: Handle,
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the driver was told, and what follows from it.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Everything, in order.
    pub inputs: Vec<(Instant, Input)>,
    /// What is wanted, and what was said of it last.
    pub wanted: BTreeMap<RoomId, Meta>,
    /// What is held, by the inputs.
    pub held: BTreeMap<RoomId, Epoch>,
}

/// Configuration for these endpoints, with short times.
pub fn config(endpoints: Vec<String>, ttl: Duration, grace: Duration) -> EtcdConfig {
    EtcdConfig {
        endpoints,
        era: 0,
        ttl,
        grace,
        username: None,
        password_file: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
    }
}

/// Rooms of this name, numbered.
pub fn rooms(name: &str, numbers: Range<usize>) -> Vec<RoomId> {
    let room = |n| RoomId::new(&format!("{name}-{n}")).unwrap_or_else(|e| panic!("{name}: {e}"));
    numbers.map(room).collect()
}

impl Registrant {
    /// Starts the registry of this node. `life` tells one place from another of the same name.
    pub fn start(config: &EtcdConfig, node: &str, life: &str) -> anyhow::Result<Registrant> {
        let about = About {
            node: NodeName::new(node)?,
            identity: life.into(),
            address: "127.0.0.1:7400".into(),
            capacity: 10_000,
        };
        let etcd = Etcd::prepare(config, about)?;
        let (handle, told, stop) = (
            etcd.handle(),
            Arc::new(Mutex::new(Told::default())),
            CancellationToken::new(),
        );
        let (driver, messages) = driver::Handle::new(QUEUE);
        let played = play(messages, told.clone(), handle.clone());
        let running = etcd.run(driver, stop.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let body = move || {
            runtime.spawn(played);
            if let Err(error) = runtime.block_on(running) {
                eprintln!("the registry: {error}");
            }
        };
        Ok(Registrant {
            handle,
            told,
            stop,
            thread: Some(
                thread::Builder::new()
                    .spawn(body)
                    .context("start a registrant's thread")?,
            ),
        })
    }

    /// Wants these rooms, live since version 2 of their first life.
    pub fn claim(&self, rooms: &[RoomId]) {
        let mut told = self.told();
        for room in rooms {
            let first = || meta(room, State::Liveing, 2, Epoch::default());
            told.wanted.entry(room.clone()).or_insert_with(first);
        }
        let metas = rooms.iter().map(|room| told.wanted[room].clone());
        self.handle.claim(metas.collect());
    }

    /// Waits until it holds these rooms, by what the driver was told.
    pub fn wait_held(&self, rooms: &[RoomId]) {
        clock::wait_for("every room is held", SOON, || {
            rooms.iter().all(|room| self.epoch(room).is_some())
        });
    }

    /// Gives a room up.
    pub fn cede(&self, room: &RoomId) {
        let mut told = self.told();
        told.wanted.remove(room);
        told.held.remove(room);
        self.handle.cede(room.clone());
    }

    /// Tells of a room.
    pub fn describe(&self, room: &RoomId, state: State, version: u64) {
        let meta = meta(room, state, version, self.epoch(room).unwrap_or_default());
        if let Some(last) = self.told().wanted.get_mut(room) {
            *last = meta.clone();
        }
        self.handle.describe(meta);
    }

    /// Under which epoch it holds a room, by what the driver was told and by the clock.
    pub fn epoch(&self, room: &RoomId) -> Option<Epoch> {
        let holds = self.handle.authority().holds();
        self.told().held.get(room).copied().filter(|_| holds)
    }

    /// How many rooms it holds.
    pub fn held(&self) -> usize {
        self.told().held.len()
    }

    /// A copy of what the driver was told.
    pub fn all_told(&self) -> Told {
        self.told().clone()
    }

    /// Every input told since they were taken last.
    pub fn all_inputs(&self) -> Vec<Input> {
        self.told()
            .inputs
            .iter()
            .map(|(_, input)| input.clone())
            .collect()
    }

    /// The same, and they are forgotten.
    pub fn take_inputs(&self) -> Vec<Input> {
        let inputs = std::mem::take(&mut self.told().inputs);
        inputs.into_iter().map(|(_, input)| input).collect()
    }

    /// The agent's own way to the registry.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it as its drop does, before another takes its place.
    pub fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }
}

impl Drop for Registrant {
    fn drop(&mut self) {
        self.end();
    }
}

fn meta(room: &RoomId, state: State, version: u64, epoch: Epoch) -> Meta {
    Meta {
        room: room.clone(),
        incarnation: Incarnation(1),
        state,
        version: Version(version),
        epoch,
        source: None,
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver and its core, as far as the registry is concerned.
async fn play(mut messages: tokio::sync::mpsc::Receiver<Message>, told: Arc<Mutex<Told>>, handle: Handle) {
    while let Some(message) = messages.recv().await {
        let Message::Fact(input) = message else { continue };
        let mut told = lock(&told);
        match &input {
            Input::Claimed { room, epoch } => drop(told.held.insert(room.clone(), *epoch)),
            Input::NotClaimed { room, owner, .. } => {
                told.held.remove(room);
                if owner.is_some() {
                    told.wanted.remove(room);
                }
            }
            Input::LeaseLost => {
                told.held.clear();
                handle.claim(told.wanted.values().cloned().collect());
            }
            Input::OwnerGone { meta, epoch, .. } => drop(told.held.insert(meta.room.clone(), *epoch)),
            _ => {}
        }
        told.inputs.push((Instant::now(), input));
    }
}
