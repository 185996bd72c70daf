//! The arguments of a bench; `cargo xtask bench` hands them on.

use serde::Serialize;

/// Measure what the product costs, and compare it with its goals.
#[derive(Debug, Clone, Copy, clap::Parser)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    pub name: Name,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Every bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// The kernel programs: cost per packet, time to the first drop, drop rate beside nftables
    Kernel,
    /// A full node: CPU and memory with 10,000 live rooms, and a storm of 4,000 trips
    Node,
    /// An agent with 10,000 live rooms, snapshots and patrol on: CPU, memory, how long a round of patrol takes
    Agent,
    /// 10,000 rooms claimed anew in etcd after a lost lease and after a restart, and what others notice of it
    Recovery,
    /// Changes of rooms in Redis: rate and latency of an open loop, saturation beside redis-benchmark, wrong writes
    Cas,
    /// Changes that three participants must agree to, near and 50 ms away, and a STATE_EXPIRED to 2,000 gateways
    Sync,
    /// Snapshots of 10,000 rooms: CPU, bytes, and questions over ten million of them
    History,
}
