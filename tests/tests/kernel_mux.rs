//! Real packets of three rooms on one port: a cut room is cut both ways, by TC and by XDP, and the others lose nothing.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use aya::maps::{HashMap, Map, MapData};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};
use voice_agent::{
    config::XdpPolicy,
    kernel::{KernelError, pinned, tables::Tables},
};
use voice_common::{FlowKey, Owner, abi};
use voice_room::{Binding, Flow, Incarnation, Port, Ssrc, input::FoundBinding};
use voice_tests::{
    clock,
    netns::NODE_IP,
    node::{LIFE, Node, room},
    programs::config,
    rtp::{Endpoint, packet::Packet},
};

const HOUR: Duration = Duration::from_secs(3600);
const SHARED: u16 = 50_100;
const N: u64 = 40;

/// The media server's socket, bound to every address as they do, and its users: three on IPv4, three on IPv6.
struct Rooms {
    node: Node,
    server: Endpoint,
    users: Vec<Endpoint>,
}

const NAMES: [&str; 3] = ["r0", "r1", "r2"];

/// The port of user `n` and the stream it sends and is sent.
fn user_port(n: usize) -> u16 {
    40_100 + u16::try_from(n).unwrap()
}

fn stream(n: usize) -> u32 {
    100 + u32::try_from(n).unwrap()
}

fn user_ip(n: usize) -> IpAddr {
    let ip = if n < 3 { "10.88.0.2" } else { "fd88::2" };
    ip.parse().unwrap()
}

fn server_addr(n: usize) -> SocketAddr {
    let ip: IpAddr = if n < 3 { NODE_IP } else { "fd88::1" }.parse().unwrap();
    (ip, SHARED).into()
}

/// Where the server sends to: its socket is of IPv6 and takes both.
fn user_addr(n: usize) -> SocketAddr {
    match user_ip(n) {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), user_port(n)).into(),
        v6 @ IpAddr::V6(_) => (v6, user_port(n)).into(),
    }
}

fn flow(n: usize) -> Flow {
    Flow::new(Port(SHARED), user_ip(n), user_port(n))
}

fn ssrc(n: usize) -> Ssrc {
    Ssrc {
        port: Port(SHARED),
        ssrc: stream(n),
    }
}

/// Room `n` has user `n` on IPv4 and user `n + 3` on IPv6.
fn by_flows(n: usize) -> Binding {
    let flows = vec![flow(n), flow(n + 3)];
    Binding {
        flows,
        ..Binding::default()
    }
}

fn by_ssrcs(n: usize) -> Binding {
    let ssrcs = vec![ssrc(n), ssrc(n + 3)];
    Binding {
        ssrcs,
        ..Binding::default()
    }
}

impl Rooms {
    fn new(xdp: XdpPolicy) -> Rooms {
        let node = Node::started(&config(&[], xdp)).unwrap();
        let any = SocketAddr::new("::".parse().unwrap(), SHARED);
        let server = Endpoint::bind(&node.pair.node, any).unwrap();
        let user = |n| Endpoint::bind(&node.pair.users, (user_ip(n), user_port(n)).into()).unwrap();
        let users = (0..6).map(user).collect();
        Rooms { node, server, users }
    }

    fn bound(xdp: XdpPolicy, by: fn(usize) -> Binding) -> Rooms {
        let mut rooms = Rooms::new(xdp);
        for n in 0..3 {
            rooms.bind(n, by(n));
        }
        rooms
    }

    fn bind(&mut self, n: usize, binding: Binding) {
        self.node.kernel().bind(&room(NAMES[n]), LIFE, binding).unwrap();
    }

    /// What came through of `N` packets each way for every user: (to the node in all, from it by user).
    fn through(&self, wanted: (u64, [u64; 6])) {
        let look = || {
            (
                self.server.count(),
                self.users.iter().map(Endpoint::count).collect::<Vec<_>>(),
            )
        };
        let before = look();
        for _ in 0..N {
            for (n, user) in self.users.iter().enumerate() {
                let packet = Packet::first(stream(n));
                user.send(server_addr(n), packet);
                self.server.send(user_addr(n), packet);
            }
        }
        let now = || {
            let now = look();
            let out: Vec<u64> = now.1.iter().zip(&before.1).map(|(now, was)| now - was).collect();
            (now.0 - before.0, out)
        };
        let wanted = (wanted.0, wanted.1.to_vec());
        clock::poll(Duration::from_secs(5), || (now() == wanted).then_some(()));
        // What should have been dropped may still come.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(now(), wanted, "of {N} each: (to the node, from it by user)");
    }

    fn expect_cut(&self, cut: &[usize]) {
        let is_cut = |n: usize| cut.contains(&(n % 3));
        let inwards = (0..6).filter(|n| !is_cut(*n)).count() as u64 * N;
        let outwards = std::array::from_fn(|n| if is_cut(n) { 0 } else { N });
        self.through((inwards, outwards));
    }

    fn passed(&mut self, reason: &str) -> u64 {
        let status = self.node.kernel().status();
        let of_reason = status.passed_by_reason.iter().filter(|(_, r, _)| r == reason);
        of_reason.map(|(_, _, n)| n).sum()
    }

    fn tables(&self) -> Tables {
        pinned::tables(&self.node.pin_dir()).unwrap()
    }

    fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.node.pin_dir().join(name)).unwrap()
    }

    fn slot_of_port(&self) -> u32 {
        self.tables().port(SHARED)
    }

    fn flows(&self) -> HashMap<MapData, FlowKey, Owner> {
        HashMap::try_from(Map::HashMap(self.map("FLOWS"))).unwrap()
    }
}

fn one_room_of_three_is_cut(xdp: XdpPolicy, by: fn(usize) -> Binding) {
    let mut rooms = Rooms::bound(xdp, by);
    rooms.expect_cut(&[]);
    let armed = rooms
        .node
        .kernel()
        .arm(&room("r1"), LIFE, false, clock::now() + HOUR)
        .unwrap();
    assert_eq!((armed.ports, armed.flows + armed.ssrcs), (0, 2));
    rooms.expect_cut(&[1]);
    let traffic = rooms.node.kernel().traffic().unwrap();
    for one in traffic {
        let dropped = if one.room == room("r1") { 4 * N } else { 0 };
        assert_eq!(one.counts.dropped, dropped, "{one:?}");
    }
    rooms.node.kernel().disarm(&room("r1"));
    rooms.expect_cut(&[]);
}

#[test]
fn tc_cuts_one_of_three_rooms_on_a_port_by_its_flows() {
    one_room_of_three_is_cut(XdpPolicy::Off, by_flows);
}

#[test]
fn xdp_cuts_one_of_three_rooms_on_a_port_by_its_flows() {
    one_room_of_three_is_cut(XdpPolicy::Always, by_flows);
}

#[test]
fn tc_cuts_one_of_three_rooms_on_a_port_by_its_ssrcs() {
    one_room_of_three_is_cut(XdpPolicy::Off, by_ssrcs);
}

#[test]
fn xdp_cuts_one_of_three_rooms_on_a_port_by_its_ssrcs() {
    one_room_of_three_is_cut(XdpPolicy::Always, by_ssrcs);
}

#[test]
fn packets_of_no_known_flow_pass_and_are_counted_while_every_room_is_cut() {
    let mut rooms = Rooms::bound(XdpPolicy::Off, by_flows);
    for name in NAMES {
        rooms.node.block(name, HOUR).unwrap();
    }
    // User 5 moved to another port, say by a new ICE candidate: nobody knows it yet.
    let moved = Endpoint::bind(&rooms.node.pair.users, (user_ip(5), 40_200).into()).unwrap();
    let to_moved = SocketAddr::from((user_ip(5), 40_200));
    for _ in 0..N {
        moved.send(server_addr(5), Packet::first(stream(5)));
        rooms.server.send(to_moved, Packet::first(stream(5)));
    }
    clock::wait_for("packets of an unknown flow", Duration::from_secs(5), || {
        rooms.server.count() == N && moved.count() == N
    });
    assert_eq!(rooms.passed("mux_unknown"), 2 * N);
    // Its SSRC finds it.
    let known = Binding {
        ssrcs: vec![ssrc(5)],
        ..by_flows(2)
    };
    rooms.bind(2, known);
    moved.send(server_addr(5), Packet::first(stream(5)));
    rooms.expect_cut(&[0, 1, 2]);
    assert_eq!((rooms.server.count(), moved.count()), (N, N));
}

#[test]
fn a_large_send_of_a_cut_room_on_a_shared_port_is_dropped_whole_and_anothers_passes_whole() {
    for by in [by_flows as fn(usize) -> Binding, by_ssrcs] {
        let mut rooms = Rooms::bound(XdpPolicy::Off, by);
        rooms.node.block("r0", HOUR).unwrap();
        drop(std::mem::replace(
            &mut rooms.server,
            Endpoint::bind(&rooms.node.pair.node, "[::1]:0".parse().unwrap()).unwrap(),
        ));
        let bind = || UdpSocket::bind(("::", SHARED)).unwrap();
        let socket = rooms.node.pair.node.run(bind).unwrap();
        setsockopt(&socket, sockopt::UdpGsoSegment, &100).unwrap();
        for (n, segments) in [(0, 0), (3, 0), (1, 10), (4, 10)] {
            let mut media = [0; 1000];
            for at in (0..1000).step_by(100) {
                media[at..at + 2].copy_from_slice(&[0x80, 111]);
                media[at + 8..at + 12].copy_from_slice(&stream(n).to_be_bytes());
            }
            let before = rooms.users[n].foreign();
            socket.send_to(&media, user_addr(n)).unwrap();
            if segments > 0 {
                clock::wait_for("ten segments", Duration::from_secs(5), || {
                    rooms.users[n].foreign() == before + segments
                });
            }
            let cut = rooms.node.kernel().traffic().unwrap();
            let counts = |name| &cut.iter().find(|t| t.room == room(name)).unwrap().counts;
            let (dropped, sent) = match n {
                0 => (10, 0),
                3 => (20, 0),
                1 => (20, 10),
                _ => (20, 20),
            };
            assert_eq!(
                (counts("r0").dropped, counts("r1").rtp_out),
                (dropped, sent),
                "user {n}"
            );
        }
        let got: Vec<u64> = rooms.users.iter().map(Endpoint::foreign).collect();
        assert_eq!(got, [0, 10, 0, 0, 10, 0]);
    }
}

#[test]
fn a_cut_room_that_has_a_port_alone_does_not_cut_the_room_that_joins_the_port() {
    let mut rooms = Rooms::new(XdpPolicy::Off);
    rooms.bind(0, vec![Port(SHARED)].into());
    rooms.node.block("r0", HOUR).unwrap();
    rooms.through((0, [0; 6]));
    // Whoever is told first, and whether the first one is told at all: the port is nobody's any more.
    rooms.bind(1, by_flows(1));
    rooms.expect_cut(&[]);
    assert_eq!(rooms.slot_of_port(), abi::MUX);
    rooms.bind(0, by_flows(0));
    rooms.expect_cut(&[0]);
    // The other one leaves: the port is given back, and the flows are gone.
    rooms.node.kernel().unbind(&room("r1"));
    rooms.bind(0, vec![Port(SHARED)].into());
    rooms.through((0, [0; 6]));
    assert_eq!(rooms.flows().keys().count(), 0);
}

#[test]
fn a_flow_that_moves_to_another_room_is_not_cut_for_the_old_one() {
    let mut rooms = Rooms::bound(XdpPolicy::Off, by_flows);
    rooms.node.block("r0", HOUR).unwrap();
    rooms.expect_cut(&[0]);
    let mut more = by_flows(1);
    more.flows.push(flow(0));
    rooms.bind(1, more);
    let all_but = |n| std::array::from_fn(|i| if i == n { 0 } else { N });
    rooms.through((5 * N, all_but(3)));
    // The old one takes back only what it is told to have.
    let rest = Binding {
        flows: vec![flow(3)],
        ..Binding::default()
    };
    rooms.bind(0, rest);
    rooms.through((5 * N, all_but(3)));
}

#[test]
fn a_slot_that_is_used_again_is_not_cut_by_flows_that_somebody_left_of_the_old_room() {
    let mut few = config(&[], XdpPolicy::Off);
    few.max_slots = 1;
    let mut rooms = Rooms::new(XdpPolicy::Off);
    rooms.node.start(&config(&[], XdpPolicy::Off)).unwrap();
    rooms.bind(0, by_flows(0));
    let old: Vec<(FlowKey, Owner)> = rooms.flows().iter().map(Result::unwrap).collect();
    assert_eq!(old.len(), 2);
    rooms.node.kernel().unbind(&room("r0"));
    // The freed slot rests behind all others: use every one.
    for n in 0..6 {
        let id = room(&format!("new{n}"));
        rooms.node.kernel().bind(&id, LIFE, by_flows(1)).unwrap();
        rooms
            .node
            .kernel()
            .arm(&id, LIFE, false, clock::now() + HOUR)
            .unwrap();
    }
    let mut flows = rooms.flows();
    for (key, owner) in old {
        flows.insert(key, owner, 0).unwrap();
    }
    rooms.through((4 * N, [N, 0, N, N, 0, N]));
    assert_eq!(rooms.passed("mux_stale"), 4 * N);
    let repaired = rooms.node.kernel().reconcile();
    assert_eq!(
        repaired,
        ["2 flows or SSRCs of shared ports were not as they should be; set right"]
    );
    assert_eq!(rooms.flows().keys().count(), 2);
}

#[test]
fn what_somebody_wrote_into_flows_and_ports_is_repaired() {
    let mut rooms = Rooms::bound(XdpPolicy::Off, by_flows);
    rooms.node.block("r0", HOUR).unwrap();
    assert_eq!(rooms.node.kernel().reconcile(), [""; 0]);
    let mut flows = rooms.flows();
    let all: Vec<(FlowKey, Owner)> = flows.iter().map(Result::unwrap).collect();
    let cut = all
        .iter()
        .find(|(key, _)| key.remote_port == user_port(0))
        .unwrap()
        .1;
    for (key, _) in &all {
        match key.remote_port {
            port if port == user_port(0) => flows.remove(key).unwrap(),
            port if port == user_port(1) => flows.insert(key, cut, 0).unwrap(),
            _ => {}
        }
    }
    rooms.tables().set_port(SHARED, cut.slot);
    assert_eq!(rooms.node.kernel().reconcile().len(), 2);
    rooms.expect_cut(&[0]);
    assert_eq!(rooms.node.kernel().reconcile(), [""; 0]);
}

#[test]
fn a_restart_finds_flows_and_ssrcs_and_what_is_of_no_present_use_of_a_slot_goes() {
    let mut rooms = Rooms::bound(XdpPolicy::Always, by_flows);
    let more = Binding {
        ssrcs: vec![ssrc(2)],
        ..by_flows(2)
    };
    rooms.bind(2, more.clone());
    rooms.node.block("r0", HOUR).unwrap();
    rooms.node.stop();
    rooms.expect_cut(&[0]);
    let blocks = rooms.node.pinned().unwrap().blocked().unwrap();
    assert_eq!((blocks.len(), &blocks[0].binding), (1, &by_flows(0)));
    let status = rooms.node.pinned().unwrap().status().unwrap();
    assert_eq!(
        (status.ports_bound, status.flows_bound, status.ssrcs_bound),
        (0, 6, 1)
    );
    let mut flows = rooms.flows();
    let (mut key, mut owner) = flows.iter().next().unwrap().unwrap();
    (key.remote_port, owner.generation) = (9, 77);
    flows.insert(key, owner, 0).unwrap();

    let found = rooms.node.start(&config(&[], XdpPolicy::Always)).unwrap();
    let mut bindings = found.bindings;
    bindings.sort_by_key(|b| b.room.to_string());
    let wanted = [by_flows(0), by_flows(1), more]
        .into_iter()
        .zip(NAMES)
        .map(|(binding, name)| FoundBinding {
            room: room(name),
            incarnation: LIFE,
            binding,
        });
    assert_eq!(bindings, wanted.collect::<Vec<_>>());
    assert_eq!(found.blocks[0].binding, by_flows(0));
    assert_eq!(rooms.flows().keys().count(), 6, "the stale one is removed");
    rooms.expect_cut(&[0]);
    rooms.bind(1, by_flows(1));
    rooms
        .node
        .kernel()
        .bind(&room("r0"), Incarnation(2), by_flows(0))
        .unwrap();
    rooms.expect_cut(&[]);
}

#[test]
fn when_flows_run_out_the_room_is_refused_and_no_other_is_cut_for_it() {
    let mut rooms = Rooms::bound(XdpPolicy::Off, by_flows);
    let many = |from: u32, n: u32| Binding {
        flows: (from..from + n)
            .map(|i| Flow::new(Port(SHARED), IpAddr::from((0x0b00_0000 + i).to_be_bytes()), 9))
            .collect(),
        ..Binding::default()
    };
    rooms.bind(2, many(0, abi::MAX_FLOWS - 4));
    rooms
        .node
        .kernel()
        .bind(&room("late"), LIFE, vec![Port(SHARED + 2)])
        .unwrap();
    rooms.node.block("late", HOUR).unwrap();
    let mut shared = many(100_000, 1);
    shared.flows[0].port = Port(SHARED + 2);
    let refused = rooms
        .node
        .kernel()
        .bind(&room("late"), LIFE, shared.clone())
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "room late: its flows and SSRCs on shared ports are not bound: the map FLOWS would hold 65537 of at most \
         65536; spread the rooms over more ports or nodes"
    );
    // It had that port alone; it has it no longer, since others are on it now.
    let armed = rooms
        .node
        .kernel()
        .arm(&room("late"), LIFE, false, clock::now() + HOUR)
        .unwrap();
    assert_eq!(armed.reach(), "cut: nothing bound");
    rooms.bind(2, by_flows(2));
    rooms.node.kernel().bind(&room("late"), LIFE, shared).unwrap();
    let outside = Flow::new(Port(9), user_ip(0), 9);
    let outside = Binding {
        flows: vec![outside],
        ..Binding::default()
    };
    let refused = rooms
        .node
        .kernel()
        .bind(&room("late"), LIFE, outside)
        .unwrap_err();
    assert!(
        matches!(refused, KernelError::PortOutsideRange { port: 9, .. }),
        "{refused}"
    );
    rooms.expect_cut(&[]);
}

#[test]
fn what_an_agent_of_another_abi_left_attached_is_let_go_and_cuts_nobody() {
    let mut rooms = Rooms::bound(XdpPolicy::Always, by_flows);
    rooms.node.block("r0", HOUR).unwrap();
    rooms.expect_cut(&[0]);
    rooms.node.stop();
    let old = rooms.node.instance_dir().join("v1");
    std::fs::rename(rooms.node.pin_dir(), &old).unwrap();
    let found = rooms.node.start(&config(&[], XdpPolicy::Always)).unwrap();
    rooms.expect_cut(&[0]);
    let gone = rooms.node.kernel().let_others_go().unwrap();
    assert!(!old.exists());
    assert!(
        gone[0].contains("programs and maps of ABI version 1 removed"),
        "{gone:?}"
    );
    assert_eq!((found.blocks.len(), found.bindings.len()), (0, 0));
    rooms.node.wait_status("XDP is not occupied by the old one", |s| {
        s.interfaces[0].xdp == "native"
    });
    // The kernel detaches a link a moment after its pin is removed.
    assert_eq!(rooms.tables().room(1).deadline, 0);
    clock::wait_for("packets of the room that was cut", Duration::from_secs(5), || {
        let before = (rooms.server.count(), rooms.users[0].count());
        rooms.users[0].send(server_addr(0), Packet::first(1));
        rooms.server.send(user_addr(0), Packet::first(1));
        let both = || (rooms.server.count() > before.0 && rooms.users[0].count() > before.1).then_some(());
        clock::poll(Duration::from_millis(40), both).is_some()
    });
    rooms.expect_cut(&[]);
}
