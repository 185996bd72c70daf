//! What lasts without the agent, and what the next one takes over.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{thread, time::Duration};
use voice_agent::config::XdpPolicy;
use voice_room::{Mono, Port, input::FoundBlock};
use voice_tests::{
    clock,
    netns::{NODE_DEV, NODE_IP, USER_DEV, USER_IP},
    node::{LIFE, Line, Node, expect_through, room},
    programs::config,
};

const HOUR: Duration = Duration::from_secs(3600);
const STUCK: u16 = 50_000;
const OPEN: u16 = 50_010;
const N: u64 = 50;

fn blocked(xdp: XdpPolicy, lasts: Duration) -> (Node, Line, Line, Mono) {
    let mut node = Node::started(&config(&[], xdp)).unwrap();
    node.bind("stuck", STUCK).unwrap();
    node.bind("open", OPEN).unwrap();
    let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
    let deadline = node.block("stuck", lasts).unwrap();
    (node, stuck, open, deadline)
}

/// Rates on two shared cores vary; below this the test would say nothing.
const LEAST_PPS: u64 = 5000;

fn no_packet_leaks_over_restarts(xdp: XdpPolicy) {
    let (mut node, stuck, open, _) = blocked(xdp, HOUR);
    expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
    let begun = clock::now();
    let senders = [
        stuck.user.sender(stuck.node_addr, 1, 8000),
        stuck.node.sender(stuck.user_addr, 2, 8000),
    ];
    for _ in 0..5 {
        node.start(&config(&[], xdp)).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    drop(senders);
    let took = clock::now().since(begun);
    let least = LEAST_PPS * u64::try_from(took.as_millis()).unwrap() / 1000;
    for (who, sent) in [("users", stuck.user.sent()), ("node", stuck.node.sent())] {
        assert!(sent - N >= least, "{who} sent only {sent} in {took:?}");
    }
    expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
    assert_eq!(
        stuck.counts(),
        (0, 0),
        "leaked, of {} and {}",
        stuck.user.sent(),
        stuck.node.sent()
    );
}

#[test]
fn restarts_leak_no_packet_of_a_blocked_room_through_tc() {
    no_packet_leaks_over_restarts(XdpPolicy::Off);
}

#[test]
fn restarts_leak_no_packet_of_a_blocked_room_through_xdp_and_tc() {
    no_packet_leaks_over_restarts(XdpPolicy::Always);
}

#[test]
fn without_an_agent_a_block_lasts_until_its_deadline_and_ends_there_by_itself() {
    let lasts = Duration::from_millis(1500);
    let (mut node, stuck, _open, deadline) = blocked(XdpPolicy::Always, lasts);
    node.stop();
    let senders = [
        stuck.user.sender(stuck.node_addr, 1, 4000),
        stuck.node.sender(stuck.user_addr, 2, 4000),
    ];
    clock::wait_for("packets after the deadline", Duration::from_secs(10), || {
        stuck.node.first_sent_from(deadline).is_some() && stuck.user.first_sent_from(deadline).is_some()
    });
    drop(senders);
    for (who, end) in [("node", &stuck.node), ("user", &stuck.user)] {
        let early = Mono(deadline.0 - 20_000_000);
        assert_eq!(
            end.count_within(Mono(0), early),
            0,
            "{who} got packets before the deadline"
        );
        let first = end.first_sent_from(early).unwrap();
        let late = first.sent.since(deadline);
        assert!(late <= Duration::from_millis(20), "{who}: lifted {late:?} late");
    }
}

#[test]
fn a_restart_finds_the_block_with_its_own_deadline_and_its_ports() {
    let (mut node, stuck, open, deadline) = blocked(XdpPolicy::OnTrip, HOUR);
    let found = node.start(&config(&[], XdpPolicy::OnTrip)).unwrap();
    let block = FoundBlock {
        room: room("stuck"),
        incarnation: LIFE,
        deadline,
        binding: vec![Port(STUCK)].into(),
        released: false,
    };
    assert_eq!(found.blocks, [block]);
    let status = node.kernel().status();
    assert_eq!(
        (status.armed, status.slots_used, status.repairs),
        (1, 2, 0),
        "{:?}",
        found.report
    );
    assert_eq!(node.kernel().reconcile(), [""; 0], "nothing to repair");
    node.bind("stuck", STUCK).unwrap();
    expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
    let armed = node.kernel().arm(&room("stuck"), LIFE, false, deadline).unwrap();
    assert_eq!(armed.ports, 1, "binding again names the room's own ports");
}

#[test]
fn after_a_restart_the_rtcp_port_still_follows_its_rtp_port_to_another_room() {
    let (mut node, stuck, open, _) = blocked(XdpPolicy::Off, HOUR);
    let rtcp = node.line(STUCK + 1).unwrap();
    node.start(&config(&[], XdpPolicy::Off)).unwrap();
    expect_through(&[&stuck, &rtcp, &open], N, &[(0, 0), (0, 0), (N, N)]);
    node.bind("another", STUCK).unwrap();
    expect_through(&[&stuck, &rtcp, &open], N, &[(N, N), (N, N), (N, N)]);
}

#[test]
fn a_pinned_link_whose_device_died_is_replaced_even_when_a_new_one_took_its_index() {
    for policy in [XdpPolicy::Off, XdpPolicy::Always] {
        let (mut node, stuck, open, _) = blocked(policy, HOUR);
        node.stop();
        let index = node.pair.node.index(NODE_DEV).unwrap();
        node.pair.node.delete(NODE_DEV).unwrap();
        let users = node.pair.users.name();
        let add = format!("link add {NODE_DEV} index {index} type veth peer name {USER_DEV} netns {users}");
        node.pair.node.ip(&add).unwrap();
        for (ns, dev, ip) in [
            (&node.pair.node, NODE_DEV, NODE_IP),
            (&node.pair.users, USER_DEV, USER_IP),
        ] {
            ns.gro(dev, true).unwrap();
            ns.address(dev, &format!("{ip}/16")).unwrap();
            ns.up(dev).unwrap();
        }
        node.pair.node.wait_up(NODE_DEV).unwrap();
        node.pair.users.wait_up(USER_DEV).unwrap();
        assert_eq!(node.pair.node.index(NODE_DEV).unwrap(), index);

        node.start(&config(&[], policy)).unwrap();
        let status = node.kernel().status();
        assert_eq!(
            (
                status.interfaces[0].index,
                status.interfaces[0].tc_ingress.as_str()
            ),
            (index, "tcx")
        );
        let xdp = if policy == XdpPolicy::Always {
            "native"
        } else {
            "off"
        };
        assert_eq!(status.interfaces[0].xdp, xdp);
        expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
    }
}

#[test]
fn an_expired_block_is_no_block_after_a_restart() {
    let (mut node, stuck, open, deadline) = blocked(XdpPolicy::Off, Duration::from_millis(50));
    node.stop();
    clock::sleep_until(deadline);
    let found = node.start(&config(&[], XdpPolicy::Off)).unwrap();
    assert_eq!(found.blocks, []);
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);
}

#[test]
fn the_cli_sees_and_releases_a_block_while_the_agent_is_dead_and_the_next_agent_honours_it() {
    let (mut node, stuck, open, deadline) = blocked(XdpPolicy::Off, HOUR);
    expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
    node.stop();
    let pinned = node.pinned().unwrap();
    let blocks = pinned.blocked().unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!((&blocks[0].room, blocks[0].deadline), (&room("stuck"), deadline));
    assert_eq!(blocks[0].binding.ports, [Port(STUCK), Port(STUCK + 1)]);
    assert_eq!((blocks[0].dropped, blocks[0].shadow), (2 * N, false));
    let status = pinned.status().unwrap();
    assert_eq!(
        (status.armed, status.slots_used, status.kill_switch),
        (1, 2, false)
    );

    assert!(!pinned.release(&room("open")).unwrap(), "it is not blocked");
    assert!(pinned.release(&room("stuck")).unwrap());
    assert!(
        !pinned.release(&room("stuck")).unwrap(),
        "it is not blocked any more"
    );
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);

    let found = node.start(&config(&[], XdpPolicy::Off)).unwrap();
    let seen: Vec<_> = found
        .blocks
        .iter()
        .map(|b| (b.room.clone(), b.deadline, b.released))
        .collect();
    assert_eq!(seen, [(room("stuck"), deadline, true)]);
    node.kernel().reconcile();
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);

    let later = node.block("stuck", HOUR).unwrap();
    let found = node.start(&config(&[], XdpPolicy::Off)).unwrap();
    assert_eq!(
        (found.blocks[0].deadline, found.blocks[0].released),
        (later, false),
        "a new block is a new block"
    );
}

#[test]
fn a_release_through_the_pins_is_honoured_by_a_living_agent_too() {
    let (mut node, stuck, open, _) = blocked(XdpPolicy::Off, HOUR);
    assert!(node.pinned().unwrap().release(&room("stuck")).unwrap());
    assert_eq!(
        node.kernel().reconcile(),
        [""; 0],
        "a release is nothing to repair"
    );
    assert_eq!(node.kernel().released(), [room("stuck")]);
    assert_eq!(node.kernel().released(), []);
    node.kernel().reconcile();
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);
}

#[test]
fn the_kill_switch_works_with_the_agent_dead_and_lasts_over_its_start() {
    let (mut node, stuck, open, _) = blocked(XdpPolicy::Always, HOUR);
    node.stop();
    node.pinned().unwrap().set_kill_switch(true).unwrap();
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);
    node.start(&config(&[], XdpPolicy::Always)).unwrap();
    assert!(node.kernel().kill_switch());
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);
    node.kernel().set_kill_switch(false).unwrap();
    assert!(!node.pinned().unwrap().kill_switch().unwrap());
    expect_through(&[&stuck, &open], N, &[(0, 0), (N, N)]);
}

#[test]
fn detach_lets_everything_go() {
    let (mut node, stuck, open, _) = blocked(XdpPolicy::Always, HOUR);
    node.stop();
    let dir = node.instance_dir();
    let gone = node
        .pair
        .node
        .run(|| voice_agent::kernel::pinned::Pinned::detach(&dir))
        .unwrap()
        .unwrap();
    assert_eq!(gone.len(), 9 + 3, "{gone:?}");
    assert!(!dir.exists());
    stuck.wait_open_inwards();
    stuck.wait_open_outwards();
    expect_through(&[&stuck, &open], N, &[(N, N), (N, N)]);
    assert!(node.pinned().unwrap_err().to_string().contains("no pins in"));
}

#[test]
fn two_instances_cut_each_their_own_and_the_end_of_one_leaves_the_other() {
    let (mut first, stuck, open, _) = blocked(XdpPolicy::Off, HOUR);
    let dir = first.fs.path().join("voice-agent-b/v4");
    let features = voice_agent::kernel::Features::detect();
    let start = || voice_agent::kernel::Kernel::start_with(&config(&[], XdpPolicy::Off), &dir, features);
    let (mut second, _) = first.pair.node.run(start).unwrap().unwrap();
    let third = first.line(50_020).unwrap();
    second.bind(&room("other"), LIFE, &[Port(OPEN)]).unwrap();
    second
        .arm(&room("other"), LIFE, false, clock::now() + HOUR)
        .unwrap();
    expect_through(&[&stuck, &open, &third], N, &[(0, 0), (0, 0), (N, N)]);
    first.stop();
    let gone = first.instance_dir();
    first
        .pair
        .node
        .run(|| voice_agent::kernel::pinned::Pinned::detach(&gone))
        .unwrap()
        .unwrap();
    stuck.wait_open_inwards();
    stuck.wait_open_outwards();
    expect_through(&[&stuck, &open, &third], N, &[(N, N), (0, 0), (N, N)]);
}
