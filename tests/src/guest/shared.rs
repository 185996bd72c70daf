//! Two rooms on one port, one user on IPv4 and one on IPv6: the one that is cut loses its packets and the other none, by flow and
//! by SSRC.

#![expect(clippy::unwrap_used, reason = "fails as tests do")]

use super::Stage;
use crate::{
    clock,
    netns::NODE_IP,
    node::{LIFE, Node, room},
    programs::config,
    rtp::{Endpoint, packet::Packet},
};
use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};
use voice_agent::config::XdpPolicy;
use voice_room::{Binding, Flow, Port, Ssrc};

pub(super) static TC: Stage<Shared> = Stage {
    group: "traffic",
    begin: || Shared::new(XdpPolicy::Off),
    checks: &[
        (
            "TC cuts one of the rooms on a shared port, by its flows",
            |shared| shared.cut_one(by_flow),
        ),
        (
            "TC cuts one of the rooms on a shared port, by its SSRCs",
            |shared| shared.cut_one(by_ssrc),
        ),
    ],
};

pub(super) static XDP: Stage<Shared> = Stage {
    group: "traffic",
    begin: || Shared::new(XdpPolicy::Always),
    checks: &[
        (
            "XDP cuts one of the rooms on a shared port, by its flows",
            |shared| shared.cut_one(by_flow),
        ),
        (
            "XDP cuts one of the rooms on a shared port, by its SSRCs",
            |shared| shared.cut_one(by_ssrc),
        ),
    ],
};

/// A node with the port's socket, and the users'.
pub(super) struct Shared {
    node: Node,
    server: Endpoint,
    ends: Vec<Endpoint>,
}

const SHARED: u16 = 50_100;
const N: u64 = 50;

/// A room's user: where it is, where it sends to, its stream.
struct User {
    room: &'static str,
    ip: &'static str,
    node_ip: &'static str,
    port: u16,
    ssrc: u32,
}

const USERS: [User; 2] = [
    User {
        room: "stuck",
        ip: "10.88.0.2",
        node_ip: NODE_IP,
        port: 40_100,
        ssrc: 100,
    },
    User {
        room: "open",
        ip: "fd88::2",
        node_ip: "fd88::1",
        port: 40_101,
        ssrc: 101,
    },
];

impl User {
    fn ip(&self) -> IpAddr {
        self.ip.parse().unwrap()
    }

    /// Where the server, whose socket is of IPv6 and takes both, sends to.
    fn seen_by_server(&self) -> SocketAddr {
        match self.ip() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), self.port).into(),
            v6 @ IpAddr::V6(_) => (v6, self.port).into(),
        }
    }
}

fn by_flow(user: &User) -> Binding {
    Binding {
        flows: vec![Flow::new(Port(SHARED), user.ip(), user.port)],
        ..Binding::default()
    }
}

fn by_ssrc(user: &User) -> Binding {
    let ssrc = user.ssrc;
    Binding {
        ssrcs: vec![Ssrc {
            port: Port(SHARED),
            ssrc,
        }],
        ..Binding::default()
    }
}

impl Shared {
    fn new(xdp: XdpPolicy) -> Shared {
        let node = Node::started(&config(&[], xdp)).unwrap();
        let any = SocketAddr::new("::".parse().unwrap(), SHARED);
        let server = Endpoint::bind(&node.pair.node, any).unwrap();
        let bind = |user: &User| Endpoint::bind(&node.pair.users, (user.ip(), user.port).into()).unwrap();
        let ends = USERS.iter().map(bind).collect();
        Shared { node, server, ends }
    }

    fn cut_one(&mut self, by: fn(&User) -> Binding) {
        for user in &USERS {
            self.node.kernel().bind(&room(user.room), LIFE, by(user)).unwrap();
        }
        self.expect((2 * N, [N, N]));
        self.node.block("stuck", Duration::from_secs(3600)).unwrap();
        self.expect((N, [0, N]));
        self.node.kernel().disarm(&room("stuck"));
        self.expect((2 * N, [N, N]));
    }

    fn expect(&self, wanted: (u64, [u64; 2])) {
        expect(&self.server, &self.ends, wanted);
    }
}

/// What came through of `N` packets each way: to the server in all, from it by user.
fn expect(server: &Endpoint, ends: &[Endpoint], wanted: (u64, [u64; 2])) {
    let counts = || (server.count(), [ends[0].count(), ends[1].count()]);
    let before = counts();
    for _ in 0..N {
        for (user, end) in USERS.iter().zip(ends) {
            let packet = Packet::first(user.ssrc);
            end.send((user.node_ip.parse::<IpAddr>().unwrap(), SHARED).into(), packet);
            server.send(user.seen_by_server(), packet);
        }
    }
    let through = || {
        let now = counts();
        let each = [now.1[0] - before.1[0], now.1[1] - before.1[1]];
        (now.0 - before.0, each)
    };
    clock::poll(Duration::from_secs(5), || (through() == wanted).then_some(()));
    // What should have been dropped may still come.
    thread::sleep(Duration::from_millis(30));
    assert_eq!(through(), wanted, "of {N} each: (to the server, from it by user)");
}
