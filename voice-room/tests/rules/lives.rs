//! Lives, sequences, repeats: nothing of an old life touches a new one, and a repeat changes nothing.

use crate::world::*;
use voice_room::{
    Command, Incarnation, Input, Rejected, Rules, State, Version,
    input::{Ask, ClientAct, ClientFact, ReplyId, StepResult, Traffic},
    timeline::{Actor, Step},
};

#[test]
fn a_message_of_an_old_life_is_refused() {
    let mut w = World::new();
    w.go_live("r");
    let old = w.life("r");
    w.ask("r", close(Version(2))).unwrap();
    w.go_live("r");
    let new = w.life("r");
    assert!(new > old);
    let refused = Rejected::OldIncarnation {
        given: old,
        current: new,
    };
    let mut request = w.request(gateway(), "r", gone());
    request.incarnation = Some(old);
    assert_eq!(w.send(request).0.unwrap(), Err(refused.clone()));
    let fact = ClientFact {
        room: room("r"),
        client: client("a"),
        what: ClientAct::Join,
        is_host: false,
        actor: gateway(),
        incarnation: Some(old),
        reply: Some(ReplyId(99)),
    };
    let commands = w.feed(Input::Client(fact));
    assert_eq!(replies(&commands, ReplyId(99)), vec![Err(refused)]);
    assert_eq!(w.state("r"), Some(State::Liveing));
}

#[test]
fn counters_and_step_results_of_an_old_life_touch_nothing() {
    let mut w = World::live(Rules::default(), &["r"]);
    w.answers = false;
    w.block("r");
    let old = Incarnation(w.life("r").0 - 1);
    let before = w.view("r");
    let result = Ok("late".into());
    w.feed(Input::Step(StepResult {
        room: room("r"),
        incarnation: old,
        step: Step::Arm,
        at: None,
        result,
    }));
    let counts = voice_room::input::Counts {
        rtp_in: u64::MAX,
        rtp_out: u64::MAX,
        ..Default::default()
    };
    w.feed(Input::Traffic(vec![Traffic {
        room: room("r"),
        incarnation: old,
        counts,
    }]));
    assert_eq!(w.view("r"), before);
}

#[test]
fn counters_near_the_end_of_their_range_are_taken() {
    let mut w = World::live(Rules::default(), &["r"]);
    let incarnation = w.life("r");
    let counts = voice_room::input::Counts {
        rtp_in: u64::MAX,
        rtp_out: u64::MAX,
        ..Default::default()
    };
    for _ in 0..2 {
        let counts = counts.clone();
        w.feed(Input::Traffic(vec![Traffic {
            room: room("r"),
            incarnation,
            counts,
        }]));
    }
    assert!(w.view("r").witness.unwrap().saw_egress);
}

#[test]
fn a_lower_sequence_of_the_same_peer_is_refused_an_equal_one_and_another_peers_are_not() {
    let mut w = World::new();
    w.go_live("r");
    let mut ask = |actor: Actor, sequence, ask: Ask| {
        let mut request = w.request(actor, "r", ask);
        request.sequence = Some(sequence);
        w.send(request).0.unwrap()
    };
    ask(gateway(), 5, gone()).unwrap();
    assert_eq!(
        ask(gateway(), 4, host_return("h")),
        Err(Rejected::OldSequence { given: 4, last: 5 })
    );
    ask(gateway(), 5, host_return("h")).unwrap();
    let other = Actor::Peer("gateway-2".parse().unwrap());
    ask(other, 1, gone()).unwrap();
}

#[test]
fn a_hundred_repeats_of_an_op_id_are_one_commit_and_are_answered_when_it_is_stored() {
    let mut w = World::new();
    w.answers = false;
    let mut request = w.request(gateway(), "r", Ask::Create);
    request.op_id = Some(op("create-1"));
    let mut commands = Vec::new();
    for n in 0..100 {
        request.reply = Some(ReplyId(1000 + n));
        commands.extend(w.feed(Input::Request(request.clone())));
    }
    assert_eq!(commits(&commands).len(), 1);
    assert!(
        (0..100).all(|n| replies(&commands, ReplyId(1000 + n)).is_empty()),
        "answered before it is stored"
    );
    let answers = w.feed(stored(
        &commits(&commands)[0],
        Ok(voice_room::record::Committed::Ok),
    ));
    assert!((0..100).all(|n| replies(&answers, ReplyId(1000 + n)).len() == 1));

    w.answers = true;
    w.ask("r", start_live("h")).unwrap();
    request.reply = Some(ReplyId(2000));
    let again = w.feed(Input::Request(request));
    let led_to = replies(&again, ReplyId(2000)).pop().unwrap().unwrap();
    assert_eq!(
        (led_to.state, led_to.version),
        (State::Created, Version(1)),
        "what it led to, not what is now"
    );
    assert_eq!(again.len(), 1);
}

#[test]
fn a_repeat_of_what_the_store_refused_is_asked_anew() {
    let mut w = World::new();
    w.answers = false;
    let mut request = w.request(gateway(), "r", Ask::Create);
    request.op_id = Some(op("create-1"));
    let commands = w.feed(Input::Request(request.clone()));
    let fenced = voice_room::record::Committed::Fenced(voice_room::Epoch { era: 9, revision: 9 });
    let refused = w.feed(stored(&commits(&commands)[0], Ok(fenced)));
    assert!(matches!(
        replies(&refused, request.reply.unwrap())[..],
        [Err(Rejected::Conflict(_))]
    ));
    let again = w.feed(Input::Request(request.clone()));
    let answers = replies(&again, request.reply.unwrap());
    assert!(!matches!(answers[..], [Ok(_)]), "it was never done: {answers:?}");
}

#[test]
fn an_answer_carries_the_life_it_is_of() {
    let mut w = World::new();
    w.go_live("r");
    let first = w.life("r");
    w.answers = false;
    let request = w.request(gateway(), "r", close(Version(2)));
    let closed = w.feed(Input::Request(request.clone()));
    w.ask_as(gateway(), "r", Ask::Create);
    assert!(w.life("r") > first);
    let answers = w.feed(stored(
        &commits(&closed)[0],
        Ok(voice_room::record::Committed::Ok),
    ));
    let answer = replies(&answers, request.reply.unwrap()).pop().unwrap().unwrap();
    assert_eq!(
        (answer.incarnation, answer.state, answer.version),
        (first, State::Destroyed, Version(3))
    );
}

#[test]
fn another_media_server_does_not_take_a_room_whose_heartbeats_come() {
    let mut w = World::live(Rules::default(), &["r"]);
    let mine = w.view("r");
    let theirs = |name: &str| {
        Input::Heartbeat(voice_room::input::Heartbeat {
            source: source("other"),
            rooms: vec![voice_room::input::Served {
                room: room(name),
                ports: vec![voice_room::Port(50_100)],
                flows: vec![],
                ssrcs: vec![],
                participants: 1,
                host: None,
            }],
            capacity: None,
        })
    };
    let commands = w.feed(theirs("r"));
    assert!(matches!(
        &commands[..],
        [Command::Note {
            code: "not_your_room",
            ..
        }]
    ));
    assert_eq!(w.view("r"), mine);
    let end = Actor::Source(source("other"));
    assert!(matches!(
        w.refused(end, "r", gone()),
        Rejected::NotYourRoom { .. }
    ));
    w.silence();
    w.pass(25);
    w.feed(theirs("r"));
    assert_eq!(w.view("r").source, Some(source("other")));
}
