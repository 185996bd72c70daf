//! `cargo xtask fix`: formats, and applies what clippy can fix by itself.

use crate::{build_ebpf, command, progress::Progress};
use std::{path::Path, process::ExitCode};

/// Changes the tree, which may hold uncommitted work: clippy's changes come in one step before the formatting.
pub(crate) fn run(root: &Path, progress: &Progress) -> anyhow::Result<ExitCode> {
    build_ebpf(root, progress)?;
    progress.section("clippy --fix", || {
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
        ];
        command::loud(&mut command::cargo(root, clippy))
    })?;
    progress.step("fmt", || {
        command::quiet(&mut command::cargo(root, ["fmt", "--all"]))
    })?;
    Ok(ExitCode::SUCCESS)
}
