//! A flood of RTP into a node, made in the kernel: live frames of BPF_PROG_TEST_RUN, over a million a second from one thread.

use crate::{
    bytecode::{self, Kind, Program, XDP_TX, insn},
    frame::{Frame, RTP},
    netns::{NODE_DEV, Pair, USER_DEV},
    rtp::Task,
};
use anyhow::Context;
use std::{
    fs,
    os::fd::AsFd,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Frames for each system call; stopping takes as long as one.
const FRAMES: u32 = 1 << 17;
/// Where the destination port is in a plain frame.
const PORT_AT: i16 = 14 + 20 + 2;

/// Sends until dropped.
pub(super) struct Flood {
    _task: Task,
}

impl Flood {
    /// From the users of `pair` to `ports` ports of the node from `first` on, at random, `batch` frames at a time.
    pub(super) fn start(pair: &Pair, first: u16, ports: u16, batch: u32) -> anyhow::Result<Flood> {
        let program = Program::load(Kind::Xdp, "flood", &to_random_port(first, ports))?;
        let frame = frame(first)?;
        let ifindex = pair.users.index(USER_DEV)?;
        let users = crate::netns::Netns::existing(pair.users.name())?;
        // Once here, so that what is wrong is an error.
        let first_try = || bytecode::send(program.as_fd(), &frame, ifindex, batch, batch);
        users.run(first_try)?.context("flood the node")?;
        let task = Task::start(move |stop| {
            let sending = users.run(|| -> anyhow::Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    bytecode::send(program.as_fd(), &frame, ifindex, FRAMES, batch)?;
                }
                Ok(())
            });
            if let Err(error) = sending.and_then(|sent| sent) {
                eprintln!("bench: the flood ended early: {error:#}");
            }
        });
        Ok(Flood { _task: task })
    }
}

/// One whose IP header says how long it is: nftables asks.
fn frame(port: u16) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Frame::plain4(40_000, port, &[RTP, &[0; 160]].concat()).bytes;
    let length = u16::try_from(bytes.len() - 14)?.to_be_bytes();
    if let Some(field) = bytes.get_mut(16..18) {
        field.copy_from_slice(&length);
    }
    Ok(bytes)
}

/// Packets a second that the node took from its interface over `time`, whatever became of them.
pub(super) fn received_pps(pair: &Pair, time: Duration) -> anyhow::Result<f64> {
    let (begin, before) = (Instant::now(), received(pair)?);
    std::thread::sleep(time);
    let packets = received(pair)? - before;
    Ok(packets / begin.elapsed().as_secs_f64())
}

fn received(pair: &Pair) -> anyhow::Result<f64> {
    let path = "/proc/thread-self/net/dev";
    let text = pair.node.run(|| fs::read_to_string(path))?.context(path)?;
    let line = text
        .lines()
        .find_map(|l| l.trim().strip_prefix(NODE_DEV)?.strip_prefix(':'));
    let packets = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    packets.with_context(|| format!("no packets of {NODE_DEV} in {path}"))
}

/// Writes a random port of the range into the frame and sends it out.
fn to_random_port(first: u16, ports: u16) -> [u64; 12] {
    [
        insn(0x61, 7, 1, 0, 0),                      // r7 = data
        insn(0x61, 2, 1, 4, 0),                      // r2 = data_end
        insn(0xbf, 3, 7, 0, 0),                      // r3 = r7
        insn(0x07, 3, 0, 0, i32::from(PORT_AT) + 2), // r3 += end of the port
        insn(0x2d, 3, 2, 5, 0),                      // if r3 > r2: send as it is
        insn(0x85, 0, 0, 0, 7),                      // r0 = bpf_get_prandom_u32()
        insn(0x97, 0, 0, 0, i32::from(ports)),       // r0 %= ports
        insn(0x07, 0, 0, 0, i32::from(first)),       // r0 += first
        insn(0xdc, 0, 0, 0, 16),                     // r0 = be16(r0)
        insn(0x6b, 7, 0, PORT_AT, 0),                // the frame's port = r0
        insn(0xb7, 0, 0, 0, XDP_TX),                 // r0 = XDP_TX
        insn(0x95, 0, 0, 0, 0),                      // exit
    ]
}
