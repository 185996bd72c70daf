//! The owner's side of the three-phase sync: who is asked, what ends an attempt, and what is told.

use crate::world::*;
use voice_room::{
    Command, Core, Epoch, Input, NodeName, PeerId, Rejected, Rules, State, Tenure, Version,
    command::{Accepted, RoomUpdate},
    input::{Ask, Credential, ReplyId, Request, Restored},
    record::Committed,
    sync::{Attempt, Known, Proposal, Rollback},
    timeline::{Actor, Synced, What},
};

fn peer(name: &str) -> PeerId {
    name.parse().unwrap()
}

/// A request of a gateway for room `r`, in which these take part.
fn request(w: &mut World, ask: Ask, others: &[&str]) -> Request {
    Request {
        participants: others.iter().map(|p| peer(p)).collect(),
        ..w.request(gateway(), "r", ask)
    }
}

fn ask(w: &mut World, ask: Ask, others: &[&str]) -> (ReplyId, Vec<Command>) {
    let request = request(w, ask, others);
    let reply = request.reply.unwrap();
    (reply, w.feed(Input::Request(request)))
}

fn prepares(commands: &[Command]) -> Vec<Proposal> {
    let proposal = |c: &Command| match c {
        Command::Prepare(p) => Some(p.clone()),
        _ => None,
    };
    commands.iter().filter_map(proposal).collect()
}

fn rollbacks(commands: &[Command]) -> Vec<Rollback> {
    let rollback = |c: &Command| match c {
        Command::Rollback(r) => Some(r.clone()),
        _ => None,
    };
    commands.iter().filter_map(rollback).collect()
}

fn updates(commands: &[Command]) -> Vec<RoomUpdate> {
    let update = |c: &Command| match c {
        Command::PushUpdate(u) => Some(u.clone()),
        _ => None,
    };
    commands.iter().filter_map(update).collect()
}

fn synced(commands: &[Command]) -> Vec<Synced> {
    let synced = |what: What| match what {
        What::Synced(s) => Some(*s),
        _ => None,
    };
    recorded(commands, "r").into_iter().filter_map(synced).collect()
}

fn vote(w: &mut World, p: &Proposal, who: &str, vote: Result<(), &str>) -> Vec<Command> {
    w.feed(Input::Vote {
        room: p.room.clone(),
        peer: peer(who),
        attempt: p.attempt,
        vote: vote.map_err(String::from),
    })
}

/// Room `r` LIVEING at version 2, and HOST_DISCONNECT asked for in which these take part.
fn closing(others: &[&str]) -> (World, Proposal, ReplyId) {
    let mut w = World::new();
    w.go_live("r");
    let (reply, commands) = ask(&mut w, gone(), others);
    let proposal = prepares(&commands).pop().unwrap();
    (w, proposal, reply)
}

#[test]
fn nothing_changes_before_all_have_agreed_and_then_the_store_decides_and_all_are_told() {
    let (mut w, p, reply) = closing(&["sfu", "sig"]);
    assert_eq!(p.to, [peer("sfu"), peer("sig")]);
    assert_eq!((p.state, p.version), (State::GraceClosing, Version(3)));
    assert_eq!(vote(&mut w, &p, "sfu", Ok(())), []);
    assert_eq!(w.state("r"), Some(State::Liveing));
    assert_eq!(w.view("r").version, Version(2));
    let all = vote(&mut w, &p, "sig", Ok(()));
    assert_eq!(w.state("r"), Some(State::GraceClosing));
    assert_eq!(commits(&all).len(), 1);
    let told = updates(&all).pop().unwrap();
    assert_eq!((told.state, told.version), (State::GraceClosing, Version(3)));
    assert!(told.over >= p.attempt.number, "the attempt is over");
    let accepted: Accepted = replies(&all, reply).pop().unwrap().unwrap();
    assert_eq!(accepted.version, Version(3));
}

#[test]
fn the_timeline_says_who_agreed_how_fast_and_who_took_note() {
    let (mut w, p, _) = closing(&["sfu", "sig"]);
    vote(&mut w, &p, "sfu", Ok(()));
    w.now = w.now + secs(1);
    vote(&mut w, &p, "sig", Ok(()));
    let mut acked = |who| {
        w.feed(Input::CommitAcked {
            room: room("r"),
            peer: peer(who),
            epoch: p.attempt.epoch,
            version: p.version,
        })
    };
    assert_eq!(synced(&acked("sfu")), []);
    let entry = synced(&acked("sig")).pop().unwrap();
    assert_eq!(entry.agreed, [(peer("sfu"), secs(0)), (peer("sig"), secs(1))]);
    assert_eq!(entry.committed, [peer("sfu"), peer("sig")]);
    assert_eq!((entry.result, entry.took), (Ok(()), secs(1)));
}

#[test]
fn a_commit_that_not_all_take_note_of_is_recorded_all_the_same() {
    let (mut w, p, _) = closing(&["sfu"]);
    vote(&mut w, &p, "sfu", Ok(()));
    let entry = synced(&w.pass(3)).pop().unwrap();
    assert_eq!((entry.committed, entry.result), (vec![], Ok(())));
}

#[test]
fn one_refusal_rolls_back_at_once_and_is_named_to_the_one_who_asked() {
    let (mut w, p, reply) = closing(&["sfu", "sig"]);
    let all = vote(&mut w, &p, "sfu", Err("recording"));
    let back = rollbacks(&all).pop().unwrap();
    assert_eq!((back.to, back.attempt), (p.to.clone(), p.attempt));
    let refused = vec![(peer("sfu"), "recording".to_string())];
    let silent = vec![];
    let expected = Rejected::NotAgreed { refused, silent };
    assert_eq!(replies(&all, reply), [Err(expected)]);
    assert_eq!(synced(&all).len(), 1);
    assert_eq!(w.state("r"), Some(State::Liveing));
    assert_eq!(vote(&mut w, &p, "sig", Ok(())), [], "too late to count");
    assert_eq!(commits(&all).len(), 0);
}

#[test]
fn who_is_silent_for_2_s_is_named_and_the_version_is_used_by_the_next() {
    let (mut w, p, reply) = closing(&["sfu", "sig"]);
    vote(&mut w, &p, "sfu", Ok(()));
    assert_eq!(replies(&w.pass(1), reply), []);
    let all = w.pass(1);
    let (refused, silent) = (vec![], vec![peer("sig")]);
    let expected = Rejected::NotAgreed { refused, silent };
    assert!(expected.to_string().contains("sig did not answer"), "{expected}");
    assert_eq!(replies(&all, reply), [Err(expected)]);
    assert_eq!(rollbacks(&all).len(), 1);
    let (_, commands) = ask(&mut w, gone(), &["sfu"]);
    let next = prepares(&commands).pop().unwrap();
    assert_eq!(next.version, p.version);
    assert!(next.attempt > p.attempt);
}

#[test]
fn once_the_change_is_sent_only_the_store_decides() {
    let (mut w, p, reply) = closing(&["sfu"]);
    w.answers = false;
    let sent = commits(&vote(&mut w, &p, "sfu", Ok(())));
    assert_eq!(sent.len(), 1);
    let lost = w.feed(stored(&sent[0], Err("timeout".into())));
    assert_eq!((rollbacks(&lost), replies(&lost, reply)), (vec![], vec![]));
    let again = w.pass(10);
    assert_eq!(rollbacks(&again), [], "they stay prepared");
    let again = commits(&again);
    assert_eq!(again.len(), 1, "it asks the store again, by the same op_id");
    assert_eq!(again[0].record.op_id, sent[0].record.op_id);
    let done = w.feed(stored(&again[0], Ok(Committed::Skipped)));
    assert_eq!(updates(&done).len(), 1);
    assert!(replies(&done, reply)[0].is_ok());
}

#[test]
fn a_change_that_the_store_refuses_is_rolled_back() {
    let (mut w, p, reply) = closing(&["sfu"]);
    w.answers = false;
    let sent = commits(&vote(&mut w, &p, "sfu", Ok(())));
    let mut other = sent[0].record.clone();
    other.op_id = op("other");
    let refused = w.feed(stored(&sent[0], Ok(Committed::Conflict(Some(other)))));
    assert_eq!(rollbacks(&refused).len(), 1);
    assert!(replies(&refused, reply)[0].is_err());
}

#[test]
fn a_refusal_by_the_store_after_a_lost_answer_leaves_them_prepared_and_tells_what_is_stored() {
    let (mut w, p, _) = closing(&["sfu"]);
    w.answers = false;
    let sent = commits(&vote(&mut w, &p, "sfu", Ok(())));
    w.feed(stored(&sent[0], Err("timeout".into())));
    let again = commits(&w.pass(2));
    let mut later = again[0].record.clone();
    (later.version, later.op_id) = (Version(4), op("other"));
    let refused = w.feed(stored(&again[0], Ok(Committed::Conflict(Some(later)))));
    assert_eq!(rollbacks(&refused), [], "it may have been done before that");
    let told = updates(&w.pass(1)).pop().unwrap();
    assert_eq!(told.version, Version(4));
    assert!(told.over >= p.attempt.number);
}

#[test]
fn a_trip_ends_a_running_attempt_and_the_one_who_asked_is_told() {
    let (mut w, p, reply) = closing(&["sfu"]);
    let all = w.block("r");
    assert!(
        all.iter()
            .any(|c| matches!(c, Command::PushExpired(e) if e.version == p.version))
    );
    assert_eq!(rollbacks(&all).len(), 1);
    assert!(matches!(replies(&all, reply)[..], [Err(Rejected::Conflict(_))]));
    assert_eq!(vote(&mut w, &p, "sfu", Ok(())), []);
    assert_eq!(w.state("r"), Some(State::Expired));
}

#[test]
fn a_request_that_its_guards_refuse_meanwhile_is_rolled_back() {
    let mut w = World::new();
    w.ask("r", Ask::Create).unwrap();
    let (reply, commands) = ask(&mut w, start_live("h"), &["sfu"]);
    let p = prepares(&commands).pop().unwrap();
    // The host is somebody else by now.
    w.client_says(gateway(), "r", "other", voice_room::input::ClientAct::Join, true)
        .unwrap();
    let all = vote(&mut w, &p, "sfu", Ok(()));
    assert!(matches!(
        replies(&all, reply)[..],
        [Err(Rejected::NotTheHost { .. })]
    ));
    assert_eq!(rollbacks(&all).len(), 1);
}

#[test]
fn requests_take_their_turns_and_facts_do_not_wait() {
    let (mut w, p, first) = closing(&["sfu"]);
    let (second, waits) = ask(&mut w, host_return("h"), &["sfu"]);
    let (third, waits_too) = ask(&mut w, gone(), &[]);
    assert_eq!((waits, waits_too), (vec![], vec![]), "neither is judged yet");
    let all = vote(&mut w, &p, "sfu", Ok(()));
    assert!(replies(&all, first)[0].is_ok());
    let p = prepares(&all).pop().unwrap();
    assert_eq!((p.state, p.version), (State::Liveing, Version(4)));
    let all = vote(&mut w, &p, "sfu", Ok(()));
    assert!(replies(&all, second)[0].is_ok() && replies(&all, third)[0].is_ok());
    assert_eq!(w.state("r"), Some(State::GraceClosing));
    assert_eq!(w.view("r").version, Version(5));
}

#[test]
fn the_next_attempt_waits_until_the_store_has_answered() {
    let (mut w, p, _) = closing(&["sfu"]);
    ask(&mut w, host_return("h"), &["sfu"]);
    w.answers = false;
    let all = vote(&mut w, &p, "sfu", Ok(()));
    assert_eq!(prepares(&all), []);
    let change = commits(&all).pop().unwrap();
    let taken = w.feed(stored(&change, Ok(Committed::Ok)));
    assert_eq!(prepares(&taken).len(), 1);
}

#[test]
fn the_same_op_id_again_is_answered_with_the_first() {
    let mut w = World::new();
    w.go_live("r");
    let send = |w: &mut World| {
        let request = Request {
            op_id: Some(op("op-1")),
            ..request(w, gone(), &["sfu"])
        };
        (request.reply.unwrap(), w.feed(Input::Request(request)))
    };
    let (first, commands) = send(&mut w);
    let p = prepares(&commands).pop().unwrap();
    let (again, nothing) = send(&mut w);
    assert_eq!(nothing, []);
    let all = vote(&mut w, &p, "sfu", Ok(()));
    let answers = [first, again].map(|r| replies(&all, r));
    assert!(answers[0][0].is_ok() && answers[0] == answers[1], "{answers:?}");
    assert_eq!(w.view("r").version, Version(3), "applied once");
}

#[test]
fn a_peer_that_is_gone_is_not_waited_for_and_is_told_when_it_is_back() {
    let (mut w, p, reply) = closing(&["sfu", "sig"]);
    vote(&mut w, &p, "sfu", Ok(()));
    let all = w.feed(Input::PeerGone(peer("sig")));
    assert!(replies(&all, reply)[0].is_ok());
    let known = |w: &mut World, version, prepared| {
        w.feed(Input::Known {
            peer: peer("sig"),
            rooms: vec![Known {
                room: room("r"),
                epoch: p.attempt.epoch,
                incarnation: p.incarnation,
                version: Version(version),
                prepared,
            }],
        })
    };
    let told = known(&mut w, 2, true);
    let [Command::Tell { to, update }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((to, update.version), (&peer("sig"), Version(3)));
    assert_eq!(known(&mut w, 3, false), [], "it knows");
}

#[test]
fn one_who_is_back_while_the_store_is_asked_is_told_the_end_with_all_others() {
    let (mut w, p, _) = closing(&["sfu", "sig"]);
    vote(&mut w, &p, "sfu", Ok(()));
    w.answers = false;
    let sent = commits(&vote(&mut w, &p, "sig", Ok(())));
    let known = Known {
        room: room("r"),
        epoch: p.attempt.epoch,
        incarnation: p.incarnation,
        version: Version(2),
        prepared: true,
    };
    let peer = peer("sig");
    let rooms = vec![known];
    assert_eq!(w.feed(Input::Known { peer, rooms }), [], "it is not known");
    let taken = w.feed(stored(&sent[0], Ok(Committed::Ok)));
    assert_eq!(updates(&taken).len(), 1);
}

#[test]
fn of_more_than_64_the_rest_are_only_told_and_the_one_who_asks_is_not_asked() {
    let names: Vec<String> = (0..80).map(|n| format!("gw-{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.insert(0, "gateway-1");
    let (_, p, _) = closing(&names);
    assert_eq!(p.to.len(), 63);
    assert!(!p.to.contains(&peer("gateway-1")), "it asked");
}

#[test]
fn requests_in_line_are_bounded() {
    let (mut w, ..) = closing(&["sfu"]);
    let mut refused = 0;
    for _ in 0..70 {
        let (reply, commands) = ask(&mut w, gone(), &["sfu"]);
        refused += replies(&commands, reply)
            .iter()
            .filter(|r| matches!(r, Err(Rejected::Limit(_))))
            .count();
    }
    assert_eq!(refused, 6);
}

#[test]
fn what_an_operator_orders_and_what_creates_a_room_is_told_and_not_asked() {
    let mut w = World::new();
    let (reply, commands) = ask(&mut w, Ask::Create, &["sfu"]);
    assert!(replies(&commands, reply)[0].is_ok());
    assert_eq!(prepares(&commands), []);
    let version = w.view("r").version;
    let by_operator = Request {
        actor: OPERATOR,
        ..request(&mut w, close(version), &["sfu"])
    };
    let (answer, commands) = w.send(by_operator);
    assert!(answer.unwrap().is_ok());
    assert_eq!(prepares(&commands), []);
}

/// A core that claims room `r` of a shared store, LIVEING at version 1 under epoch 1, stored.
fn claiming() -> (Core, Attempt) {
    let name = NodeName::new("n1").unwrap();
    let (epoch, shared) = (None, Some(7));
    let mut core = Core::new(
        name,
        Tenure { epoch, shared },
        Rules::default(),
        Restored::default(),
        start(),
    );
    let trusted = Ask::StartLive {
        host: None,
        credential: Credential::Trusted,
    };
    give(&mut core, Input::Request(plain(Ask::Create)));
    give(&mut core, claimed(1));
    give(&mut core, Input::Request(plain(trusted)));
    let asked = Request {
        participants: vec![peer("sfu")],
        ..plain(gone())
    };
    let commands = give(&mut core, Input::Request(asked));
    let attempt = prepares(&commands).pop().unwrap().attempt;
    (core, attempt)
}

fn plain(ask: Ask) -> Request {
    Request {
        actor: Actor::Peer(peer("gw")),
        reply: Some(ReplyId(1)),
        ..Request::by_map(room("r"), ask)
    }
}

fn claimed(revision: u64) -> Input {
    let (room, epoch) = (room("r"), Epoch { era: 0, revision });
    Input::Claimed { room, epoch }
}

/// Gives one input; every change that is sent is taken.
fn give(core: &mut Core, input: Input) -> Vec<Command> {
    core.handle(start(), input);
    let mut all = Vec::new();
    while let Some(command) = core.next_command() {
        if let Command::Commit(change) = &command {
            core.handle(start(), stored(change, Ok(Committed::Ok)));
        }
        all.push(command);
    }
    all
}

#[test]
fn a_lost_lease_ends_the_attempt_and_what_waits_is_prepared_under_the_next() {
    let (mut core, attempt) = claiming();
    let waits = Request {
        participants: vec![peer("sfu")],
        reply: Some(ReplyId(2)),
        ..plain(gone())
    };
    assert_eq!(prepares(&give(&mut core, Input::Request(waits))), []);
    let lost = give(&mut core, Input::LeaseLost);
    assert_eq!(rollbacks(&lost).len(), 1);
    assert!(replies(&lost, ReplyId(1))[0].is_err());
    assert_eq!(prepares(&lost), [], "nothing is asked for without a lease");
    let next = prepares(&give(&mut core, claimed(2))).pop().unwrap();
    assert!(next.attempt.epoch > attempt.epoch);
}

#[test]
fn a_change_that_was_sent_when_the_room_became_anothers_is_left_to_its_owner_to_tell() {
    let (mut core, attempt) = claiming();
    let (room, peer, vote) = (room("r"), peer("sfu"), Ok(()));
    let agreed = Input::Vote {
        room: room.clone(),
        peer,
        attempt,
        vote,
    };
    core.handle(start(), agreed);
    assert_eq!(commits(&core.commands()).len(), 1);
    let (owner, problem) = (Some(NodeName::new("n2").unwrap()), String::new());
    let ceded = give(&mut core, Input::NotClaimed { room, owner, problem });
    assert!(replies(&ceded, ReplyId(1))[0].is_err());
    assert_eq!(rollbacks(&ceded), []);
}
