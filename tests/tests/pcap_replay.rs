//! 24 s of a real Janus with two rooms (`data/rooms.pcap`), through the kernel programs with one room blocked: every
//! packet of that room is dropped, none of the other.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers of tests fail by panicking too"
)]

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use voice_agent::kernel::{Features, tables};
use voice_common::{Class, Direction, Hook, RoomCounts, Verdict};
use voice_tests::programs::Programs;

static CAPTURE: &[u8] = include_bytes!("../data/rooms.pcap");
static ROOMS: &str = include_str!("../data/rooms.json");

const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PACKETS: usize = 13_853;

/// Frames of a classic little-endian Ethernet capture.
fn frames(mut capture: &'static [u8]) -> Vec<&'static [u8]> {
    assert_eq!(capture[..4], [0xd4, 0xc3, 0xb2, 0xa1], "a classic pcap file");
    capture = &capture[24..];
    let mut frames = Vec::new();
    while !capture.is_empty() {
        let len = u32::from_le_bytes(capture[8..12].try_into().unwrap()) as usize;
        frames.push(&capture[16..16 + len]);
        capture = &capture[16 + len..];
    }
    frames
}

/// The room of each port, by the media server; its RTCP goes to the next port.
fn rooms() -> BTreeMap<u16, u64> {
    let map: serde_json::Value = serde_json::from_str(ROOMS).unwrap();
    let mut rooms = BTreeMap::new();
    for room in map["rooms"].as_array().unwrap() {
        for participant in room["participants"].as_array().unwrap() {
            let port = u16::try_from(participant["local_port"].as_u64().unwrap()).unwrap();
            for port in [port, port + 1] {
                rooms.insert(port, room["room"].as_u64().unwrap());
            }
        }
    }
    rooms
}

/// An independent reading of the capture's plain frames: which way, and the local UDP port.
fn direction(frame: &[u8]) -> Option<(Direction, Option<u16>)> {
    let header = usize::from(frame[14] & 0xf) * 4;
    let port = |at: usize| u16::from_be_bytes([frame[14 + header + at], frame[15 + header + at]]);
    let udp = frame[23] == 17;
    if frame[30..34] == NODE.octets() {
        Some((Direction::Ingress, udp.then(|| port(2))))
    } else if frame[26..30] == NODE.octets() {
        Some((Direction::Egress, udp.then(|| port(0))))
    } else {
        None
    }
}

fn replay(blocked: u64) {
    let mut programs = Programs::load(Features::detect()).unwrap();
    let rooms = rooms();
    let slots: BTreeMap<u64, u32> = rooms.values().copied().zip([0; 12]).collect();
    let slots: BTreeMap<u64, u32> = slots.into_keys().zip(1..).collect();
    for (port, room) in &rooms {
        programs.tables().set_port(*port, slots[room]);
    }
    let deadline = tables::now() + Duration::from_secs(3600);
    programs.tables().arm(slots[&blocked], deadline, false);

    let frames = frames(CAPTURE);
    assert_eq!(frames.len(), PACKETS);
    let mut of_rooms: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for frame in frames {
        let (direction, port) = direction(frame).expect("every frame of the capture is the node's");
        let room = port.and_then(|p| rooms.get(&p)).copied();
        let hooks = match direction {
            Direction::Ingress => &[Hook::Xdp, Hook::TcIngress][..],
            Direction::Egress => &[Hook::TcEgress],
        };
        for hook in hooks {
            let dropped = programs.run(*hook, frame).unwrap();
            assert_eq!(
                dropped,
                room == Some(blocked),
                "{port:?} of room {room:?} at {}",
                hook.name()
            );
        }
        if let Some(room) = room {
            *of_rooms.entry((room, direction as u32)).or_default() += 1;
        }
    }

    for (room, slot) in &slots {
        for direction in [Direction::Ingress, Direction::Egress] {
            let sent = of_rooms[&(*room, direction as u32)];
            assert!(sent > 3000, "room {room} {direction:?}: {sent}");
            // A blocked packet is dropped by XDP and, where there is no XDP, by TC: here it went through both.
            let twice = if direction == Direction::Ingress { 2 } else { 1 };
            let wanted = if *room == blocked {
                (0, sent * twice)
            } else {
                (sent, 0)
            };
            assert_eq!(
                counted(&programs, *slot, direction),
                wanted,
                "room {room} {direction:?}"
            );
        }
    }
}

/// (passed, dropped), of every class.
fn counted(programs: &Programs, slot: u32, direction: Direction) -> (u64, u64) {
    let per_cpu = programs.loaded.maps.counts.get(&slot, 0).unwrap();
    let sum = |verdict| -> u64 {
        let cells = Class::ALL.map(|class| RoomCounts::index(direction, class, verdict));
        per_cpu
            .iter()
            .map(|cpu| cells.map(|c| cpu.counts[c].packets).iter().sum::<u64>())
            .sum()
    };
    (sum(Verdict::Pass), sum(Verdict::Drop))
}

#[test]
fn with_room_1001_blocked_every_packet_of_it_is_dropped_and_none_of_room_1002() {
    replay(1001);
}

#[test]
fn with_room_1002_blocked_every_packet_of_it_is_dropped_and_none_of_room_1001() {
    replay(1002);
}
