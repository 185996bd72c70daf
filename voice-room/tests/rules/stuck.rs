//! When a room counts as stuck, and what keeps it from being tripped whatever its heartbeats say.

use crate::world::*;
use voice_room::{
    Command, Input, Rules, State,
    config::Mode,
    input::Order,
    timeline::{Hold, Progress, Rule, What},
};

fn omitted() -> World {
    let mut w = World::live(Rules::default(), &["r", "other"]);
    w.rtp("r", 50, 0);
    // The egress of its life leaves the window.
    w.pass(4);
    w.omit("r");
    w
}

#[test]
fn a_room_without_heartbeats_trips_after_90_s_and_not_before() {
    let mut w = omitted();
    let age = w.view("r").progress_age;
    w.pass(89 - age.as_secs());
    assert_eq!(w.state("r"), Some(State::Liveing));
    let commands = w.pass(1);
    assert_eq!(trips(&commands), [("r".to_string(), Rule::Omitted)]);
    assert_eq!(w.state("other"), Some(State::Liveing));
}

#[test]
fn five_misses_are_needed_besides() {
    let rules = Rules {
        stuck_after: secs(10),
        ..Rules::default()
    };
    let mut w = World::live(rules, &["r"]);
    w.rtp("r", 0, 0);
    w.omit("r");
    let age = w.view("r").progress_age.as_secs();
    assert_eq!(trips(&w.pass(24 - age)), []);
    assert_eq!(trips(&w.pass(30)).len(), 1);
}

#[test]
fn three_misses_raise_a_warning_once_and_a_heartbeat_ends_it() {
    let mut w = omitted();
    let age = w.view("r").progress_age.as_secs();
    assert_eq!(recorded(&w.pass(14 - age), "r"), []);
    let said = recorded(&w.pass(20), "r");
    assert!(
        matches!(&said[..], [What::Warning(e)] if e.misses == 3),
        "{said:?}"
    );
    w.lives.get_mut(&room("r")).unwrap().listed = true;
    assert_eq!(recorded(&w.pass(5), "r"), [What::Recovered]);
}

/// Each kind of progress starts the 90 s anew.
fn starts_anew(w: &mut World, progress: Progress) {
    let view = w.view("r");
    assert_eq!((view.progress, view.progress_age), (progress, secs(0)));
    assert_eq!(trips(&w.pass(89)), [], "{progress:?}");
    assert_eq!(w.state("r"), Some(State::Liveing));
    assert_eq!(trips(&w.pass(1)).len(), 1, "{progress:?}");
}

#[test]
fn a_refused_heartbeat_of_another_source_is_no_progress() {
    let mut w = omitted();
    w.pass(80);
    w.feed(Input::HeartbeatRefused(source("another")));
    assert_eq!(trips(&w.pass(20)).len(), 1);
}

#[test]
fn entry_heartbeat_release_refused_media_and_a_gap_in_our_ticks_are_progress() {
    let mut w = World::new();
    w.go_live("r");
    starts_anew(&mut w, Progress::Entry);

    let mut w = omitted();
    w.pass(80);
    w.lives.get_mut(&room("r")).unwrap().listed = true;
    w.listings();
    w.omit("r");
    starts_anew(&mut w, Progress::Heartbeat);

    let mut w = omitted();
    w.pass(80);
    w.feed(Input::MediaRefused);
    starts_anew(&mut w, Progress::MediaRefused);

    let mut w = omitted();
    w.pass(80);
    w.feed(Input::HeartbeatRefused(source("sfu")));
    starts_anew(&mut w, Progress::MediaRefused);

    let mut w = omitted();
    w.pass(80);
    w.now = w.now + secs(11);
    w.tick();
    starts_anew(&mut w, Progress::TickGap);

    let mut w = World::live(Rules::default(), &["r"]);
    w.rtp("r", 0, 0);
    w.block("r");
    w.listings();
    w.release("r");
    w.omit("r");
    starts_anew(&mut w, Progress::Release);
}

#[test]
fn a_frozen_agent_never_trips_and_never_destroys_on_what_it_saw_before() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.go_live("closing");
    w.ask("closing", gone()).unwrap();
    w.pass(30);
    w.now = w.now + secs(3600);
    let why = w.ask("closing", voice_room::input::Ask::NoActiveUser);
    assert!(matches!(why, Err(voice_room::Rejected::NotYet(_))));
    assert_eq!(kinds(&w.tick()), Vec::<&str>::new());
    assert_eq!(w.state("r"), Some(State::Liveing));
    w.silence();
    assert_eq!(trips(&w.pass(89)), []);
}

#[test]
fn in_grace_closing_the_time_counts_from_entry() {
    let mut w = omitted();
    w.pass(60);
    w.ask("r", gone()).unwrap();
    assert_eq!(trips(&w.pass(89)), []);
    assert_eq!(w.state("r"), Some(State::GraceClosing));
    assert_eq!(trips(&w.pass(1)).len(), 1);
}

#[test]
fn a_room_on_the_never_cut_list_is_never_cut_and_an_operator_is_told() {
    let mut w = World::live(
        Rules {
            never_cut: [room("r")].into(),
            ..Rules::default()
        },
        &["r"],
    );
    w.silence();
    w.silence_rtp();
    let commands = w.pass(600);
    assert_eq!(trips(&commands), []);
    assert_eq!(holds(&commands), [("r".to_string(), Hold::NeverCut)]);
    let block = voice_room::input::Ask::Block {
        lasts: None,
        reason: "x".into(),
    };
    assert!(matches!(
        w.refused(OPERATOR, "r", block),
        voice_room::Rejected::Forbidden(_)
    ));
}

fn maintain(w: &mut World, name: Option<&str>, seconds: Option<u64>) {
    let until = seconds.map(|s| w.now.mono + secs(s));
    let reason = "upgrade".to_string();
    let order = Order {
        room: name.map(room),
        until,
        reason,
        actor: OPERATOR,
    };
    w.feed(Input::Maintenance(order, None));
}

#[test]
fn maintenance_of_one_room_holds_that_room_until_it_ends() {
    let mut w = World::live(Rules::default(), &["a", "b", "c", "d"]);
    maintain(&mut w, Some("a"), Some(400));
    w.omit("a");
    w.omit("b");
    w.silence_rtp();
    let commands = w.pass(390);
    assert_eq!(trips(&commands), [("b".to_string(), Rule::Omitted)]);
    assert_eq!(holds(&commands), [("a".to_string(), Hold::Maintenance)]);
    assert_eq!(trips(&w.pass(15)), [("a".to_string(), Rule::Omitted)]);
}

#[test]
fn maintenance_of_all_holds_all_and_can_be_ended() {
    let mut w = World::live(Rules::default(), &["a", "b"]);
    maintain(&mut w, None, Some(80_000));
    w.silence_rtp();
    w.omit("a");
    w.omit("b");
    assert_eq!(trips(&w.pass(1000)), []);
    maintain(&mut w, None, None);
    assert_eq!(trips(&w.pass(1)).len(), 2);
}

#[test]
fn mode_off_and_the_kill_switch_hold_everything() {
    let mut w = World::live(
        Rules {
            mode: Mode::Off,
            ..Rules::default()
        },
        &["r"],
    );
    w.omit("r");
    w.silence_rtp();
    let commands = w.pass(600);
    assert_eq!(
        (trips(&commands), holds(&commands)),
        (vec![], vec![("r".to_string(), Hold::ModeOff)])
    );

    let mut w = World::live(Rules::default(), &["r"]);
    w.feed(Input::KillSwitch(true));
    w.omit("r");
    w.silence_rtp();
    let commands = w.pass(600);
    assert_eq!(
        (trips(&commands), holds(&commands)),
        (vec![], vec![("r".to_string(), Hold::KillSwitch)])
    );
    let block = voice_room::input::Ask::Block {
        lasts: None,
        reason: "x".into(),
    };
    assert!(matches!(
        w.refused(OPERATOR, "r", block),
        voice_room::Rejected::Forbidden(_)
    ));
    w.feed(Input::KillSwitch(false));
    assert_eq!(trips(&w.pass(1)).len(), 1);
}

#[test]
fn shadow_mode_arms_a_counter_once_an_episode_and_does_nothing_else() {
    let mut w = World::live(
        Rules {
            mode: Mode::Shadow,
            ..Rules::default()
        },
        &["r"],
    );
    w.silence_rtp();
    w.omit("r");
    for _ in 0..2 {
        let commands = w.pass(1000);
        assert_eq!(kinds(&commands), ["record", "arm shadow", "record"]);
        assert!(matches!(
            recorded(&commands, "r")[1],
            What::WouldTrip {
                rule: Rule::Omitted,
                ..
            }
        ));
        assert_eq!(w.state("r"), Some(State::Liveing));
        assert!(w.core.isolations(w.now).is_empty());
        w.lives.get_mut(&room("r")).unwrap().listed = true;
        assert_eq!(kinds(&w.pass(5)), ["disarm", "record"]);
        w.omit("r");
    }
}

#[test]
fn a_shadow_verdict_goes_when_the_room_changes_its_state() {
    let mut w = World::live(
        Rules {
            mode: Mode::Shadow,
            ..Rules::default()
        },
        &["r"],
    );
    w.silence_rtp();
    w.omit("r");
    w.pass(100);
    let request = w.request(gateway(), "r", gone());
    let (_, commands) = w.send(request);
    assert!(commands.contains(&Command::Disarm { room: room("r") }));
}
