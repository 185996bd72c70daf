//! A directory of our own under the system's temporary directory, and a private bpffs in one, unmounted on drop.
//! Pins made there disturb no other agent on this host.

use crate::sweep;
use anyhow::Context;
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};

/// A scratch directory, removed on drop with everything mounted below it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes one; `label` becomes part of its name.
    pub fn new(label: &str) -> anyhow::Result<Scratch> {
        sweep::sweep();
        let path = std::env::temp_dir().join(format!("{}-{label}", sweep::unique()));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch { path, keep: false })
    }

    /// From now on its files stay when it is dropped; what is mounted below it still goes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        sweep::unmount_below(&self.path);
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A private bpffs.
#[derive(Debug)]
pub struct BpfFs {
    dir: Scratch,
}

impl BpfFs {
    /// Mounts one in a scratch directory. Needs root.
    pub fn mount() -> anyhow::Result<BpfFs> {
        let dir = Scratch::new("bpffs")?;
        mount_at(dir.path())?;
        Ok(BpfFs { dir })
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Mounts a bpffs at `dir`, which must exist. Needs root.
pub fn mount_at(dir: &Path) -> anyhow::Result<()> {
    mount(Some("bpf"), dir, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount a bpffs at {} (needs root)", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_bpffs_is_mounted_and_gone_after_drop() {
        let fs = BpfFs::mount().unwrap();
        let path = fs.path().to_owned();
        let mounted = || std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(mounted().contains(path.to_str().unwrap()));
        drop(fs);
        assert!(!mounted().contains(path.to_str().unwrap()));
        assert!(!path.exists());
    }
}
