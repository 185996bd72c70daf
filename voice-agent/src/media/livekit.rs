//! The LiveKit adapter: follows the rooms of the one LiveKit on this host and tells the driver.
//!
//! What it tells comes from answers of LiveKit's server API alone (`api`): a listing of the rooms each heartbeat, and who is in a
//! room when that may have changed. A webhook only says that it may have (`webhooks`), so one that comes late, twice, out of order
//! or not at all changes nothing but when LiveKit is asked. The meaning of it all is in `rooms`, without I/O.
//!
//! LiveKit tells no ports, no addresses and, for audio, no SSRCs: what a room is cut by has to come from elsewhere
//! (docs/OPERATIONS.md, *LiveKit*).

mod api;
mod follow;
mod rooms;
mod token;
mod webhooks;
mod wire;

pub use api::{Api, ApiError};
pub use token::Credentials;

use crate::{config::LivekitConfig, driver::Handle, media::posts};
use follow::Follower;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use voice_room::SourceId;
use webhooks::Sink;

/// The name under which the core knows this adapter.
pub const SOURCE: &str = "livekit";
/// Webhooks that wait for their look. When full, they are dropped, counted, and a listing is asked for.
const EVENT_QUEUE: usize = 1024;

/// Follows the rooms until `shutdown`, or until the driver has ended. A LiveKit that is away, hangs or talks nonsense is told
/// (`SourceLost`), logged and counted, and tried again for ever.
pub async fn run(
    config: LivekitConfig,
    credentials: Arc<Credentials>,
    heartbeat: Duration,
    handle: Handle,
    shutdown: CancellationToken,
) {
    let (queue, events) = mpsc::channel(EVENT_QUEUE);
    let list_now = Arc::new(Notify::new());
    let sink = Sink {
        credentials: credentials.clone(),
        queue,
        list_now: list_now.clone(),
    };
    let follower = Follower::new(Api::new(config.api, credentials), handle, heartbeat);
    let listening = posts::listen(config.webhook_listen, sink, shutdown.clone());
    let following = shutdown.run_until_cancelled(follower.follow(events, list_now));
    tokio::select! {
        // Ends with the shutdown or with the driver.
        _ = following => {}
        () = listening => {}
    }
}

/// [`SOURCE`] as an id.
#[expect(
    clippy::expect_used,
    reason = "a constant of visible ASCII characters; a test makes it too"
)]
fn source() -> SourceId {
    SourceId::new(SOURCE).expect("a valid source id")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_source_has_a_valid_name() {
        assert_eq!(super::source().as_str(), "livekit");
    }
}
