//! What a kill in the middle of a write leaves, and damage.

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn journal(dir: &Path) -> std::path::PathBuf {
    let entries = fs::read_dir(dir.join("history")).unwrap();
    let mut journals = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"));
    journals.next().unwrap()
}

#[test]
fn a_kill_at_any_byte_of_a_write_loses_the_ticks_behind_it_and_no_other() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    let (mut random, mut rooms, mut given) = (Random(3), BTreeMap::new(), Given::new());
    for n in 0..40 {
        let tick = next_tick(&mut random, n, &mut rooms);
        give(&mut history, &mut given, tick);
    }
    given.retain(|_, taken| !taken.is_empty());
    drop(history);
    let bytes = fs::read(journal(dir.path())).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    let mut kept = Vec::new();
    for cut in (1..24).map(|n| end * n / 24 + n % 5) {
        let killed = TempDir::new().unwrap();
        copy(dir.path(), killed.path());
        fs::write(journal(killed.path()), &bytes[..cut]).unwrap();
        let mut history = opened(killed.path());
        let reader = history.reader();
        let last = given
            .keys()
            .filter_map(|room| Some(ask(&reader, room, ALL).ok()?.snapshots.last()?.at))
            .max();
        let last = last.unwrap_or(Wall(0));
        for (room, taken) in &given {
            let expected: Vec<_> = taken.iter().filter(|taken| taken.at <= last).cloned().collect();
            let found = ask(&reader, room, ALL)
                .map(|answer| answer.snapshots)
                .unwrap_or_default();
            assert_eq!(found, expected, "{room}, cut at {cut} of {end}");
        }
        kept.push(last);
        // It goes on from there.
        history
            .take(tick(START + 900_000, vec![("new", snapshot())]))
            .unwrap();
        assert_eq!(ask(&reader, "new", ALL).unwrap().snapshots.len(), 1);
        assert_eq!(reader.figures().set_aside.load(Ordering::Relaxed), 0);
    }
    assert!(kept.is_sorted());
    assert!(
        kept.last().unwrap().0 > START + 30 * 5000 && kept[3].0 < START + 20 * 5000,
        "{kept:?}"
    );
}

#[test]
fn a_damaged_database_is_set_aside_and_a_new_one_begun() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    history.take(tick(START, vec![("a", snapshot())])).unwrap();
    history.close().unwrap();
    let version = dir.path().join("history/version");
    fs::write(&version, "not a version").unwrap();
    let mut history = opened(dir.path());
    assert_eq!(history.figures().set_aside.load(Ordering::Relaxed), 1);
    assert!(dir.path().join("history.damaged").is_dir());
    history.take(tick(START + 5000, vec![("b", snapshot())])).unwrap();
    let reader = history.reader();
    assert!(matches!(
        ask(&reader, "a", ALL),
        Err(HistoryError::NoSuchRoom { .. })
    ));
    assert_eq!(ask(&reader, "b", ALL).unwrap().snapshots.len(), 1);
}

#[test]
fn a_block_that_cannot_be_read_is_left_out_and_told_and_the_others_are_there() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    for n in 0..400 {
        history
            .take(tick(START + n * 5000, vec![("a", with_packets(n))]))
            .unwrap();
    }
    let reader = history.reader();
    assert_eq!(ask(&reader, "a", ALL).unwrap().snapshots.len(), 400);
    let era = &history.tables.as_ref().unwrap().eras()[0];
    let blocks = || era.table.prefix(keys::of_room(keys::BLOCKS, &room("a")));
    let key = blocks().nth(1).unwrap().key().unwrap();
    era.table.insert(key, [120, 0x03]).unwrap();
    let answer = ask(&reader, "a", ALL).unwrap();
    assert_eq!(
        (answer.snapshots.len(), answer.damaged),
        (400 - super::super::live::LENGTH as usize, 1)
    );
    assert_eq!(reader.figures().damaged.load(Ordering::Relaxed), 1);
}

#[test]
fn a_disk_that_fails_is_opened_again_and_what_was_written_is_there() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    let mut given = Given::new();
    for n in 0..50 {
        give(
            &mut history,
            &mut given,
            tick(START + n * 5000, vec![("a", with_packets(n))]),
        );
    }
    history.failed(&DiskError::Unavailable("a test".into()));
    let reader = history.reader();
    assert_eq!(ask(&reader, "a", ALL), Err(HistoryError::Away("a test".into())));
    let at_once = history.take(tick(START + 250_000, vec![("a", with_packets(50))]));
    assert!(at_once.is_err(), "not within a second");
    history.tried = None;
    give(
        &mut history,
        &mut given,
        tick(START + 255_000, vec![("a", with_packets(51))]),
    );
    assert_all_is_there(&reader, &given);
}
