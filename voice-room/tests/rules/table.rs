//! The state table, row by row: what each event leads to, and what its guards refuse.

use crate::world::*;
use voice_room::{
    EventType, Rejected, Rules, State, Version,
    input::{Ask, ClientAct, Credential},
    timeline::Actor,
};

fn every_ask(version: Version) -> Vec<Ask> {
    vec![
        Ask::Create,
        start_live("h"),
        gone(),
        host_return("h"),
        Ask::NoActiveUser,
        Ask::Block {
            lasts: None,
            reason: "test".into(),
        },
        Ask::Release {
            reason: "test".into(),
        },
        Ask::OwnerLost {
            record_stale: true,
            unserved: true,
        },
        close(version),
    ]
}

/// A world whose room `r` is in `state`, without isolation where that can be.
fn in_state(state: Option<State>) -> World {
    let mut w = World::new();
    let Some(state) = state else { return w };
    w.ask("r", Ask::Create).unwrap();
    if state == State::Destroyed {
        w.ask("r", close(Version(1))).unwrap();
    } else if state != State::Created {
        w.ask("r", start_live("h")).unwrap();
    }
    match state {
        State::GraceClosing => drop(w.ask("r", gone()).unwrap()),
        State::Expired => drop(w.block("r")),
        _ => {}
    }
    assert_eq!(w.state("r"), Some(state));
    w
}

fn actor_for(ask: &Ask) -> Actor {
    match ask {
        Ask::Block { .. } | Ask::Release { .. } => OPERATOR,
        Ask::OwnerLost { .. } => Actor::Agent,
        _ => gateway(),
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says_or_is_refused() {
    use {EventType as E, State as S};
    let states = [
        None,
        Some(S::Created),
        Some(S::Liveing),
        Some(S::GraceClosing),
        Some(S::Expired),
        Some(S::Destroyed),
    ];
    for state in states {
        for ask in every_ask(Version(0)) {
            let mut w = in_state(state);
            let ask = match ask {
                Ask::Close { .. } => close(state.map_or(Version(0), |_| w.view("r").version)),
                other => other,
            };
            if ask == Ask::NoActiveUser {
                w.pass(61);
            }
            let present = state.filter(|s| *s != S::Destroyed);
            let expected = match (present, ask.event()) {
                (None, E::Create) => Some(S::Created),
                (Some(S::Created), E::StartLive) => Some(S::Liveing),
                (Some(S::Liveing), E::HostDisconnect) => Some(S::GraceClosing),
                (Some(S::GraceClosing), E::HostReturn) => Some(S::Liveing),
                (Some(S::Liveing | S::GraceClosing), E::Stuck) => Some(S::Expired),
                (Some(S::Expired), E::Release) => Some(S::Destroyed),
                (Some(S::Created | S::Liveing | S::GraceClosing), E::OwnerLost) => Some(S::Expired),
                (Some(S::Created | S::Liveing | S::GraceClosing), E::Close) => Some(S::Destroyed),
                _ => None,
            };
            match expected {
                Some(to) => {
                    let led_to = w.ask_as(actor_for(&ask), "r", ask.clone()).0.unwrap();
                    assert_eq!(led_to.map(|a| a.state), Ok(to), "{state:?} {ask:?}");
                    assert_eq!(w.state("r"), Some(to));
                }
                None => {
                    let why = w.refused(actor_for(&ask), "r", ask.clone());
                    let isolated = matches!(why, Rejected::Isolated { .. }) && state == Some(S::Expired);
                    let unknown = matches!(why, Rejected::UnknownRoom(_)) && w.core.views(w.now).is_empty();
                    let not_in_table = matches!(why, Rejected::NotInTable { .. }) && present.is_some();
                    assert!(isolated || unknown || not_in_table, "{state:?} {ask:?}: {why:?}");
                }
            }
        }
    }
}

#[test]
fn a_room_that_is_live_at_a_media_server_and_unknown_here_is_adopted() {
    let mut w = World::new();
    w.serve("r", "sfu", &[50_000]);
    let changes = commits(&w.pass(5));
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].event.event_type, changes[0].event.new_state),
        (EventType::Adopt, State::Liveing)
    );
    assert_eq!(changes[0].event.old_state, None);
}

#[test]
fn a_room_listed_without_participants_is_neither_adopted_nor_kept_alive() {
    let mut w = World::new();
    let idle = |name: &str| {
        voice_room::Input::Heartbeat(voice_room::input::Heartbeat {
            source: source("sfu"),
            rooms: vec![voice_room::input::Served {
                room: room(name),
                ports: vec![],
                flows: vec![],
                ssrcs: vec![],
                participants: 0,
                host: None,
            }],
            capacity: None,
        })
    };
    assert_eq!(w.feed(idle("r")), vec![]);
    assert_eq!(w.state("r"), None);
    w.go_live("r");
    w.feed(idle("r"));
    assert_eq!(w.view("r").heartbeat_age, None);
}

#[test]
fn an_isolated_room_is_not_adopted_and_neither_is_one_whose_life_just_ended() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.block("r");
    w.pass(299);
    assert_eq!(w.state("r"), Some(State::Expired));
    w.pass(1);
    assert_eq!(w.state("r"), Some(State::Destroyed));
    w.pass(9);
    assert_eq!(
        w.state("r"),
        Some(State::Destroyed),
        "a listing may still speak of the life that ended"
    );
    w.pass(6);
    assert_eq!(w.state("r"), Some(State::Liveing));
}

#[test]
fn a_heartbeat_brings_a_created_room_live() {
    let mut w = World::new();
    w.ask("r", Ask::Create).unwrap();
    w.serve("r", "sfu", &[50_000]);
    let changes = commits(&w.pass(5));
    assert_eq!(changes[0].event.event_type, EventType::StartLive);
    assert_eq!(w.state("r"), Some(State::Liveing));
}

#[test]
fn start_live_needs_a_token_that_holds_and_was_issued_to_the_host_it_names() {
    let mut w = in_state(Some(State::Created));
    let start = |host: Option<&str>, credential| Ask::StartLive {
        host: host.map(client),
        credential,
    };
    let bad = w.refused(
        gateway(),
        "r",
        start(Some("h"), Credential::Invalid("expired".into())),
    );
    assert_eq!(bad, Rejected::Token("expired".into()));
    let other = w.refused(gateway(), "r", start(Some("h"), token("x")));
    assert!(matches!(other, Rejected::Token(_)));
    w.ask("r", start(None, Credential::Trusted)).unwrap();
}

#[test]
fn start_live_is_refused_when_the_node_or_its_media_servers_are_full() {
    let mut w = World::live(
        Rules {
            quota: 2,
            ..Rules::default()
        },
        &["a", "b"],
    );
    w.ask("r", Ask::Create).unwrap();
    let full = w.refused(gateway(), "r", start_live("h"));
    assert_eq!(full, Rejected::NoQuota { live: 2, quota: 2 });

    let mut w = World::live(Rules::default(), &["a"]);
    let capacity = Some(1);
    w.feed(voice_room::Input::Heartbeat(voice_room::input::Heartbeat {
        source: source("sfu"),
        rooms: vec![],
        capacity,
    }));
    w.ask("r", Ask::Create).unwrap();
    let full = w.refused(gateway(), "r", start_live("h"));
    assert_eq!(full, Rejected::NoQuota { live: 1, quota: 1 });
}

#[test]
fn only_the_same_host_returns() {
    let mut w = in_state(Some(State::GraceClosing));
    let other = w.refused(gateway(), "r", host_return("x"));
    assert_eq!(other, Rejected::NotTheHost { given: client("x") });
    let none = Ask::HostReturn {
        host: Some(client("h")),
        credential: Credential::Invalid("none".into()),
    };
    assert_eq!(w.refused(gateway(), "r", none), Rejected::Token("none".into()));
    w.ask("r", host_return("h")).unwrap();
}

#[test]
fn host_disconnect_says_how_many_of_the_audience_still_signal() {
    let mut w = in_state(Some(State::Liveing));
    for who in ["h", "a", "b"] {
        w.client_says(gateway(), "r", who, ClientAct::Join, who == "h")
            .unwrap();
    }
    let request = w.request(gateway(), "r", gone());
    let (_, commands) = w.send(request);
    let reason = &commits(&commands)[0].event.reason;
    assert_eq!(reason, "bye; 2 of the audience still signal");
    w.ask("r", host_return("h")).unwrap();
    let without = Ask::HostDisconnect {
        reason: String::new(),
    };
    let request = w.request(gateway(), "r", without);
    let (_, commands) = w.send(request);
    let reason = &commits(&commands)[0].event.reason;
    assert_eq!(reason, "2 of the audience still signal", "no reason was given");
}

#[test]
fn no_active_user_needs_both_silences() {
    for (what, signals, rtp) in [("user signalling", true, false), ("RTP", false, true)] {
        let mut w = World::new();
        w.pass(60);
        w.go_live("r");
        w.ask("r", gone()).unwrap();
        w.serve("r", "sfu", &[]);
        w.omit("r");
        w.rtp("r", u64::from(rtp), 0);
        for _ in 0..2 {
            w.pass(10);
            if signals {
                w.client_says(gateway(), "r", "a", ClientAct::Keepalive, false)
                    .unwrap();
            }
        }
        let why = w.refused(gateway(), "r", Ask::NoActiveUser);
        assert!(
            matches!(&why, Rejected::NotYet(t) if t.starts_with(what)),
            "{why}"
        );
        w.silence_rtp();
        w.pass(59);
        assert_eq!(w.state("r"), Some(State::GraceClosing), "{what}");
        w.pass(1);
        assert_eq!(w.state("r"), Some(State::Destroyed), "{what}");
    }
}

#[test]
fn a_room_in_which_the_host_is_silent_for_30_s_closes_only_while_its_heartbeats_come() {
    let mut w = World::live(Rules::default(), &["served", "dark"]);
    for name in ["served", "dark"] {
        w.client_says(gateway(), name, "h", ClientAct::Join, true)
            .unwrap();
    }
    w.omit("dark");
    w.pass(30);
    assert_eq!(
        w.state("served"),
        Some(State::Liveing),
        "exactly 30 s is not older than 30 s"
    );
    w.pass(1);
    assert_eq!(w.state("served"), Some(State::GraceClosing));
    w.pass(20);
    assert_eq!(
        w.state("dark"),
        Some(State::Liveing),
        "without heartbeats the stuck detector judges it"
    );
}

#[test]
fn a_host_is_not_gone_because_what_its_media_server_says_cannot_be_read() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.client_says(gateway(), "r", "h", ClientAct::Join, true).unwrap();
    w.omit("r");
    for _ in 0..20 {
        w.pass(5);
        w.feed(voice_room::Input::HeartbeatRefused(source("sfu")));
    }
    assert_eq!(w.state("r"), Some(State::Liveing));
    w.pass(11);
    w.serve("r", "sfu", &[50_000]);
    w.pass(25);
    assert_eq!(w.state("r"), Some(State::GraceClosing));
}

#[test]
fn the_host_of_a_released_room_gets_its_30_s_anew() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.client_says(gateway(), "r", "h", ClientAct::Join, true).unwrap();
    w.block("r");
    w.pass(60);
    w.release("r");
    w.pass(30);
    assert_eq!(w.state("r"), Some(State::Liveing));
    w.pass(1);
    assert_eq!(w.state("r"), Some(State::GraceClosing));
}

#[test]
fn the_host_leaving_closes_and_a_trusted_source_reopens_but_a_gateway_needs_a_token() {
    let janus = || Actor::Source(source("janus"));
    let mut w = in_state(Some(State::Liveing));
    w.client_says(gateway(), "r", "h", ClientAct::Leave, true)
        .unwrap();
    assert_eq!(w.state("r"), Some(State::GraceClosing));
    w.client_says(gateway(), "r", "h", ClientAct::Join, true).unwrap();
    assert_eq!(w.state("r"), Some(State::GraceClosing));
    w.client_says(janus(), "r", "h", ClientAct::Join, true).unwrap();
    assert_eq!(w.state("r"), Some(State::Liveing));
    let other = w.client_says(gateway(), "r", "x", ClientAct::Join, true);
    assert_eq!(other, Err(Rejected::NotTheHost { given: client("x") }));
}

#[test]
fn an_isolated_room_refuses_create_start_and_joins_with_the_time_that_is_left_but_lets_leave() {
    let mut w = in_state(Some(State::Liveing));
    w.client_says(gateway(), "r", "a", ClientAct::Join, false)
        .unwrap();
    w.block("r");
    w.pass(100);
    let left =
        |why: Rejected| matches!(why, Rejected::Isolated { retry_after, .. } if retry_after == secs(200));
    for ask in [Ask::Create, start_live("h"), host_return("h")] {
        assert!(left(w.refused(gateway(), "r", ask)));
    }
    for what in [ClientAct::Join, ClientAct::Keepalive] {
        assert!(left(w.client_says(gateway(), "r", "a", what, false).unwrap_err()));
    }
    w.client_says(gateway(), "r", "a", ClientAct::Leave, false)
        .unwrap();
}

#[test]
fn close_needs_the_present_version() {
    let mut w = in_state(Some(State::Liveing));
    let old = w.refused(gateway(), "r", close(Version(1)));
    assert_eq!(
        old,
        Rejected::VersionMismatch {
            given: Version(1),
            current: Version(2)
        }
    );
    w.ask("r", close(Version(2))).unwrap();
}

#[test]
fn owner_lost_is_found_by_agents_on_two_witnesses_and_cuts_nothing_here() {
    let lost = |record_stale, unserved| Ask::OwnerLost {
        record_stale,
        unserved,
    };
    let mut w = in_state(Some(State::Liveing));
    assert!(matches!(
        w.refused(gateway(), "r", lost(true, true)),
        Rejected::Forbidden(_)
    ));
    assert!(matches!(
        w.refused(Actor::Agent, "r", lost(false, true)),
        Rejected::NotYet(_)
    ));
    assert!(matches!(
        w.refused(Actor::Agent, "r", lost(true, false)),
        Rejected::NotYet(_)
    ));
    let (answer, commands) = w.ask_as(Actor::Agent, "r", lost(true, true));
    assert_eq!(answer.unwrap().unwrap().state, State::Expired);
    let kinds = kinds(&commands);
    assert!(
        !kinds.contains(&"arm") && !kinds.contains(&"journal"),
        "{kinds:?}"
    );
    assert!(w.core.isolation(&room("r"), w.now).is_some());
    w.pass(300);
    assert_eq!(w.state("r"), Some(State::Destroyed));
}

#[test]
fn block_and_release_are_for_operators() {
    let mut w = in_state(Some(State::Liveing));
    let block = Ask::Block {
        lasts: None,
        reason: String::new(),
    };
    assert!(matches!(w.refused(gateway(), "r", block), Rejected::Forbidden(_)));
    w.block("r");
    let release = Ask::Release {
        reason: String::new(),
    };
    assert!(matches!(
        w.refused(gateway(), "r", release),
        Rejected::Forbidden(_)
    ));
}
