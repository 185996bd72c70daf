//! `cargo xtask build-ebpf`: compiles the kernel programs into `target/bpf/voice.o`, which the agent embeds.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the kernel programs.
const TARGET: &str = "bpfel-unknown-none";

/// Builds the object below `root` (the workspace) and says where it is. One target directory of its own keeps `core`
/// cached: 45 s the first time, 1-3 s after. Needs `target/tools/bin/bpf-linker` and the component rust-src.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools/bin");
    ensure!(
        tools.join("bpf-linker").exists(),
        "{} is missing: `cargo xtask build-ebpf` installs it",
        tools.join("bpf-linker").display()
    );
    let target_dir = root.join("target/bpf/build");
    let status = cargo(root, &tools, &target_dir)?
        .status()
        .context("cannot run cargo for the kernel programs")?;
    if !status.success() {
        bail!("building the kernel programs (voice-ebpf) failed; cargo's messages are above");
    }
    let built = target_dir.join(TARGET).join("release/voice-ebpf");
    let object = root.join("target/bpf/voice.o");
    replace(&built, &object)?;
    Ok(object)
}

fn cargo(root: &Path, tools: &Path, target_dir: &Path) -> Result<Command> {
    let mut path = vec![tools.to_path_buf()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "voice-ebpf",
            "-Z",
            "build-std=core",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        // build-std is unstable; this lets the stable compiler do it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", env::join_paths(path).context("PATH cannot be extended")?)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"),
        )
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    Ok(cargo)
}

/// Puts the new object in place at once. Its time always becomes new: the agent's build compares it with the sources'.
fn replace(built: &Path, object: &Path) -> Result<()> {
    let fresh = object.with_extension("new");
    fs::copy(built, &fresh)
        .with_context(|| format!("cannot copy {} to {}", built.display(), fresh.display()))?;
    fs::rename(&fresh, object).with_context(|| format!("cannot put {} in place", object.display()))
}
