//! The clock of one peer: time since it was started, as the rules in `voice-room` count it. Follows tokio's, so tests may pause it.

use tokio::time::Instant;
use voice_room::Mono;

/// Cheap to copy; all copies agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Mono {
        Mono(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
