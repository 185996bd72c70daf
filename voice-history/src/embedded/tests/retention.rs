//! What goes when there is too much: by age, by size, and when the disk is short.

use super::*;

/// Counters that no model foresees: about 300 bytes a snapshot.
fn noisy(random: &mut Random) -> Snapshot {
    let mut snapshot = snapshot();
    for count in &mut snapshot.media.0 {
        (count.packets, count.bytes) = (random.below(1 << 60), random.below(1 << 60));
    }
    snapshot
}

fn first_kept(reader: &Reader) -> Wall {
    ask(reader, "a", ALL).unwrap().snapshots[0].at
}

#[test]
fn what_is_older_than_asked_for_goes_and_what_is_younger_stays() {
    let dir = TempDir::new().unwrap();
    let hour = Duration::from_secs(3600);
    let mut history = Embedded::new(Settings {
        max_age: hour,
        ..settings(dir.path())
    });
    let mut last = 0;
    for n in 0..3000u64 {
        last = START + n * 5000;
        let mut given = tick(last, vec![("a", with_packets(n))]);
        given
            .transitions
            .push(change("a", last, Some(State::Liveing), State::Expired, n));
        history.take(given).unwrap();
    }
    let reader = history.reader();
    let age = last - first_kept(&reader).0;
    assert!(
        (3_600_000..3_600_000 + 3 * 600_000).contains(&age),
        "{age} ms are kept"
    );
    let changes = ask(&reader, "a", ALL).unwrap().transitions;
    assert!(changes.len() < 1100 && changes.len() > 700, "{}", changes.len());
}

#[test]
fn the_oldest_go_when_all_take_more_than_allowed() {
    let dir = TempDir::new().unwrap();
    let max_bytes = 5 << 20;
    let mut history = Embedded::new(Settings {
        max_bytes,
        ..settings(dir.path())
    });
    let mut random = Random(5);
    let names: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    for n in 0..1200u64 {
        let mut rooms: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), noisy(&mut random)))
            .collect();
        rooms.push(("a", with_packets(n)));
        if n % 60 == 59 {
            // Here ticks come faster than a thread in the background writes tables out.
            let era = history.tables.as_ref().unwrap().eras().last().unwrap();
            era.table.rotate_memtable_and_wait().unwrap();
        }
        history.take(tick(START + n * 5000, rooms)).unwrap();
    }
    let reader = history.reader();
    assert!(
        first_kept(&reader).0 > START + 300 * 5000,
        "11 MB were given, 5 may be kept"
    );
    let tables = history.tables.as_ref().unwrap();
    assert!(tables.bytes() <= max_bytes, "{}", tables.bytes());
    assert!(tables.bytes() >= max_bytes / 2, "{}", tables.bytes());
    assert!(ask(&reader, "r7", ALL).unwrap().snapshots.len() > 300);
    drop((history, reader));
    // What went stays away, and what stayed is there, after a restart.
    let history = opened(dir.path());
    assert!(first_kept(&history.reader()).0 > START + 300 * 5000);
}

#[test]
fn on_a_disk_that_is_short_the_oldest_go_first_and_then_nothing_is_written_but_nothing_stops() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    for n in 0..130 {
        history
            .take(tick(START + n * 5000, vec![("a", with_packets(n))]))
            .unwrap();
    }
    history.tables.as_mut().unwrap().begin_era().unwrap();
    for n in 130..260 {
        history
            .take(tick(START + n * 5000, vec![("a", with_packets(n))]))
            .unwrap();
    }
    let reader = history.reader();
    history.settings.reserve = u64::MAX;
    history
        .take(tick(START + 260 * 5000, vec![("a", with_packets(260))]))
        .unwrap();
    assert_eq!(reader.figures().tightened.load(Ordering::Relaxed), 1);
    assert!(first_kept(&reader).0 > START);

    let mut last = tick(START + 261 * 5000, vec![("a", with_packets(261))]);
    last.transitions
        .push(change("a", last.at.0, Some(State::Liveing), State::Expired, 9));
    let said = history.take(last).unwrap_err().to_string();
    assert!(said.contains("no snapshots are written"), "{said}");
    assert_eq!(reader.figures().dropped.load(Ordering::Relaxed), 1);
    assert_eq!(
        ask(&reader, "a", ALL).unwrap().snapshots.last().unwrap().at,
        Wall(START + 260 * 5000)
    );

    // There is room again: the change of state was not lost with its tick.
    history.settings.reserve = 0;
    history
        .take(tick(START + 262 * 5000, vec![("a", with_packets(262))]))
        .unwrap();
    let answer = ask(&reader, "a", ALL).unwrap();
    assert_eq!(answer.snapshots.last().unwrap().at, Wall(START + 262 * 5000));
    assert_eq!(answer.transitions.len(), 1);
}
