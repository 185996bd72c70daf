//! The keys of an era's table. A room id has no zero byte, so one ends it; numbers are big-endian, so that keys sort by them.

use crate::snapshot::Transition;
use voice_room::{RoomId, State, Wall};

pub(super) const BLOCKS: &[u8] = b"b";
pub(super) const CHAPTERS: &[u8] = b"c";
pub(super) const CHANGES: &[u8] = b"t";
const LEGS: &[u8] = b"p";

/// A block of a room, by its first tick.
pub(super) fn block(room: &RoomId, first: u64) -> Vec<u8> {
    let mut key = of_room(BLOCKS, room);
    key.extend(first.to_be_bytes());
    key
}

/// What all keys of this kind of a room begin with.
pub(super) fn of_room(kind: &[u8], room: &RoomId) -> Vec<u8> {
    [kind, room.as_bytes(), &[0]].concat()
}

/// A chapter, by its first tick.
pub(super) fn chapter(first: u64) -> Vec<u8> {
    [CHAPTERS, &first.to_be_bytes()].concat()
}

/// A change of state, by room and time.
pub(super) fn change(change: &Transition) -> Vec<u8> {
    let mut key = change_from(&change.room, change.timestamp);
    key.extend(change.version.0.to_be_bytes());
    key
}

/// What keys of a room's changes at or behind this time are not below.
pub(super) fn change_from(room: &RoomId, at: Wall) -> Vec<u8> {
    let mut key = of_room(CHANGES, room);
    key.extend(at.0.to_be_bytes());
    key
}

/// The same change, by where it leads from and to, and time.
pub(super) fn leg(change: &Transition) -> Vec<u8> {
    let mut key = leg_from(change.old_state, change.new_state, change.timestamp);
    key.extend(change.room.as_bytes());
    key.push(0);
    key.extend(change.version.0.to_be_bytes());
    key
}

/// What keys of this leg at or behind this time are not below.
pub(super) fn leg_from(from: Option<State>, to: State, at: Wall) -> Vec<u8> {
    let mut key = [LEGS, &[code(from), code(Some(to))]].concat();
    key.extend(at.0.to_be_bytes());
    key
}

/// The key of the change itself, from that of its leg.
pub(super) fn change_of_leg(leg: &[u8]) -> Option<Vec<u8>> {
    let (at, rest) = leg.get(3..)?.split_at_checked(8)?;
    let (room, version) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    Some([CHANGES, room, at, version].concat())
}

/// The tick of an eight-byte key.
pub(super) fn tick(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// The number that a key of a room ends with.
pub(super) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|last| u64::from_be_bytes(*last))
}

fn code(state: Option<State>) -> u8 {
    let place = state.and_then(|state| State::ALL.iter().position(|s| *s == state));
    place.map_or(0, |place| place as u8 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_key_of_a_leg_leads_to_its_change_and_sorts_by_time() {
        let earlier = testing::change("a.b", 1_000, None, State::Created, 1);
        let later = testing::change("a", 2_000, None, State::Created, 7);
        for one in [&earlier, &later] {
            assert_eq!(change_of_leg(&leg(one)), Some(change(one)));
            assert!(leg(one) > leg_from(one.old_state, one.new_state, one.timestamp));
        }
        assert!(leg(&earlier) < leg(&later));
        assert!(leg(&later) < leg_from(None, State::Created, Wall(2_001)));
    }

    #[test]
    fn no_rooms_keys_lie_among_anothers() {
        let (short, long) = (RoomId::new("a").unwrap(), RoomId::new("a.b").unwrap());
        let key = block(&long, 0);
        assert!(!key.starts_with(&of_room(BLOCKS, &short)) && key.starts_with(&of_room(BLOCKS, &long)));
    }
}
