//! A snapshot as a row of numbers, one column each. What moves most stands first, where its bit in a set of columns is cheap.

use super::{Malformed, varint};
use crate::snapshot::{Counters, Snapshot};
use voice_common::Count;
use voice_room::{Epoch, Incarnation, State, Version, Wall};

/// Columns: 36 counters, ten others.
pub(crate) const COLUMNS: usize = 46;

/// One snapshot.
pub(crate) type Row = [u64; COLUMNS];

/// Counters of packets that passed: direction × class × (packets, bytes).
const PASSED: usize = 12;
/// The first column behind the ten others: counters of packets that were dropped or would have been.
const REST: usize = PASSED + 10;

/// Whether a column is a counter, which is foreseen to rise as it last did.
pub(crate) fn is_counter(column: usize) -> bool {
    !(PASSED..REST).contains(&column)
}

/// Where each counter lies: verdicts are apart, so that what passes stands together.
fn column(counter: usize) -> usize {
    let (pair, verdict) = (counter / 3, counter % 3);
    match verdict {
        0 => pair * 2,
        1 => REST + pair * 2,
        _ => REST + PASSED + pair * 2,
    }
}

/// Appends a row in few bytes: which columns are not 0, and these.
pub(crate) fn pack(row: &Row, out: &mut Vec<u8>) {
    let set = row.iter().enumerate().filter(|(_, value)| **value != 0);
    let columns = set.clone().fold(0, |columns, (n, _)| columns | 1u64 << n);
    varint::put(out, columns);
    for (_, value) in set {
        varint::put(out, *value);
    }
}

/// Takes a packed row from the front.
pub(crate) fn unpack(bytes: &mut &[u8]) -> Result<Row, Malformed> {
    let mut row = [0; COLUMNS];
    let mut left = varint::take(bytes)?;
    while left != 0 {
        let column = left.trailing_zeros() as usize;
        left &= left - 1;
        let value = varint::take(bytes)?;
        *row.get_mut(column).ok_or(NO_COLUMN)? = value;
    }
    Ok(row)
}

pub(crate) const NO_COLUMN: Malformed = Malformed("a column that there is none of");

/// The row of a snapshot.
pub(crate) fn of(snapshot: &Snapshot) -> Row {
    let mut row = [0; COLUMNS];
    for (counter, count) in snapshot.media.0.iter().enumerate() {
        let at = column(counter);
        if let Some([packets, bytes]) = row.get_mut(at..at + 2) {
            (*packets, *bytes) = (count.packets, count.bytes);
        }
    }
    let others = [
        snapshot.heartbeat_age.map_or(0, |age| u64::from(age) + 1),
        u64::from(snapshot.misses),
        u64::from(snapshot.members),
        snapshot.version.0,
        State::ALL.iter().position(|s| *s == snapshot.state).unwrap_or(0) as u64,
        snapshot.since.0,
        snapshot.epoch.revision,
        u64::from(snapshot.epoch.era),
        snapshot.incarnation.0,
        // An end in the year 584,556,019 is as good as one a millisecond before.
        snapshot
            .blocked_until
            .map_or(0, |until| until.0.saturating_add(1)),
    ];
    if let Some(place) = row.get_mut(PASSED..REST) {
        place.copy_from_slice(&others);
    }
    row
}

/// The snapshot of a row. A row that was never made of one becomes the nearest snapshot there is.
pub(crate) fn snapshot(row: &Row) -> Snapshot {
    let mut media = Counters::default();
    for (counter, count) in media.0.iter_mut().enumerate() {
        let at = column(counter);
        if let Some([packets, bytes]) = row.get(at..at + 2) {
            *count = Count {
                packets: *packets,
                bytes: *bytes,
            };
        }
    }
    let at = |n: usize| row.get(PASSED + n).copied().unwrap_or(0);
    let small = |n: usize| u32::try_from(at(n)).unwrap_or(u32::MAX);
    Snapshot {
        heartbeat_age: small(0).checked_sub(1),
        misses: small(1),
        members: small(2),
        version: Version(at(3)),
        state: usize::try_from(at(4))
            .ok()
            .and_then(|n| State::ALL.get(n).copied())
            .unwrap_or(State::Destroyed),
        since: Wall(at(5)),
        epoch: Epoch {
            revision: at(6),
            era: small(7),
        },
        incarnation: Incarnation(at(8)),
        blocked_until: at(9).checked_sub(1).map(Wall),
        media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn rows() -> impl Strategy<Value = Row> {
        let value = prop_oneof![3 => Just(0), 1 => 0..300u64, 1 => any::<u64>()];
        prop::collection::vec(value, COLUMNS).prop_map(|values| std::array::from_fn(|n| values[n]))
    }

    proptest! {
        #[test]
        fn any_rows_come_back_from_how_they_are_packed(some in prop::collection::vec(rows(), 0..5)) {
            let mut bytes = Vec::new();
            some.iter().for_each(|row| pack(row, &mut bytes));
            let mut rest = bytes.as_slice();
            for row in &some {
                prop_assert_eq!(&unpack(&mut rest).unwrap(), row);
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_a_packed_row_or_an_error(bytes: Vec<u8>) {
            let _ = unpack(&mut bytes.as_slice());
        }
    }

    #[test]
    fn every_counter_has_a_column_of_its_own_that_is_a_counters() {
        let columns: BTreeSet<usize> = (0..18).map(column).collect();
        assert_eq!(columns.len(), 18);
        assert!(
            columns
                .iter()
                .all(|c| is_counter(*c) && is_counter(c + 1) && c + 1 < COLUMNS)
        );
    }

    #[test]
    fn a_snapshot_comes_back_from_its_row_whatever_is_in_it() {
        let mut media = Counters::default();
        for (n, count) in media.0.iter_mut().enumerate() {
            *count = Count {
                packets: n as u64 + 1,
                bytes: u64::MAX - n as u64,
            };
        }
        for state in State::ALL {
            for some in [None, Some(0), Some(77)] {
                let snapshot = Snapshot {
                    state,
                    since: Wall(u64::MAX),
                    incarnation: Incarnation(3),
                    version: Version(u64::MAX),
                    epoch: Epoch {
                        era: u32::MAX,
                        revision: 5,
                    },
                    misses: u32::MAX,
                    heartbeat_age: some,
                    members: 9,
                    blocked_until: some.map(|n| Wall(u64::from(n))),
                    media,
                };
                assert_eq!(super::snapshot(&of(&snapshot)), snapshot);
            }
        }
    }
}
