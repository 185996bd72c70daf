//! The flags of the demo; `cargo xtask demo` hands them on.

use crate::agent::settings::Times;

/// A stuck voice room on one media node is cut in the kernel, and lifted again.
#[derive(Debug, Clone, Copy, Default, clap::Parser)]
pub struct Args {
    /// Stuck after 90 s and cut for 300 s, as in production, rather than shortened
    #[arg(long)]
    pub real_times: bool,
    /// Take the rooms from a real Janus (needs the Debian packages janus and ffmpeg)
    #[arg(long)]
    pub janus: bool,
    /// Print the measured result as one JSON object, as the last line of standard output
    #[arg(long)]
    pub json: bool,
    /// Leave the work folder (logs, state) behind and say where it is
    #[arg(long)]
    pub keep: bool,
}

impl Args {
    /// The times of the run.
    pub fn times(&self) -> Times {
        if self.real_times { Times::REAL } else { Times::DEMO }
    }
}
