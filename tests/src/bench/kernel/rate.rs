//! Packets dropped a second, beside nftables: a set of ports at the netdev ingress hook. The same flood, the same ports,
//! each on a node of its own, in turns; what counts is what each node takes from its interface and drops.

use super::flood::{self, Flood};
use crate::{
    bench::{Figure, Goal, stats},
    clock,
    netns::{NODE_DEV, Pair},
    node::{self, LIFE, Node},
};
use anyhow::{Context, ensure};
use std::{io::Write, process::Stdio, time::Duration};
use voice_agent::config::{KernelConfig, XdpPolicy};
use voice_room::Port;

/// Blocked rooms, one port each.
const ROOMS: u16 = 200;
const FIRST: u16 = 50_000;
/// Pairs of measurements; the median ratio is the figure.
const PAIRS: usize = 9;
/// Each measurement.
const LASTS: Duration = Duration::from_millis(700);
/// Frames at a time, as a driver hands them on.
const BATCH: u32 = 64;

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let ours = ours()?;
    let theirs = nftables()?;
    let (mut us, mut them, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        crate::interrupt::check()?;
        let (a, b) = (dropped_pps(&theirs)?, dropped_pps(&ours.pair)?);
        them.push(a);
        us.push(b);
        ratios.push(b / a);
    }
    let ratio = stats::median(&ratios);
    let (us, them) = (stats::median(&us).round(), stats::median(&them).round());
    Ok(vec![
        Figure::shown("drop_pps", us, "packets/s").beside("nftables", them, us / them),
        Figure::with_goal("drop_pps_vs_nftables", ratio, "ratio", Goal::AtLeast(1.5))
            .beside("nftables", 1.0, ratio),
    ])
}

/// What a node drops. An error if anything reached its UDP.
fn dropped_pps(pair: &Pair) -> anyhow::Result<f64> {
    let before = passed(pair)?;
    let flood = Flood::start(pair, FIRST, ROOMS, BATCH)?;
    std::thread::sleep(Duration::from_millis(50));
    let pps = flood::received_pps(pair, LASTS)?;
    drop(flood);
    let passed = passed(pair)? - before;
    ensure!(passed == 0, "{passed} packets of blocked rooms were not dropped");
    Ok(pps)
}

/// IP packets that a node's stack was given.
fn passed(pair: &Pair) -> anyhow::Result<u64> {
    let path = "/proc/thread-self/net/snmp";
    let text = pair.node.run(|| std::fs::read_to_string(path))?.context(path)?;
    // "Ip: Forwarding DefaultTTL InReceives …", then the same with values.
    let values = text.lines().filter(|line| line.starts_with("Ip: ")).nth(1);
    let received = values.and_then(|line| line.split(' ').nth(3)?.parse().ok());
    received.with_context(|| format!("no InReceives in {path}"))
}

/// Makes the flood's frames the node's own: what is not dropped then reaches IP, and is seen in its counter.
fn take_frames(pair: &Pair) -> anyhow::Result<()> {
    pair.node
        .ip(&format!("link set dev {NODE_DEV} address 02:00:00:00:00:01"))?;
    Ok(())
}

/// A node with our programs and its rooms blocked, native XDP attached.
fn ours() -> anyhow::Result<Node> {
    let mut node = Node::new()?;
    take_frames(&node.pair)?;
    node.start(&config(u32::from(ROOMS)))?;
    let deadline = clock::now() + Duration::from_secs(3600);
    for n in 0..ROOMS {
        let room = node::room(&format!("room-{n}"));
        node.kernel().bind(&room, LIFE, &[Port(FIRST + n)])?;
        node.kernel().arm(&room, LIFE, false, deadline)?;
    }
    Ok(node)
}

/// The kernel side on the node's interface, native XDP from the start.
pub(super) fn config(max_slots: u32) -> KernelConfig {
    KernelConfig {
        interfaces: vec![NODE_DEV.into()],
        xdp: XdpPolicy::Always,
        ports: 50_000..=60_000,
        max_slots,
        detach_on_stop: false,
        log: false,
    }
}

/// A node with an nftables set of the same ports.
fn nftables() -> anyhow::Result<Pair> {
    let pair = Pair::new()?;
    take_frames(&pair)?;
    let ports: Vec<String> = (FIRST..FIRST + ROOMS).map(|port| port.to_string()).collect();
    let rules = format!(
        "table netdev bench {{\n set blocked {{ type inet_service; elements = {{ {} }}; }}\n chain ingress {{\n  \
         type filter hook ingress device \"{NODE_DEV}\" priority 0; policy accept;\n  udp dport @blocked drop\n }}\n}}\n",
        ports.join(", ")
    );
    let mut nft = pair.node.command("nft");
    let mut child = nft
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start nft")?;
    let stdin = child.stdin.take().context("nft has no standard input")?;
    { stdin }.write_all(rules.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "nft refused the rules ({status}):\n{rules}");
    Ok(pair)
}
