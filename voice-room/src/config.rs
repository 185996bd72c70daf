//! The numbers of the rules, with the defaults of the design. Parsing and documentation live with the agent.

use crate::RoomId;
use alloc::collections::BTreeSet;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What the breaker does with a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Cut, push, isolate.
    #[default]
    Enforce,
    /// Count in the kernel what would be dropped and say `would_trip`; nothing else.
    Shadow,
    /// Never trip.
    Off,
}

/// Every number of DESIGN 3. All durations are exact; the core adds no slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How often a media server says which rooms it serves. 5 s.
    pub heartbeat: Duration,
    /// Heartbeats missed in a row before a room may trip. 5.
    pub misses: u32,
    /// Missed heartbeats before a warning. 3.
    pub warn_misses: u32,
    /// Time without progress before a room may trip. 90 s.
    pub stuck_after: Duration,
    /// How long a tripped room is cut and refuses rejoins. 300 s.
    pub isolation: Duration,
    /// A host silent for longer is disconnected. 30 s.
    pub host_silence: Duration,
    /// Time without user signalling and without RTP before a closing room is destroyed. 60 s.
    pub idle: Duration,
    /// The span the kernel's counters are judged over. 25 s.
    pub witness_window: Duration,
    /// A heartbeat this fresh brings a released room back to LIVEING. 10 s.
    pub release_fresh: Duration,
    /// Enforce, shadow or off.
    pub mode: Mode,
    /// Rooms that are never cut.
    pub never_cut: BTreeSet<RoomId>,
    /// Blast cap: percent of the node's rooms that may trip without a witness within `cap_window`. 50.
    pub cap_percent: u32,
    /// 10 minutes.
    pub cap_window: Duration,
    /// Bounds a hold by contradiction; `None` holds as long as it lasts.
    pub trip_on_contradiction_after: Option<Duration>,
    /// How often the records of owned rooms are kept from running out in a shared store. 60 s.
    pub refresh: Duration,
    /// Live rooms this node takes. 10,000.
    pub quota: u32,
    /// How long the participants of a sync have for their answers. Looked at with each tick. 2 s.
    pub prepare_within: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            heartbeat: Duration::from_secs(5),
            misses: 5,
            warn_misses: 3,
            stuck_after: Duration::from_secs(90),
            isolation: Duration::from_secs(300),
            host_silence: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            witness_window: Duration::from_secs(25),
            release_fresh: Duration::from_secs(10),
            mode: Mode::Enforce,
            never_cut: BTreeSet::new(),
            cap_percent: 50,
            cap_window: Duration::from_secs(600),
            trip_on_contradiction_after: None,
            refresh: Duration::from_secs(60),
            quota: 10_000,
            prepare_within: Duration::from_secs(2),
        }
    }
}
