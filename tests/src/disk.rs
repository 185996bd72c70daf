//! A small disk that can be filled up, and one whose syncs fail as those of a real one do. Both are an ext4 on a loop device
//! whose file lies in a memory file system. When that one has no room, syncs fail: what the kernel could not write it takes for
//! written afterwards, and forgets when the disk is mounted again.

use crate::{bpffs::Scratch, netns};
use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Room below the ext4.
const ROOM: &str = "size=24m";
/// An ext4 that can be full: a few megabytes of journals and tables.
const SMALL: u64 = 16 << 20;
/// An ext4 that believes to have more than there is below it.
const TOO_LARGE: u64 = 256 << 20;

/// The disk. Its file systems go on drop with the directory they are mounted below.
#[derive(Debug)]
pub struct Disk {
    below: Scratch,
    filler: PathBuf,
    fails_syncs: bool,
}

impl Disk {
    /// One that can be filled up.
    pub fn small() -> anyhow::Result<Disk> {
        Disk::new(SMALL, false)
    }

    /// One that takes writes and fails syncs while it is [filled](Disk::fill).
    pub fn failing_syncs() -> anyhow::Result<Disk> {
        Disk::new(TOO_LARGE, true)
    }

    fn new(size: u64, fails_syncs: bool) -> anyhow::Result<Disk> {
        let below = Scratch::new("disk")?;
        mount(
            Some("tmpfs"),
            below.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(ROOM),
        )
        .with_context(|| format!("mount a tmpfs at {} (needs root)", below.path().display()))?;
        let filler = below.path().join("filler");
        let disk = Disk {
            below,
            filler,
            fails_syncs,
        };
        File::create(disk.image())?.set_len(size)?;
        // Without a journal of its own, which would make it read-only at the first error; and nothing for root alone.
        let mut mkfs = Command::new("mke2fs");
        mkfs.args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E"]);
        netns::run(mkfs.arg("lazy_itable_init=1,nodiscard").arg(disk.image()))?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.below.path().join("image")
    }

    /// Mounts it at `dir`. Unmounted with everything else below a [`Scratch`].
    pub fn mount(&mut self, dir: &Path) -> anyhow::Result<()> {
        netns::run(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(self.image())
                .arg(dir),
        )?;
        if !self.fails_syncs {
            self.filler = dir.join("filler");
        }
        Ok(())
    }

    /// What is not on the disk is gone, as after a loss of power. Nobody may use it meanwhile.
    pub fn lose_power(&mut self, dir: &Path) -> anyhow::Result<()> {
        umount2(dir, MntFlags::empty()).with_context(|| format!("unmount {}", dir.display()))?;
        self.mount(dir)
    }

    /// Takes the room there is. Who uses the disk may free some: then it is to be filled again.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::options().create(true).append(true).open(&self.filler)?;
        for piece in [1 << 20, 4096, 1] {
            let piece = vec![1; piece];
            while filler.write(&piece).is_ok_and(|written| written > 0) {}
        }
        Ok(())
    }

    /// There is room again.
    pub fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.filler).context("remove what fills the disk")
    }
}
