//! A repair takes the ordinary way: a RESTORE above every known number, what the kernel should have once more; and it touches
//! nothing that is not settled.

use crate::world::*;
use voice_room::{
    Command, EventType, Input, Rejected, Rules, State, Version,
    input::ReplyId,
    patrol::{Place, Repair, Sights, StoreSight, Stored},
    record::IsolationChange,
    timeline::Actor,
};

const OPERATOR: Actor = Actor::Operator { uid: Some(0) };

fn repair(name: &str, place: Place, stored: Option<u64>) -> Input {
    Input::Repair(Repair {
        room: room(name),
        place,
        stored: stored.map(Version),
        actor: OPERATOR,
        reply: Some(ReplyId(99)),
    })
}

#[test]
fn a_repair_in_the_store_restores_the_room_as_it_is_above_the_version_that_stands_there() {
    let mut w = World::live(Rules::default(), &["a"]);
    let before = w.view("a").version;
    let commands = w.feed(repair("a", Place::Store, Some(40)));
    let commits = commands.iter().filter_map(|c| match c {
        Command::Commit(change) => Some(change.clone()),
        _ => None,
    });
    let commits: Vec<_> = commits.collect();
    assert_eq!(commits.len(), 1);
    let change = &commits[0];
    assert!(before < Version(40) && change.record.version == Version(41));
    assert_eq!(
        (change.event.event_type, change.record.state),
        (EventType::Restore, State::Liveing)
    );
    assert_eq!(
        (&change.event.actor, &change.isolation),
        (&OPERATOR, &IsolationChange::Clear)
    );
    let answered = |c: &Command| matches!(c, Command::Reply { to: ReplyId(99), result: Ok(a) } if a.version == Version(41));
    assert!(commands.iter().any(answered), "{commands:?}");
    assert_eq!(w.view("a").version, Version(41));
}

#[test]
fn a_repair_of_a_room_that_is_cut_stores_its_isolation_with_it() {
    let mut w = World::live(Rules::default(), &["a"]);
    w.block("a");
    let commands = w.feed(repair("a", Place::Store, None));
    let isolates = |c: &Command| {
        matches!(c, Command::Commit(change) if change.record.state == State::Expired
            && matches!(&change.isolation, IsolationChange::Set(i) if i.room == room("a")))
    };
    assert!(commands.iter().any(isolates), "{commands:?}");
    assert_eq!(w.state("a"), Some(State::Expired));
}

#[test]
fn while_a_change_waits_for_the_store_nothing_is_repaired_there_and_nothing_compared() {
    let mut w = World::live(Rules::default(), &["a"]);
    w.answers = false;
    w.block("a");
    let commands = w.feed(repair("a", Place::Store, None));
    let refused = |c: &Command| {
        matches!(
            c,
            Command::Reply {
                result: Err(Rejected::Conflict(_)),
                ..
            }
        )
    };
    assert!(commands.iter().any(refused), "{commands:?}");
    let watched = w.core.watch(&room("a")).unwrap();
    assert!(!watched.is_settled());
    let nothing = Sights {
        store: Some(StoreSight {
            record: Stored::Nothing,
            fence: None,
            isolation: None,
        }),
        ..Sights::default()
    };
    assert_eq!(w.core.compare(w.now, &watched, None, &nothing), []);
}

#[test]
fn what_has_changed_since_it_was_asked_for_is_not_compared() {
    let mut w = World::live(Rules::default(), &["a"]);
    let watched = w.core.watch(&room("a")).unwrap();
    let nothing = Sights {
        store: Some(StoreSight {
            record: Stored::Nothing,
            fence: None,
            isolation: None,
        }),
        ..Sights::default()
    };
    assert_eq!(w.core.compare(w.now, &watched, None, &nothing).len(), 1);
    w.block("a");
    assert_eq!(w.core.compare(w.now, &watched, None, &nothing), []);
}

#[test]
fn a_repair_in_the_kernel_binds_and_arms_again_with_the_deadline_of_the_cut() {
    let mut w = World::live(Rules::default(), &["a"]);
    w.block("a");
    let deadline = w.view("a").block.unwrap().deadline;
    w.pass(10);
    let commands = w.feed(repair("a", Place::Kernel, None));
    assert!(
        commands
            .iter()
            .any(|c| matches!(c, Command::Bind { binding, .. } if !binding.is_empty()))
    );
    let armed = |c: &Command| matches!(c, Command::Arm { deadline: d, shadow: false, .. } if *d == deadline);
    assert!(commands.iter().any(armed), "{commands:?}");
    assert_eq!(w.core.cut(&room("a")).unwrap().deadline, Some(deadline));
}

#[test]
fn rooms_are_walked_by_id_in_slices_and_a_life_that_is_over_is_left_out() {
    let names = ["a", "b", "c", "d"];
    let mut w = World::live(Rules::default(), &names);
    let version = w.view("c").version;
    w.ask("c", close(version)).unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let slice = w.core.watched(after.as_ref(), 2);
        let Some(last) = slice.last() else { break };
        after = Some(last.room.clone());
        seen.extend(slice.into_iter().map(|watched| watched.room));
    }
    assert_eq!(seen, [room("a"), room("b"), room("d")]);
    assert_eq!(w.core.watch(&room("c")), None);
}
