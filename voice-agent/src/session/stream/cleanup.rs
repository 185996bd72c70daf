//! The end of a stream, whatever way it ends: by return, by panic, by being dropped. Nothing of it stays.

use super::Handle;
use crate::{
    driver,
    session::{
        Role, Sessions,
        hub::{Left, StreamId},
        open::Place,
        outgoing::Outgoing,
        peer::PeerInfo,
    },
};
use tonic::Status;
use voice_room::{Input, input::BrokenStream};

/// Members, and rooms, that are told of in one message to the driver: it has more to do.
const AT_ONCE: usize = 1024;

/// Owned by the stream's task; its drop is the cleanup.
pub(super) struct Cleanup {
    pub(super) sessions: Sessions,
    pub(super) handle: Handle,
    pub(super) info: PeerInfo,
    pub(super) outgoing: Outgoing,
    /// Set once the peer joined the topology.
    pub(super) stream: Option<StreamId>,
    /// Set once the task came to its end by itself.
    pub(super) end: Result<(), Status>,
    pub(super) _place: Place,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, Ok(()));
        let reason = match &end {
            Ok(()) => "the peer closed its side".to_owned(),
            Err(status) => status.message().to_owned(),
        };
        self.outgoing.end(&reason, end.err());
        let Some(stream) = self.stream else { return };
        let left = self.sessions.hub().leave(&self.info.id, stream);
        let (peer, role) = (&self.info.id, self.info.role);
        tracing::info!(%peer, %role, replaced = left.is_none(), reason, "stream ended");
        // A stream that was replaced left behind what it had when that happened.
        let Some(left) = left else { return };
        let mut inputs = vec![Input::PeerGone(peer.clone())];
        if role == Role::Media {
            inputs.push(Input::SourceLost(self.info.source.clone()));
        }
        inputs.extend(left_behind(
            &left,
            &format!("the stream of {role} {peer} ended: {reason}"),
        ));
        self.tell(inputs);
    }
}

impl Cleanup {
    pub(super) fn ended(&mut self, end: Result<(), Status>) {
        self.end = end;
    }

    /// The driver's queue may be full, and a drop cannot wait: a task of its own tells. It ends with the driver.
    fn tell(&self, inputs: Vec<Input>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // No runtime: the agent is going down, and the driver with it.
        };
        let handle = self.handle.clone();
        self.sessions.0.tasks.spawn_on(
            async move {
                for input in inputs {
                    if let Err(stopped) = handle.fact(input).await {
                        return tracing::debug!("a peer's end was not told: {stopped}");
                    }
                }
            },
            &runtime,
        );
    }
}

/// What the core is told of a stream's end.
pub(super) fn left_behind(left: &Left, why: &str) -> Vec<Input> {
    let at = driver::now().mono;
    let broken = |members: &[_], rooms: &[_]| {
        Input::StreamBroke(BrokenStream {
            why: why.to_owned(),
            members: members.to_vec(),
            rooms: rooms.to_vec(),
            at,
        })
    };
    let members = left.members.chunks(AT_ONCE).map(|some| broken(some, &[]));
    let rooms = left.rooms.chunks(AT_ONCE).map(|some| broken(&[], some));
    members.chain(rooms).collect()
}
