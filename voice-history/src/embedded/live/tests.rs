use super::*;
use crate::testing::{tick, with_packets};

/// Closed blocks, and what a start would close, as (room, first, count).
fn all(written: &[Written]) -> Vec<(String, u64, u64)> {
    let mut replay = Replay::new(
        written
            .iter()
            .filter_map(|w| w.chapter.as_ref())
            .map(Chapter::end)
            .max()
            .unwrap_or(0),
    );
    let begin = written.len().saturating_sub(2 * chapter::LENGTH as usize);
    for w in &written[begin..] {
        replay.take(w.tick, &w.frame).unwrap();
    }
    let Unclosed {
        blocks: open, next, ..
    } = replay.close().unwrap();
    assert_eq!(next, written.len() as u64);
    let closed = written.iter().flat_map(|w| w.blocks.iter());
    let mut all: Vec<_> = closed
        .chain(&open)
        .map(|(room, b)| (room.to_string(), b.first, b.count))
        .collect();
    all.sort();
    all
}

#[test]
fn after_any_tick_closed_blocks_and_those_that_a_start_closes_cover_every_tick_once() {
    let mut live = Live::new(0);
    let mut written = Vec::new();
    for n in 0..400u64 {
        // One is always there, one now and then.
        let mut rooms = vec![("a", with_packets(n))];
        if n % 50 < 30 {
            rooms.push(("b", with_packets(n * n)));
        }
        written.push(live.take(&tick(n, rooms)));
        live.written();
        let all = all(&written);
        for (name, given) in [("a", n + 1), ("b", n / 50 * 30 + (n % 50 + 1).min(30))] {
            let mut blocks: Vec<_> = all.iter().filter(|(room, ..)| room == name).collect();
            blocks.sort_by_key(|(_, first, _)| *first);
            let covered: u64 = blocks.iter().map(|(_, _, count)| count).sum();
            assert_eq!(covered, given, "{name} after tick {n}: {blocks:?}");
            assert!(blocks.is_sorted_by(|a, b| a.1 + a.2 <= b.1), "{blocks:?}");
            assert!(blocks.iter().all(|b| b.2 <= LENGTH));
        }
    }
}

#[test]
fn a_room_that_stands_twice_in_a_tick_counts_once() {
    let mut live = Live::new(0);
    live.take(&tick(0, vec![("a", with_packets(1)), ("a", with_packets(2))]));
    let blocks = live.blocks(&crate::testing::room("a"));
    assert_eq!(blocks.iter().map(|b| b.count).sum::<u64>(), 1);
}

#[test]
fn blocks_of_many_rooms_do_not_end_together() {
    let mut live = Live::new(0);
    let names: Vec<String> = (0..1000).map(|n| format!("room-{n}")).collect();
    let mut most = 0;
    for n in 0..3 * LENGTH {
        let rooms = names
            .iter()
            .map(|name| (name.as_str(), with_packets(n)))
            .collect();
        most = most.max(live.take(&tick(n, rooms)).blocks.len());
        live.written();
    }
    // A thirtieth of them with each tick.
    assert!(most < 2 * 1000 / LENGTH as usize, "{most} of 1000 at once");
}

/// Of a room whose media moves, half of its block's ticks after it began.
#[test]
fn an_open_block_of_a_room_with_media_takes_less_than_400_bytes() {
    let mut live = Live::new(0);
    for n in 0..LENGTH + LENGTH / 2 {
        let mut snapshot = with_packets(n * 250 + n * n % 11);
        for counter in [3, 9, 12] {
            let packets = n * 240 + n * n % (counter + 4);
            snapshot.media.0[counter as usize] = voice_common::Count {
                packets,
                bytes: packets * 170 + n % 7,
            };
        }
        live.take(&tick(n, vec![("a", snapshot)]));
        live.written();
    }
    let (_, open) = live.rooms.iter().next().unwrap();
    let bytes = size_of::<Open>() + open.writer.len() + open.series.capacity();
    assert!((200..400).contains(&bytes), "{bytes}: {open:?}");
}
