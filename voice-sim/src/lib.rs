//! Deterministic simulation of the whole system (DESIGN 6): 3 agents, 3 gateways, 2 signalling servers, 3 media servers, a
//! store and a registry over faulty links, on one thread and a clock of its own, from one seed.
//!
//! Agents run the real `voice_room::Core`, peers the real `voice_room::sync::Participant`; only what lies around them is
//! modelled. A crate of its own, so that it builds without the agent, needs no root, and its tests may run beside each other.
#![expect(
    missing_docs,
    reason = "a model is read in its files; nothing else is built on it"
)]

mod agent;
mod chance;
mod invariants;
mod net;
mod peer;
mod random;
mod registry;
mod store;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use world::World;

/// Milliseconds since the run began.
pub(crate) type Ms = u64;

pub(crate) fn ms(ms: Ms) -> Duration {
    Duration::from_millis(ms)
}

/// Faults and requests come for so long; then everything is healed, and has as long to come to rest.
pub(crate) const CHAOS: Ms = 600_000;
pub(crate) const REST: Ms = 700_000;

/// A run in which an invariant did not hold.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    /// Which invariant, and how it was broken.
    pub what: String,
    /// All that happened, one line each.
    pub trace: Vec<String>,
}

/// A fault that is built in on purpose, one for each invariant. A test plants them, to see that the invariant finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// One gateway is told another state than is stored.
    TellsAnother,
    /// The store says that it refused a change, and took it.
    TakesWhatItRefuses,
    /// Some requests are never answered.
    NeverAnswers,
    /// Peers forget what they held, and the epochs they heard, without a restart.
    ForgetsEpochs,
    /// What cuts peers off is never healed.
    StaysCut,
    /// Peers let clients in whatever they were told.
    LetsAllIn,
    /// No heartbeat arrives, and the kernel counts nothing.
    SeesNothing,
}

/// What a run has seen, to tell that it was not an idle one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub stored: u64,
    pub prepared: u64,
    pub rolled_back: u64,
    pub trips: u64,
    /// Rooms that a custodian ended.
    pub lost: u64,
    pub faults: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.stored += other.stored;
        self.prepared += other.prepared;
        self.rolled_back += other.rolled_back;
        self.trips += other.trips;
        self.lost += other.lost;
        self.faults += other.faults;
    }
}

/// Runs one seed. A run that fails is done once more with a trace.
pub fn run(seed: u64) -> Result<Tally, Failure> {
    run_with(seed, None)
}

/// The same, with a fault planted.
pub fn run_with(seed: u64, plant: Option<Plant>) -> Result<Tally, Failure> {
    let ran = once(seed, plant, false).map(|(tally, _)| tally);
    ran.map_err(|_| match once(seed, plant, true) {
        Err((what, trace)) => Failure { seed, what, trace },
        Ok(_) => Failure {
            seed,
            what: "it failed once and not again: the simulation is not deterministic".into(),
            trace: Vec::new(),
        },
    })
}

/// All that happens in the run of a seed, one line each.
pub fn trace(seed: u64) -> Vec<String> {
    match once(seed, None, true) {
        Ok((_, trace)) | Err((_, trace)) => trace,
    }
}

fn once(
    seed: u64,
    plant: Option<Plant>,
    traced: bool,
) -> Result<(Tally, Vec<String>), (String, Vec<String>)> {
    let mut world = World::new(seed, plant, traced);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let trace = std::mem::take(&mut world.trace);
    match ran {
        Ok(Ok(())) => Ok((world.tally, trace)),
        Ok(Err(what)) => Err((what, trace)),
        Err(_) => Err(("the code under test panicked; its message is above".into(), trace)),
    }
}
