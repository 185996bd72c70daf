//! A media node for the kernel tests: two namespaces, a bpffs of its own, the kernel side of an agent, and two rooms
//! with one member each.

use crate::{
    bpffs::BpfFs,
    clock,
    netns::{NODE_IP, Pair, USER_IP},
    rtp::{Endpoint, packet::Packet},
};
use anyhow::Context;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use voice_agent::{
    config::KernelConfig,
    kernel::{Features, Found, Kernel, KernelError, pinned::Pinned},
};
use voice_room::{Incarnation, Port, RoomId};

/// The node. The kernel side can be dropped and started again, as by a restart of the agent.
#[derive(Debug)]
pub struct Node {
    kernel: Option<Kernel>,
    /// The namespaces.
    pub pair: Pair,
    /// Where the pins are.
    pub fs: BpfFs,
}

/// The life of every room here.
pub const LIFE: Incarnation = Incarnation(1);

/// A room id.
pub fn room(id: &str) -> RoomId {
    RoomId::new(id).unwrap_or_else(|e| panic!("{e}"))
}

impl Node {
    /// The namespaces, and nothing attached yet.
    pub fn new() -> anyhow::Result<Node> {
        Ok(Node {
            kernel: None,
            pair: Pair::new()?,
            fs: BpfFs::mount()?,
        })
    }

    /// The namespaces, and the kernel side started.
    pub fn started(config: &KernelConfig) -> anyhow::Result<Node> {
        let mut node = Node::new()?;
        node.start(config)?;
        Ok(node)
    }

    /// The instance's directory, which holds those of the ABI versions.
    pub fn instance_dir(&self) -> PathBuf {
        self.fs.path().join("voice-agent")
    }

    /// The pins.
    pub fn pin_dir(&self) -> PathBuf {
        self.instance_dir()
            .join(format!("v{}", voice_common::ABI_VERSION))
    }

    /// Starts the kernel side on this kernel.
    pub fn start(&mut self, config: &KernelConfig) -> anyhow::Result<Found> {
        self.start_with(config, Features::detect())
    }

    /// Starts the kernel side as on a kernel with only these features.
    pub fn start_with(&mut self, config: &KernelConfig, features: Features) -> anyhow::Result<Found> {
        self.stop();
        let (kernel, found) = self
            .try_start(config, features)?
            .context("start the kernel side")?;
        self.kernel = Some(kernel);
        Ok(found)
    }

    /// What a start answers. The outer error is the test's own.
    pub fn try_start(
        &self,
        config: &KernelConfig,
        features: Features,
    ) -> anyhow::Result<Result<(Kernel, Found), KernelError>> {
        self.pair
            .node
            .run(|| Kernel::start_with(config, &self.pin_dir(), features))
    }

    /// The agent ends; maps and links stay pinned.
    pub fn stop(&mut self) {
        self.kernel = None;
    }

    /// The running kernel side.
    pub fn kernel(&mut self) -> &mut Kernel {
        self.kernel
            .as_mut()
            .unwrap_or_else(|| panic!("the kernel side is not started"))
    }

    /// The pins as the CLI opens them.
    pub fn pinned(&self) -> Result<Pinned, KernelError> {
        Pinned::open(&self.pin_dir())
    }

    /// Binds a room to one port.
    pub fn bind(&mut self, id: &str, port: u16) -> Result<(), KernelError> {
        self.kernel().bind(&room(id), LIFE, &[Port(port)])
    }

    /// Arms a room for so long.
    pub fn block(&mut self, id: &str, lasts: Duration) -> Result<voice_room::Mono, KernelError> {
        let deadline = clock::now() + lasts;
        self.kernel().arm(&room(id), LIFE, false, deadline)?;
        Ok(deadline)
    }

    /// Waits until `kernel status` shows what is wanted, checking attachments meanwhile.
    pub fn wait_status(&mut self, what: &str, wanted: impl Fn(&voice_agent::kernel::KernelStatus) -> bool) {
        let mut lines = Vec::new();
        let held = clock::poll(Duration::from_secs(5), || {
            lines.extend(self.kernel().reconcile());
            wanted(&self.kernel().status()).then_some(())
        });
        assert!(
            held.is_some(),
            "never came: {what}; {lines:?}; last: {:#?}",
            self.kernel().status()
        );
    }

    /// A media socket on the node and its user's socket.
    pub fn line(&self, port: u16) -> anyhow::Result<Line> {
        Line::new(&self.pair, port)
    }
}

/// A room's member: a socket on each side.
#[derive(Debug)]
pub struct Line {
    /// The media server's.
    pub node: Endpoint,
    /// The user's.
    pub user: Endpoint,
    /// Where the media server's is.
    pub node_addr: SocketAddr,
    /// Where the user's is.
    pub user_addr: SocketAddr,
}

impl Line {
    fn new(pair: &Pair, port: u16) -> anyhow::Result<Line> {
        let node_addr = SocketAddr::from((NODE_IP.parse::<IpAddr>()?, port));
        let user_addr = SocketAddr::from((USER_IP.parse::<IpAddr>()?, port - 10_000));
        Ok(Line {
            node: Endpoint::bind(&pair.node, node_addr)?,
            user: Endpoint::bind(&pair.users, user_addr)?,
            node_addr,
            user_addr,
        })
    }

    /// Packets that arrived so far: at the node, at the user.
    pub fn counts(&self) -> (u64, u64) {
        (self.node.count(), self.user.count())
    }
}

impl Line {
    /// Waits until packets get through from the node: the kernel detaches a link a moment after its pin is removed.
    pub fn wait_open_outwards(&self) {
        clock::wait_for("packets from the node", Duration::from_secs(5), || {
            let before = self.user.count();
            self.node.send(self.user_addr, Packet::first(1));
            clock::poll(Duration::from_millis(40), || {
                (self.user.count() > before).then_some(())
            })
            .is_some()
        });
    }

    /// The same towards the node.
    pub fn wait_open_inwards(&self) {
        clock::wait_for("packets to the node", Duration::from_secs(5), || {
            let before = self.node.count();
            self.user.send(self.node_addr, Packet::first(1));
            clock::poll(Duration::from_millis(40), || {
                (self.node.count() > before).then_some(())
            })
            .is_some()
        });
    }
}

/// What came through of a volley: towards the node, from the node.
pub type Through = (u64, u64);

/// Sends `n` packets each way on every line, in turns, and waits until exactly `wanted` came through. The last line
/// must be open: once its last packets have come, whatever was not dropped of the others has come too, and only has
/// to be read by their threads, for which a moment is left before the last look.
pub fn expect_through(lines: &[&Line], n: u64, wanted: &[Through]) {
    let before: Vec<Through> = lines.iter().map(|l| l.counts()).collect();
    let mut packet = Packet::first(7);
    for _ in 0..n {
        for line in lines {
            line.user.send(line.node_addr, packet);
            line.node.send(line.user_addr, packet);
        }
        packet = packet.next();
    }
    let through = || -> Vec<Through> {
        let now = lines.iter().map(|l| l.counts());
        now.zip(&before)
            .map(|(now, was)| (now.0 - was.0, now.1 - was.1))
            .collect()
    };
    clock::poll(Duration::from_secs(5), || (through() == wanted).then_some(()));
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(
        through(),
        wanted,
        "packets that came through, of {n}: (to the node, from it) by line"
    );
}
