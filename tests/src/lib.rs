//! What the integration tests, the demo and the benches stand on: network namespaces, a private bpffs, the real agent as a
//! process, RTP traffic, peer simulators, real Redis servers. No test lives here.

pub mod agent;
pub mod bench;
pub mod bpffs;
pub mod bytecode;
pub mod callers;
pub mod certs;
pub mod clock;
pub mod commons;
pub mod demo;
pub mod disk;
pub mod etcd;
pub mod evidence;
pub mod files;
pub mod frame;
pub mod hostile;
pub mod interrupt;
pub mod janus;
pub mod member;
pub mod metrics;
pub mod netns;
pub mod node;
pub mod occupant;
pub mod peer;
pub mod pins;
pub mod programs;
pub mod proxy;
pub mod redis;
pub mod registrant;
pub mod rtp;
pub mod stage;
pub mod store_cases;
pub mod sweep;
pub mod tap;
pub mod terminal;
