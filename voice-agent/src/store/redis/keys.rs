//! The names of keys. Those of one partition share a hash tag, so that one script, which touches one slot only, can change
//! them together.

use voice_room::RoomId;

/// Rooms are spread over so many partitions, each with a stream of events of its own.
pub const PARTITIONS: u8 = 64;

/// What listeners subscribe to.
pub const CHANNEL: &str = "room:state:update";

/// The partition of a room.
pub fn partition(room: &RoomId) -> u8 {
    u8::try_from(crc16(room.as_bytes()) % u16::from(PARTITIONS)).unwrap_or_default()
}

pub(super) fn room(id: &RoomId) -> String {
    format!("{{v{:02}}}:room:{id}", partition(id))
}

pub(super) fn clients(id: &RoomId) -> String {
    format!("{{v{:02}}}:room:{id}:clients", partition(id))
}

/// Whose media server serves the room, as an agent without a lease says.
pub(super) fn served(id: &RoomId) -> String {
    format!("{{v{:02}}}:served:{id}", partition(id))
}

pub(super) fn fence(id: &RoomId) -> String {
    format!("{{v{:02}}}:fence:{id}", partition(id))
}

pub(super) fn isolation(id: &RoomId) -> String {
    format!("{{v{:02}}}:isolation:{id}", partition(id))
}

/// The rooms that are isolated, by the end of it.
pub(super) fn isolated(partition: u8) -> String {
    format!("{{v{partition:02}}}:isolated")
}

pub(super) fn events(partition: u8) -> String {
    format!("{{v{partition:02}}}:events")
}

/// Up to which entry a partition's events were cut off.
pub(super) fn cut(partition: u8) -> String {
    format!("{{v{partition:02}}}:events:cut")
}

/// CRC16 as Redis Cluster has it (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_rooms_keys_share_the_tag_of_its_partition() {
        let id = RoomId::new("123456789").unwrap();
        assert_eq!(partition(&id), 3);
        for key in [
            room(&id),
            clients(&id),
            fence(&id),
            isolation(&id),
            served(&id),
            events(3),
            isolated(3),
        ] {
            assert!(key.starts_with("{v03}:"), "{key}");
        }
    }
}
