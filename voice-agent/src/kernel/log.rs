//! Brings the log lines of the kernel programs into ours (`kernel.log = true`).

use super::KernelError;
use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// The thread that reads them, ended and waited for on drop.
#[derive(Debug)]
pub(super) struct KernelLog {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long an ended reader may still sleep.
const POLL_MS: u8 = 200;

impl KernelLog {
    pub(super) fn start(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let failed = |problem: String| KernelError::Load {
            what: "reading the log of the kernel programs".into(),
            problem,
        };
        let mut logger = EbpfLogger::init_with_logger(ebpf, crate::telemetry::KernelLog)
            .map_err(|e| failed(e.to_string()))?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::Builder::new().name("kernel-log".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
                // Interrupted or not: the flush takes what there is.
                let _ = poll(&mut fds, PollTimeout::from(POLL_MS));
                logger.flush();
            }
        });
        Ok(KernelLog {
            end,
            thread: Some(thread.map_err(|e| failed(e.to_string()))?),
        })
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads the kernel programs' log panicked");
        }
    }
}
