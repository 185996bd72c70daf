//! Debian's kernels: which, and how they get into target/kernel-matrix. They stay there; remove the folder for newer ones.

use crate::{
    command,
    setup::apt::{self, PrivateApt},
};
use anyhow::{Context, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A suite of Debian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// What its kernel's version begins with.
    pub(super) version: &'static str,
}

/// The oldest kernel that the programs are written for, and each that Debian has shipped since.
pub(super) const SUITES: [Suite; 4] = [
    Suite {
        name: "bullseye",
        version: "5.10",
    },
    Suite {
        name: "bookworm",
        version: "6.1",
    },
    Suite {
        name: "trixie",
        version: "6.12",
    },
    Suite {
        name: "sid",
        version: "7",
    },
];

/// Its package depends on that of the suite's present kernel.
const META: &str = "linux-image-amd64";

/// What the checks need that Debian's kernels have as modules, in an order in which they can be loaded.
const MODULES: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "inet_diag", "udp_diag"];

/// A kernel that is there.
pub(super) struct Kernel {
    /// As qemu boots it.
    pub(super) image: PathBuf,
    /// In an order in which they can be loaded.
    pub(super) modules: Vec<PathBuf>,
}

impl Suite {
    /// What an earlier run fetched.
    pub(super) fn cached(&self, dir: &Path) -> Option<Kernel> {
        kernel(&dir.join(self.name)).ok()
    }

    /// Fetches it with an apt root of its own.
    pub(super) fn fetch(&self, dir: &Path) -> anyhow::Result<Kernel> {
        let (work, new) = (dir.join("apt"), dir.join("new"));
        let apt = PrivateApt::new(&work, &apt::mirror()?, self.name)?;
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        for package in self.packages(&apt)? {
            unpack(&apt.download(&package)?, &new)?;
        }
        kernel(&new).with_context(|| format!("look into the packages of {}", self.name))?;
        // In place only when it is whole: what lies there is not fetched again.
        let place = dir.join(self.name);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(&new, &place)?;
        fs::remove_dir_all(&work)?;
        kernel(&place)
    }

    /// The package of the kernel, and those it is split into where it is.
    fn packages(&self, apt: &PrivateApt) -> anyhow::Result<Vec<String>> {
        let depends = apt.depends(META)?;
        let image = depends.into_iter().find(|name| name.starts_with("linux-image-"));
        let image = image.with_context(|| format!("{META} of {} depends on no kernel", self.name))?;
        let version = image.trim_start_matches("linux-image-");
        let is_wanted = version
            .strip_prefix(self.version)
            .is_some_and(|rest| rest.starts_with('.'));
        ensure!(
            is_wanted,
            "{} has Linux {version}; {} is wanted of it (xtask/src/kernel_matrix/kernels.rs)",
            self.name,
            self.version
        );
        let parts = ["linux-binary-", "linux-modules-"];
        let is_part = |name: &String| parts.iter().any(|part| name.starts_with(part));
        let split = apt.depends(&image)?.into_iter().filter(is_part);
        Ok([image.clone()].into_iter().chain(split).collect())
    }
}

/// Finds what we need in a folder of a suite.
fn kernel(dir: &Path) -> anyhow::Result<Kernel> {
    let files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("read {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let find = |name: &str| {
        let found = files.iter().find(|file| {
            file.file_name()
                .is_some_and(|found| found.to_string_lossy().starts_with(name))
        });
        found.cloned().with_context(|| format!("there is no {name}"))
    };
    Ok(Kernel {
        image: find("vmlinuz")?,
        modules: MODULES
            .iter()
            .map(|name| find(&format!("{name}.ko")))
            .collect::<anyhow::Result<_>>()?,
    })
}

/// Takes what we need out of a package, into one folder, modules uncompressed.
fn unpack(package: &Path, to: &Path) -> anyhow::Result<()> {
    let contents = command::quiet(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let members = wanted(&contents);
    if members.is_empty() {
        return Ok(());
    }
    let mut packed = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start dpkg-deb")?;
    let files = packed.stdout.take().context("dpkg-deb has no output")?;
    let tar = Command::new("tar")
        .args(["--extract", "--transform", "s,.*/,,", "--directory"])
        .arg(to)
        .args(&members)
        .stdin(files)
        .output()
        .context("start tar")?;
    // Ends early when tar did.
    packed.wait()?;
    ensure!(
        tar.status.success(),
        "unpacking {} failed: {}",
        package.display(),
        String::from_utf8_lossy(&tar.stderr)
    );
    for member in members.iter().filter(|member| member.ends_with(".xz")) {
        let name = member.rsplit('/').next().unwrap_or(member);
        command::quiet(
            Command::new("xz")
                .args(["--decompress", "--force"])
                .arg(to.join(name)),
        )?;
    }
    Ok(())
}

/// The members of a package, by its list of contents, that are the kernel or a module that we need.
fn wanted(contents: &str) -> Vec<&str> {
    let members = contents.lines().filter_map(|line| line.split_whitespace().nth(5));
    members
        .filter(|member| {
            let name = member.rsplit('/').next().unwrap_or(member);
            let is_module = |module: &&str| {
                name.strip_prefix(*module)
                    .is_some_and(|rest| rest.starts_with(".ko"))
            };
            name.starts_with("vmlinuz") || MODULES.iter().any(is_module)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_modules_are_found_compressed_or_not_and_nothing_beside_them() {
        let contents = "\
            drwxr-xr-x root/root         0 2026-10-28 15:01 ./boot/\n\
            -rw-r--r-- root/root  14546880 2026-10-28 15:01 ./boot/vmlinuz-6.1.0-50-amd64\n\
            -rw-r--r-- root/root     20548 2026-10-28 15:01 ./lib/modules/6.1/kernel/drivers/net/veth.ko.xz\n\
            -rw-r--r-- root/root     20548 2026-10-28 15:01 ./lib/modules/6.1/kernel/net/sched/cls_bpf.ko\n\
            -rw-r--r-- root/root     20548 2026-10-28 15:01 ./lib/modules/6.1/kernel/net/sched/cls_bpfilter.ko\n";
        assert_eq!(
            wanted(contents),
            [
                "./boot/vmlinuz-6.1.0-50-amd64",
                "./lib/modules/6.1/kernel/drivers/net/veth.ko.xz",
                "./lib/modules/6.1/kernel/net/sched/cls_bpf.ko"
            ]
        );
    }

    #[test]
    fn a_folder_without_all_of_them_is_no_kernel_and_the_error_names_what_is_missing() {
        let dir = std::env::temp_dir().join(format!("voice-xtask-kernel-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for name in [
            "vmlinuz-5.10",
            "veth.ko",
            "sch_ingress.ko",
            "cls_bpf.ko",
            "inet_diag.ko",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        let error = kernel(&dir).err().unwrap();
        assert_eq!(error.to_string(), "there is no udp_diag.ko");
        fs::write(dir.join("udp_diag.ko"), "").unwrap();
        let names = kernel(&dir).unwrap().modules;
        assert!(
            names[0].ends_with("veth.ko") && names[4].ends_with("udp_diag.ko"),
            "{names:?}"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
