//! Translates events, one after the other. A join asks for its handle at once, over a connection of its own, so that
//! the room's ports are known before the first packet.

use super::{Shared, listing::Asker, wire::Event};
use crate::driver::Stopped;
use tokio::sync::mpsc;

/// Follows events until the driver or the listener ends.
pub(super) async fn follow(mut asker: Asker, shared: Shared, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let told = match event {
            Event::Look { session, handle } => look(&mut asker, &shared, session, handle).await,
            event => {
                let mut known = shared.known.lock().await;
                let inputs = known.rooms.happened(event);
                shared.teller.tell(inputs).await
            }
        };
        if let Err(Stopped) = told {
            return;
        }
    }
}

/// While listings fail, a single answer must not make the source look alive with all its other rooms left out: then
/// only a listing counts.
async fn look(asker: &mut Asker, shared: &Shared, session: u64, handle: u64) -> Result<(), Stopped> {
    if shared.known.lock().await.lost {
        shared.list_now.notify_one();
        return Ok(());
    }
    match asker.participant(session, handle).await {
        Ok(Some(participant)) => {
            let mut known = shared.known.lock().await;
            let inputs = known.rooms.looked(participant);
            shared.teller.tell(inputs).await
        }
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "janus: looking at a new participant; listing instead");
            shared.list_now.notify_one();
            Ok(())
        }
    }
}
