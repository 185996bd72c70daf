use super::*;
use proptest::prelude::*;

fn written(rows: &[Row]) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::NEW, Vec::new());
    for row in rows {
        writer.push(row, &mut out);
    }
    out
}

fn read(bytes: &[u8], count: usize) -> Vec<Row> {
    Reader::new(bytes, count as u64).map(|row| row.unwrap()).collect()
}

/// What a live room does in 5 s: 50 packets a second each way with jitter, RTCP now and then.
fn moving(rows: usize, seed: u64) -> Vec<Row> {
    let mut random = seed | 1;
    let mut below = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let mut row = [0; COLUMNS];
    row[16] = 1;
    row[17] = 1_763_849_000_123;
    let mut rows_made = Vec::new();
    for _ in 0..rows {
        for direction in [0, 6] {
            let packets = 245 + below(11);
            row[direction] += packets;
            row[direction + 1] += packets * 172 + below(packets);
            let reports = 1 + below(3);
            row[direction + 2] += reports;
            row[direction + 3] += reports * 94;
        }
        row[12] = 1 + below(50);
        rows_made.push(row);
    }
    rows_made
}

#[test]
fn a_room_that_does_not_change_costs_nothing_after_its_first_row() {
    let row: Row = std::array::from_fn(|column| column as u64 * 1000);
    let (mut writer, mut out) = (Writer::NEW, Vec::new());
    writer.push(&row, &mut out);
    let first = out.len();
    for _ in 0..120 {
        writer.push(&row, &mut out);
    }
    assert_eq!(out.len(), first);
    assert_eq!(read(&out, 121), vec![row; 121]);
}

#[test]
fn a_counter_that_rises_evenly_is_foreseen() {
    let rows: Vec<Row> = (0..100u64)
        .map(|n| std::array::from_fn(|column| if column == 0 { n * 250 } else { 0 }))
        .collect();
    let bytes = written(&rows);
    assert!(bytes.len() < 10, "{} bytes", bytes.len());
    assert_eq!(read(&bytes, rows.len()), rows);
}

#[test]
fn fifty_packets_a_second_with_jitter_take_less_than_20_bytes_a_row() {
    let rows = moving(120, 7);
    let bytes = written(&rows);
    assert_eq!(read(&bytes, rows.len()), rows);
    assert!(bytes.len() < 120 * 20, "{} bytes a row", bytes.len() / 120);
}

#[test]
fn a_series_cut_at_any_byte_gives_its_first_rows_and_then_an_error_or_foreseen_ones() {
    let rows = moving(20, 3);
    let bytes = written(&rows);
    for end in 0..bytes.len() {
        let cut = Reader::new(&bytes[..end], 20);
        let sound = cut
            .zip(&rows)
            .take_while(|(read, is)| read.as_ref() == Ok(*is))
            .count();
        assert!(sound < 20, "cut at {end}");
    }
}

/// One step of a series: a row that differs from the one before in some columns.
fn steps() -> impl Strategy<Value = Vec<Vec<(usize, u64)>>> {
    let value = prop_oneof![Just(0), Just(u64::MAX), 0..300u64, any::<u64>()];
    prop::collection::vec(prop::collection::vec((0..COLUMNS, value), 0..6), 1..60)
}

proptest! {
    #[test]
    fn any_series_comes_back(steps in steps(), add: bool) {
        let mut row = [0u64; COLUMNS];
        let mut rows = Vec::new();
        for step in steps {
            for (column, value) in step {
                row[column] = if add { row[column].wrapping_add(value) } else { value };
            }
            rows.push(row);
        }
        prop_assert_eq!(read(&written(&rows), rows.len()), rows);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(bytes: Vec<u8>, count in 0..500u64) {
        prop_assert!(Reader::new(&bytes, count).count() as u64 <= count);
    }

    #[test]
    fn a_writer_that_is_packed_after_each_row_writes_the_same(steps in steps(), add: bool) {
        let mut row = [0u64; COLUMNS];
        let mut rows = Vec::new();
        let (mut packed, mut out, mut work) = (Packed::default(), Vec::new(), Vec::new());
        for step in steps {
            for (column, value) in step {
                row[column] = if add { row[column].wrapping_add(value) } else { value };
            }
            rows.push(row);
            let mut writer = packed.writer();
            writer.push(&row, &mut out);
            packed.hold(&writer, &mut work);
            prop_assert_eq!(packed.0.len(), work.len());
        }
        prop_assert_eq!(out, written(&rows));
    }

    #[test]
    fn a_writer_can_go_on_after_any_row_and_reads_the_same(seed: u64, cut in 1..40usize) {
        let rows = moving(40, seed);
        let (mut writer, mut out) = (Writer::NEW, Vec::new());
        for row in &rows[..cut] {
            writer.push(row, &mut out);
        }
        prop_assert_eq!(read(&out, cut), rows[..cut].to_vec());
        for row in &rows[cut..] {
            writer.push(row, &mut out);
        }
        prop_assert_eq!(read(&out, 40), rows);
    }
}
