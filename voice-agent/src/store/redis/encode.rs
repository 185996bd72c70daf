//! Records, events and isolations as the fields of hashes and streams, and back. What is read is checked as if a stranger had
//! written it.

use crate::store::position::StreamId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, str::FromStr};
use voice_room::{
    ClientId, Epoch, EventType, Incarnation, Port, RoomId, RoomRecord, SourceId, StateChangeEvent, Version,
    Wall,
};

/// The fields of a room's hash, in the order in which the scripts give them.
pub(super) const RECORD: [&str; 9] = [
    "state",
    "version",
    "epoch",
    "op_id",
    "incarnation",
    "owner",
    "since_ms",
    "data",
    "trace_id",
];

/// What of a record nobody but us reads.
#[derive(Serialize, Deserialize)]
pub(super) struct Data {
    source: Option<SourceId>,
    host: Option<ClientId>,
    ports: Vec<Port>,
}

/// The field of a record that nobody but us reads.
pub(super) fn data(record: &RoomRecord) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Data {
        source: record.source.clone(),
        host: record.host.clone(),
        ports: record.ports.clone(),
    })
}

/// A record from its fields; the error says what is wrong with which.
pub(super) fn record(room: &RoomId, fields: &[String]) -> Result<RoomRecord, String> {
    let field = |n: usize| {
        fields
            .get(n)
            .map(String::as_str)
            .ok_or_else(|| format!("{} is missing", RECORD[n.min(8)]))
    };
    let data: Data = serde_json::from_str(field(7)?).map_err(|e| format!("data: {e}"))?;
    Ok(RoomRecord {
        room: room.clone(),
        state: named(field(0)?, "state")?,
        version: Version(number(field(1)?, "version")?),
        epoch: parse_epoch(field(2)?).ok_or("epoch is no epoch")?,
        op_id: parsed(field(3)?)?,
        incarnation: Incarnation(number(field(4)?, "incarnation")?),
        owner: parsed(field(5)?)?,
        since: Wall(number(field(6)?, "since_ms")?),
        source: data.source,
        host: data.host,
        ports: data.ports,
    })
}

/// An event from its fields.
pub(super) fn event(fields: &BTreeMap<String, String>) -> Result<StateChangeEvent, String> {
    let field = |name: &str| {
        fields
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| format!("{name} is missing"))
    };
    let some = |name: &str| field(name).map(|text| Some(text).filter(|text| !text.is_empty()));
    Ok(StateChangeEvent {
        room: parsed(field("room")?)?,
        incarnation: Incarnation(number(field("incarnation")?, "incarnation")?),
        event_type: named::<EventType>(field("event_type")?, "event_type")?,
        old_state: some("old_state")?
            .map(|text| named(text, "old_state"))
            .transpose()?,
        new_state: named(field("new_state")?, "new_state")?,
        version: Version(number(field("version")?, "version")?),
        epoch: parse_epoch(field("epoch")?).ok_or("epoch is no epoch")?,
        op_id: parsed(field("op_id")?)?,
        actor: serde_json::from_str(field("actor")?).map_err(|e| format!("actor: {e}"))?,
        reason: field("reason")?.to_owned(),
        trace_id: some("trace_id")?.map(parsed).transpose()?,
        timestamp: Wall(number(field("timestamp")?, "timestamp")?),
    })
}

/// `ERA.REVISION`.
pub(super) fn parse_epoch(text: &str) -> Option<Epoch> {
    let (era, revision) = text.split_once('.')?;
    Some(Epoch {
        era: era.parse().ok()?,
        revision: revision.parse().ok()?,
    })
}

/// The id of a stream's entry.
pub(super) fn id(text: &str) -> Result<StreamId, String> {
    text.parse().map_err(|_| format!("{text:?} is no id"))
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} is no number"))
}

fn parsed<T: FromStr<Err = voice_room::id::IdError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: voice_room::id::IdError| e.to_string())
}

/// A state or event by its wire name.
fn named<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, String> {
    let value = serde_json::Value::String(text.into());
    serde_json::from_value(value).map_err(|_| format!("{name} is none that is known"))
}
