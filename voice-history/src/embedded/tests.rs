use super::*;
use crate::{
    Answer, HistoryError, NodeHealth, PathQuestion, Question, Range, Snapshot, Taken,
    query::MAX_PAGE,
    snapshot::Health,
    testing::{change, room, snapshot, tick, with_packets},
};
use std::{collections::BTreeMap, fs};
use tempfile::TempDir;
use voice_room::{Incarnation, RoomId, State};

mod damage;
mod retention;

const START: u64 = 1_763_849_000_000;
const ALL: Range = Range {
    from: Wall(0),
    to: Wall(u64::MAX),
};

/// Of what was given, what each room was like.
type Given = BTreeMap<RoomId, Vec<Taken>>;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn settings(path: &Path) -> Settings {
    Settings {
        path: path.join("history"),
        max_age: Duration::from_secs(86_400),
        max_bytes: 1 << 30,
        reserve: 0,
    }
}

fn opened(path: &Path) -> Embedded {
    let mut history = Embedded::new(settings(path));
    history.open().unwrap();
    history
}

/// Rooms that come and go, get new lives, and whose counters move, stop and begin anew.
fn next_tick(random: &mut Random, n: u64, rooms: &mut BTreeMap<String, Snapshot>) -> Tick {
    for k in 0..8 {
        let name = format!("room-{k}");
        match random.below(200) {
            0 => drop(rooms.remove(&name)),
            1..=8 => drop(rooms.entry(name).or_insert_with(snapshot)),
            9 => {
                if let Some(room) = rooms.get_mut(&name) {
                    room.incarnation = Incarnation(room.incarnation.0 + 1);
                    room.media = Default::default();
                    room.state = State::ALL[random.below(5) as usize];
                }
            }
            _ => {
                if let Some(room) = rooms.get_mut(&name).filter(|_| k % 2 == 0) {
                    room.media.0[0].packets += 240 + random.below(20);
                    room.media.0[0].bytes += 40_000 + random.below(3000);
                }
            }
        }
    }
    let given = rooms
        .iter()
        .map(|(name, snapshot)| (name.as_str(), snapshot.clone()))
        .collect();
    let mut tick = tick(START + n * 5000 + random.below(3), given);
    if random.below(50) == 0 {
        tick.health
            .insert("redis".into(), Health::ALL[random.below(3) as usize]);
    }
    tick
}

fn give(history: &mut Embedded, given: &mut Given, tick: Tick) {
    for (room, snapshot) in tick.rooms.iter() {
        given.entry(room.clone()).or_default().push(Taken {
            at: tick.at,
            snapshot,
        });
    }
    history.take(tick).unwrap();
}

fn ask(reader: &Reader, name: &str, range: Range) -> Result<Answer, HistoryError> {
    reader.room(&question(name, range))
}

fn question(name: &str, range: Range) -> Question {
    Question {
        room: room(name),
        range,
        limit: MAX_PAGE,
        points: None,
        after: None,
    }
}

fn assert_all_is_there(reader: &Reader, given: &Given) {
    for (room, taken) in given {
        let answer = ask(reader, room, ALL).unwrap();
        assert_eq!(answer.snapshots, *taken, "{room}");
        assert_eq!(answer.damaged, 0);
    }
}

#[test]
fn every_snapshot_is_read_back_while_blocks_are_open_and_closed_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (mut random, mut rooms, mut given) = (Random(11), BTreeMap::new(), Given::new());
    for run in 0..3 {
        let mut history = opened(dir.path());
        let reader = history.reader();
        assert_all_is_there(&reader, &given);
        for n in 0..150 {
            let tick = next_tick(&mut random, run * 150 + n, &mut rooms);
            give(&mut history, &mut given, tick);
            if n % 29 == 0 {
                assert_all_is_there(&reader, &given);
            }
        }
        assert_all_is_there(&reader, &given);
        // Without closing: as kill -9 leaves it.
        drop(history);
    }
    let snapshots: usize = given.values().map(Vec::len).sum();
    assert!(given.len() > 5 && snapshots > 1000, "{snapshots}");
}

#[test]
fn a_range_is_answered_to_the_millisecond_also_when_the_clock_jumped() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    let mut given = Given::new();
    for n in 0..400u64 {
        // An hour back after 200 ticks.
        let at = if n < 200 {
            START + n * 5000
        } else {
            START + n * 5000 - 3_600_000
        };
        give(&mut history, &mut given, tick(at, vec![("a", with_packets(n))]));
    }
    let reader = history.reader();
    for (from, to) in [(0, 5000), (1, 4999), (999_000, 1_500_000), (0, u64::MAX - START)] {
        let range = Range {
            from: Wall(START + from),
            to: Wall(START + to),
        };
        let expected: Vec<Taken> = given[&room("a")]
            .iter()
            .filter(|taken| range.holds(taken.at))
            .cloned()
            .collect();
        assert_eq!(ask(&reader, "a", range).unwrap().snapshots, expected, "{range:?}");
    }
}

#[test]
fn pages_together_are_the_whole_and_points_leave_no_change_out() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    let mut given = Given::new();
    for n in 0..300u64 {
        let mut snapshot = with_packets(n * 250);
        if n == 133 {
            snapshot.state = State::GraceClosing;
        }
        give(
            &mut history,
            &mut given,
            tick(START + n * 5000, vec![("a", snapshot)]),
        );
    }
    let reader = history.reader();
    let (mut paged, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let asked = Question {
            limit: 47,
            after: next,
            ..question("a", ALL)
        };
        let answer = reader.room(&asked).unwrap();
        paged.extend(answer.snapshots);
        pages += 1;
        next = answer.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(paged, given[&room("a")]);
    assert_eq!(pages, 7);

    let thin = reader
        .room(&Question {
            points: Some(30),
            ..question("a", ALL)
        })
        .unwrap()
        .snapshots;
    assert!((30..=34).contains(&thin.len()), "{}", thin.len());
    assert!(
        thin.iter()
            .any(|taken| taken.snapshot.state == State::GraceClosing)
    );
}

#[test]
fn the_state_at_a_time_is_the_last_before_it_with_the_last_ten_changes_and_the_health() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    for n in 0..300u64 {
        let mut given = tick(START + n * 5000, vec![("a", with_packets(n))]);
        if n % 20 == 0 {
            given
                .transitions
                .push(change("a", given.at.0, Some(State::Created), State::Liveing, n));
        }
        if n == 200 {
            given.health.insert("etcd".into(), Health::Broken);
        }
        history.take(given).unwrap();
    }
    let reader = history.reader();
    for (n, changes) in [(0, 1), (100, 6), (200, 10), (299, 10)] {
        let moment = reader.at(&room("a"), Wall(START + n * 5000 + 4999)).unwrap();
        let taken = moment.snapshot.unwrap();
        assert_eq!(
            (taken.at, taken.snapshot),
            (Wall(START + n * 5000), with_packets(n))
        );
        assert_eq!(moment.transitions.len(), changes);
        assert_eq!(moment.transitions.last().unwrap().version.0, n / 20 * 20);
        let etcd = if n == 200 { Health::Broken } else { Health::Healthy };
        assert_eq!(moment.health, NodeHealth::from([("etcd".into(), etcd)]));
    }
    let before = reader.at(&room("a"), Wall(START - 1)).unwrap();
    assert_eq!((before.snapshot, before.transitions), (None, vec![]));
    assert_eq!(
        ask(&reader, "a", ALL).unwrap().health.len(),
        3,
        "healthy, broken, healthy"
    );
}

#[test]
fn rooms_that_went_a_way_are_found_in_order_page_by_page_and_others_are_not() {
    use State::{Created, Destroyed, Expired, Liveing};
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    let mut expected = Vec::new();
    for n in 0..250u64 {
        let at = START + n * 5000;
        let name = format!("r{n:03}");
        let mut given = tick(at, vec![("a", snapshot())]);
        let end = if n % 3 == 0 { Expired } else { Destroyed };
        for (version, (from, to)) in [
            (None, Created),
            (Some(Created), Liveing),
            (Some(Liveing), end),
            (Some(end), Destroyed),
        ]
        .into_iter()
        .enumerate()
        {
            let wall = at + version as u64 * 10;
            given
                .transitions
                .push(change(&name, wall, from, to, version as u64 + 1));
        }
        if n % 3 == 0 {
            expected.push(name);
        }
        history.take(given).unwrap();
    }
    let reader = history.reader();
    let found = |path: &str, range: Range, limit: usize| {
        let (mut names, mut next) = (Vec::new(), None);
        loop {
            let path = path.parse().unwrap();
            let page = reader
                .path(&PathQuestion {
                    path,
                    range,
                    limit,
                    after: next,
                })
                .unwrap();
            names.extend(page.trips.iter().map(|trip| trip.room.to_string()));
            assert!(page.trips.len() <= limit);
            next = page.next;
            if next.is_none() {
                return names;
            }
        }
    };
    assert_eq!(found("LIVEING>EXPIRED", ALL, 4096), expected);
    assert_eq!(found("LIVEING>EXPIRED", ALL, 7), expected);
    assert_eq!(found("NONE>CREATED>LIVEING>EXPIRED>DESTROYED", ALL, 10), expected);
    assert_eq!(
        found("CREATED>LIVEING>GRACE_CLOSING", ALL, 10),
        Vec::<String>::new()
    );
    let late = Range {
        from: Wall(START + 240 * 5000),
        to: Wall(u64::MAX),
    };
    assert_eq!(
        found("LIVEING>EXPIRED", late, 10),
        ["r240", "r243", "r246", "r249"]
    );
}

#[test]
fn what_cannot_be_answered_says_why() {
    let dir = TempDir::new().unwrap();
    let mut history = Embedded::new(settings(dir.path()));
    let reader = history.reader();
    assert!(matches!(ask(&reader, "a", ALL), Err(HistoryError::Away(_))));
    history.take(tick(START, vec![("a", snapshot())])).unwrap();
    let never = ask(&reader, "b", ALL).unwrap_err();
    assert_eq!(never, HistoryError::NoSuchRoom { room: room("b") });
    assert!(matches!(
        reader.at(&room("b"), Wall(START)),
        Err(HistoryError::NoSuchRoom { .. })
    ));
    let backwards = Range {
        from: Wall(2),
        to: Wall(1),
    };
    assert_eq!(ask(&reader, "a", backwards), Err(HistoryError::Range(backwards)));
    let cursor = Some(crate::Cursor("x".into()));
    let wrong = reader.room(&Question {
        after: cursor.clone(),
        ..question("a", ALL)
    });
    assert!(matches!(wrong, Err(HistoryError::Cursor(_))));
    let path = "LIVEING>EXPIRED".parse().unwrap();
    let wrong = reader.path(&PathQuestion {
        path,
        range: ALL,
        limit: 1,
        after: cursor,
    });
    assert!(matches!(wrong, Err(HistoryError::Cursor(_))));
    let none = ask(
        &reader,
        "a",
        Range {
            from: Wall(0),
            to: Wall(5),
        },
    )
    .unwrap();
    assert_eq!(none, Answer::default(), "known, but not then");
}

#[test]
fn readers_go_on_while_the_writer_closes_blocks_and_never_miss_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let mut history = opened(dir.path());
    history.take(tick(START, vec![("a", with_packets(0))])).unwrap();
    let reader = history.reader();
    let reading = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 500 {
            let count = ask(&reader, "a", ALL).unwrap().snapshots.len();
            assert!(count >= seen, "{count} after {seen}");
            seen = count;
        }
    });
    for n in 1..500 {
        history
            .take(tick(START + n * 5000, vec![("a", with_packets(n * n))]))
            .unwrap();
    }
    reading.join().unwrap();
}
