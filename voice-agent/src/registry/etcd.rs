//! Ownership by etcd (DESIGN 5.3): one lease for this agent, a key on it for each room it owns, and the revision of that key
//! as the room's epoch.
//!
//! Three parts that share little: `keeper` keeps the lease, on a thread of its own; `follow` watches the keys; `worker`
//! claims, tells and gives up, one transaction at a time, and tells the driver. What they decide is in `lease`, `view`,
//! `claims` and `vigil`, without I/O.

mod authority;
mod claims;
mod clock;
mod desk;
mod error;
mod follow;
mod keeper;
mod lease;
pub mod records;
mod settings;
mod txn;
mod view;
mod vigil;
mod wire;
mod worker;

pub use authority::Authority;
pub use error::{Cause, EtcdError};
pub use settings::SettingsError;
pub use worker::Standing;

use crate::{config::EtcdConfig, driver, proto::etcdserverpb::RangeRequest};
use claims::Me;
use desk::Desk;
use settings::Settings;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use voice_room::{Epoch, NodeName, RoomId, command::Meta, patrol::RegistrySight};
use wire::Link;
use worker::Worker;

/// How long a look at what is held may take: it waits behind one transaction at most.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What the registry tells others of this agent.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name; no two agents may have the same.
    pub node: NodeName,
    /// Tells it from another agent of the same name, and is the same after a restart; see [`identity`].
    pub identity: String,
    /// Where its peers connect.
    pub address: String,
    /// Rooms that may be live on it.
    pub capacity: u32,
}

/// A way to the registry. Cheap to clone; nothing here waits.
#[derive(Debug, Clone)]
pub struct Handle {
    desk: Arc<Desk>,
    authority: Authority,
    standing: Arc<Mutex<Standing>>,
}

impl Handle {
    /// Owns these rooms. Answers `Claimed` or `NotClaimed` for each.
    pub fn claim(&self, rooms: Vec<Meta>) {
        self.desk.claim(rooms);
    }

    /// The room is not owned any more.
    pub fn cede(&self, room: RoomId) {
        self.desk.cede(room);
    }

    /// Tells others for a while that an owned room is served less well.
    pub fn degraded(&self, room: RoomId, reason: String) {
        self.desk.degraded(room, reason);
    }

    /// Tells others of an owned room.
    pub fn describe(&self, meta: Meta) {
        self.desk.describe(meta);
    }

    /// What is held of these rooms, in their order, as far as was seen. The error says why that is not known.
    pub async fn look(&self, rooms: Vec<RoomId>) -> Result<Vec<RegistrySight>, String> {
        let (to, answer) = oneshot::channel();
        self.desk.look(desk::Look { rooms, to });
        match tokio::time::timeout(LOOK_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the registry has ended".into()),
            Err(_) => Err(format!(
                "the registry did not answer within {} s",
                LOOK_WITHIN.as_secs()
            )),
        }
    }

    /// An epoch that was used before this start: no room is claimed under one that is not higher.
    pub fn known(&self, epoch: Epoch) {
        self.desk.know(epoch);
    }

    /// The lease, by the clock.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How things stand.
    pub fn standing(&self) -> Standing {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The registry, ready to run.
#[derive(Debug)]
pub struct Etcd {
    settings: Arc<Settings>,
    ttl: Duration,
    grace: Duration,
    me: Me,
    agent: records::Agent,
    handle: Handle,
}

impl Etcd {
    /// Reads the files that the configuration names; connects nowhere yet.
    pub fn prepare(config: &EtcdConfig, about: About) -> Result<Etcd, SettingsError> {
        let handle = Handle {
            desk: Arc::default(),
            authority: Authority::new(),
            standing: Arc::default(),
        };
        let agent = records::Agent {
            identity: about.identity,
            address: about.address.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            capacity: about.capacity,
            era: config.era,
        };
        let me = Me {
            node: about.node,
            era: config.era,
            address: about.address,
        };
        Ok(Etcd {
            settings: Arc::new(Settings::new(config)?),
            ttl: config.ttl,
            grace: config.grace,
            me,
            agent,
            handle,
        })
    }

    /// For who watches how etcd does.
    pub fn prober(&self) -> Prober {
        Prober(Link::new(self.settings.clone(), 0))
    }

    /// For who asks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`, or until the driver has ended. The lease is not revoked at the end: a restart within its time
    /// claims anew what its last life held, and nobody else takes it meanwhile.
    ///
    /// # Errors
    /// The thread of the lease cannot be started.
    pub async fn run(self, driver: driver::Handle, shutdown: CancellationToken) -> std::io::Result<()> {
        let authority = self.handle.authority.clone();
        // Whatever ends first, the keeper ends too.
        let stop = shutdown.child_token();
        let _ends = stop.clone().drop_guard();
        // Agents do not all begin with the same member.
        let first = usize::from(clock::now().0.to_le_bytes()[0]);
        let link = |n| Link::new(self.settings.clone(), first + n);
        keeper::spawn(link(0), self.ttl, authority.clone(), stop)?;
        let (to, seen) = mpsc::channel(follow::QUEUE);
        let follow = follow::follow(link(1), to, authority.subscribe());
        let worker = Worker {
            me: self.me,
            agent: self.agent,
            grace: self.grace,
            link: link(2),
            authority,
            desk: self.handle.desk,
            standing: self.handle.standing,
            driver,
            seen,
        };
        let both = async { tokio::join!(follow, worker.run()) };
        shutdown.run_until_cancelled(both).await;
        Ok(())
    }
}

/// Asks etcd again and again whether it answers, over a connection of its own.
#[derive(Debug)]
pub struct Prober(Link);

impl Prober {
    /// Whether a member answers a read that its cluster agrees to. One that does not is left for the next.
    pub async fn answers(&mut self) -> bool {
        let Ok(client) = self.0.client().await else {
            return false;
        };
        let request = RangeRequest {
            key: records::WATCHED.0.into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answers = client.range(request).await.is_ok();
        if !answers {
            self.0.failed();
        }
        answers
    }
}

/// Asks etcd one question, of each member in turn until one answers. For `doctor`.
///
/// # Errors
/// In words: no member answers, or a file of the configuration cannot be used.
pub async fn probe(config: &EtcdConfig) -> Result<(), String> {
    let settings = Arc::new(Settings::new(config).map_err(|error| error.to_string())?);
    let mut problem = "no member is configured".to_owned();
    for member in 0..config.endpoints.len() {
        let asked = async {
            let client = Link::new(settings.clone(), member).client().await?;
            let request = RangeRequest {
                key: records::WATCHED.0.into(),
                count_only: true,
                ..RangeRequest::default()
            };
            client.range(request).await
        };
        match asked.await {
            Ok(_) => return Ok(()),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

/// What tells this agent's place from every other's and stays the same over a restart: this boot of this host, and the state
/// directory, which is locked against a second agent.
pub fn identity(state: &std::path::Path) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{} {}", boot.trim(), state.display())
}
