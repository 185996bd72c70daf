//! What the agent says of itself: its log, and its counters of failures and bad input.

pub mod counters;
pub mod logs;

pub use counters::Counter;
pub use logs::{KernelLog, LogError};
