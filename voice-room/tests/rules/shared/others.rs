//! Rooms that were or are another's: what is stored of them is told here, and they are signed once they are ours. Each found by the
//! simulation.

use super::*;
use voice_room::record::{Looked, Seen};

/// What `n2` has stored of the room.
fn theirs(agent: &Agent) -> RoomRecord {
    RoomRecord {
        version: Version(5),
        epoch: epoch(2),
        owner: NodeName::new("n2").unwrap(),
        op_id: op("theirs"),
        state: State::GraceClosing,
        ..agent.record()
    }
}

fn looked(agent: &mut Agent, result: Result<RoomRecord, String>) -> Vec<Command> {
    let seen = |record| Seen { record, age: secs(1) };
    let result = result.map(|record| Looked {
        stored: Some(seen(record)),
        served: None,
    });
    let room = room("r");
    agent.feed_away(Input::Looked { room, result })
}

fn pushed(commands: &[Command]) -> Vec<(State, Version, Epoch)> {
    let update = |c: &Command| match c {
        Command::PushUpdate(update) => Some((update.state, update.version, update.epoch)),
        _ => None,
    };
    commands.iter().filter_map(update).collect()
}

#[test]
fn who_serves_a_room_that_turns_out_to_be_anothers_is_told_what_is_stored() {
    let mut agent = Agent::live();
    let ceded = agent.cede_to_n2();
    assert!(kinds(&ceded).contains(&"look"), "{ceded:?}");
    let theirs = theirs(&agent);
    let told = looked(&mut agent, Ok(theirs));
    assert_eq!(pushed(&told), [(State::GraceClosing, Version(5), epoch(2))]);
}

#[test]
fn a_store_that_cannot_say_what_it_holds_is_asked_again_until_it_can() {
    let mut agent = Agent::live();
    agent.cede_to_n2();
    let theirs = theirs(&agent);
    for _ in 0..3 {
        assert_eq!(looked(&mut agent, Err("away".into())), []);
        let asked = kinds(&agent.tick(10)).iter().filter(|k| **k == "look").count();
        assert_eq!(asked, 1, "one question at a time");
    }
    assert_eq!(pushed(&looked(&mut agent, Ok(theirs))).len(), 1);
    assert!(!kinds(&agent.tick(20)).contains(&"look"));
}

#[test]
fn a_record_of_another_owner_is_signed_once_the_store_has_kept_it_and_one_of_ours_is_not() {
    for (owner, signs) in [("n2", true), ("n1", false)] {
        let record = RoomRecord {
            owner: NodeName::new(owner).unwrap(),
            ..Agent::live().record()
        };
        let mut agent = Agent::new(Restored {
            rooms: vec![record],
            ..Restored::default()
        });
        agent.feed(claimed(7));
        assert!(kinds(&agent.tick(20)).contains(&"refresh"));
        let signed = commits(&agent.refreshed(Refreshed::Kept));
        let signed = signed
            .iter()
            .map(|c| (c.event.event_type, c.record.owner.as_str(), c.record.epoch));
        let signed: Vec<_> = signed.collect();
        let expected = signs.then_some((EventType::Restore, "n1", epoch(7)));
        assert_eq!(signed, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_isolation_that_is_over_does_not_end_a_later_trip_that_another_owner_decided_in_the_same_life() {
    let mut agent = Agent::live();
    let cut = commits(&agent.block()).remove(0);
    agent.feed_away(stored(&cut, Ok(Committed::Ok)));
    let over = commits(&agent.tick(310)).remove(0);
    assert_eq!(over.event.event_type, EventType::IsolationOver);
    let later = RoomRecord {
        version: Version(7),
        epoch: epoch(1),
        state: State::Expired,
        ..theirs(&agent)
    };
    let led_to = agent.feed_away(stored(&over, Ok(Committed::Conflict(Some(later)))));
    assert!(
        commits(&led_to)
            .iter()
            .all(|change| change.record.state != State::Destroyed),
        "{led_to:?}"
    );
    assert!(
        agent.core.isolation(&room("r"), agent.now).is_some(),
        "the later trip refuses joins here too"
    );
}
