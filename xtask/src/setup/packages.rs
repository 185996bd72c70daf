//! Debian packages: only what is missing, by the command that each brings.

use super::is_root;
use crate::{Missing, command, progress::Progress};
use anyhow::Context;
use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
};

/// A command, and the Debian package that brings it.
pub(crate) type Need = (&'static str, &'static str);

/// For the demo without a real media server. `make` builds the agent's allocator.
pub(crate) const DEMO: &[Need] = &[("make", "make"), ("ip", "iproute2"), ("ethtool", "ethtool")];

/// For the benches, besides [`DEMO`].
pub(crate) const BENCH: &[Need] = &[("nft", "nftables")];

/// For what is shipped.
pub(crate) const DIST: &[Need] = &[("make", "make"), ("musl-gcc", "musl-tools"), ("dpkg-deb", "dpkg")];

/// For the tests of what is shipped, with `--full`.
pub(crate) const FULL: &[Need] = &[
    ("podman", "podman"),
    ("runc", "runc"),
    ("lintian", "lintian"),
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("busybox", "busybox-static"),
];

/// For other kernels in virtual machines.
pub(crate) const KERNELS: &[Need] = &[
    ("make", "make"),
    ("musl-gcc", "musl-tools"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
];

/// For the bench of the registry.
pub(crate) const ETCD: &[Need] = &[("etcd", "etcd-server")];

/// For rooms on a real Janus.
pub(crate) const JANUS: &[Need] = &[("janus", "janus"), ("ffmpeg", "ffmpeg"), ("python3", "python3")];

/// For a Redis of our own.
pub(crate) const REDIS: &[Need] = &[
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("setpriv", "util-linux"),
];

/// For the tests, besides [`JANUS`].
pub(crate) const TEST: &[Need] = &[
    ("make", "make"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("promtool", "prometheus"),
    ("mke2fs", "e2fsprogs"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("setpriv", "util-linux"),
    ("script", "bsdutils"),
    ("mount", "mount"),
    ("openssl", "openssl"),
    ("etcd", "etcd-server"),
    ("influxd", "influxdb"),
    ("etcdctl", "etcd-client"),
    ("tmux", "tmux"),
    ("pip3", "python3-pip"),
    ("rsvg-convert", "librsvg2-bin"),
    ("systemd-analyze", "systemd"),
];

/// Installs what is missing when we are root; otherwise names the one command and stops with exit code 2.
pub(crate) fn packages(progress: &Progress, needs: &[&[Need]]) -> anyhow::Result<()> {
    let missing = missing(needs, |program| command::find(program).is_some());
    if missing.is_empty() {
        progress.there("Debian packages");
        return Ok(());
    }
    let list = missing.join(" ");
    if command::find("apt-get").is_none() {
        return Err(Missing(format!(
            "missing here (names of Debian packages; there is no apt-get): {list}"
        ))
        .into());
    }
    if !is_root()? {
        return Err(Missing(format!(
            "missing packages; run: sudo apt-get install --yes --no-install-recommends {list}"
        ))
        .into());
    }
    progress.step(&format!("Debian packages: {list}"), || install(&missing))
}

fn missing(needs: &[&[Need]], there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .flat_map(|list| list.iter())
        .filter(|(program, _)| !there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Packages that bring a server, and its systemd unit.
const SERVERS: &[(&str, &str)] = &[
    ("janus", "janus"),
    ("prometheus", "prometheus"),
    ("etcd-server", "etcd"),
    ("influxdb", "influxdb"),
    ("redis-server", "redis-server"),
];

fn install(packages: &[&str]) -> anyhow::Result<()> {
    command::quiet(&mut apt(&["update", "--quiet"]))?;
    let _no_starts = NoStarts::begin()?;
    command::quiet(apt(&["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages))?;
    // Nor at the next boot: the tests start servers of their own.
    for (package, unit) in SERVERS {
        if packages.contains(package) && Path::new("/run/systemd/system").exists() {
            command::quiet(Command::new("systemctl").args(["disable", "--now", unit]))?;
        }
    }
    Ok(())
}

/// Keeps Debian from starting servers on installing them, on their default ports: the file that says so (invoke-rc.d(8)),
/// unless there is one already, as in containers.
struct NoStarts {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoStarts {
    fn begin() -> anyhow::Result<NoStarts> {
        let made = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match made {
            Ok(mut file) => {
                let guard = NoStarts { ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("write {POLICY}"))?;
                Ok(guard)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(NoStarts { ours: false }),
            Err(error) => {
                Err(error).with_context(|| format!("make {POLICY}, so that no server starts by itself"))
            }
        }
    }
}

impl Drop for NoStarts {
    fn drop(&mut self) {
        if self.ours {
            // Left behind, it would keep servers of the host's owner from starting.
            if let Err(error) = fs::remove_file(POLICY) {
                eprintln!("cannot remove {POLICY}: {error}; remove it by hand");
            }
        }
    }
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once_although_two_lists_need_it() {
        assert_eq!(
            missing(&[DEMO, TEST], |_| false),
            [
                "bsdutils",
                "e2fsprogs",
                "etcd-client",
                "etcd-server",
                "ethtool",
                "influxdb",
                "iproute2",
                "librsvg2-bin",
                "make",
                "mount",
                "openssl",
                "prometheus",
                "python3-pip",
                "redis-server",
                "redis-tools",
                "systemd",
                "tcpdump",
                "tmux",
                "util-linux",
            ]
        );
    }

    #[test]
    fn what_is_there_is_not_asked_for() {
        assert_eq!(
            missing(&[JANUS], |program| program == "janus"),
            ["ffmpeg", "python3"]
        );
        assert!(missing(&[JANUS, TEST], |_| true).is_empty());
    }
}
