//! `top` in a real terminal, on a real agent that cuts, goes away and comes back.

use std::time::Duration;
use voice_tests::{
    agent::{Settings, settings::Times},
    stage::{ALPHA, BETA, SOON, Stage},
    terminal::Terminal,
};

const WIDE: (u16, u16) = (140, 40);
/// An agent that is away is noticed with the next question, and so is one that is back.
const NOTICED: Duration = Duration::from_secs(15);

fn line<'a>(screen: &'a str, begin: &str) -> &'a str {
    screen
        .lines()
        .find(|line| line.starts_with(begin))
        .unwrap_or_default()
}

#[test]
fn a_cut_is_seen_opened_and_found_while_the_agent_dies_and_comes_back_and_the_size_changes() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let top = Terminal::run(&stage.agent, "top", "", WIDE).unwrap();
    top.wait("both rooms", SOON, |s| {
        line(s, ALPHA).contains("LIVEING") && line(s, BETA).contains("LIVEING")
    })
    .unwrap();
    stage.block(ALPHA, 300);
    // Two users of 1,000 packets a second each.
    let cut = top.wait("the cut with its drops a second", NOTICED, |s| {
        line(s, ALPHA).contains("EXPIRED") && drops(s) > 1_000
    });
    let cut = cut.unwrap();
    for said in ["EXPIRED", "4 min", "a test"] {
        assert!(line(&cut, ALPHA).contains(said), "{cut}");
    }
    assert!(line(&cut, "attention").contains("1 blocked"), "{cut}");
    assert!(line(&cut, "trips").contains("1 operator"), "{cut}");
    assert!(
        line(&cut, "LAST TRIPS").len() > 1 && cut.contains("alpha  operator"),
        "{cut}"
    );

    top.keys(&["Enter"]).unwrap();
    let opened = top.wait("alpha's timeline", SOON, |s| {
        s.contains("TRIPPED: an operator said so.")
    });
    let opened = opened.unwrap();
    assert!(
        opened.contains("ROOM alpha") && line(&opened, "cut ").contains("left, until"),
        "{opened}"
    );
    top.keys(&["Escape"]).unwrap();
    // Escape and a key at once would be another key.
    top.wait("the list", SOON, |s| s.contains("all rooms: 1-2 of 2"))
        .unwrap();
    top.keys(&["/", "e", "t", "a", "Enter"]).unwrap();
    let found = top.wait("only beta", SOON, |s| {
        line(s, ALPHA).is_empty() && !line(s, BETA).is_empty()
    });
    assert!(found.unwrap().contains("all rooms, with \"eta\": 1-1 of 1"));
    top.keys(&["Escape"]).unwrap();
    top.wait("both rooms again", SOON, |s| {
        !line(s, ALPHA).is_empty() && !line(s, BETA).is_empty()
    })
    .unwrap();

    stage.agent.kill().unwrap();
    let away = top
        .wait("the agent is away", NOTICED, |s| {
            s.contains("AGENT AWAY") && s.contains("nobody listens on")
        })
        .unwrap();
    assert!(!line(&away, ALPHA).is_empty(), "what was known stays: {away}");
    stage.agent.run().unwrap();
    top.wait("the agent is back", NOTICED, |s| {
        !s.contains("AGENT AWAY") && line(s, ALPHA).contains("EXPIRED")
    })
    .unwrap();

    top.resize((80, 20)).unwrap();
    let small = top.wait("a smaller screen", SOON, |s| {
        // Empty while it is drawn anew.
        s.lines().count() <= 20
            && !s.contains("CLIENTS")
            && !line(s, ALPHA).is_empty()
            && s.contains("q quit")
    });
    small.unwrap();
    top.keys(&["q"]).unwrap();
    assert_eq!(top.ended(SOON).unwrap(), "0");
}

/// What stands in alpha's line under DROPS/S.
fn drops(screen: &str) -> u64 {
    let head = line(screen, "ROOM ");
    let Some(start) = head.find("DROPS/S") else {
        return 0;
    };
    let cells = line(screen, ALPHA).chars().take(start + "DROPS/S".len());
    let number = cells.collect::<String>();
    let number = number.split_whitespace().last().unwrap_or_default();
    number.replace(',', "").parse().unwrap_or(0)
}

#[test]
fn a_signal_gives_the_terminal_back_and_colours_are_refused_by_no_color() {
    let stage = Stage::new(Settings::new(Times::TEST));
    for (env, signal, colours) in [("", "INT", true), ("NO_COLOR=1", "TERM", false)] {
        let top = Terminal::run(&stage.agent, "top", env, WIDE).unwrap();
        top.wait("both rooms", SOON, |s| line(s, BETA).contains("LIVEING"))
            .unwrap();
        let screen = top.screen_in_colour().unwrap();
        assert_eq!(
            screen.contains("\x1b[38;5;") || screen.contains("\x1b[32m"),
            colours,
            "{env} {screen:?}"
        );
        top.signal(signal).unwrap();
        assert_eq!(top.ended(SOON).unwrap(), "0", "{signal}");
    }
}
