//! What agents share, for end-to-end tests: a Redis and an etcd inside a media node's namespace, which the test takes down and
//! brings back, and the settings of an agent that uses them.

use crate::{
    agent::Settings,
    clock,
    etcd::Etcd,
    netns::{NODE_IP, Netns, Pair},
    redis::Server,
};
use anyhow::Context;
use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

/// The expiry of records, shortened: also what a test waits for so that it is over.
pub const RECORD_TTL: Duration = Duration::from_secs(3);
/// The lease of an agent, and what custodians wait after its end.
pub const LEASE: Duration = Duration::from_secs(3);

/// Both servers. They end before their namespace goes.
#[derive(Debug)]
pub struct Commons {
    netns: Netns,
    inside: Inside,
    /// The store.
    pub redis: Arc<Server>,
    /// The registry, of one member.
    pub etcd: Etcd,
}

impl Commons {
    /// Starts both in the node's namespace; Redis is also reached from the users' side.
    pub fn start(pair: &Pair) -> anyhow::Result<Commons> {
        let inside = Inside::of(&pair.node);
        let open = ["--bind", "127.0.0.1", NODE_IP, "--protected-mode", "no"];
        let redis = Arc::new(inside.call(move || Server::with(&open))??);
        let etcd = pair.node.run(|| {
            let etcd = Etcd::start(1)?;
            etcd.wait_ready().map(|()| etcd)
        })??;
        Ok(Commons {
            netns: Netns::existing(pair.node.name())?,
            inside,
            redis,
            etcd,
        })
    }

    /// The settings of an agent that shares them.
    #[must_use]
    pub fn shared(&self, settings: Settings, node: &str) -> Settings {
        let seconds = |d: Duration| format!("\"{}s\"", d.as_secs());
        self.stored(settings, node)
            .set("registry.kind", "\"etcd\"")
            .set("registry.etcd.endpoints", &format!("{:?}", self.etcd.endpoints()))
            .set("registry.etcd.ttl", &seconds(LEASE))
            .set("registry.etcd.grace", &seconds(LEASE))
    }

    /// The settings of a lone agent on Redis.
    #[must_use]
    pub fn stored(&self, settings: Settings, node: &str) -> Settings {
        let address = format!("[\"{}\"]", self.redis.address());
        settings
            .set("node.name", &format!("{node:?}"))
            .set("store.kind", "\"redis\"")
            .set("store.redis.addresses", &address)
            .set(
                "store.redis.record_ttl",
                &format!("\"{}s\"", RECORD_TTL.as_secs()),
            )
            .set("store.redis.timeout", "\"500ms\"")
    }

    /// Redis is gone, with all that it held.
    pub fn kill_redis(&self) {
        self.redis.kill();
    }

    /// Redis is back, empty.
    pub fn run_redis(&self) -> anyhow::Result<()> {
        let redis = self.redis.clone();
        self.inside.call(move || redis.run())?
    }

    /// The member is gone; its data stays on its disk.
    pub fn kill_etcd(&self) -> anyhow::Result<()> {
        self.etcd.kill(0)
    }

    /// The member is back.
    pub fn run_etcd(&self) -> anyhow::Result<()> {
        self.netns.run(|| {
            self.etcd.run(0)?;
            self.etcd.wait_ready()
        })?
    }

    /// What Redis answers.
    pub fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        self.netns.run(|| self.redis.ask(args))?
    }

    /// A field of a room's stored record; empty when there is none.
    pub fn stored_field(&self, room: &str, field: &str) -> String {
        let key = key("room", room);
        self.ask(&["HGET", &key, field])
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Waits until a room is stored in this state.
    pub fn wait_stored(&self, room: &str, state: &str, within: Duration) -> anyhow::Result<()> {
        let mut last = String::new();
        let stored = clock::poll(within, || {
            last = self.stored_field(room, "state");
            (last == state).then_some(())
        });
        stored.with_context(|| format!("{room} is stored as {last:?} after {within:?}, not as {state}"))
    }

    /// What remains of a room's isolation in the store.
    pub fn isolation_left(&self, room: &str) -> Option<Duration> {
        let key = key("isolation", room);
        let left: i64 = self.ask(&["PTTL", &key]).ok()?.trim().parse().ok()?;
        u64::try_from(left).ok().map(Duration::from_millis)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread inside a namespace that lives as long as this: Redis dies with the thread that started it.
#[derive(Debug)]
struct Inside(Sender<Job>);

impl Inside {
    fn of(ns: &Netns) -> Inside {
        let (jobs, todo) = channel::<Job>();
        // It ends with the sender.
        drop(ns.spawn(move || todo.iter().for_each(|job| job())));
        Inside(jobs)
    }

    fn call<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        let (tell, told) = channel();
        let job = Box::new(move || drop(tell.send(f())));
        let gone = || anyhow::anyhow!("the thread in the namespace is gone");
        self.0.send(job).map_err(|_| gone())?;
        told.recv().context("the thread in the namespace is gone")
    }
}

/// A room's key of this kind, as DESIGN 5.2 has it.
pub fn key(kind: &str, room: &str) -> String {
    let partition = voice_agent::store::redis::keys::partition(&crate::node::room(room));
    format!("{{v{partition:02}}}:{kind}:{room}")
}
