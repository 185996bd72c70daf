//! Where the agent's binary comes from.

use anyhow::{Context, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The binary: `XTASK_VOICE_AGENT` if set (the prefix VOICE_AGENT_ is the configuration's, which the agent inherits
/// and where an unknown name is a mistake), else the one cargo builds beside this program, in the same profile.
pub fn path() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| find().map_err(|e| format!("{e:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn find() -> anyhow::Result<PathBuf> {
    if let Some(given) = env::var_os("XTASK_VOICE_AGENT") {
        let given = PathBuf::from(given);
        if !given.is_file() {
            bail!("XTASK_VOICE_AGENT={}: no such file", given.display());
        }
        return Ok(given.canonicalize()?);
    }
    let profile = profile_dir(&env::current_exe()?)?;
    build(
        &profile,
        &root(),
        &["--package", "voice-agent", "--bin", "voice-agent"],
    )?;
    Ok(profile.join("voice-agent"))
}

/// An example of `voice-client`, built like the agent.
pub fn example(name: &str) -> anyhow::Result<PathBuf> {
    let profile = profile_dir(&env::current_exe()?)?;
    // Of the workspace: with its features, so that nothing is built twice.
    build(
        &profile,
        &root(),
        &["--workspace", "--exclude", "voice-ebpf", "--example", name],
    )?;
    Ok(profile.join("examples").join(name))
}

/// `target/debug` for `target/debug/demo` and `target/debug/deps/e2e-123`.
pub(super) fn profile_dir(exe: &Path) -> anyhow::Result<PathBuf> {
    let dir = exe.parent().context("this program has no directory")?;
    let above = if dir.ends_with("deps") {
        dir.parent()
    } else {
        Some(dir)
    };
    Ok(above.context("deps has no directory above")?.to_owned())
}

/// The workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds something of the workspace in `root`, into the target directory of this program.
pub(super) fn build(profile: &Path, root: &Path, what: &[&str]) -> anyhow::Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // As `cargo xtask` calls it: else the crate ring is built anew, and with it all that stands on it.
    cargo
        .args(["build", "--quiet"])
        .args(what)
        .current_dir(root)
        .env_remove("CARGO_MANIFEST_DIR");
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let status = cargo.status().with_context(|| format!("start {cargo:?}"))?;
    if !status.success() {
        bail!(
            "{cargo:?} failed ({status}); `cargo xtask build-ebpf` makes the eBPF object that the agent needs"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_looked_for_beside_tests_and_programs_alike() {
        for exe in ["/t/target/debug/demo", "/t/target/debug/deps/e2e-1f"] {
            assert_eq!(profile_dir(Path::new(exe)).unwrap(), Path::new("/t/target/debug"));
        }
    }
}
