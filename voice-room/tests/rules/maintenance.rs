//! Maintenance: its bounds, what it tells, and what a restart keeps of it. That it holds rooms is in `stuck`.

use crate::world::*;
use voice_room::{
    Command, Input, Maintenance, Rejected, Rules, State, Wall,
    core::maintenance::ROOMS,
    input::{Order, ReplyId, Restored},
    timeline::{Actor, Rule, What},
};

fn order(w: &World, name: Option<&str>, seconds: Option<u64>) -> Order {
    Order {
        room: name.map(room),
        until: seconds.map(|s| w.now.mono + secs(s)),
        reason: "upgrade".into(),
        actor: OPERATOR,
    }
}

fn give(w: &mut World, name: Option<&str>, seconds: Option<u64>) -> Vec<Command> {
    let order = order(w, name, seconds);
    w.feed(Input::Maintenance(order, Some(ReplyId(7))))
}

fn notice(name: Option<&str>, from: Wall, seconds: u64) -> Maintenance {
    Maintenance {
        room: name.map(room),
        reason: "upgrade".into(),
        actor: OPERATOR,
        since: from,
        until: from + secs(seconds),
    }
}

/// Room, end (`None`: over), whether of every room, why and who.
type Told = (String, Option<Wall>, bool, String, Actor);

fn told(commands: &[Command]) -> Vec<Told> {
    let entry = |c: &Command| match c {
        Command::Record(entry) => Some(entry.clone()),
        _ => None,
    };
    let of = |entry: voice_room::Entry| match entry.what {
        What::Maintenance {
            until,
            every_room,
            reason,
            actor,
        } => Some((entry.room.to_string(), until, every_room, reason, actor)),
        _ => None,
    };
    commands.iter().filter_map(entry).filter_map(of).collect()
}

#[test]
fn an_order_is_kept_listed_shown_and_told_with_who_why_and_until_when() {
    let mut w = World::live(Rules::default(), &["a", "b"]);
    let begin = w.now.wall;
    let commands = give(&mut w, Some("a"), Some(600));
    let expected = notice(Some("a"), begin, 600);
    let (reply, until) = (Some(ReplyId(7)), Some(begin + secs(600)));
    let notice = expected.clone();
    assert!(commands.contains(&Command::KeepMaintenance { notice, reply }));
    let upgrade = "upgrade".to_string();
    assert_eq!(
        told(&commands),
        [("a".into(), until, false, upgrade.clone(), OPERATOR)]
    );
    assert_eq!(w.view("a").maintenance.as_ref(), Some(&expected));
    assert_eq!(w.core.maintenance(w.now), [expected]);
    assert_eq!(w.view("b").maintenance, None);

    let commands = give(&mut w, Some("a"), None);
    let a = Some(room("a"));
    assert!(commands.contains(&Command::ForgetMaintenance { room: a, reply }));
    assert_eq!(told(&commands), [("a".into(), None, false, upgrade, OPERATOR)]);
    assert_eq!(w.core.maintenance(w.now), []);
}

#[test]
fn maintenance_of_every_room_is_told_in_each_and_in_one_that_comes_later_when_it_is_held() {
    let mut w = World::live(Rules::default(), &["a", "b"]);
    let commands = give(&mut w, None, Some(600));
    let rooms: Vec<String> = told(&commands).into_iter().map(|t| t.0).collect();
    assert_eq!(rooms, ["a", "b"]);
    w.pass(1);
    w.serve("late", "sfu", &[50_010]);
    w.pass(10);
    w.omit("a");
    w.omit("late");
    w.silence_rtp();
    let commands = w.pass(100);
    assert_eq!(trips(&commands), []);
    let rooms: Vec<(String, bool)> = told(&commands).into_iter().map(|t| (t.0, t.2)).collect();
    assert_eq!(rooms, [("late".to_string(), true)], "a was told at once");
}

#[test]
fn one_whose_time_is_over_is_told_and_forgotten_before_a_room_is_judged_without_it() {
    let mut w = World::live(Rules::default(), &["a", "b"]);
    give(&mut w, Some("a"), Some(200));
    w.omit("a");
    w.silence_rtp();
    assert_eq!(trips(&w.pass(199)), []);
    let commands = w.pass(1);
    let (room, reply) = (Some(room("a")), None);
    let place = |wanted: &dyn Fn(&Command) -> bool| commands.iter().position(wanted);
    let forgotten = place(&|c| {
        *c == Command::ForgetMaintenance {
            room: room.clone(),
            reply,
        }
    });
    let tripped = place(&|c| matches!(c, Command::Arm { .. }));
    assert!(forgotten.is_some() && forgotten < tripped, "{commands:?}");
    assert_eq!(trips(&commands), [("a".to_string(), Rule::Omitted)]);
    let over = ("a".into(), None, false, "its time is over".into(), Actor::Agent);
    assert_eq!(told(&commands), [over]);
}

#[test]
fn one_without_a_reason_or_longer_than_a_day_or_beyond_10_000_rooms_is_refused_and_changes_nothing() {
    let mut w = World::live(Rules::default(), &["a"]);
    let refused = |w: &mut World, order: Order| {
        let before = w.core.maintenance(w.now);
        let commands = w.feed(Input::Maintenance(order, Some(ReplyId(9))));
        assert_eq!(w.core.maintenance(w.now), before);
        assert_eq!(commands.len(), 1, "{commands:?}");
        let mut answers = replies(&commands, ReplyId(9));
        answers.remove(0).unwrap_err()
    };
    let unreasoned = Order {
        reason: " ".into(),
        ..order(&w, None, Some(60))
    };
    for bad in [
        unreasoned,
        order(&w, None, Some(0)),
        order(&w, Some("a"), Some(24 * 3600 + 1)),
    ] {
        assert!(matches!(refused(&mut w, bad), Rejected::Forbidden(_)));
    }
    for n in 0..ROOMS {
        give(&mut w, Some(&format!("r{n}")), Some(24 * 3600));
    }
    let another = order(&w, Some("a"), Some(60));
    assert!(matches!(refused(&mut w, another), Rejected::Limit(_)));
    give(&mut w, Some("r0"), Some(60));
    give(&mut w, None, Some(60));
    assert_eq!(w.core.maintenance(w.now).len(), ROOMS + 1);
}

#[test]
fn a_restart_goes_on_with_what_is_left_and_forgets_what_ended_meanwhile() {
    let begin = Wall(start().wall.0 - 100_000);
    let found = Restored {
        maintenance: vec![notice(Some("a"), begin, 160), notice(Some("b"), begin, 90)],
        ..Restored::default()
    };
    let mut w = World::restored(Rules::default(), found);
    let commands = w.settle();
    let forgotten = Command::ForgetMaintenance {
        room: Some(room("b")),
        reply: None,
    };
    assert!(commands.contains(&forgotten), "{commands:?}");
    assert_eq!(w.core.maintenance(w.now), [notice(Some("a"), begin, 160)]);
    w.pass(59);
    assert_eq!(w.core.maintenance(w.now).len(), 1);
    w.pass(1);
    assert_eq!(w.core.maintenance(w.now), []);
}

#[test]
fn a_wall_clock_that_was_set_back_does_not_make_maintenance_longer_than_it_was_made() {
    let ahead = Wall(start().wall.0 + 86_400_000);
    let found = Restored {
        maintenance: vec![notice(None, ahead, 60)],
        ..Restored::default()
    };
    let mut w = World::restored(Rules::default(), found);
    w.serve("a", "sfu", &[50_000]);
    w.pass(59);
    assert!(w.view("a").maintenance.is_some());
    w.pass(1);
    assert_eq!(w.view("a").maintenance, None);
    assert_eq!(w.state("a"), Some(State::Liveing));
}
