//! Looks at files as the agent will: on a thread that has given up the same privileges. Root may read and write everything;
//! an agent started by root may not, since CAP_DAC_OVERRIDE is among what it gives up.

use crate::privileges;
use std::thread;

/// What `look` says without the privileges that the agent does not keep.
pub(super) fn as_agent<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    let looked = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // What could not be given up makes the answer too good, no more; the agent would not start then, and say why.
            if let Err(error) = privileges::drop_all_but_needed() {
                tracing::debug!(%error, "doctor looks with more privileges than the agent");
            }
            look()
        });
        thread.join()
    });
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
