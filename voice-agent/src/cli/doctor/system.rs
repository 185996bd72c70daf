//! The kernel's version and features, its BTF, and the bpf file system.

use super::Finding;
use crate::{config::Config, kernel::Features};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::path::Path;

const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let release = nix::sys::utsname::uname();
    let release = release.map_or("unknown".into(), |u| u.release().to_string_lossy().into_owned());
    // The file system that has to be there; our own directory below it is made by the agent.
    let root = config.paths.pin_root();
    let mount = root.parent().unwrap_or(&root);
    vec![
        kernel(&release, Features::detect()),
        btf(Path::new(BTF).exists()),
        bpffs(mount, mounted(mount)),
    ]
}

fn mounted(dir: &Path) -> Result<bool, nix::Error> {
    statfs(dir).map(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

fn kernel(release: &str, features: Features) -> Finding {
    let all = [(features.tcx, "TCX (6.6)"), (features.frags, "xdp.frags (5.18)")];
    let names = |there| {
        let found = all.iter().filter(|(has, _)| *has == there).map(|(_, name)| *name);
        found.collect::<Vec<_>>().join(", ")
    };
    let said = format!("Linux {release}: {}", names(true));
    if names(false).is_empty() {
        return Finding::ok("kernel", said);
    }
    let said = format!("Linux {release} lacks {}", names(false));
    let advice = "it works without: clsact filters in place of TCX, no native XDP on jumbo frames; \
                  Linux 6.6 has both";
    Finding::warn("kernel", said, advice)
}

fn btf(there: bool) -> Finding {
    if there {
        return Finding::ok("btf", BTF);
    }
    let advice = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (distributions' kernels are)";
    Finding::warn("btf", format!("{BTF} is not there"), advice)
}

fn bpffs(dir: &Path, mounted: Result<bool, nix::Error>) -> Finding {
    let dir = dir.display();
    let advice =
        format!("mkdir -p {dir} && mount -t bpf bpf {dir}; or set paths.bpffs to one that is mounted");
    match mounted {
        Ok(true) => Finding::ok("bpffs", format!("mounted at {dir}")),
        Ok(false) => Finding::fail("bpffs", format!("{dir} is not on a bpf file system"), advice),
        Err(e) => Finding::fail("bpffs", format!("{dir}: {e}"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn a_kernel_without_tcx_works_with_a_warning_that_names_what_is_missing() {
        let features = Features {
            tcx: false,
            frags: true,
        };
        let found = kernel("6.1.0", features);
        assert_eq!(found.level, Level::Warn);
        assert_eq!(found.said, "Linux 6.1.0 lacks TCX (6.6)");
    }

    #[test]
    fn a_bpffs_that_is_not_mounted_fails_with_the_command_that_mounts_it() {
        let found = bpffs(Path::new("/sys/fs/bpf"), Ok(false));
        assert_eq!(found.level, Level::Fail);
        assert!(found.advice.unwrap().contains("mount -t bpf bpf /sys/fs/bpf"));
        assert_eq!(bpffs(Path::new("/x"), Err(nix::Error::ENOENT)).level, Level::Fail);
        assert_eq!(bpffs(Path::new("/x"), Ok(true)).level, Level::Ok);
    }
}
