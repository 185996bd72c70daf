//! What the integration tests and the demo stand on: network namespaces, a private bpffs, the real agent as a
//! process, RTP traffic, peer simulators. No test lives here.

pub mod agent;
pub mod bpffs;
pub mod callers;
pub mod clock;
pub mod demo;
pub mod evidence;
pub mod frame;
pub mod janus;
pub mod netns;
pub mod node;
pub mod occupant;
pub mod peer;
pub mod programs;
pub mod rtp;
pub mod stage;
pub mod sweep;
pub mod tap;
