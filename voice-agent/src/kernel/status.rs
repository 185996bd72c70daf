//! What the kernel side shows of itself.

use serde::Serialize;

/// The state of the kernel side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KernelStatus {
    /// Where the pins are.
    pub pin_dir: String,
    /// The ABI of the maps.
    pub abi_version: u32,
    /// Whether the kill switch is on.
    pub kill_switch: bool,
    /// Each interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// Slots in use, and how many there are.
    pub slots_used: u32,
    /// Slots in all.
    pub slots_max: u32,
    /// Ports bound to one room.
    pub ports_bound: u32,
    /// Flows bound on shared ports.
    pub flows_bound: u32,
    /// SSRCs bound on shared ports.
    pub ssrcs_bound: u32,
    /// Rooms with an armed verdict.
    pub armed: u32,
    /// Packets passed for each reason that is not a bound room, by hook: (hook, reason, packets).
    pub passed_by_reason: Vec<(String, String, u64)>,
    /// First-drop events the ring buffer had no room for.
    pub lost_events: u64,
    /// Repairs made by reconciliation since start.
    pub repairs: u64,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `native`, `off`, `on-trip (not yet)`, or why not: `occupied by PROGRAM (id N)`, `not supported by the driver`.
    pub xdp: String,
    /// `tcx`, `clsact`, or why not.
    pub tc_ingress: String,
    /// The same for egress.
    pub tc_egress: String,
}
