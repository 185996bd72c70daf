//! `cargo xtask bench NAME`: sets up, builds with optimization, and hands over to the `bench` binary of the tests crate.

use crate::{
    args::{Bench, BenchName},
    build_ebpf, command,
    progress::Progress,
    setup,
};
use anyhow::Context;
use clap::ValueEnum;
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

pub(crate) fn run(root: &Path, progress: &Progress, options: Bench) -> anyhow::Result<ExitCode> {
    let needs: &[_] = match options.name {
        BenchName::Kernel => &[setup::DEMO, setup::BENCH],
        BenchName::Node | BenchName::Sync | BenchName::History => &[setup::DEMO],
        BenchName::Agent => &[setup::DEMO, setup::ETCD, setup::REDIS],
        BenchName::Recovery => &[setup::ETCD],
        BenchName::Cas => &[setup::REDIS],
    };
    setup::packages(progress, needs)?;
    setup::require_root("bench")?;
    build_ebpf(root, progress)?;
    progress.section("agent and bench, release build", || {
        let build = [
            "build",
            "--locked",
            "--release",
            "--package",
            "voice-agent",
            "--package",
            "voice-tests",
            "--bins",
        ];
        command::loud(&mut command::cargo(root, build))
    })?;
    // In our place, so that signals reach it and its exit code is ours.
    let error = Command::new(root.join("target/release/bench"))
        .current_dir(root)
        .env("XTASK_VOICE_AGENT", root.join("target/release/voice-agent"))
        .args(arguments(options))
        .exec();
    Err(error).context("could not start the bench")
}

/// The bench binary takes the arguments that we take.
fn arguments(options: Bench) -> impl Iterator<Item = String> {
    let name = options.name.to_possible_value();
    let name = name.map(|value| value.get_name().to_owned());
    name.into_iter().chain(options.json.then(|| "--json".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_and_the_flag_are_handed_on() {
        let given = |name, json| arguments(Bench { name, json }).collect::<Vec<_>>();
        assert_eq!(given(BenchName::Kernel, true), ["kernel", "--json"]);
        assert_eq!(given(BenchName::Node, false), ["node"]);
    }
}
