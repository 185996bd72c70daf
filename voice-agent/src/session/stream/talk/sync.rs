//! What a peer says in a three-phase sync, and when it comes back: votes, notes of commits, what it knows.

use super::{Talk, tell};
use crate::{
    proto::v1::{CommitAck, KnownRooms, PrepareAck},
    session::{
        hub::Vote,
        served::Because,
        translate::{self, Refusal},
    },
    telemetry::Counter,
};
use tonic::Status;
use voice_room::{Input, RoomId, sync::Known};

impl Talk<'_> {
    pub(super) async fn vote(&mut self, ack: PrepareAck) -> Result<(), Status> {
        let vote = self.of_version_2().and_then(|()| translate::prepare_ack(ack));
        let (room, attempt, vote) = match vote {
            Ok(vote) => vote,
            Err(refusal) => return self.refuse(0, refusal),
        };
        let what = (self.sessions.hub()).vote(&self.info.id, self.stream, &room, attempt);
        match what {
            Vote::Due => {
                let peer = self.info.id.clone();
                let input = Input::Vote {
                    room,
                    peer,
                    attempt,
                    vote,
                };
                tell(self.handle, input).await
            }
            Vote::Stray => {
                Counter::SessionStrayVotes.count();
                Ok(())
            }
            Vote::NotItsRoom => self.refuse(0, Refusal::not_your_room(&room)),
        }
    }

    pub(super) async fn commit_ack(&mut self, ack: &CommitAck) -> Result<(), Status> {
        let note = self.of_version_2().and_then(|()| translate::commit_ack(ack));
        let (room, version, epoch) = match note {
            Ok(note) => note,
            Err(refusal) => return self.refuse(0, refusal),
        };
        // The core looks whether it waits for it: the room may be over, and served by nobody any more.
        let peer = self.info.id.clone();
        let input = Input::CommitAcked {
            room,
            peer,
            epoch,
            version,
        };
        tell(self.handle, input).await
    }

    /// It serves these rooms from now on, and is told what it missed.
    pub(super) async fn known_rooms(&mut self, known: &KnownRooms) -> Result<(), Status> {
        let known = self.of_version_2().and_then(|()| translate::known_rooms(known));
        let rooms = match known {
            Ok(rooms) => rooms,
            Err(refusal) => return self.refuse(0, refusal),
        };
        for known in &rooms {
            if let Err(refusal) = self.fits(&known.room, &Because::Named) {
                return self.refuse(0, refusal);
            }
            let mut hub = self.sessions.hub();
            hub.serves(&self.info.id, self.stream, &known.room, Because::Named);
        }
        let peer = self.info.id.clone();
        tell(self.handle, Input::Known { peer, rooms }).await
    }

    /// It serves these rooms from now on, and did not say what it knows of them: it is told what they are.
    pub(super) async fn knows_nothing_of(&mut self, rooms: Vec<RoomId>) -> Result<(), Status> {
        if rooms.is_empty() {
            return Ok(());
        }
        let peer = self.info.id.clone();
        let rooms = rooms.into_iter().map(Known::nothing).collect();
        tell(self.handle, Input::Known { peer, rooms }).await
    }

    pub(super) fn of_version_2(&self) -> Result<(), Refusal> {
        match self.protocol {
            2.. => Ok(()),
            version => Err(Refusal::malformed(format!(
                "a message of protocol version 2: this stream speaks {version}"
            ))),
        }
    }
}
