//! An agent without a lease for long, and the custodian of its rooms: what is served is told, and what is told is not ended.

use super::*;
use voice_room::{
    Mono,
    command::Meta,
    input::{Counts, Traffic},
    record::{Looked, Seen},
};

/// The seconds at which each of these told the store that `r` is served.
fn told(commands: &[Command]) -> usize {
    let is = |c: &&Command| match c {
        Command::TellServed { by, rooms } => {
            assert_eq!((by.as_ref(), &rooms[..]), ("n1", &[room("r")][..]));
            true
        }
        _ => false,
    };
    commands.iter().filter(is).count()
}

/// Every such word arrives.
fn take_word(agent: &mut Agent) -> Vec<Command> {
    agent.feed_away(Input::ServedTold(Ok(vec![room("r")])))
}

#[test]
fn without_a_lease_the_store_is_told_once_a_minute_that_a_room_is_served_and_its_record_is_not_touched() {
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    let mut said = 0;
    for _ in 0..120 {
        let now = agent.listed_for(5);
        assert!(!kinds(&now).contains(&"refresh") && commits(&now).is_empty());
        if told(&now) > 0 {
            said += told(&now);
            take_word(&mut agent);
        }
    }
    assert!((9..=10).contains(&said), "{said} times in 600 s");
    let held = agent.feed(claimed(2));
    assert_eq!(told(&held), 0);
    let refreshed = agent.listed_for(10);
    assert_eq!(
        (told(&refreshed), kinds(&refreshed).contains(&"refresh")),
        (0, true)
    );
}

#[test]
fn what_the_store_did_not_take_is_told_again_with_the_next_sweep() {
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    assert_eq!(told(&agent.listed_for(65)), 1);
    assert_eq!(told(&agent.listed_for(60)), 0, "one question at a time");
    agent.feed_away(Input::ServedTold(Err("away".into())));
    assert_eq!(told(&agent.listed_for(5)), 1);
    take_word(&mut agent);
    assert_eq!(told(&agent.listed_for(55)), 0);
}

#[test]
fn a_room_with_a_change_that_waits_and_one_that_is_anothers_are_told_too_if_they_are_served_here() {
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    agent.ask(gateway(), gone());
    assert_eq!(agent.view().unstored, 1);
    assert_eq!(told(&agent.listed_for(65)), 1);
    take_word(&mut agent);
    let mut agent = Agent::live();
    agent.cede_to_n2();
    assert_eq!(told(&agent.listed_for(65)), 1);
}

#[test]
fn a_room_that_is_not_listed_any_more_is_not_told_unless_its_rtp_moves_both_ways() {
    for (rtp_out, says) in [(0, false), (50, true)] {
        let mut agent = Agent::live();
        agent.feed_away(Input::LeaseLost);
        agent.listed();
        let mut said = 0;
        for second in 0..85 {
            let counts = Counts {
                rtp_in: 50 * second,
                rtp_out: rtp_out * second,
                ..Counts::default()
            };
            let incarnation = agent.view().incarnation;
            let traffic = Traffic {
                room: room("r"),
                incarnation,
                counts,
            };
            agent.feed_away(Input::Traffic(vec![traffic]));
            said += told(&agent.tick(1));
        }
        assert_eq!(said > 0, says);
    }
}

#[test]
fn what_waited_in_a_socket_for_a_frozen_agent_is_no_word_that_the_room_is_served_now() {
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    agent.now = agent.now + secs(400);
    // The media server listed the room while the agent was frozen, and serves it no more.
    let thawed = agent.listed();
    assert_eq!(told(&thawed) + told(&agent.tick(60)), 0);
    // It listed it again after that: then it is so.
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    agent.now = agent.now + secs(400);
    assert_eq!(told(&agent.listed_for(15)), 1);
}

#[test]
fn a_room_whose_life_is_over_or_that_is_cut_is_not_told() {
    for end in [true, false] {
        let mut agent = Agent::live();
        agent.feed_away(Input::LeaseLost);
        if end {
            let version = agent.view().version;
            agent.ask(gateway(), close(version));
        } else {
            agent.block();
        }
        assert!(!agent.view().state.is_live());
        let mut all = Vec::new();
        for _ in 0..20 {
            all.extend(agent.tick(5));
        }
        assert_eq!(told(&all), 0);
    }
}

#[test]
fn what_is_kept_for_a_start_has_the_highest_epoch_the_room_was_held_under_although_nothing_was_stored_since()
{
    let kept = |commands: &[Command]| {
        let epoch = |command: &Command| match command {
            Command::Keep(record) => Some(record.epoch),
            _ => None,
        };
        commands.iter().rev().find_map(epoch)
    };
    let mut agent = Agent::live();
    agent.feed_away(Input::LeaseLost);
    assert_eq!(kept(&agent.feed_away(claimed(5))), Some(epoch(5)));
    agent.feed_away(Input::LeaseLost);
    // A change that waits for the next claim is kept under it too.
    assert_eq!(kept(&agent.ask(gateway(), gone())), Some(epoch(5)));
}

/// Room `r` of a node whose lease ended 300 s ago, and its record at some age.
struct Lost {
    custodian: Agent,
    record: RoomRecord,
}

impl Lost {
    fn taken() -> Lost {
        let record = Agent::live().record();
        let meta = Meta {
            room: room("r"),
            incarnation: record.incarnation,
            state: State::Liveing,
            version: record.version,
            epoch: epoch(1),
            source: None,
        };
        let mut custodian = Agent::new(Restored::default());
        let (epoch, lost_for) = (epoch(3), secs(300));
        let asked = custodian.feed_away(Input::OwnerGone {
            meta,
            epoch,
            lost_for,
            grace: secs(300),
        });
        assert_eq!(kinds(&asked), ["look"]);
        Lost { custodian, record }
    }

    /// Its record was written so long ago, and so long ago an agent said that it serves the room.
    fn heard(&self, age: Option<u64>, served: Option<u64>) -> Looked {
        let record = self.record.clone();
        let seen = |age| Seen {
            record,
            age: secs(age),
        };
        Looked {
            stored: age.map(seen),
            served: served.map(secs),
        }
    }

    fn looked(&mut self, result: Result<Looked, String>) -> Vec<Command> {
        let room = room("r");
        self.custodian.feed_away(Input::Looked { room, result })
    }

    /// Whether the store is asked once more within this time, of which the least that lies between two questions is part.
    fn asked_again(&mut self) -> bool {
        self.asked_within(90)
    }

    fn asked_within(&mut self, seconds: u64) -> bool {
        kinds(&self.custodian.tick(seconds)).contains(&"look")
    }
}

fn ends(commands: &[Command]) -> bool {
    assert!(!kinds(commands).contains(&"arm"), "its ports are on another host");
    commits(commands).first().map(|c| c.event.event_type) == Some(EventType::OwnerLost)
}

#[test]
fn a_room_of_a_lost_node_ends_only_if_the_store_has_not_heard_of_it_since_and_else_it_is_left_alive() {
    let away = |_: &Lost| Err("away".to_string());
    type Answer = fn(&Lost) -> Result<Looked, String>;
    let answers: [(Answer, bool); 6] = [
        (|_| Ok(Looked::default()), true),
        (|lost| Ok(lost.heard(Some(301), None)), true),
        (|lost| Ok(lost.heard(Some(301), Some(301))), true),
        (|lost| Ok(lost.heard(Some(299), None)), false),
        (|lost| Ok(lost.heard(None, Some(40))), false),
        (away, false),
    ];
    for (n, (answer, lost_for_good)) in answers.into_iter().enumerate() {
        let mut lost = Lost::taken();
        let first = lost.looked(answer(&lost));
        assert!(!ends(&first), "{n}: not by one answer");
        assert!(
            !kinds(&first).contains(&"cede"),
            "{n}: whoever serves it may claim it"
        );
        assert_eq!(lost.asked_again(), lost_for_good, "{n}");
        if lost_for_good {
            let second = lost.looked(Ok(lost.heard(Some(400), None)));
            assert!(ends(&second), "{n}");
        } else {
            assert!(lost.asked_within(300), "{n}: anew, after another grace");
        }
    }
}

#[test]
fn a_store_that_came_back_empty_is_asked_again_and_whoever_serves_the_room_has_told_it_by_then() {
    let mut lost = Lost::taken();
    lost.looked(Ok(Looked::default()));
    // An answer to somebody else's question changes nothing of that.
    assert!(!ends(&lost.looked(Ok(Looked::default()))));
    assert!(lost.asked_again());
    let second = lost.looked(Ok(lost.heard(None, Some(3))));
    assert!(!ends(&second), "{second:?}");
    assert!(!lost.asked_within(299) && lost.asked_within(6));
}

#[test]
fn a_room_that_was_left_alive_is_asked_about_anew_after_another_grace_and_ends_when_nobody_was_heard_of_since()
 {
    let mut lost = Lost::taken();
    lost.looked(Ok(lost.heard(Some(299), None)));
    assert!(!lost.asked_within(299));
    // The answer to somebody else's question.
    assert!(!ends(&lost.looked(Ok(Looked::default()))));
    assert!(lost.asked_within(6));
    // It was written while it was in custody: the grace begins again.
    assert!(!ends(&lost.looked(Ok(lost.heard(Some(200), None)))));
    assert!(!lost.asked_within(299) && lost.asked_within(6));
    assert!(!ends(&lost.looked(Ok(lost.heard(Some(306), None)))));
    assert!(lost.asked_again());
    assert!(ends(&lost.looked(Ok(lost.heard(Some(400), None)))));
}

#[test]
fn a_room_that_the_store_knows_to_have_ended_is_given_back() {
    let mut lost = Lost::taken();
    lost.record.state = State::Destroyed;
    lost.looked(Ok(lost.heard(Some(400), None)));
    assert!(lost.asked_again());
    let given_back = lost.looked(Ok(lost.heard(Some(500), None)));
    assert_eq!(kinds(&given_back), ["cede"]);
}

#[test]
fn a_room_whose_custodian_ended_it_and_lost_its_key_meanwhile_is_claimed_as_its_own() {
    let mut lost = Lost::taken();
    lost.looked(Ok(Looked::default()));
    assert!(lost.asked_again());
    assert!(ends(&lost.looked(Ok(Looked::default()))));
    let gone = Input::NotClaimed {
        room: room("r"),
        owner: None,
        problem: "gone".into(),
    };
    assert_eq!(kinds(&lost.custodian.feed_away(gone.clone())), ["claim"]);
    assert!(
        kinds(&lost.custodian.feed_away(gone)).is_empty(),
        "it is asked for already"
    );
}

#[test]
fn between_two_answers_the_room_may_be_claimed_by_another_or_the_lease_be_lost_and_then_nothing_is_ended() {
    let taken_by = |owner: &str| Input::NotClaimed {
        room: room("r"),
        owner: NodeName::new(owner).ok(),
        problem: String::new(),
    };
    for input in [Input::LeaseLost, taken_by("n2")] {
        let mut lost = Lost::taken();
        lost.looked(Ok(Looked::default()));
        lost.custodian.feed_away(input);
        assert!(!lost.asked_again());
        assert!(!ends(&lost.looked(Ok(Looked::default()))));
    }
}

#[test]
fn a_room_that_is_served_here_by_the_second_answer_is_this_agents_own() {
    let mut lost = Lost::taken();
    lost.looked(Ok(Looked::default()));
    lost.custodian.listed();
    assert!(!ends(&lost.looked(Ok(Looked::default()))));
    assert_eq!(lost.custodian.view().state, State::Liveing);
    assert!(lost.custodian.now.mono > Mono(0));
}
