//! The keys of the registry (DESIGN 5.3) and what stands under them, as JSON. What is not ours is an error, never a panic,
//! and is left as it is.

use crate::proto::mvccpb::KeyValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use voice_room::{
    Epoch, Incarnation, NodeName, RoomId, SourceId, State, Version, command::Meta, patrol::Told,
};

const AGENTS: &str = "/voice/agents/";
const OWNERS: &str = "/voice/owners/";
pub(super) const ROOMS: &str = "/voice/rooms/";
const STATUS: &str = "/status";
/// A longer value is none of ours.
const LONGEST: usize = 4096;

/// Everything that is watched: the three prefixes lie side by side, so one range holds them, and nothing else of ours.
pub(super) const WATCHED: (&str, &str) = (AGENTS, "/voice/rooms0");

/// A value under one of our keys that we did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} holds something that is not ours: {problem}; it is left as it is until somebody deletes it")]
pub struct Foreign {
    /// Where.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// `/voice/agents/NODE`: an agent that runs. On its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Tells this agent's place from that of another agent of the same name: boot id and state directory.
    pub identity: String,
    /// Where its peers connect.
    pub address: String,
    /// Of the agent.
    pub version: String,
    /// Rooms that may be live on it.
    pub capacity: u32,
    /// `registry.etcd.era`.
    pub era: u32,
}

/// `/voice/owners/ID`: who owns a room. Written only by claims, on the owner's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: NodeName,
    /// The life it claimed.
    pub incarnation: Incarnation,
    /// `registry.etcd.era`; with the key's mod_revision it is the epoch.
    pub era: u32,
    /// Holds the room only to end it, should it not be served any more. Whoever serves it may take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub custodian: bool,
    /// What the room was when it was claimed: what a custodian goes by, should the owner die before it tells of it. Agents of
    /// an older version do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
}

/// `/voice/rooms/ID`: what an owner tells of a room. On its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Which life.
    pub incarnation: Incarnation,
    /// As its owner has it; with a claim it may not be stored yet.
    pub state: State,
    /// The record's version.
    pub version: Version,
    /// The epoch it was written under.
    pub epoch: Epoch,
    /// Who serves its media, once known.
    pub source: Option<SourceId>,
    /// Where its agent's peers connect.
    pub address: String,
}

/// `/voice/rooms/ID/status`, for a short time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always `degraded`.
    pub status: String,
    /// The node that says so.
    pub by: NodeName,
    /// Why, in words.
    pub reason: String,
}

impl Room {
    pub(super) fn of(meta: &Meta, address: &str) -> Room {
        Room {
            incarnation: meta.incarnation,
            state: meta.state,
            version: meta.version,
            epoch: meta.epoch,
            source: meta.source.clone(),
            address: address.to_owned(),
        }
    }

    pub(super) fn into_meta(self, room: RoomId) -> Meta {
        Meta {
            room,
            incarnation: self.incarnation,
            state: self.state,
            version: self.version,
            epoch: self.epoch,
            source: self.source,
        }
    }
}

impl From<Room> for Told {
    fn from(room: Room) -> Told {
        Told {
            incarnation: room.incarnation,
            state: room.state,
            version: room.version,
            epoch: room.epoch,
            source: room.source,
            address: room.address,
        }
    }
}

pub(super) fn agent_key(node: &NodeName) -> Vec<u8> {
    format!("{AGENTS}{node}").into_bytes()
}

pub(super) fn owner_key(room: &RoomId) -> Vec<u8> {
    format!("{OWNERS}{room}").into_bytes()
}

pub(super) fn room_key(room: &RoomId) -> Vec<u8> {
    format!("{ROOMS}{room}").into_bytes()
}

pub(super) fn status_key(room: &RoomId) -> Vec<u8> {
    format!("{ROOMS}{room}{STATUS}").into_bytes()
}

/// Which of our keys a key is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Agent(NodeName),
    Owner(RoomId),
    Room(RoomId),
    Status(RoomId),
}

/// `None` when it is none of ours.
pub(super) fn key(bytes: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(node) = text.strip_prefix(AGENTS) {
        return NodeName::new(node).ok().map(Key::Agent);
    }
    if let Some(room) = text.strip_prefix(OWNERS) {
        return RoomId::new(room).ok().map(Key::Owner);
    }
    let rest = text.strip_prefix(ROOMS)?;
    match rest.strip_suffix(STATUS) {
        Some(room) => RoomId::new(room).ok().map(Key::Status),
        None => RoomId::new(rest).ok().map(Key::Room),
    }
}

/// What stands under a key.
pub(super) fn read<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, Foreign> {
    let foreign = |problem: String| Foreign {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        problem,
    };
    if kv.value.len() > LONGEST {
        return Err(foreign(format!(
            "it has {} bytes, and ours have at most {LONGEST}",
            kv.value.len()
        )));
    }
    if kv.lease == 0 {
        return Err(foreign("it is on no lease".into()));
    }
    serde_json::from_slice(&kv.value).map_err(|error| foreign(error.to_string()))
}

/// A value as it is written.
pub(super) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    // Numbers, texts and names of variants only: nothing in them can fail.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(value: &[u8], lease: i64) -> KeyValue {
        KeyValue {
            key: b"/voice/owners/r".to_vec(),
            value: value.to_vec(),
            lease,
            ..KeyValue::default()
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_others_are_not_ours() {
        let (node, room) = (NodeName::new("n/1").unwrap(), RoomId::new("a.b-c_1").unwrap());
        assert_eq!(key(&agent_key(&node)), Some(Key::Agent(node)));
        assert_eq!(key(&owner_key(&room)), Some(Key::Owner(room.clone())));
        assert_eq!(key(&room_key(&room)), Some(Key::Room(room.clone())));
        assert_eq!(key(&status_key(&room)), Some(Key::Status(room)));
        for other in [
            &b"/voice/owners/"[..],
            b"/voice/owners/a b",
            b"/voice/rooms/a/b",
            b"/voice/x/a",
            b"\xff",
        ] {
            assert_eq!(key(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_key_lies_in_the_watched_range() {
        let room = RoomId::new("zzz").unwrap();
        for key in [
            agent_key(&NodeName::new("!").unwrap()),
            owner_key(&room),
            room_key(&room),
            status_key(&room),
        ] {
            assert!(key.as_slice() >= WATCHED.0.as_bytes() && key.as_slice() < WATCHED.1.as_bytes());
        }
    }

    #[test]
    fn what_is_not_ours_is_told_with_its_key_and_why() {
        let owner = Owner {
            node: NodeName::new("n").unwrap(),
            incarnation: Incarnation(3),
            era: 0,
            custodian: false,
            room: None,
        };
        let text = write(&owner);
        assert_eq!(read::<Owner>(&kv(&text, 1)), Ok(owner));
        let huge = vec![b' '; LONGEST + 1];
        let bad: [(&[u8], i64); 6] = [
            (&text, 0),
            (b"", 1),
            (b"{}", 1),
            (b"[1]", 1),
            (b"\xff\xfe", 1),
            (&huge, 1),
        ];
        for (value, lease) in bad {
            let error = read::<Owner>(&kv(value, lease)).unwrap_err();
            assert_eq!(error.key, "/voice/owners/r");
            assert!(!error.problem.is_empty());
        }
        assert!(read::<Owner>(&kv(&text[..text.len() - 1], 1)).is_err());
    }
}
