//! What the agent says of itself: its log, its counters of failures and bad input, and its figures for
//! Prometheus.

pub mod audit;
pub mod counters;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod traces;

pub use counters::Counter;
pub use logs::{KernelLog, LogError};
