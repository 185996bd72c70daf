//! `run`: the agent itself.

use super::{Code, Failure};
use crate::{config::Config, driver};

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(config: Config) -> Result<String, Failure> {
    match driver::run(config) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Failure::new(Code::Failed, format!("run: {error:#}"))),
    }
}
