//! `mount-bpffs`: for an init container, since an image from scratch has no mount(8). Does nothing where it is mounted.

use super::{Code, Failure, output::Output};
use crate::config::Paths;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use serde_json::json;
use std::path::Path;

/// Mounts a bpf file system on `paths.bpffs`, closed to all but root, unless there is one.
pub(super) fn mount_bpffs(paths: &Paths, out: Output) -> Result<String, Failure> {
    // `paths.bpffs` of the configuration is the instance's directory below the file system.
    let at = paths.bpffs.parent().unwrap_or(&paths.bpffs);
    let mounted = !is_bpffs(at)?;
    if mounted {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|e| failure(&format!("mounting a bpf file system on {}", at.display()), e))?;
    }
    out.print(&json!({ "path": at, "mounted": mounted }), |_, _| {
        let said = if mounted { "Mounted" } else { "There is" };
        format!("{said} a bpf file system on {}.\n", at.display())
    })
}

fn is_bpffs(at: &Path) -> Result<bool, Failure> {
    let kind = statfs(at).map_err(|e| failure(&format!("looking at {}", at.display()), e))?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

fn failure(tried: &str, error: nix::Error) -> Failure {
    let code = match error {
        nix::Error::EPERM | nix::Error::EACCES => Code::Permission,
        _ => Code::Failed,
    };
    let advice = match code {
        Code::Permission => "; it needs CAP_SYS_ADMIN, as in a privileged init container",
        _ => "",
    };
    Failure::new(code, format!("{tried}: {error}{advice}"))
}
