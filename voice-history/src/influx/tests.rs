use super::*;
use crate::{
    Answer, HistoryError, PathQuestion, Question, Range, embedded,
    query::MAX_PAGE,
    snapshot::Health,
    testing::{change, room, snapshot, tick, with_packets},
};
use server::Server;
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::mpsc,
    thread,
    time::Instant,
};
use tempfile::TempDir;
use voice_room::{State, Wall};

mod server;

const START: u64 = 1_763_849_000_000;
const ALL: Range = Range {
    from: Wall(0),
    to: Wall(u64::MAX),
};
/// Two busy cores included.
const SOON: Duration = Duration::from_secs(60);

fn settings(port: u16, dir: &Path) -> Settings {
    Settings {
        address: format!("http://127.0.0.1:{port}").parse().unwrap(),
        database: "voice".into(),
        user: None,
        node: NodeName::new("node 1".replace(' ', "-").as_str()).unwrap(),
        max_age: Duration::from_secs(86_400 * 3650),
        spool: dir.join("spool"),
        spool_bytes: 64 << 20,
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_until_sent(influx: &Influx) {
    let figures = influx.figures();
    wait_until("nothing waits", || figures.waiting.load(Ordering::Relaxed) == 0);
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

/// Ten minutes of two rooms that come, change, are cut and go; with health that changes.
fn story() -> Vec<Tick> {
    let ticks = (0..120u64).map(|n| {
        let mut a = with_packets(n * 250);
        a.members = u32::from(n > 50);
        a.heartbeat_age = (n > 3).then_some(n as u32);
        let mut rooms = Vec::new();
        if n == 60 {
            a.state = State::Expired;
            a.blocked_until = Some(Wall(START + 900_000));
            a.media.0[1].packets = 77;
        }
        rooms.push(("a", a));
        if (20..80).contains(&n) {
            rooms.push(("b", snapshot()));
        }
        let mut tick = tick(START + n * 5000 + n % 7, rooms);
        let mut changed = |name: &str, from, to, version| {
            let at = START + n * 5000 - 1;
            tick.transitions.push(change(name, at, from, to, version));
        };
        match n {
            1 => changed("a", None, State::Liveing, 1),
            20 => changed("b", Some(State::Created), State::Liveing, 2),
            60 => changed("a", Some(State::Liveing), State::Expired, 2),
            61 => changed("a", Some(State::Expired), State::Liveing, 3),
            80 => changed("b", Some(State::Liveing), State::Expired, 3),
            _ => {}
        }
        if (30..40).contains(&n) {
            tick.health.insert("redis \"one\", two=2".into(), Health::Broken);
        }
        tick
    });
    ticks.collect()
}

#[test]
fn the_same_questions_have_the_same_answers_as_the_history_on_disk() {
    let (dir, server) = (TempDir::new().unwrap(), Server::start());
    let mut influx = Influx::start(&settings(server.port(), dir.path())).unwrap();
    let mut disk = embedded::Embedded::new(embedded::Settings {
        path: dir.path().join("disk"),
        max_age: Duration::from_secs(86_400),
        max_bytes: 1 << 30,
        reserve: 0,
    });
    for tick in story() {
        influx.take(tick.clone()).unwrap();
        disk.take(tick).unwrap();
    }
    wait_until_sent(&influx);
    let (there, here) = (influx.reader(), disk.reader());

    let ranges = [
        (0, u64::MAX - START),
        (0, 5000),
        (12_345, 300_000),
        (299_999, 300_004),
        (400_000, 401_000),
    ];
    for (from, to) in ranges {
        let range = Range {
            from: Wall(START + from),
            to: Wall(START + to),
        };
        for name in ["a", "b"] {
            assert_eq!(
                there.room(&question(name, range)),
                here.room(&question(name, range)),
                "{name} {range:?}"
            );
        }
    }
    let all = |ask: &dyn Fn(&Question) -> Result<Answer, HistoryError>| {
        let (mut taken, mut next) = (Vec::new(), None);
        loop {
            let page = ask(&Question {
                limit: 13,
                after: next,
                ..question("a", ALL)
            })
            .unwrap();
            assert!(page.snapshots.len() <= 13);
            taken.extend(page.snapshots);
            next = page.next;
            if next.is_none() {
                return taken;
            }
        }
    };
    assert_eq!(all(&|q| there.room(q)), all(&|q| here.room(q)));
    assert_eq!(all(&|q| there.room(q)).len(), 120);

    for n in [0, 35, 60, 61, 79, 119] {
        for name in ["a", "b"] {
            let at = Wall(START + n * 5000 + 4000);
            assert_eq!(
                there.at(&room(name), at),
                here.at(&room(name), at),
                "{name} at tick {n}"
            );
        }
    }
    for path in [
        "LIVEING>EXPIRED",
        "NONE>LIVEING>EXPIRED>LIVEING",
        "CREATED>LIVEING>EXPIRED",
        "EXPIRED>DESTROYED",
    ] {
        let ask = PathQuestion {
            path: path.parse().unwrap(),
            range: ALL,
            limit: MAX_PAGE,
            after: None,
        };
        assert_eq!(there.path(&ask), here.path(&ask), "{path}");
    }
    let never = question("never", ALL);
    assert_eq!(there.room(&never), here.room(&never));
    assert_eq!(
        there.at(&room("never"), Wall(START)),
        here.at(&room("never"), Wall(START))
    );
}

#[test]
fn an_outage_and_a_restart_of_the_agent_within_it_lose_no_snapshot() {
    let (dir, mut server) = (TempDir::new().unwrap(), Server::start());
    let settings = settings(server.port(), dir.path());
    let mut influx = Influx::start(&settings).unwrap();
    let figures = influx.figures();
    let ticks = story();
    let (before, rest) = ticks.split_at(40);
    let (during, after) = rest.split_at(40);
    before.iter().for_each(|tick| influx.take(tick.clone()).unwrap());
    wait_until_sent(&influx);

    server.kill();
    during[..20]
        .iter()
        .for_each(|tick| influx.take(tick.clone()).unwrap());
    wait_until("an attempt fails", || figures.failed.load(Ordering::Relaxed) > 0);
    assert!(matches!(
        influx.reader().room(&question("a", ALL)),
        Err(HistoryError::Away(_))
    ));
    drop(influx);
    let mut influx = Influx::start(&settings).unwrap();
    assert!(
        influx.figures().waiting.load(Ordering::Relaxed) > 0,
        "what was spooled is found again"
    );
    during[20..]
        .iter()
        .for_each(|tick| influx.take(tick.clone()).unwrap());

    server.run();
    after.iter().for_each(|tick| influx.take(tick.clone()).unwrap());
    wait_until_sent(&influx);
    let answer = influx.reader().room(&question("a", ALL)).unwrap();
    let times: Vec<u64> = answer.snapshots.iter().map(|taken| taken.at.0).collect();
    assert_eq!(times, ticks.iter().map(|tick| tick.at.0).collect::<Vec<_>>());
    assert_eq!(influx.figures().lost.load(Ordering::Relaxed), 0);
}

/// A server that gives these answers, one a connection, and tells how many bytes it was sent each time. `None`: it hangs up.
fn answering(answers: Vec<Option<&'static str>>) -> (u16, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, hear) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The head, and as many bytes behind it as it says.
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).into_owned();
                let length = text
                    .split("Content-Length: ")
                    .nth(1)?
                    .split('\r')
                    .next()?
                    .parse::<usize>()
                    .ok()?;
                let head = request.windows(4).position(|w| w == b"\r\n\r\n")?;
                (request.len() >= head + 4 + length).then_some(length)
            };
            let length = loop {
                if let Some(length) = whole(&request) {
                    break length;
                }
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break 0,
                }
            };
            if let Some(status) = answer {
                let body = "{\"error\":\"said by a test\"}";
                let said = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(said.as_bytes()).unwrap();
            }
            let _ = heard.send(length);
        }
    });
    (port, hear)
}

#[test]
fn a_malformed_batch_is_set_aside_and_what_passes_is_tried_again_in_order() {
    let dir = TempDir::new().unwrap();
    let (port, hear) = answering(vec![
        Some("400 Bad Request"),
        Some("429 Too Many Requests"),
        Some("503 Service Unavailable"),
        None,
        Some("204 No Content"),
        Some("204 No Content"),
    ]);
    let mut influx = Influx::start(&settings(port, dir.path())).unwrap();
    let figures = influx.figures();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for n in 0..3 {
        // Of sizes that tell them apart.
        let names: Vec<String> = (0..=n * 40).map(|k| format!("r{}", k * k * 7919)).collect();
        let rooms = names
            .iter()
            .map(|name| (name.as_str(), with_packets(n)))
            .collect();
        influx.take(tick(START + n * 5000, rooms)).unwrap();
    }
    wait_until("all are dealt with", || count(&figures.waiting) == 0);
    assert_eq!(
        (
            count(&figures.refused),
            count(&figures.failed),
            count(&figures.sent)
        ),
        (1, 3, 2)
    );
    let sizes: Vec<usize> = hear.iter().take(6).collect();
    assert!(sizes[1] > sizes[0] && sizes[5] > sizes[4], "{sizes:?}");
    assert_eq!(
        sizes[1..5],
        [sizes[1]; 4],
        "the same batch until it is taken: {sizes:?}"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("spool/refused"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_database_that_hangs_holds_nobody_up_for_long_and_a_full_spool_loses_the_oldest_and_says_so() {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = Settings {
        spool_bytes: 4096,
        ..settings(port, dir.path())
    };
    let mut influx = Influx::start(&settings).unwrap();
    let figures = influx.figures();
    let begun = Instant::now();
    for n in 0..100 {
        influx
            .take(tick(START + n * 5000, vec![("a", with_packets(n))]))
            .unwrap();
    }
    assert!(
        begun.elapsed() < SOON / 2,
        "taking does not wait for the database"
    );
    assert!(figures.lost.load(Ordering::Relaxed) > 50);
    assert!(figures.waiting.load(Ordering::Relaxed) <= 4096);
    let answer = influx.reader().room(&question("a", ALL));
    assert!(matches!(answer, Err(HistoryError::Away(_))), "{answer:?}");
}

#[test]
fn changes_of_state_that_the_spools_disk_did_not_take_come_with_the_next_snapshots() {
    let dir = TempDir::new().unwrap();
    // Nobody listens there.
    let settings = settings(9, dir.path());
    std::fs::write(&settings.spool, "in the way").unwrap();
    let mut influx = Influx::start(&settings).unwrap();
    let figures = influx.figures();
    let mut first = tick(START, vec![("a", snapshot())]);
    first
        .transitions
        .push(change("a", START - 1, None, State::Liveing, 1));
    assert!(influx.take(first).is_err());
    assert_eq!(figures.dropped.load(Ordering::Relaxed), 1);
    std::fs::remove_file(&settings.spool).unwrap();
    influx.take(tick(START + 5000, vec![("a", snapshot())])).unwrap();
    let batch = std::fs::File::open(settings.spool.join("000000000000.gz")).unwrap();
    let mut lines = String::new();
    flate2::read::GzDecoder::new(batch)
        .read_to_string(&mut lines)
        .unwrap();
    assert_eq!(lines.matches("transition,").count(), 1, "{lines}");
    assert_eq!(figures.lost_changes.load(Ordering::Relaxed), 0);
}

#[test]
fn an_answer_that_comes_a_byte_at_a_time_is_given_up_when_its_question_is_over() {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let influx = Influx::start(&settings(listener.local_addr().unwrap().port(), dir.path())).unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let reader = influx.reader().until(begun + Duration::from_millis(300));
    let answer = reader.room(&question("a", ALL));
    let Err(HistoryError::Away(why)) = &answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("does not answer in time"), "{why}");
    // Two seconds are for busy cores.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    serving.join().unwrap();
}

#[test]
fn an_address_is_http_with_host_and_port() {
    for good in [
        "http://127.0.0.1:8086",
        "http://[::1]:8086",
        "http://influx.example:80",
    ] {
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
    }
    for wrong in [
        "",
        "https://a:1",
        "http://a",
        "http://a:0",
        "http://u:p@a:1",
        "a:8086",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}
