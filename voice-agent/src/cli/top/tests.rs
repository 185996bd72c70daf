//! Keys and answers in, the screen out: drawn on a terminal in memory.

use super::{
    ask::{Found, Opened},
    draw,
    state::{Top, Wish},
};
use crate::{
    cli::{
        failure::{Code, Failure},
        output::Output,
    },
    proto::admin::{
        BlockInfo, Dependency, Entry, Held, Room, RoomCounts, Time, TopResponse, Tripped, TripsByRule,
        Witness, entry::What,
    },
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend, style::Modifier};
use std::time::{Duration, Instant};

fn room(name: &str, cut: bool) -> Room {
    Room {
        room: name.into(),
        state: if cut { "EXPIRED" } else { "LIVEING" }.into(),
        state_age_ms: 95_000,
        clients: 12,
        ports: vec![50_000],
        heartbeat_age_ms: Some(3_200),
        witness: Some(Witness {
            window_ms: 25_000,
            rtp_in_packets: 1_250,
            rtp_out_packets: 25_000,
            saw_egress: true,
        }),
        dropped_per_second: cut.then_some(1_048),
        block: cut.then(|| BlockInfo {
            reason: "stuck".into(),
            left_ms: 205_000,
            ..BlockInfo::default()
        }),
        ..Room::default()
    }
}

fn at(rfc3339: &str) -> Option<Time> {
    Some(Time {
        rfc3339: rfc3339.into(),
        unix_ms: 0,
    })
}

/// `n` rooms from `offset` on, of 1,000; the first of all is cut.
fn answer(offset: usize, n: usize) -> Found {
    let rooms = (offset..offset + n).map(|i| room(&format!("talk-{i:03}"), i == 0));
    Found {
        top: TopResponse {
            node: "media-1".into(),
            version: "0.1.0".into(),
            uptime_ms: 95_000,
            mode: "enforce".into(),
            counts: Some(RoomCounts {
                total: 1_000,
                liveing: 999,
                expired: 1,
                blocked: 1,
                missing_heartbeats: 2,
                passed_packets: 1_234_567,
                dropped_packets: 4_200,
                ..RoomCounts::default()
            }),
            rooms: rooms.collect(),
            matching: 1_000,
            offset: u32::try_from(offset).unwrap(),
            dependencies: vec![
                Dependency {
                    name: "redis".into(),
                    tier: "Broken".into(),
                    lasts_ms: 12_000,
                },
                Dependency {
                    name: "media".into(),
                    tier: "Healthy".into(),
                    lasts_ms: 95_000,
                },
            ],
            trips: vec![TripsByRule {
                rule: "source_silent".into(),
                trips: 3,
            }],
            recent_trips: vec![Tripped {
                at: at("2026-11-22T13:11:12.345Z"),
                room: "talk-000".into(),
                rule: "omitted".into(),
            }],
            ..TopResponse::default()
        },
        opened: None,
    }
}

/// A screen that has heard from the agent.
struct Seen {
    top: Top,
    terminal: Terminal<TestBackend>,
    now: Instant,
}

impl Seen {
    fn new(width: u16, height: u16) -> Seen {
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut seen = Seen {
            top: Top::default(),
            terminal,
            now: Instant::now(),
        };
        seen.screen();
        seen.hear();
        seen
    }

    /// The agent answers what is wanted.
    fn hear(&mut self) {
        let wanted = self.top.wanted();
        let list = &wanted.list;
        let mut found = answer(list.offset as usize, list.limit as usize);
        found.opened = wanted.room.map(|name| opened(&name));
        self.top.answered(Ok(found), self.now);
    }

    fn press(&mut self, codes: &[KeyCode]) -> Wish {
        let keys = codes.iter().map(|code| KeyEvent::new(*code, KeyModifiers::NONE));
        let wish = keys.map(|key| self.top.key(key)).last().unwrap();
        self.screen();
        self.hear();
        wish
    }

    fn draw(&mut self, out: Output) {
        let (top, now) = (&mut self.top, self.now);
        let drawn = self.terminal.draw(|frame| {
            top.fit(draw::rows(frame.area(), top));
            draw::draw(frame, top, out, now);
        });
        drawn.unwrap();
    }

    fn screen(&mut self) -> Vec<String> {
        self.draw(Output::plain());
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width).max(1);
        let lines = buffer.content.chunks(width);
        lines
            .map(|line| {
                line.iter()
                    .map(|cell| cell.symbol())
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    /// The line that is turned over: the chosen room.
    fn chosen(&mut self) -> String {
        let lines = self.screen();
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width).max(1);
        let turned = |line: &&[ratatui::buffer::Cell]| line[0].modifier.contains(Modifier::REVERSED);
        let at = buffer
            .content
            .chunks(width)
            .position(|line| turned(&line))
            .unwrap();
        lines[at].split_whitespace().next().unwrap().to_owned()
    }
}

fn opened(name: &str) -> Opened {
    let held = |s| Entry {
        incarnation: 1,
        at: at(&format!("2026-11-22T13:11:{s:02}.345Z")),
        what: Some(What::Held(Held {
            hold: "contradiction".into(),
            evidence: None,
        })),
    };
    Opened {
        name: name.into(),
        room: Some(room(name, true)),
        entries: (0..30).map(held).collect(),
    }
}

const WIDE: (u16, u16) = (120, 30);

#[test]
fn the_screen_tells_the_node_its_rooms_what_it_depends_on_and_what_was_cut() {
    let lines = Seen::new(WIDE.0, WIDE.1).screen();
    assert_eq!(
        lines[..10],
        [
            "media-1  voice-agent 0.1.0, up 95 s, mode enforce",
            "rooms       1,000  999 LIVEING, 1 EXPIRED",
            "attention   1 blocked, 0 held, 0 would trip, 2 missing heartbeats, 0 not stored, 0 being claimed, 0 of other nodes",
            "packets     1,234,567 passed, 4,200 dropped",
            "depends on  redis Broken 12 s, media Healthy 95 s",
            "trips       3 source silent",
            "all rooms: 1-16 of 1000, by attention",
            "ROOM       STATE         FOR          HEARTBEAT          CLIENTS RTP IN/S    OUT/S   DROPS/S       LEFT NOTE",
            "talk-000   EXPIRED       95 s         3.2 s                   12       50    1,000     1,048 3 min 25 s stuck",
            "talk-001   LIVEING       95 s         3.2 s                   12       50    1,000",
        ]
    );
    assert_eq!(lines[24], "LAST TRIPS");
    assert_eq!(lines[25], "2026-11-22 13:11:12.345  talk-000  omitted");
    assert!(
        lines[29].starts_with("q quit  ↑↓ move  enter open  s sort"),
        "{}",
        lines[29]
    );
}

#[test]
fn no_more_rooms_are_asked_for_than_fit_and_the_chosen_one_stays_on_the_screen() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    assert_eq!(seen.top.wanted().list.limit, 16);
    assert_eq!(seen.chosen(), "talk-000");
    seen.press(&[KeyCode::Down, KeyCode::PageDown]);
    assert_eq!(seen.top.wanted().list.offset, 2, "17 is the last of sixteen");
    assert_eq!(seen.chosen(), "talk-017");
    seen.press(&[KeyCode::End]);
    assert_eq!(
        (seen.top.wanted().list.offset, seen.chosen()),
        (984, "talk-999".into())
    );
    seen.press(&[KeyCode::Down, KeyCode::Char('j')]);
    assert_eq!(seen.chosen(), "talk-999", "there is none below");
    seen.terminal.backend_mut().resize(WIDE.0, 60);
    seen.screen();
    seen.hear();
    assert_eq!(seen.top.wanted().list.limit, 46, "a longer screen is filled");
    assert_eq!(
        (seen.top.wanted().list.offset, seen.chosen()),
        (954, "talk-999".into())
    );
    seen.press(&[KeyCode::Char('g'), KeyCode::Char('k')]);
    assert_eq!(
        (seen.top.wanted().list.offset, seen.chosen()),
        (0, "talk-000".into())
    );
}

#[test]
fn keys_sort_turn_round_choose_and_find_and_the_agent_is_asked_for_it() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    seen.press(&[
        KeyCode::PageDown,
        KeyCode::Char('s'),
        KeyCode::Char('s'),
        KeyCode::Char('r'),
    ]);
    let list = seen.top.wanted().list;
    assert_eq!(
        (list.sort.as_str(), list.reverse, list.offset),
        ("since", true, 0)
    );
    assert_eq!(seen.screen()[6], "all rooms: 1-16 of 1000, by since, reversed");
    seen.press(&[KeyCode::Char('b')]);
    assert_eq!(seen.top.wanted().list.only, "blocked");
    seen.press(&[KeyCode::Char('f')]);
    assert_eq!(seen.top.wanted().list.only, "held");
    // A key that means something else, while the text is typed.
    seen.press(&[
        KeyCode::Char('/'),
        KeyCode::Char('q'),
        KeyCode::Char('s'),
        KeyCode::Backspace,
    ]);
    assert_eq!(seen.screen()[29], "find: q_   Enter keeps it, Esc forgets it");
    assert_eq!(seen.top.wanted().list.matching, "q");
    seen.press(&[KeyCode::Enter]);
    assert_eq!(
        seen.screen()[6],
        "held, with \"q\": 1-16 of 1000, by since, reversed"
    );
    seen.press(&[KeyCode::Esc]);
    let list = seen.top.wanted().list;
    assert_eq!((list.only.as_str(), list.matching.as_str()), ("", ""));
}

#[test]
fn a_room_is_opened_with_its_timeline_scrolled_to_its_end_and_closed() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    seen.press(&[KeyCode::Down, KeyCode::Enter]);
    let wanted = seen.top.wanted();
    assert_eq!((wanted.room.as_deref(), wanted.list.limit), (Some("talk-001"), 0));
    let lines = seen.screen();
    assert!(
        lines[6].starts_with("ROOM talk-001  (0 lines above, "),
        "{}",
        lines[6]
    );
    assert!(
        lines.iter().any(|l| l.starts_with("state      EXPIRED for 95 s")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l == "Room talk-001: 30 records, oldest first, times in UTC.")
    );
    seen.press(&[KeyCode::End]);
    let lines = seen.screen();
    assert!(lines[6].ends_with(", 0 below)"), "{}", lines[6]);
    assert!(
        lines[25].contains("13:11:29.345  Stuck, yet not cut"),
        "{lines:#?}"
    );
    seen.press(&[KeyCode::Up]);
    assert!(seen.screen()[6].ends_with(", 1 below)"));
    seen.press(&[KeyCode::Esc]);
    assert_eq!(seen.top.wanted().room, None);
    assert_eq!(seen.chosen(), "talk-001", "where it was left");
}

#[test]
fn a_room_that_is_gone_is_told_and_its_story_stays() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    seen.press(&[KeyCode::Enter]);
    let mut found = answer(0, 0);
    found.opened = Some(Opened {
        room: None,
        ..opened("talk-000")
    });
    seen.top.answered(Ok(found), seen.now);
    let lines = seen.screen();
    assert!(
        lines[7].starts_with("The agent does not know this room any more"),
        "{}",
        lines[7]
    );
    assert!(lines.iter().any(|l| l.contains("Stuck, yet not cut")));
}

#[test]
fn an_agent_that_goes_away_is_told_with_what_was_known_and_one_that_comes_back_is_shown_again() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    let gone = Failure::new(Code::AgentNotRunning, "agent not running: nobody listens");
    seen.top.answered(Err(gone), seen.now);
    seen.now += Duration::from_secs(12);
    let lines = seen.screen();
    assert_eq!(
        lines[0],
        "AGENT AWAY, shown is what it said 12 s ago: agent not running: nobody listens"
    );
    assert!(lines[8].starts_with("talk-000 "));
    seen.hear();
    assert!(seen.screen()[0].starts_with("media-1  voice-agent"));
    seen.now += Duration::from_secs(4);
    assert!(
        seen.screen()[0].contains("4.0 s ago: it does not answer"),
        "a frozen agent"
    );
}

#[test]
fn no_size_is_too_small_and_a_narrow_screen_leaves_columns_out() {
    let mut seen = Seen::new(80, 24);
    let lines = seen.screen();
    assert!(lines[7].starts_with("ROOM"), "{lines:#?}");
    assert!(
        lines[7].contains("DROPS/S") && !lines[7].contains("CLIENTS"),
        "{}",
        lines[7]
    );
    for (width, height) in [(1, 1), (3, 2), (20, 5), (200, 3), (0, 0), (300, 200)] {
        seen.terminal.backend_mut().resize(width, height);
        seen.screen();
        seen.hear();
        seen.press(&[KeyCode::Enter]);
        seen.press(&[KeyCode::End]);
        seen.press(&[KeyCode::Esc]);
        seen.press(&[KeyCode::Char('?')]);
        seen.press(&[KeyCode::Esc]);
    }
}

#[test]
fn colours_are_there_unless_they_are_refused_and_then_what_is_bad_is_bold() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    for (out, colored) in [(Output::colored(), true), (Output::plain(), false)] {
        seen.draw(out);
        let cells = &seen.terminal.backend().buffer().content;
        let has_color = cells.iter().any(|cell| cell.fg != ratatui::style::Color::Reset);
        assert_eq!(has_color, colored);
        let blocked = cells
            .iter()
            .any(|cell| cell.symbol() == "b" && cell.modifier.contains(Modifier::BOLD));
        assert!(blocked);
    }
}

#[test]
fn q_and_ctrl_c_leave_and_help_names_every_key() {
    let mut seen = Seen::new(WIDE.0, WIDE.1);
    seen.press(&[KeyCode::Char('?')]);
    let help = seen.screen().join("\n");
    for key in [
        "q, Ctrl-C",
        "sort by the next",
        "only blocked rooms",
        "find a part",
    ] {
        assert!(help.contains(key), "{help}");
    }
    assert_eq!(seen.press(&[KeyCode::Esc]), Wish::Stay);
    assert_eq!(seen.press(&[KeyCode::Char('q')]), Wish::Leave);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(seen.top.key(interrupt), Wish::Leave);
    seen.press(&[KeyCode::Char('/')]);
    assert_eq!(seen.press(&[KeyCode::Char('q')]), Wish::Stay, "it is being typed");
}
