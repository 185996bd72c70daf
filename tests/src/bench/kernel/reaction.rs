//! How soon a trip drops: a flood to one room, which is armed again and again. Both times are CLOCK_MONOTONIC: before the
//! call that writes the deadline word, and the kernel's own of the first drop. The flood is a thread beside others on few
//! CPUs: while it does not run nothing comes that could be dropped. So what passes after arming is counted too.

use super::{
    flood::{self, Flood},
    rate,
};
use crate::{
    bench::{Figure, Goal, stats},
    clock,
    node::{self, LIFE, Node},
};
use anyhow::ensure;
use std::{
    thread,
    time::{Duration, Instant},
};
use voice_room::{Mono, Port};

const PORT: u16 = 50_000;
const TRIPS: usize = 500;
/// Frames at a time: few, so that they come evenly.
const BATCH: u32 = 8;

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut node = Node::started(&rate::config(4))?;
    let room = node::room("room");
    node.kernel().bind(&room, LIFE, &[Port(PORT)])?;
    let _flood = Flood::start(&node.pair, PORT, 1, BATCH)?;
    let pps = flood::received_pps(&node.pair, Duration::from_millis(500))?;
    let (mut took, mut passed) = (Vec::with_capacity(TRIPS), Vec::with_capacity(TRIPS));
    for n in 0..TRIPS {
        crate::interrupt::check()?;
        // The deadline names the trip, so each has its own.
        let deadline = clock::now() + Duration::from_secs(3600) + Duration::from_nanos(n as u64);
        let before = passed_packets(&mut node)?;
        let armed = clock::now();
        node.kernel().arm(&room, LIFE, false, deadline)?;
        took.push(first_drop(&mut node, deadline)?.since(armed).as_secs_f64() * 1e6);
        passed.push((passed_packets(&mut node)? - before) as f64);
        node.kernel().disarm(&room);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(vec![
        Figure::with_goal(
            "arm_to_first_drop_p50_us",
            stats::median(&took),
            "us",
            Goal::AtMost(20.0),
        ),
        Figure::shown("arm_to_first_drop_p99_us", stats::quantile(&took, 0.99), "us"),
        // With those between the reading of the counter and the arming.
        Figure::shown("arm_passed_p99", stats::quantile(&passed, 0.99), "packets"),
        Figure::with_goal(
            "arm_flood_pps",
            pps.round(),
            "packets/s",
            Goal::AtLeast(100_000.0),
        ),
    ])
}

/// Packets of the one room that passed since its port was bound.
fn passed_packets(node: &mut Node) -> anyhow::Result<u64> {
    let traffic = node.kernel().traffic()?;
    Ok(traffic.iter().map(|room| room.counts.passed).sum())
}

fn first_drop(node: &mut Node, deadline: Mono) -> anyhow::Result<Mono> {
    let begin = Instant::now();
    loop {
        let drops = node.kernel().first_drops();
        if let Some(drop) = drops.iter().find(|drop| drop.deadline == deadline) {
            return Ok(drop.at);
        }
        ensure!(
            begin.elapsed() < Duration::from_secs(5),
            "no first drop within 5 s of arming"
        );
        thread::sleep(Duration::from_micros(50));
    }
}
