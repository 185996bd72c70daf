//! `cargo xtask simulate`: builds the simulation and hands over to it.

use crate::{args::Simulate, command};
use anyhow::Context;
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

pub(crate) fn run(root: &Path, options: &Simulate) -> anyhow::Result<ExitCode> {
    let build = ["build", "--locked", "--package", "voice-sim"];
    command::loud(&mut command::cargo(root, build))?;
    // In our place, so that signals reach it and its exit code is ours.
    let error = Command::new(command::built(root, "voice-sim"))
        .current_dir(root)
        .args(flags(options))
        .exec();
    Err(error).context("could not start the simulation")
}

fn flags(options: &Simulate) -> Vec<String> {
    match options.seed {
        Some(seed) => vec![format!("--seed={seed}")],
        None => vec![
            format!("--seeds={}", options.seeds),
            format!("--from={}", options.from),
        ],
    }
}
