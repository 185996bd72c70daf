//! Two agents, one store that may lose its last writes, one registry: whatever the order of claims, lost leases, lost
//! answers, failovers and restarts, nobody writes under an epoch it does not hold, no number is used twice, all is stored.

mod sim;

use crate::world::*;
use proptest::{prelude::*, sample::select, test_runner::RngSeed};
use sim::{NODES, ROOMS, Sim};
use voice_room::{Version, input::Ask};

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
