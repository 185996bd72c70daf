//! Translates events, one after the other. A join asks for its handle at once, over a connection of its own, so that
//! the room's ports are known before the first packet.

use super::{
    Shared,
    admin::AdminError,
    listing::Asker,
    rooms::{Hosts, hosts},
    wire::Event,
};
use crate::driver::Stopped;
use tokio::sync::mpsc;
use voice_room::RoomId;

/// Follows events until the driver or the listener ends.
pub(super) async fn follow(mut asker: Asker, shared: Shared, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let told = match event {
            Event::Look { session, handle } => look(&mut asker, &shared, session, handle).await,
            event => happened(&mut asker, &shared, event).await,
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
            let hosts = host(shared, &participant.room).await?;
            let mut known = shared.known.lock().await;
            let inputs = known.rooms.looked(participant, &hosts);
            shared.tell(inputs).await
        }
        Ok(None) => Ok(()),
        Err(error) => {
            list_instead(shared, &error);
            Ok(())
        }
    }
}

/// The host that the core has on record, of a room that is not known here yet.
async fn host(shared: &Shared, room: &RoomId) -> Result<Hosts, Stopped> {
    if shared.known.lock().await.rooms.knows(room) {
        return Ok(Hosts::new());
    }
    let view = shared.handle.room(room.clone()).await?;
    Ok(hosts(&view))
}

async fn happened(asker: &mut Asker, shared: &Shared, event: Event) -> Result<(), Stopped> {
    if still_there(asker, shared, &event).await {
        return Ok(());
    }
    let mut known = shared.known.lock().await;
    let inputs = known.rooms.happened(event);
    shared.tell(inputs).await
}

/// Janus delivers events again and late when the listener was away, and a leave without a handle may be of an earlier
/// stay: the participant's present handle is asked. If that cannot be told, the next listing will.
async fn still_there(asker: &mut Asker, shared: &Shared, event: &Event) -> bool {
    let Event::Left {
        room,
        id,
        handle: None,
        ..
    } = event
    else {
        return false;
    };
    let Some((session, handle)) = shared.known.lock().await.rooms.place(room, id) else {
        return false;
    };
    match asker.participant(session, handle).await {
        Ok(found) => found.is_some_and(|found| found.room == *room && found.id == *id),
        Err(error) => {
            list_instead(shared, &error);
            true
        }
    }
}

fn list_instead(shared: &Shared, error: &AdminError) {
    tracing::debug!(%error, "janus: looking at a participant; listing instead");
    shared.list_now.notify_one();
}
