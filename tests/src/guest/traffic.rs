//! Real packets over a veth pair: a room that is cut loses all of them, for exactly as long, and its neighbour none.

#![expect(clippy::unwrap_used, reason = "fails as tests do")]

use super::{Stage, load::OLD};
use crate::{
    clock,
    netns::{NODE_DEV, run},
    node::{Line, Node, expect_through, room},
    programs::config,
    rtp::packet::Packet,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{net::UdpSocket, process::Command, thread, time::Duration};
use voice_agent::{
    config::XdpPolicy,
    kernel::{Features, pinned::Pinned},
};
use voice_room::Mono;

pub(super) static TC: Stage<Rooms> = Stage {
    group: "traffic",
    begin: || Rooms::new(XdpPolicy::Off, Features::detect()),
    checks: &[
        (
            "TC cuts a room both ways, counts it, and lets it go again",
            |rooms| tc(rooms, if Features::detect().tcx { "tcx" } else { "clsact" }),
        ),
        ("what is sent in one large piece counts by its segments", segments),
    ],
};

pub(super) static OLDER: Stage<Rooms> = Stage {
    group: "traffic",
    begin: || Rooms::new(XdpPolicy::Off, OLD),
    checks: &[("the programs of an older kernel cut the same", |rooms| {
        tc(rooms, "clsact");
    })],
};

pub(super) static ON_TRIP: Stage<Rooms> = Stage {
    group: "traffic",
    begin: || Rooms::new(XdpPolicy::OnTrip, Features::detect()),
    checks: &[
        ("XDP comes at the first trip", on_trip),
        ("XDP alone cuts what comes in", xdp),
    ],
};

pub(super) static XDP: Stage<Rooms> = Stage {
    group: "traffic",
    begin: || Rooms::new(XdpPolicy::Always, Features::detect()),
    checks: &[
        ("the first drop is told once for each direction", first_drop),
        ("shadow counts and lets everything pass", shadow),
        ("a restart takes over, and no packet of a cut room leaks", restart),
        ("detaching leaves nothing behind", detach),
    ],
};

pub(super) static DEADLINE: Stage<Rooms> = Stage {
    group: "traffic",
    begin: || Rooms::new(XdpPolicy::Always, Features::detect()),
    checks: &[("a cut ends at its deadline without an agent", deadline)],
};

const HOUR: Duration = Duration::from_secs(3600);
const STUCK: u16 = 50_000;
const OPEN: u16 = 50_010;
/// Packets each way.
const N: u64 = 50;

/// A node with two rooms, of which one will be cut.
pub(super) struct Rooms {
    node: Node,
    stuck: Line,
    open: Line,
}

impl Rooms {
    fn new(xdp: XdpPolicy, features: Features) -> Rooms {
        let mut node = Node::new().unwrap();
        node.start_with(&config(&[], xdp), features).unwrap();
        node.bind("stuck", STUCK).unwrap();
        node.bind("open", OPEN).unwrap();
        let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
        let rooms = Rooms { node, stuck, open };
        rooms.expect((N, N));
        rooms
    }

    /// What of `N` packets each way came through to the room that is cut, and from it; the other one's all do.
    fn expect(&self, stuck: (u64, u64)) {
        expect_through(&[&self.stuck, &self.open], N, &[stuck, (N, N)]);
    }

    fn cut(&mut self) {
        self.node.block("stuck", HOUR).unwrap();
        self.expect((0, 0));
    }

    /// Dropped, and would be dropped, of a room.
    fn dropped(&mut self, id: &str) -> (u64, u64) {
        let traffic = self.node.kernel().traffic().unwrap();
        let found = traffic.iter().find(|t| t.room == room(id)).unwrap();
        (found.counts.dropped, found.counts.would_drop)
    }

    fn hooks(&mut self) -> (String, String, String) {
        let status = self.node.kernel().status();
        let one = status.interfaces.first().unwrap();
        (one.xdp.clone(), one.tc_ingress.clone(), one.tc_egress.clone())
    }
}

fn tc(rooms: &mut Rooms, by: &str) {
    assert_eq!(rooms.hooks(), ("off".into(), by.into(), by.into()));
    rooms.cut();
    assert_eq!(rooms.dropped("stuck"), (2 * N, 0));
    assert_eq!(rooms.dropped("open"), (0, 0));
    rooms.node.kernel().disarm(&room("stuck"));
    rooms.expect((N, N));
}

/// Of the room that the first trip cut.
fn xdp(rooms: &mut Rooms) {
    if rooms.hooks().0 != "native" {
        on_trip(rooms);
    }
    // The agent would attach TC again.
    rooms.node.stop();
    remove_tc(&rooms.node);
    rooms.stuck.wait_open_outwards();
    rooms.expect((0, N));
}

/// Takes both TC programs away: the pins of their links, or the filters.
fn remove_tc(node: &Node) {
    if !Features::detect().tcx {
        for hook in ["ingress", "egress"] {
            // Not through busybox's nsenter, which takes its own tc.
            let tc = || run(Command::new("tc").args(["filter", "del", "dev", NODE_DEV, hook]));
            node.pair.node.run(tc).unwrap().unwrap();
        }
        return;
    }
    let index = node.pair.node.index(NODE_DEV).unwrap();
    for hook in ["tc-ingress", "tc-egress"] {
        std::fs::remove_file(node.pin_dir().join(format!("link-{hook}-{index}"))).unwrap();
    }
}

fn on_trip(rooms: &mut Rooms) {
    assert_eq!(rooms.hooks().0, "on-trip (not yet)");
    rooms.cut();
    clock::wait_for("XDP", Duration::from_secs(10), || rooms.hooks().0 == "native");
    rooms.expect((0, 0));
}

fn segments(rooms: &mut Rooms) {
    let port = OPEN + 10;
    rooms.node.bind("segments", port).unwrap();
    let user = rooms.node.line(port + 10).unwrap();
    let inside = &rooms.node.pair.node;
    let socket = inside
        .run(|| UdpSocket::bind((crate::netns::NODE_IP, port)))
        .unwrap()
        .unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &100).unwrap();
    let mut media = [0; 1000];
    media[..2].copy_from_slice(&[0x80, 111]);
    socket.send_to(&media, user.user_addr).unwrap();
    clock::wait_for("ten segments", Duration::from_secs(10), || {
        user.user.foreign() == 10
    });
    rooms.node.block("segments", HOUR).unwrap();
    socket.send_to(&media, user.user_addr).unwrap();
    assert_eq!(rooms.dropped("segments"), (10, 0));
}

fn first_drop(rooms: &mut Rooms) {
    let deadline = rooms.node.block("stuck", HOUR).unwrap();
    rooms.expect((0, 0));
    let mut drops = rooms.node.kernel().first_drops();
    drops.sort_by_key(|drop| drop.ingress);
    let told: Vec<_> = drops
        .iter()
        .map(|drop| (drop.room.as_str(), drop.deadline, drop.ingress))
        .collect();
    assert_eq!(told, [("stuck", deadline, false), ("stuck", deadline, true)]);
    rooms.expect((0, 0));
    assert_eq!(rooms.node.kernel().first_drops(), []);
    rooms.node.kernel().disarm(&room("stuck"));
}

/// How much earlier a cut may end: the programs' clock ticks every 4 or 10 ms.
const EARLY: u64 = 20_000_000;

fn deadline(rooms: &mut Rooms) {
    let before = rooms.stuck.counts();
    let deadline = rooms.node.block("stuck", Duration::from_millis(1500)).unwrap();
    rooms.node.stop();
    let (user, node) = (&rooms.stuck.user, &rooms.stuck.node);
    let senders = [
        user.sender(rooms.stuck.node_addr, 1, 200),
        node.sender(rooms.stuck.user_addr, 2, 200),
    ];
    clock::wait_for("packets after the deadline", Duration::from_secs(20), || {
        node.first_sent_from(deadline).is_some() && user.first_sent_from(deadline).is_some()
    });
    drop(senders);
    for (end, before) in [(node, before.0), (user, before.1)] {
        let early = end.count_within(Mono(0), Mono(deadline.0.saturating_sub(EARLY)));
        assert_eq!(early, before, "packets before the deadline");
    }
}

fn restart(rooms: &mut Rooms) {
    rooms.cut();
    let (before, sent) = (rooms.stuck.counts(), rooms.stuck.user.sent());
    let senders = [
        rooms.stuck.user.sender(rooms.stuck.node_addr, 1, 200),
        rooms.stuck.node.sender(rooms.stuck.user_addr, 2, 200),
    ];
    for _ in 0..2 {
        let found = rooms.node.start(&config(&[], XdpPolicy::Always)).unwrap();
        let blocked: Vec<_> = found.blocks.iter().map(|block| block.room.as_str()).collect();
        assert_eq!(blocked, ["stuck"]);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(
        rooms.stuck.user.sent() > sent + N,
        "too few were sent to say anything"
    );
    drop(senders);
    rooms.expect((0, 0));
    assert_eq!(rooms.stuck.counts(), before, "leaked");
}

fn shadow(rooms: &mut Rooms) {
    let before = rooms.dropped("stuck");
    let deadline = clock::now() + HOUR;
    rooms
        .node
        .kernel()
        .arm(&room("stuck"), crate::node::LIFE, true, deadline)
        .unwrap();
    rooms.expect((N, N));
    assert_eq!(rooms.dropped("stuck"), (before.0, before.1 + 2 * N));
    rooms.node.kernel().disarm(&room("stuck"));
}

fn detach(rooms: &mut Rooms) {
    rooms.cut();
    rooms.node.stop();
    let dir = rooms.node.instance_dir();
    let gone = rooms
        .node
        .pair
        .node
        .run(|| Pinned::detach(&dir))
        .unwrap()
        .unwrap();
    assert!(!gone.is_empty() && !dir.exists(), "{gone:?}");
    let (to_node, to_user) = (rooms.stuck.node_addr, rooms.stuck.user_addr);
    let before = rooms.stuck.counts();
    // The kernel detaches a link a moment after its pin is removed.
    clock::wait_for("packets both ways", Duration::from_secs(10), || {
        rooms.stuck.user.send(to_node, Packet::first(1));
        rooms.stuck.node.send(to_user, Packet::first(1));
        thread::sleep(Duration::from_millis(40));
        let now = rooms.stuck.counts();
        now.0 > before.0 && now.1 > before.1
    });
    rooms.expect((N, N));
}
