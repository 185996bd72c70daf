//! `cargo xtask demo`: sets up, builds, and hands over to the `demo` binary of the tests crate.

use crate::{args::Demo, build_ebpf, command, progress::Progress, setup};
use anyhow::Context;
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

/// Built in the dev profile: optimizing takes minutes, and what the demo measures is done by the kernel.
pub(crate) fn run(root: &Path, progress: &Progress, options: &Demo) -> anyhow::Result<ExitCode> {
    let needs: &[_] = if options.janus {
        &[setup::DEMO, setup::JANUS]
    } else {
        &[setup::DEMO]
    };
    setup::packages(progress, needs)?;
    setup::require_root("demo")?;
    build_ebpf(root, progress)?;
    progress.section("agent and demo", || {
        let build = [
            "build",
            "--locked",
            "--package",
            "voice-agent",
            "--package",
            "voice-tests",
            "--bins",
        ];
        command::loud(&mut command::cargo(root, build))
    })?;
    // In our place, so that signals reach it and its exit code is ours.
    let error = Command::new(command::built(root, "demo"))
        .current_dir(root)
        .env("XTASK_VOICE_AGENT", command::built(root, "voice-agent"))
        .args(flags(options))
        .exec();
    Err(error).context("could not start the demo")
}

/// The demo binary takes the flags that we take.
fn flags(options: &Demo) -> impl Iterator<Item = &'static str> {
    let Demo {
        real_times,
        janus,
        json,
        keep,
    } = *options;
    [
        ("--real-times", real_times),
        ("--janus", janus),
        ("--json", json),
        ("--keep", keep),
    ]
    .into_iter()
    .filter_map(|(flag, on)| on.then_some(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_handed_on_and_only_when_given() {
        assert_eq!(flags(&Demo::default()).count(), 0);
        let all = Demo {
            real_times: true,
            janus: true,
            json: true,
            keep: true,
        };
        let given: Vec<_> = flags(&all).collect();
        assert_eq!(given, ["--real-times", "--janus", "--json", "--keep"]);
    }
}
