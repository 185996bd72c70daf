//! LiveKit's JSON as types: its webhooks and the answers of its server API, in the spellings of protobuf's JSON (names in either
//! case, 64-bit numbers as texts). Pure; what they mean for rooms is in `rooms`.

use crate::telemetry::counters::Counter;
use serde::Deserialize;
use voice_room::{ClientId, RoomId};

/// What a webhook says, as far as it concerns us: who is in this room may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The room.
    pub(super) room: RoomId,
    /// Who left it, and why.
    pub(super) left: Option<(ClientId, String)>,
}

/// A room of `ListRooms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) room: RoomId,
    pub(super) participants: u32,
}

/// A participant of `ListParticipants` that is in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Participant {
    pub(super) id: ClientId,
    /// Seconds since the Unix epoch.
    pub(super) joined_at: i64,
}

#[derive(Deserialize)]
struct Webhook {
    event: String,
    room: Option<Named>,
    participant: Option<Left>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Left {
    identity: String,
    #[serde(alias = "disconnectReason", default)]
    disconnect_reason: Option<NameOrNumber>,
}

/// An enum of protobuf, or a 64-bit number.
#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Name(String),
    Number(i64),
}

/// Reads one webhook. None: of no concern, or with ids that are not valid here, which are counted.
pub(super) fn event(body: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    let webhook: Webhook = serde_json::from_slice(body)?;
    let leaves = match webhook.event.as_str() {
        "room_started" | "room_finished" | "participant_joined" => false,
        "participant_left" | "participant_connection_aborted" => true,
        _ => return Ok(None),
    };
    let missing = serde::de::Error::missing_field;
    let Some(room) = room_id(&webhook.room.ok_or_else(|| missing("room"))?.name) else {
        return Ok(None);
    };
    let left = match webhook.participant {
        Some(participant) if leaves => participant.left(),
        None if leaves => return Err(missing("participant")),
        _ => None,
    };
    Ok(Some(Event { room, left }))
}

impl Left {
    fn left(self) -> Option<(ClientId, String)> {
        let reason = match self.disconnect_reason {
            Some(NameOrNumber::Name(name)) => name,
            Some(NameOrNumber::Number(number)) => format!("disconnect reason {number}"),
            None => "no reason given".into(),
        };
        // What it says goes into records.
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(64).collect();
        Some((client_id(&self.identity)?, format!("it left the room ({reason})")))
    }
}

/// The answer of `ListRooms`. LiveKit writes empty lists too, so an answer without one is none.
#[derive(Deserialize)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
}

#[derive(Deserialize)]
struct Room {
    name: String,
    #[serde(alias = "numParticipants")]
    num_participants: u32,
}

impl Rooms {
    /// Those with ids that are valid here; others are counted.
    pub(super) fn listed(self) -> Vec<Listed> {
        let listed = self.rooms.into_iter().filter_map(|one| {
            Some(Listed {
                room: room_id(&one.name)?,
                participants: one.num_participants,
            })
        });
        listed.collect()
    }
}

/// The answer of `ListParticipants`; as [`Rooms`].
#[derive(Deserialize)]
pub(super) struct Participants {
    participants: Vec<Info>,
}

impl Participants {
    /// The answer for a room that is not there.
    pub(super) fn none() -> Participants {
        Participants {
            participants: Vec::new(),
        }
    }

    /// Those that are in the room; ids that are not valid here are counted.
    pub(super) fn present(self) -> Vec<Participant> {
        let present = self.participants.into_iter().filter(|one| !one.is_gone());
        let present = present.filter_map(|one| {
            Some(Participant {
                id: client_id(&one.identity)?,
                joined_at: one.joined_at(),
            })
        });
        present.collect()
    }
}

#[derive(Deserialize)]
struct Info {
    identity: String,
    state: Option<NameOrNumber>,
    #[serde(alias = "joinedAt", default)]
    joined_at: Option<NameOrNumber>,
}

impl Info {
    /// DISCONNECTED, which is 3. Of a state that we do not know, it is there.
    fn is_gone(&self) -> bool {
        match &self.state {
            Some(NameOrNumber::Name(name)) => name == "DISCONNECTED",
            Some(NameOrNumber::Number(number)) => *number == 3,
            None => false,
        }
    }

    fn joined_at(&self) -> i64 {
        match &self.joined_at {
            Some(NameOrNumber::Number(at)) => *at,
            Some(NameOrNumber::Name(at)) => at.parse().unwrap_or_default(),
            None => 0,
        }
    }
}

fn room_id(name: &str) -> Option<RoomId> {
    counted(RoomId::new(name).ok())
}

fn client_id(identity: &str) -> Option<ClientId> {
    counted(ClientId::new(identity).ok())
}

fn counted<T>(id: Option<T>) -> Option<T> {
    if id.is_none() {
        Counter::LivekitInvalidIds.count();
    }
    id
}

#[cfg(test)]
mod tests;
