//! Any sequence of inputs, silences, clock steps, store faults and restarts: what `model` checks holds at every step.

use crate::{model::*, world::*};
use proptest::{prelude::*, sample::select, test_runner::RngSeed};
use voice_room::{
    Incarnation, Input, Rules, State, Version,
    config::Mode,
    input::{Ask, ClientAct, ClientFact, Counts, Credential, Order, ReplyId, StepResult, Traffic},
    timeline::{Actor, Step},
};

const ROOMS: [&str; 5] = ["r0", "r1", "r2", "r3", "never"];
const SOURCES: [&str; 2] = ["sfu", "janus"];

#[derive(Debug, Clone)]
enum Action {
    Pass(u64),
    Freeze(u64),
    Serve {
        room: usize,
        source: usize,
        ports: Vec<u16>,
        rtp: (u64, u64),
    },
    /// The listing of a room names flows and SSRCs on the first port.
    Marks(usize, Vec<u16>, Vec<u32>),
    Omit(usize),
    Rtp(usize, (u64, u64)),
    /// A room its media server forgets, for longer than the stuck time.
    Forgotten(usize, (u64, u64)),
    /// All media servers die; whether their sockets are looked at.
    Outage {
        looked: bool,
    },
    /// An operator blocks a room and releases it so many seconds later.
    Released(usize, u64),
    Silence,
    SourceLost(usize),
    Sockets(Option<Vec<u16>>),
    Counters(bool),
    Ask {
        room: usize,
        ask: Ask,
        actor: Actor,
        op: Option<u8>,
        sequence: Option<u64>,
    },
    OldLife(usize),
    Client {
        room: usize,
        who: usize,
        what: ClientAct,
        is_host: bool,
        source: Option<usize>,
    },
    MediaRefused,
    Maintenance(Option<usize>, Option<u64>),
    KillSwitch(bool),
    Store(Mood),
    Deliver,
    Replay(usize),
    StepsFail(bool),
    Tamper(usize, State),
    Restart,
}

fn ports() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(select(vec![50_000, 50_002, 50_004, 50_006, 50_008]), 0..3)
}

fn rate() -> impl Strategy<Value = (u64, u64)> {
    select(vec![(0, 0), (50, 50), (50, 0), (0, 50)])
}

fn ask() -> impl Strategy<Value = (Ask, Actor)> {
    let credential = || {
        prop_oneof![
            Just(Credential::Trusted),
            Just(token("c0")),
            Just(Credential::Invalid("x".into()))
        ]
    };
    let reason = || "test".to_string();
    let lasts = prop::option::of((0..400_u64).prop_map(secs));
    prop_oneof![
        3 => Just((Ask::Create, gateway())),
        3 => credential().prop_map(|credential| (Ask::StartLive { host: None, credential }, gateway())),
        2 => Just((gone(), gateway())),
        2 => credential().prop_map(|credential| (Ask::HostReturn { host: None, credential }, gateway())),
        1 => Just((Ask::NoActiveUser, gateway())),
        4 => lasts.prop_map(move |lasts| (Ask::Block { lasts, reason: reason() }, OPERATOR)),
        6 => Just((Ask::Release { reason: "test".into() }, OPERATOR)),
        1 => Just((Ask::OwnerLost { record_stale: true, unserved: true }, Actor::Agent)),
        2 => (0..6_u64).prop_map(|v| (close(Version(v)), gateway())),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let room = || 0..ROOMS.len();
    let what = || select(vec![ClientAct::Join, ClientAct::Leave, ClientAct::Keepalive]);
    let mood = select(vec![
        Mood::Takes,
        Mood::TakesAndFails,
        Mood::Fails,
        Mood::TakesAndWaits,
    ]);
    let state = select(vec![
        State::Liveing,
        State::GraceClosing,
        State::Expired,
        State::Destroyed,
        State::Created,
    ]);
    prop_oneof![
        10 => (1..130_u64).prop_map(Action::Pass),
        1 => (11..400_u64).prop_map(Action::Freeze),
        8 => (room(), 0..2_usize, ports(), rate())
            .prop_map(|(room, source, ports, rtp)| Action::Serve { room, source, ports, rtp }),
        5 => (room(), prop::collection::vec(1..5_u16, 0..3), prop::collection::vec(1..3_u32, 0..2))
            .prop_map(|(room, flows, ssrcs)| Action::Marks(room, flows, ssrcs)),
        4 => room().prop_map(Action::Omit),
        4 => (room(), rate()).prop_map(|(room, rate)| Action::Rtp(room, rate)),
        3 => (room(), rate()).prop_map(|(room, rate)| Action::Forgotten(room, rate)),
        3 => (room(), 0..100_u64).prop_map(|(room, seconds)| Action::Released(room, seconds)),
        2 => any::<bool>().prop_map(|looked| Action::Outage { looked }),
        2 => Just(Action::Silence),
        1 => (0..2_usize).prop_map(Action::SourceLost),
        2 => prop::option::of(ports()).prop_map(Action::Sockets),
        1 => any::<bool>().prop_map(Action::Counters),
        8 => (room(), ask(), prop::option::weighted(0.3, 0..4_u8), prop::option::weighted(0.3, 0..9_u64))
            .prop_map(|(room, (ask, actor), op, sequence)| Action::Ask { room, ask, actor, op, sequence }),
        2 => room().prop_map(Action::OldLife),
        4 => (room(), 0..3_usize, what(), any::<bool>(), prop::option::of(0..2_usize))
            .prop_map(|(room, who, what, is_host, source)| Action::Client { room, who, what, is_host, source }),
        1 => Just(Action::MediaRefused),
        1 => (prop::option::of(room()), prop::option::of(1..300_u64)).prop_map(|(r, s)| Action::Maintenance(r, s)),
        1 => any::<bool>().prop_map(Action::KillSwitch),
        3 => mood.prop_map(Action::Store),
        2 => Just(Action::Deliver),
        1 => any::<usize>().prop_map(Action::Replay),
        1 => any::<bool>().prop_map(Action::StepsFail),
        1 => (room(), state).prop_map(|(room, state)| Action::Tamper(room, state)),
        1 => Just(Action::Restart),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let mode = prop_oneof![6 => Just(Mode::Enforce), 2 => Just(Mode::Shadow), 1 => Just(Mode::Off)];
    let bound = prop::option::weighted(0.2, (0..200_u64).prop_map(secs));
    (mode, bound, select(vec![3_u32, 10_000])).prop_map(|(mode, trip_on_contradiction_after, quota)| Rules {
        mode,
        trip_on_contradiction_after,
        quota,
        never_cut: [room("never")].into(),
        ..Rules::default()
    })
}

fn served(lab: &Lab, n: usize) -> bool {
    lab.w.lives.contains_key(&room(ROOMS[n]))
}

fn perform(lab: &mut Lab, action: Action) {
    let ports_of = |ports: Vec<u16>| ports.into_iter().map(voice_room::Port).collect::<Vec<_>>();
    match action {
        Action::Pass(seconds) => lab.pass(seconds),
        Action::Freeze(seconds) => lab.freeze(seconds),
        Action::Serve {
            room,
            source,
            ports,
            rtp,
        } => {
            lab.w.serve(ROOMS[room], SOURCES[source], &ports);
            lab.w.rtp(ROOMS[room], rtp.0, rtp.1);
        }
        Action::Marks(n, flows, ssrcs) if served(lab, n) => lab.w.marks(ROOMS[n], 50_000, &flows, &ssrcs),
        Action::Marks(..) => {}
        Action::Omit(n) if served(lab, n) => lab.w.omit(ROOMS[n]),
        Action::Rtp(n, rate) if served(lab, n) => lab.w.rtp(ROOMS[n], rate.0, rate.1),
        Action::Omit(_) | Action::Rtp(..) => {}
        Action::Forgotten(n, rate) if served(lab, n) => {
            lab.w.rtp(ROOMS[n], rate.0, rate.1);
            lab.w.omit(ROOMS[n]);
            lab.pass(120);
        }
        Action::Forgotten(..) => {}
        Action::Outage { looked } => {
            lab.w.sockets = Some(ports_of(vec![50_000, 50_002, 50_004, 50_006, 50_008]));
            lab.pass(10);
            lab.w.sockets = looked.then(Vec::new);
            lab.w.silence();
            lab.w.silence_rtp();
            lab.pass(120);
        }
        Action::Released(n, seconds) => {
            let reason = || "test".to_string();
            let block = Ask::Block {
                lasts: None,
                reason: reason(),
            };
            let request = lab.w.request(OPERATOR, ROOMS[n], block);
            lab.ask(request);
            lab.pass(seconds);
            let request = lab
                .w
                .request(OPERATOR, ROOMS[n], Ask::Release { reason: reason() });
            lab.ask(request);
        }
        Action::Silence => lab.w.silence(),
        Action::SourceLost(n) => lab.feed(Input::SourceLost(source(SOURCES[n]))),
        Action::Sockets(ports) => lab.w.sockets = ports.map(ports_of),
        Action::Counters(on) => lab.w.counters = on,
        Action::Ask {
            room,
            ask,
            actor,
            op: name,
            sequence,
        } => {
            let mut request = lab.w.request(actor, ROOMS[room], ask);
            request.op_id = name.map(|n| op(&format!("op-{n}")));
            request.sequence = sequence;
            lab.ask(request);
        }
        Action::OldLife(n) => old_life(lab, ROOMS[n]),
        Action::Client {
            room: n,
            who,
            what,
            is_host,
            source: from,
        } => {
            let actor = from.map_or_else(gateway, |s| Actor::Source(source(SOURCES[s])));
            let reply = lab.w.request(gateway(), ROOMS[n], Ask::Create).reply;
            let client = client(&format!("c{who}"));
            let room = room(ROOMS[n]);
            lab.client(ClientFact {
                room,
                client,
                what,
                is_host,
                actor,
                incarnation: None,
                reply,
            });
        }
        Action::MediaRefused => lab.feed(Input::MediaRefused),
        Action::Maintenance(n, seconds) => {
            let (room, until) = (
                n.map(|n| room(ROOMS[n])),
                seconds.map(|s| lab.w.now.mono + secs(s)),
            );
            match until {
                Some(until) => drop(lab.maintenance.insert(room.clone(), until)),
                None => drop(lab.maintenance.remove(&room)),
            }
            let order = Order {
                room,
                until,
                reason: "x".into(),
                actor: OPERATOR,
            };
            lab.feed(Input::Maintenance(order, None));
        }
        Action::KillSwitch(on) => {
            lab.killed = on;
            lab.feed(Input::KillSwitch(on));
        }
        Action::Store(mood) => lab.mood = mood,
        Action::Deliver => lab.deliver(),
        Action::Replay(pick) => lab.replay(pick),
        Action::StepsFail(on) => lab.steps_fail = on,
        Action::Tamper(n, state) => lab.tamper(&room(ROOMS[n]), state),
        Action::Restart => lab.restart(),
    }
}

/// Requests, client facts, step results and counters of the life before the present one.
fn old_life(lab: &mut Lab, name: &str) {
    if lab.w.state(name).is_none_or(|s| s == State::Destroyed) {
        return;
    }
    let old = Incarnation(lab.w.life(name).0 - 1);
    for ask in [gone(), start_live("c0"), close(Version(1)), Ask::NoActiveUser] {
        let mut request = lab.w.request(gateway(), name, ask);
        (request.incarnation, request.reply) = (Some(old), None);
        lab.feed_in_vain(Input::Request(request));
    }
    for what in [ClientAct::Join, ClientAct::Leave] {
        let (room, client, actor) = (room(name), client("c0"), gateway());
        let fact = ClientFact {
            room,
            client,
            what,
            is_host: true,
            actor,
            incarnation: Some(old),
            reply: None::<ReplyId>,
        };
        lab.feed_in_vain(Input::Client(fact));
    }
    for step in Step::ALL {
        let (room, result) = (room(name), Err("late".into()));
        lab.feed_in_vain(Input::Step(StepResult {
            room,
            incarnation: old,
            step,
            at: None,
            result,
        }));
    }
    let counts = Counts {
        rtp_in: 1 << 40,
        rtp_out: 1 << 40,
        ..Counts::default()
    };
    lab.feed_in_vain(Input::Traffic(vec![Traffic {
        room: room(name),
        incarnation: old,
        counts,
    }]));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_shrink_iters: 4_000,
        rng_seed: RngSeed::Fixed(0x00d1_ce00),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_rules_hold_and_all_comes_to_rest(
        rules in rules(),
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut lab = Lab::new(rules);
        for action in actions {
            perform(&mut lab, action);
        }
        lab.heal();
        lab.end();
    }
}
