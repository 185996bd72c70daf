//! `run`: the agent itself.

use super::{Code, Failure};
use crate::{
    config::{Config, reload::Reloader},
    driver,
    tokens::Tokens,
};

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again.
pub(super) fn run((config, tokens, reloader): (Config, Tokens, Reloader)) -> Result<String, Failure> {
    match driver::run(config, tokens, reloader) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Failure::new(Code::Failed, format!("run: {error:#}"))),
    }
}
