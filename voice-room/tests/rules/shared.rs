//! Two agents, one store that may lose its last writes, one registry: whatever the order of claims, lost leases, lost
//! answers, failovers and restarts, nobody writes under an epoch it does not hold, no number is used twice, all is stored.

mod absence;
mod numbers;
mod others;
mod sim;

use crate::world::*;
use proptest::{prelude::*, sample::select, test_runner::RngSeed};
use sim::{NODES, ROOMS, Sim};
use voice_room::{
    Command, Core, Epoch, EventType, Input, Isolation, NodeName, RoomRecord, Rules, State, StateChangeEvent,
    Tenure, Version,
    core::RoomView,
    input::{Ask, Heartbeat, ReplyId, Request, Restored, Served},
    record::{Committed, Refreshed},
    timeline::Actor,
};

#[derive(Debug, Clone)]
enum Action {
    Pass(u64),
    /// A media server of this node lists the room, or no longer does.
    Serve(usize, usize, bool),
    Ask(usize, usize, Ask),
    /// The registry answers claims, or does not.
    Registry(bool),
    /// A lease ends; its agent knows before anybody else may claim.
    LoseLease(usize),
    /// What the network does with the next changes.
    Store(sim::Net),
    /// What waits in the network arrives.
    Deliver,
    /// A replica catches up; a failover makes it the store.
    Replicate,
    Failover,
    Restart(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let (node, room) = (|| 0..NODES.len(), || 0..ROOMS.len());
    let ask = || {
        select(vec![
            Ask::Create,
            start_live("h"),
            gone(),
            host_return("h"),
            close(Version(0)),
        ])
    };
    let net = || {
        select(vec![
            sim::Net::Works,
            sim::Net::LosesAnswers,
            sim::Net::LosesChanges,
            sim::Net::IsSlow,
        ])
    };
    prop_oneof![
        8 => (1..90_u64).prop_map(Action::Pass),
        6 => (node(), room(), any::<bool>()).prop_map(|(n, r, on)| Action::Serve(n, r, on)),
        8 => (node(), room(), ask()).prop_map(|(n, r, ask)| Action::Ask(n, r, ask)),
        3 => any::<bool>().prop_map(Action::Registry),
        4 => node().prop_map(Action::LoseLease),
        4 => net().prop_map(Action::Store),
        4 => Just(Action::Deliver),
        3 => Just(Action::Replicate),
        2 => Just(Action::Failover),
        2 => node().prop_map(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 4_000,
        rng_seed: RngSeed::Fixed(0x0000_ca11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_order_of_losses_uses_a_number_twice_or_an_epoch_that_is_not_held_and_all_is_stored_in_the_end(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut sim = Sim::new();
        for action in actions {
            match action {
                Action::Pass(seconds) => sim.pass(seconds),
                Action::Serve(node, room, on) => sim.serve(node, ROOMS[room], on),
                Action::Ask(node, room, ask) => sim.ask(node, ROOMS[room], ask),
                Action::Registry(answers) => sim.registry_answers = answers,
                Action::LoseLease(node) => sim.lose_lease(node),
                Action::Store(net) => sim.net = net,
                Action::Deliver => sim.deliver(),
                Action::Replicate => sim.replicate(),
                Action::Failover => sim.failover(),
                Action::Restart(node) => sim.restart(node),
            }
            sim.check();
        }
        sim.heal();
    }
}

/// A core that claims each room of a shared store; what it asks for is answered by the test.
struct Agent {
    core: Core,
    now: voice_room::Now,
    asked: u64,
}

impl Agent {
    fn new(found: Restored) -> Agent {
        let (name, now) = (NodeName::new("n1").unwrap(), start());
        let tenure = Tenure {
            epoch: None,
            shared: Some(7),
        };
        Agent {
            core: Core::new(name, tenure, Rules::default(), found, now),
            now,
            asked: 0,
        }
    }

    /// With room `r` LIVEING, held under `epoch(1)` and stored.
    fn live() -> Agent {
        let mut agent = Agent::new(Restored::default());
        agent.listed();
        agent.feed(claimed(1));
        let stored = agent.view().version;
        assert_eq!((agent.view().unstored, stored), (0, Version(1)));
        agent
    }

    /// Gives one input; every change that is sent is taken.
    fn feed(&mut self, input: Input) -> Vec<Command> {
        let mut commands = self.feed_away(input);
        let mut n = 0;
        while n < commands.len() {
            let answer = match &commands[n] {
                Command::Commit(change) => Some(stored(change, Ok(Committed::Ok))),
                other => positive(self.now, other),
            };
            if let Some(answer) = answer {
                commands.extend(self.feed_away(answer));
            }
            n += 1;
        }
        commands
    }

    /// The same, and nobody answers.
    fn feed_away(&mut self, input: Input) -> Vec<Command> {
        self.core.handle(self.now, input);
        self.commands()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.core.next_command()).collect()
    }

    fn tick(&mut self, seconds: u64) -> Vec<Command> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.now = self.now + secs(1);
            self.core.tick(self.now);
            all.extend(self.commands());
        }
        all
    }

    fn listed(&mut self) -> Vec<Command> {
        let served = Served {
            room: room("r"),
            ports: vec![voice_room::Port(50_000)],
            flows: vec![],
            ssrcs: vec![],
            participants: 2,
            host: None,
        };
        let (source, rooms, capacity) = (source("sfu"), vec![served], None);
        self.feed(Input::Heartbeat(Heartbeat {
            source,
            rooms,
            capacity,
        }))
    }

    fn ask(&mut self, actor: Actor, ask: Ask) -> Vec<Command> {
        self.asked += 1;
        let request = Request {
            room: room("r"),
            ask,
            actor,
            op_id: None,
            incarnation: None,
            sequence: None,
            trace_id: None,
            reply: Some(ReplyId(self.asked)),
            participants: Vec::new(),
        };
        self.feed_away(Input::Request(request))
    }

    fn block(&mut self) -> Vec<Command> {
        let (lasts, reason) = (None, "test".into());
        self.ask(OPERATOR, Ask::Block { lasts, reason })
    }

    fn view(&self) -> RoomView {
        self.core.view(&room("r"), self.now).unwrap()
    }

    fn record(&self) -> RoomRecord {
        let view = self.view();
        RoomRecord {
            room: room("r"),
            state: view.state,
            version: view.version,
            epoch: view.epoch,
            op_id: op("stored"),
            incarnation: view.incarnation,
            owner: NodeName::new("n1").unwrap(),
            since: self.now.wall,
            source: view.source,
            host: None,
            ports: view.ports,
        }
    }

    fn refreshed(&mut self, stored: Refreshed) -> Vec<Command> {
        self.feed_away(Input::Refreshed(Ok(vec![(room("r"), stored)])))
    }

    /// What this agent says of rooms without a lease, in so many seconds in which its media server lists `r`.
    fn listed_for(&mut self, seconds: u64) -> Vec<Command> {
        let mut all = Vec::new();
        for _ in 0..seconds / 5 {
            all.extend(self.listed());
            all.extend(self.tick(5));
        }
        all
    }

    fn cede_to_n2(&mut self) -> Vec<Command> {
        self.feed_away(Input::LeaseLost);
        let (room, owner, problem) = (room("r"), NodeName::new("n2").ok(), String::new());
        self.feed_away(Input::NotClaimed { room, owner, problem })
    }
}

fn epoch(revision: u64) -> Epoch {
    Epoch { era: 0, revision }
}

fn claimed(revision: u64) -> Input {
    let (room, epoch) = (room("r"), epoch(revision));
    Input::Claimed { room, epoch }
}

#[test]
fn nothing_is_sent_before_the_room_is_held_and_then_all_in_order_under_the_epoch_it_is_held_under() {
    let mut agent = Agent::new(Restored::default());
    let asked = agent.listed();
    assert!(
        kinds(&asked).contains(&"claim") && !kinds(&asked).contains(&"commit"),
        "{asked:?}"
    );
    let cut = agent.block();
    assert!(kinds(&cut).contains(&"arm") && kinds(&cut).contains(&"push expired"));
    assert_eq!(commits(&cut), []);
    agent.tick(200);
    let sent = commits(&agent.feed(claimed(5)));
    let events: Vec<_> = sent
        .iter()
        .map(|c| (c.event.event_type, c.record.epoch))
        .collect();
    assert_eq!(
        events,
        [(EventType::Adopt, epoch(5)), (EventType::Stuck, epoch(5))]
    );
}

#[test]
fn an_answer_under_a_lost_lease_still_counts_and_what_follows_waits_for_the_next_claim() {
    let mut agent = Agent::live();
    let sent = commits(&agent.ask(gateway(), gone())).remove(0);
    let again = agent.feed_away(Input::LeaseLost);
    assert_eq!(kinds(&again), ["claim"]);
    assert_eq!(commits(&agent.block()), []);
    assert_eq!(commits(&agent.feed_away(stored(&sent, Ok(Committed::Ok)))), []);
    let sent = commits(&agent.feed_away(claimed(9)));
    assert_eq!(
        (sent.len(), sent[0].record.epoch, sent[0].record.version),
        (1, epoch(9), Version(3))
    );
}

#[test]
fn a_record_that_the_store_lost_is_put_back_under_a_number_that_was_never_used() {
    for older in [false, true] {
        let mut agent = Agent::live();
        let stored = RoomRecord {
            version: Version(0),
            ..agent.record()
        };
        agent.tick(65);
        let stored = if older {
            Refreshed::Differs(stored)
        } else {
            Refreshed::Missing
        };
        let back = commits(&agent.refreshed(stored)).remove(0);
        assert_eq!(
            (back.event.event_type, back.record.version),
            (EventType::Restore, Version(2))
        );
        assert_eq!(back.event.old_state, older.then_some(State::Liveing));
        assert_eq!(agent.view().state, State::Liveing);
    }
}

#[test]
fn what_waits_on_a_lost_record_is_not_given_up_but_follows_on_it() {
    let mut agent = Agent::live();
    let sent = commits(&agent.ask(gateway(), gone())).remove(0);
    let conflict = Ok(Committed::Conflict(None));
    let back = commits(&agent.feed_away(stored(&sent, conflict))).remove(0);
    assert_eq!(
        (back.event.event_type, back.record.state),
        (EventType::Restore, State::Liveing)
    );
    assert!(back.record.version > sent.record.version);
    let follows = commits(&agent.feed_away(stored(&back, Ok(Committed::Ok)))).remove(0);
    assert_eq!(
        (follows.record.op_id.clone(), follows.record.version),
        (sent.record.op_id.clone(), back.record.version.next())
    );
}

#[test]
fn a_later_version_of_somebody_else_is_taken_over_and_signed() {
    let mut agent = Agent::live();
    let theirs = RoomRecord {
        version: Version(9),
        owner: NodeName::new("n2").unwrap(),
        state: State::GraceClosing,
        op_id: op("theirs"),
        ..agent.record()
    };
    agent.tick(65);
    let signed = commits(&agent.refreshed(Refreshed::Differs(theirs))).remove(0);
    assert_eq!(
        (signed.event.event_type, signed.record.version),
        (EventType::Restore, Version(10))
    );
    assert_eq!(
        (agent.view().state, signed.record.owner.as_str()),
        (State::GraceClosing, "n1")
    );
}

#[test]
fn a_room_that_an_owner_before_expired_while_it_was_cut_here_is_signed_so_that_the_other_cannot_end_it() {
    let mut agent = Agent::live();
    let cut = commits(&agent.block()).remove(0);
    assert_eq!(
        (cut.record.state, cut.record.version),
        (State::Expired, Version(2))
    );
    let theirs = RoomRecord {
        version: Version(2),
        owner: NodeName::new("n2").unwrap(),
        op_id: op("theirs"),
        ..agent.record()
    };
    let conflict = Input::Stored {
        room: room("r"),
        op_id: cut.record.op_id.clone(),
        result: Ok(Committed::Conflict(Some(theirs))),
    };
    let signed = commits(&agent.feed_away(conflict)).remove(0);
    assert_eq!(
        (
            signed.event.event_type,
            signed.record.state,
            signed.record.version
        ),
        (EventType::Restore, State::Expired, Version(3))
    );
    assert_eq!(
        (signed.record.owner.as_str(), signed.record.epoch),
        ("n1", epoch(1))
    );
    assert!(agent.core.isolation(&room("r"), agent.now).is_some());
}

#[test]
fn a_ceded_room_is_cut_here_when_it_is_stuck_but_nothing_of_it_is_stored_and_joins_are_not_refused() {
    let mut agent = Agent::live();
    assert!(kinds(&agent.cede_to_n2()).contains(&"note"));
    let refused = agent.ask(gateway(), gone());
    assert!(matches!(
        &refused[..],
        [
            Command::Note {
                code: "not_owner",
                ..
            },
            Command::Reply { result: Err(_), .. }
        ]
    ));
    let cut = agent.block();
    assert!(
        kinds(&cut).contains(&"arm") && kinds(&cut).contains(&"push expired"),
        "{cut:?}"
    );
    let later = agent.tick(400);
    assert_eq!((commits(&cut), commits(&later)), (vec![], vec![]));
    assert!(agent.core.isolation(&room("r"), agent.now).is_none());
}

#[test]
fn a_ceded_room_whose_media_goes_on_here_is_asked_for_again_and_one_that_is_gone_is_forgotten() {
    let mut agent = Agent::live();
    agent.cede_to_n2();
    assert!(kinds(&agent.listed()).contains(&"claim"));
    assert!(
        !kinds(&agent.listed()).contains(&"claim"),
        "not with every listing"
    );
    let gone = agent.tick(200);
    assert!(
        kinds(&gone).contains(&"forget room") && !kinds(&gone).contains(&"arm"),
        "{gone:?}"
    );
    assert_eq!(agent.core.views(agent.now), []);
}

#[test]
fn an_isolation_of_another_agent_refuses_joins_and_is_told_to_the_sessions_here_and_ends_with_its_release() {
    let mut agent = Agent::new(Restored::default());
    let theirs = |event_type, new_state| StateChangeEvent {
        room: room("r"),
        incarnation: voice_room::Incarnation(1),
        event_type,
        old_state: None,
        new_state,
        version: Version(4),
        epoch: epoch(2),
        op_id: op("theirs"),
        actor: Actor::Agent,
        reason: "stuck".into(),
        trace_id: None,
        timestamp: agent.now.wall,
    };
    let isolation = Isolation {
        room: room("r"),
        reason: "stuck".into(),
        until: agent.now.wall + secs(100),
    };
    let (stuck, released) = (
        theirs(EventType::Stuck, State::Expired),
        theirs(EventType::Release, State::Destroyed),
    );
    let told = agent.feed_away(Input::Heard(stuck.clone(), Some(isolation.clone())));
    assert!(matches!(&told[..], [Command::PushExpired(e)] if e.isolated_until == isolation.until));
    assert!(agent.core.isolation(&room("r"), agent.now).is_some());
    assert!(
        !kinds(&agent.listed()).contains(&"claim"),
        "an isolated room is not adopted"
    );
    let told = agent.feed_away(Input::Heard(released, None));
    assert!(matches!(&told[..], [Command::PushRestored(_)]));
    assert!(agent.core.isolation(&room("r"), agent.now).is_none());
    // What was lifted while nobody could tell is not among those that are read after the gap.
    agent.feed_away(Input::Heard(stuck, Some(isolation)));
    agent.feed_away(Input::Isolations(vec![]));
    assert!(agent.core.isolation(&room("r"), agent.now).is_none());
}

#[test]
fn own_changes_are_not_told_twice() {
    let mut agent = Agent::live();
    let sent = commits(&agent.ask(gateway(), gone())).remove(0);
    assert_eq!(
        kinds(&agent.feed_away(Input::Heard(sent.event.clone(), None))),
        [] as [&str; 0]
    );
}

#[test]
fn a_restart_claims_every_room_anew_and_sends_nothing_before() {
    let record = Agent::live().record();
    let found = Restored {
        rooms: vec![record],
        ..Restored::default()
    };
    let mut agent = Agent::new(found);
    let asked = agent.commands();
    assert!(kinds(&asked).contains(&"claim"));
    assert_eq!(commits(&agent.ask(gateway(), gone())), []);
    let sent = commits(&agent.feed(claimed(8)));
    assert_eq!(
        (sent.len(), sent[0].record.version, sent[0].record.epoch),
        (1, Version(2), epoch(8))
    );
}

#[test]
fn the_end_of_a_room_that_died_with_the_process_that_waited_to_store_it_is_stored_after_the_restart() {
    let before = Agent::live().record();
    let ended = RoomRecord {
        state: State::Destroyed,
        version: before.version.next(),
        op_id: op("ended"),
        ..before.clone()
    };
    let begin = |unstored: &[RoomRecord]| {
        Agent::new(Restored {
            rooms: vec![ended.clone()],
            unstored: unstored.to_vec(),
            ..Restored::default()
        })
    };
    let mut agent = begin(&[]);
    assert!(!kinds(&agent.commands()).contains(&"claim"), "it was stored");
    let of_another = RoomRecord {
        owner: NodeName::new("n2").unwrap(),
        ..before.clone()
    };
    assert!(!kinds(&begin(&[of_another]).commands()).contains(&"claim"));
    let mut agent = begin(&[before]);
    let begun = agent.commands();
    assert!(
        kinds(&begun).contains(&"claim") && commits(&begun).is_empty(),
        "{begun:?}"
    );
    let led_to = agent.feed(claimed(5));
    let stored = commits(&led_to).remove(0);
    assert_eq!(
        (
            stored.record.state,
            stored.record.version,
            &stored.record.op_id,
            stored.record.epoch
        ),
        (State::Destroyed, ended.version, &ended.op_id, epoch(5))
    );
    assert_eq!(stored.event.old_state, Some(State::Liveing));
    assert!(kinds(&led_to).contains(&"cede"));
}
