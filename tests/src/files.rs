//! The limit of open files: a crowd of peers has a socket each, and the agent one for each of them.

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process, and those it starts, open so many files.
pub fn allow_files(files: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The hard limit is raised only where it must be: that takes CAP_SYS_RESOURCE.
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(files), hard.max(files)).with_context(|| {
        format!("raise the limit of open files from {soft} (hard {hard}) to {files}; allow more: ulimit -Hn")
    })
}
