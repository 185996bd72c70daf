//! Rust's own sources, from which `core` is built for the eBPF target.

use super::apt::{DEBIAN, PrivateApt};
use crate::{Missing, command, progress::Progress};
use anyhow::Context;
use std::{fs, path::Path, process::Command};

/// Makes sure that they are there: from rustup, or where it cannot fetch, from Debian's package of the same version.
/// (rustup does not fetch what `rust-toolchain.toml` lists when the toolchain is there and RUSTUP_AUTO_INSTALL=0.)
pub(super) fn ensure(root: &Path, progress: &Progress) -> anyhow::Result<()> {
    let sysroot = rustc(root, &["--print", "sysroot"])?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if is_whole(&library) {
        progress.there("rust-src");
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root).args(["component", "add", "rust-src"]);
    let Err(from_rustup) = progress.step("rust-src", || command::quiet(&mut rustup)) else {
        return Ok(());
    };
    progress
        .step("rust-src, from Debian's package instead", || {
            from_debian(root, &library)
        })
        .map_err(|from_debian| {
            Missing(format!(
                "rust-src is missing\n  from rustup: {from_rustup:#}\n  from Debian: {from_debian:#}"
            ))
        })?;
    Ok(())
}

fn is_whole(library: &Path) -> bool {
    library.join("core/Cargo.toml").exists() && library.join("Cargo.lock").exists()
}

fn rustc(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    command::quiet(Command::new("rustc").current_dir(root).args(args))
}

/// Downloads the package with an apt root of its own (the machine's sources stay as they are) and puts its library
/// folder where rustup would have put it.
fn from_debian(root: &Path, library: &Path) -> anyhow::Result<()> {
    let version = rustc(root, &["--version"])?;
    let version = version
        .split_whitespace()
        .nth(1)
        .context("rustc does not tell its version")?;
    let work = root.join("target/tools/rust-src");
    let apt = PrivateApt::new(&work, DEBIAN, "trixie-backports")?;
    let package = apt.download(&format!("rust-src={version}*"))?;
    command::quiet(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(package)
            .arg(work.join("x")),
    )?;
    fs::create_dir_all(library)?;
    let unpacked = work.join(format!("x/usr/src/rustc-{version}/library/."));
    command::quiet(Command::new("cp").arg("-a").arg(unpacked).arg(library))?;
    fs::remove_dir_all(&work)?;
    anyhow::ensure!(
        is_whole(library),
        "Debian's package has not put a whole library at {}",
        library.display()
    );
    Ok(())
}
