//! A media server's heartbeat: where it comes from, and how a long one is cut into messages the agent takes.

use crate::proto::v1::{MediaHeartbeat, ServedRoom};
use prost::Message as _;
use std::{fmt, sync::Arc, time::Duration};

/// How often it is said (docs/PROTOCOL.md).
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Rooms in one message: the agent's limit.
const MAX_ROOMS: usize = 10_000;
/// Bytes in one message: the agent takes 1 MiB.
const MAX_BYTES: usize = 960 << 10;
/// What a room takes besides its own bytes: a tag and a length.
const OVERHEAD: usize = 6;

/// What the application serves now.
#[derive(Clone)]
pub(crate) struct Snapshot(Arc<dyn Fn() -> MediaHeartbeat + Send + Sync>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Snapshot {
    pub(crate) fn new(take: impl Fn() -> MediaHeartbeat + Send + Sync + 'static) -> Snapshot {
        Snapshot(Arc::new(take))
    }

    pub(crate) fn take(&self) -> MediaHeartbeat {
        (self.0)()
    }
}

/// The same rooms in as many messages as they need; at least one, as an empty listing is a heartbeat too.
pub(crate) fn split(heartbeat: MediaHeartbeat) -> Vec<MediaHeartbeat> {
    let capacity = heartbeat.capacity;
    let message = |rooms: Vec<ServedRoom>| MediaHeartbeat { rooms, capacity };
    let (mut messages, mut rooms, mut bytes) = (Vec::new(), Vec::new(), 0);
    for room in heartbeat.rooms {
        let size = room.encoded_len() + OVERHEAD;
        if !rooms.is_empty() && (rooms.len() >= MAX_ROOMS || bytes + size > MAX_BYTES) {
            messages.push(message(std::mem::take(&mut rooms)));
            bytes = 0;
        }
        bytes += size;
        rooms.push(room);
    }
    messages.push(message(rooms));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(rooms: usize, ports: usize) -> MediaHeartbeat {
        let room = |n| ServedRoom {
            room: format!("room-{n}"),
            ports: vec![50_000; ports],
            ..Default::default()
        };
        MediaHeartbeat {
            rooms: (0..rooms).map(room).collect(),
            capacity: Some(7),
        }
    }

    #[test]
    fn a_listing_of_any_length_is_cut_into_messages_within_the_limits_and_loses_nothing() {
        for (rooms, ports, messages) in [(0, 0, 1), (10_000, 2, 1), (25_000, 2, 3), (2000, 400, 3)] {
            let whole = heartbeat(rooms, ports);
            let cut = split(whole.clone());
            assert_eq!(cut.len(), messages, "{rooms} rooms of {ports} ports");
            for message in &cut {
                assert!(message.rooms.len() <= MAX_ROOMS && message.encoded_len() < 1 << 20);
                assert_eq!(message.capacity, Some(7));
            }
            let again: Vec<ServedRoom> = cut.into_iter().flat_map(|message| message.rooms).collect();
            assert_eq!(again, whole.rooms);
        }
    }
}
