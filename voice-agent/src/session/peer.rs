//! Who is at the other end of a stream, as the call's metadata says. Nothing else of the call is read here.

use crate::{
    session::translate,
    telemetry::{Counter, traces::Parent},
};
use tonic::{Status, metadata::MetadataMap};
use voice_client::Role;
use voice_room::{PeerId, RoomId, SourceId, TraceId, timeline::Actor};

/// Rooms one call may name in its metadata.
const MAX_METADATA_ROOMS: usize = 64;
/// The longest node tag.
const MAX_TAG: usize = 64;
/// The highest load weight.
const MAX_WEIGHT: u32 = 1_000_000;

/// A peer, as its call's metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerInfo {
    pub(super) id: PeerId,
    pub(super) role: Role,
    pub(super) tag: String,
    pub(super) weight: Option<u32>,
    pub(super) rooms: Vec<RoomId>,
    pub(super) trace: Option<TraceId>,
    /// The span of the peer's that its requests belong to.
    pub(super) parent: Option<Parent>,
    /// Its name as a source of media facts; used for role media only.
    pub(super) source: SourceId,
}

impl PeerInfo {
    /// Reads and checks the metadata. The error is the call's status and names the key.
    pub(super) fn from_metadata(metadata: &MetadataMap) -> Result<PeerInfo, Status> {
        read(metadata).map_err(|said| {
            Counter::SessionMalformed.count();
            Status::invalid_argument(said)
        })
    }

    /// The one to blame in events.
    pub(super) fn actor(&self) -> Actor {
        match self.role {
            Role::Media => Actor::Source(self.source.clone()),
            Role::Gateway | Role::Signalling => Actor::Peer(self.id.clone()),
        }
    }
}

fn read(metadata: &MetadataMap) -> Result<PeerInfo, String> {
    let id = PeerId::new(required(metadata, "peer-id")?).map_err(|e| format!("metadata peer-id: {e}"))?;
    let tag = text(metadata, "node-tag")?.unwrap_or_default();
    if tag.len() > MAX_TAG || !tag.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "metadata node-tag: allowed are up to {MAX_TAG} visible ASCII characters"
        ));
    }
    let traceparent = text(metadata, "traceparent").ok().flatten();
    Ok(PeerInfo {
        role: required(metadata, "peer-role")?
            .parse()
            .map_err(|e| format!("metadata {e}"))?,
        tag: tag.to_owned(),
        weight: weight(metadata)?,
        rooms: rooms(metadata)?,
        trace: traceparent.and_then(translate::trace_id),
        parent: traceparent.and_then(Parent::from_traceparent),
        source: SourceId::new(&format!("peer/{id}")).map_err(|e| e.to_string())?,
        id,
    })
}

fn weight(metadata: &MetadataMap) -> Result<Option<u32>, String> {
    let Some(given) = text(metadata, "load-weight")? else {
        return Ok(None);
    };
    match given.parse() {
        Ok(weight) if weight <= MAX_WEIGHT => Ok(Some(weight)),
        _ => Err(format!(
            "metadata load-weight: allowed is a whole number from 0 to {MAX_WEIGHT}"
        )),
    }
}

fn rooms(metadata: &MetadataMap) -> Result<Vec<RoomId>, String> {
    let given = metadata.get_all("room-id");
    if given.iter().count() > MAX_METADATA_ROOMS {
        return Err(format!(
            "metadata room-id: at most {MAX_METADATA_ROOMS} rooms may be named in a call"
        ));
    }
    given
        .iter()
        .map(|value| {
            let text = value
                .to_str()
                .map_err(|_| "metadata room-id: not ASCII".to_owned())?;
            RoomId::new(text).map_err(|e| format!("metadata room-id: {e}"))
        })
        .collect()
}

fn required<'m>(metadata: &'m MetadataMap, key: &str) -> Result<&'m str, String> {
    text(metadata, key)?.ok_or_else(|| format!("metadata {key} is missing"))
}

fn text<'m>(metadata: &'m MetadataMap, key: &str) -> Result<Option<&'m str>, String> {
    metadata
        .get(key)
        .map(|value| {
            value
                .to_str()
                .map_err(|_| format!("metadata {key}: only visible ASCII is allowed"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (key, value) in pairs {
            map.append(*key, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_call_with_everything_is_read_whole() {
        let peer = read(&metadata(&[
            ("peer-role", "media"),
            ("peer-id", "sfu-1"),
            ("node-tag", "rack-7"),
            ("load-weight", "50"),
            ("room-id", "r1"),
            ("room-id", "r2"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ]))
        .unwrap();
        assert_eq!(peer.role, Role::Media);
        assert_eq!(
            (peer.tag.as_str(), peer.weight, peer.rooms.len()),
            ("rack-7", Some(50), 2)
        );
        assert_eq!(peer.trace.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(peer.actor(), Actor::Source(SourceId::new("peer/sfu-1").unwrap()));
    }

    #[test]
    fn each_mistake_in_the_metadata_is_named_with_what_is_allowed() {
        let good = [("peer-role", "gateway"), ("peer-id", "gw")];
        let with = |key: &'static str, value: &str| {
            let mut map = metadata(&good);
            map.insert(key, value.parse().unwrap());
            read(&map).unwrap_err()
        };
        assert_eq!(
            read(&metadata(&good[..1])).unwrap_err(),
            "metadata peer-id is missing"
        );
        assert_eq!(
            with("peer-role", "admin"),
            "metadata peer-role \"admin\" is not valid: allowed are gateway, signalling, media"
        );
        assert!(with("peer-id", "a b").contains("1 to 128 visible ASCII"));
        assert!(with("load-weight", "-1").contains("0 to 1000000"));
        assert!(with("load-weight", "1000001").contains("0 to 1000000"));
        let long = "t".repeat(65);
        assert!(with("node-tag", &long).contains("up to 64"));
        assert!(with("room-id", "a/b").contains("A-Z a-z 0-9"));
    }

    #[test]
    fn a_traceparent_that_is_not_one_is_left_out_as_w3c_says() {
        let map = metadata(&[
            ("peer-role", "gateway"),
            ("peer-id", "gw"),
            ("traceparent", "junk"),
        ]);
        assert_eq!(read(&map).unwrap().trace, None);
    }
}
