//! `run`: the agent itself.

use super::{Code, Failure};
use crate::{config::Config, driver, tokens::Tokens};

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(config: Config, tokens: Tokens) -> Result<String, Failure> {
    match driver::run(config, tokens) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Failure::new(Code::Failed, format!("run: {error:#}"))),
    }
}
