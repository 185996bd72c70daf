//! `cargo xtask verify`: what must hold besides the tests. Reads only; what it builds goes to target/.
//!
//! Advisories are not checked: their database is a git repository at GitHub, and CI reaches package registries only.

use crate::{build_ebpf, command, progress::Progress, setup};
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// Runs every check, also after one has failed, and then says which failed.
pub(crate) fn run(root: &Path, progress: &Progress) -> anyhow::Result<ExitCode> {
    build_ebpf(root, progress)?;
    let deny = setup::CARGO_DENY.ensure(root, progress)?;
    let machete = setup::CARGO_MACHETE.ensure(root, progress)?;
    let checks = [
        ("fmt", command::cargo(root, ["fmt", "--all", "--check"])),
        ("clippy, the eBPF crate included", clippy(root)),
        ("docs", docs(root)),
        ("voice-room builds where there is no std", pure(root)),
        ("dependencies: licences, duplicates, sources", denied(root, &deny)),
        ("dependencies: none unused", in_root(root, &machete, &[])),
    ];
    let mut failed = Vec::new();
    for (name, mut check) in checks {
        if let Err(error) = progress.step(name, || command::quiet(&mut check)) {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("verify: failed: {}", failed.join("; "));
}

fn clippy(root: &Path) -> Command {
    command::cargo(
        root,
        [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    )
}

fn docs(root: &Path) -> Command {
    let mut docs = command::cargo(
        root,
        [
            "doc",
            "--locked",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ],
    );
    docs.env("RUSTDOCFLAGS", "-D warnings");
    docs
}

/// A target without std, with `core` and `alloc` from rust-src, so that no target needs to be downloaded. (Not the
/// BPF target: it has no atomics for `Arc`.)
fn pure(root: &Path) -> Command {
    let target = [
        "--target",
        "x86_64-unknown-none",
        "-Zbuild-std=core,alloc",
        "--target-dir",
        "target/no-std",
    ];
    let check = ["check", "--locked", "--package", "voice-room"];
    let mut pure = command::cargo(root, check.into_iter().chain(target));
    // The flag for build-std, on a stable compiler.
    pure.env("RUSTC_BOOTSTRAP", "1");
    pure
}

fn denied(root: &Path, deny: &Path) -> Command {
    in_root(root, deny, &["--locked", "check", "licenses", "bans", "sources"])
}

fn in_root(root: &Path, program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).args(args);
    command
}
