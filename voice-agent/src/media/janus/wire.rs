//! Janus' JSON as types: events of its event handler and answers of its admin API. Pure; what they mean for rooms is
//! in `rooms`.

use super::counters::{Counters, count};
use serde::Deserialize;
use serde_json::Value;
use std::ops::RangeInclusive;
use voice_room::{ClientId, Port, RoomId};

/// The plugin whose rooms are followed.
pub(super) const PLUGIN: &str = "janus.plugin.audiobridge";

/// What an event says, as far as it concerns rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A participant joined a room, or its WebRTC media found a path: time to ask for its handle.
    Look {
        /// Its session.
        session: u64,
        /// Its handle.
        handle: u64,
    },
    /// A participant left or was kicked.
    Left {
        /// The room.
        room: RoomId,
        /// Who.
        id: ClientId,
        /// Its handle; an event caused by a timeout or a kick has none.
        handle: Option<u64>,
        /// In words.
        why: String,
    },
    /// A room was destroyed.
    RoomDestroyed(RoomId),
    /// A session timed out or was destroyed, with all its handles.
    SessionOver {
        /// Which.
        session: u64,
        /// In words.
        why: String,
    },
    /// A handle was detached.
    Detached {
        /// Which.
        handle: u64,
    },
}

/// A participant that is in a room now, as `handle_info` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub id: ClientId,
    /// Its session.
    pub session: u64,
    /// Its handle.
    pub handle: u64,
    /// When its handle was made: microseconds of Janus' monotonic clock.
    pub created: u64,
    /// Its media port on this host, once known and inside the media range.
    pub port: Option<Port>,
}

/// Why an event request was refused. Nothing of it was taken.
#[derive(Debug, thiserror::Error)]
pub enum BadEvents {
    /// Not JSON of the right shape.
    #[error("expected a Janus event (a JSON object with a numeric type) or an array of them: {0}")]
    Json(#[from] serde_json::Error),
    /// An event that concerns rooms lacks what it needs.
    #[error("event {index} of type {kind} lacks or garbles what it must say: {problem}")]
    Shape {
        /// Its place in the array.
        index: usize,
        /// Its type.
        kind: u32,
        /// What is wrong.
        problem: serde_json::Error,
    },
}

/// Reads one request of the event handler: all events or none. Events of no concern are left out; ids that are not
/// valid here are counted and their events left out.
pub fn events(body: &[u8], counters: &Counters) -> Result<Vec<Event>, BadEvents> {
    let values = match serde_json::from_slice(body)? {
        Value::Array(values) => values,
        one => vec![one],
    };
    let mut found = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let envelope = Envelope::deserialize(value)?;
        let kind = envelope.kind;
        let event = envelope.event(counters);
        found.extend(event.map_err(|problem| BadEvents::Shape { index, kind, problem })?);
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: u32,
    subtype: Option<u32>,
    session_id: Option<u64>,
    handle_id: Option<u64>,
    #[serde(default)]
    event: Value,
}

impl Envelope {
    fn event(self, counters: &Counters) -> Result<Option<Event>, serde_json::Error> {
        match (self.kind, self.subtype) {
            (1, _) => self.session_event(),
            (2, _) => self.handle_event(),
            (16, Some(4)) => self.look().map(Some),
            (64, _) => self.plugin_event(counters),
            _ => Ok(None),
        }
    }

    fn session_event(self) -> Result<Option<Event>, serde_json::Error> {
        let Named { name } = Named::deserialize(&self.event)?;
        let why = match name.as_str() {
            "timeout" => "its session timed out",
            "destroyed" => "its session was destroyed",
            _ => return Ok(None),
        };
        Ok(Some(Event::SessionOver {
            session: needed(self.session_id, "session_id")?,
            why: why.into(),
        }))
    }

    fn handle_event(self) -> Result<Option<Event>, serde_json::Error> {
        let Named { name } = Named::deserialize(&self.event)?;
        if name != "detached" {
            return Ok(None);
        }
        let handle = needed(self.handle_id, "handle_id")?;
        Ok(Some(Event::Detached { handle }))
    }

    fn look(&self) -> Result<Event, serde_json::Error> {
        Ok(Event::Look {
            session: needed(self.session_id, "session_id")?,
            handle: needed(self.handle_id, "handle_id")?,
        })
    }

    fn plugin_event(self, counters: &Counters) -> Result<Option<Event>, serde_json::Error> {
        let outer = PluginEvent::deserialize(&self.event)?;
        if outer.plugin != PLUGIN {
            return Ok(None);
        }
        let data = RoomEvent::deserialize(&outer.data)?;
        let why = match data.event.as_str() {
            "joined" => return self.look().map(Some),
            // The event of the timeout itself may come before this one or after it.
            "left" if self.handle_id.is_none() => "it left the room, or its session timed out",
            "left" => "it left the room",
            "kicked" => "it was kicked from the room",
            "destroyed" => {
                let room = needed(data.room, "room")?.room(counters);
                return Ok(room.map(Event::RoomDestroyed));
            }
            _ => return Ok(None),
        };
        let (room, id) = (needed(data.room, "room")?, needed(data.id, "id")?);
        Ok(room
            .room(counters)
            .zip(id.client(counters))
            .map(|(room, id)| Event::Left {
                room,
                id,
                handle: self.handle_id,
                why: why.into(),
            }))
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct PluginEvent {
    plugin: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct RoomEvent {
    event: String,
    room: Option<JanusId>,
    id: Option<JanusId>,
}

fn needed<T>(field: Option<T>, name: &'static str) -> Result<T, serde_json::Error> {
    field.ok_or_else(|| serde::de::Error::missing_field(name))
}

/// Janus' ids are numbers, or texts where `string_ids` is on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum JanusId {
    Number(u64),
    Text(String),
}

impl JanusId {
    fn text(self) -> String {
        match self {
            JanusId::Number(n) => n.to_string(),
            JanusId::Text(text) => text,
        }
    }

    /// As a room id; an invalid one is counted and is none.
    pub(super) fn room(self, counters: &Counters) -> Option<RoomId> {
        RoomId::new(&self.text())
            .map_err(|_| count(&counters.invalid_ids))
            .ok()
    }

    /// As a client id; an invalid one is counted and is none.
    pub(super) fn client(self, counters: &Counters) -> Option<ClientId> {
        ClientId::new(&self.text())
            .map_err(|_| count(&counters.invalid_ids))
            .ok()
    }
}

/// An answer of the admin API. Which fields are there depends on the question.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) janus: String,
    pub(super) transaction: Option<String>,
    pub(super) error: Option<AnswerError>,
    pub(super) sessions: Option<Vec<u64>>,
    pub(super) handles: Option<Vec<u64>>,
    pub(super) info: Option<Info>,
    pub(super) response: Option<PluginAnswer>,
}

/// A refusal of the admin API.
#[derive(Debug, Deserialize)]
pub(super) struct AnswerError {
    pub(super) code: i64,
    pub(super) reason: String,
}

/// The plugin's answer to `list`.
#[derive(Debug, Deserialize)]
pub(super) struct PluginAnswer {
    pub(super) list: Option<Vec<ListedRoom>>,
}

/// One room of `list`.
#[derive(Debug, Deserialize)]
pub(super) struct ListedRoom {
    pub(super) room: JanusId,
}

/// `handle_info`, as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    created: u64,
    plugin: Option<String>,
    #[serde(default)]
    plugin_specific: Value,
    webrtc: Option<WebRtc>,
}

#[derive(Deserialize)]
struct Specific {
    state: Option<String>,
    room: Option<JanusId>,
    id: Option<JanusId>,
    #[serde(rename = "plain-rtp")]
    plain_rtp: Option<PlainRtp>,
}

#[derive(Deserialize)]
struct PlainRtp {
    #[serde(rename = "local-port")]
    local_port: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct WebRtc {
    ice: Option<Ice>,
}

#[derive(Debug, Deserialize)]
struct Ice {
    #[serde(rename = "selected-pair")]
    selected_pair: Option<String>,
}

impl Info {
    /// The participant this handle is, if it is in a room of ours: not idle, valid ids.
    pub(super) fn participant(
        self,
        (session, handle): (u64, u64),
        ports: &RangeInclusive<u16>,
        counters: &Counters,
    ) -> Result<Option<Participant>, serde_json::Error> {
        if self.plugin.as_deref() != Some(PLUGIN) {
            return Ok(None);
        }
        let specific = Specific::deserialize(&self.plugin_specific)?;
        if specific.state.as_deref() != Some("inroom") {
            return Ok(None);
        }
        let room = needed(specific.room, "room")?.room(counters);
        let id = needed(specific.id, "id")?.client(counters);
        let plain = specific.plain_rtp.and_then(|rtp| rtp.local_port);
        let pair = self.webrtc.and_then(|w| w.ice).and_then(|ice| ice.selected_pair);
        let port = plain.or_else(|| local_port(&pair?)).filter(|port| {
            let inside = ports.contains(port);
            if !inside {
                count(&counters.ports_outside);
            }
            inside
        });
        Ok(room.zip(id).map(|(room, id)| Participant {
            room,
            id,
            session,
            handle,
            created: self.created,
            port: port.map(Port),
        }))
    }
}

/// The local port of `10.77.0.1:50012 [host,udp] <-> 10.77.2.3:5555 [prflx,udp]`; none for TCP.
fn local_port(pair: &str) -> Option<u16> {
    let (local, _) = pair.split_once(" <-> ")?;
    let (address, kind) = local.split_once(' ')?;
    let (_, port) = address.rsplit_once(':')?;
    kind.ends_with(",udp]").then(|| port.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
