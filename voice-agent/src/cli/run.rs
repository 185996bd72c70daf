//! `run`: the agent itself.

use super::{Code, Failure};
use crate::config::Config;

/// Runs until SIGTERM.
#[expect(clippy::needless_pass_by_value, reason = "the driver will take it")]
pub(super) fn run(config: Config) -> Result<String, Failure> {
    let _ = config;
    Err(Failure::new(
        Code::Failed,
        "run: the driver is not built into this version yet",
    ))
}
