//! What a fresh machine lacks, and how it gets there: Rust's own sources, tools in target/tools, Debian packages.

pub(crate) mod apt;
mod packages;
pub(crate) mod python;
pub(crate) mod rotel;
mod rust_src;
mod tools;

pub(crate) use packages::{BENCH, DEMO, DIST, ETCD, FULL, JANUS, KERNELS, REDIS, TEST, packages};
pub(crate) use tools::{CARGO_DENY, CARGO_MACHETE};

use crate::{Missing, command, progress::Progress};
use std::{path::Path, process::Command};

/// What the eBPF build needs: Rust's own sources and bpf-linker. Needs no root.
pub(crate) fn build_tools(root: &Path, progress: &Progress) -> anyhow::Result<()> {
    rust_src::ensure(root, progress)?;
    tools::BPF_LINKER.ensure(root, progress)?;
    Ok(())
}

/// What static programs are built for: they run in an image from scratch, and on every distribution.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// Makes sure that the compiler can build for [`STATIC_TARGET`].
pub(crate) fn static_target(root: &Path) -> anyhow::Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root).args(["target", "add", STATIC_TARGET]);
    command::quiet(&mut rustup).map(drop)
}

/// Whether we are root.
fn is_root() -> anyhow::Result<bool> {
    Ok(command::quiet(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Stops with exit code 2 unless this process may make network namespaces. That it may load BPF too is seen when it
/// does: what lacks then is in the kernel's own message.
pub(crate) fn require_root(task: &str) -> anyhow::Result<()> {
    if !is_root()? {
        return Err(Missing(format!(
            "{task} needs root, for network namespaces and BPF; run: sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask {task}"
        ))
        .into());
    }
    command::quiet(Command::new("unshare").args(["--net", "true"])).map_err(|error| {
        Missing(format!(
            "{task} cannot make a network namespace, although it is root (a container without CAP_SYS_ADMIN?): {error:#}"
        ))
    })?;
    Ok(())
}
