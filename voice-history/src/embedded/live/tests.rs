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
    let begin = written.len().saturating_sub(2 * LENGTH as usize);
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
    assert!(most < 30, "{most} of 1000 at once");
}
