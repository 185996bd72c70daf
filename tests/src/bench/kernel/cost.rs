//! Cost per packet: each program over one frame (BPF_PROG_TEST_RUN), many times, less an empty program of the same type
//! in the same round. Cache-hot. Time is the CPU time of the thread that runs them, so others on the machine do not count.

use crate::{
    bench::{Figure, Goal, stats},
    bytecode::{self, Kind, Program, TC_ACT_UNSPEC, XDP_PASS},
    frame::{Frame, RTP},
    programs::Programs,
};
use anyhow::ensure;
use nix::time::{ClockId, clock_gettime};
use std::{
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};
use voice_agent::kernel::Features;
use voice_common::{FlowKey, Hook, Owner, SsrcKey, abi, mux};
use voice_room::Mono;

/// Times that everything is loaded anew: where the kernel puts a program's code is worth a nanosecond by itself.
const LOADS: usize = 5;
/// Rounds with each; the median of all is the figure.
const ROUNDS: usize = 9;
/// Runs of a program in half a round: some 2 ms.
const REPEAT: u32 = 40_000;
/// Rooms of a full node.
const ROOMS: u32 = 4000;
/// The ports of a full node. In either scene the last one is not bound.
const PORTS: RangeInclusive<u16> = 50_000..=60_000;
/// Not a media port.
const OUTSIDE: u16 = 49_999;
/// A user whose flow is known to be of the open room.
const USER_OPEN: u16 = 40_001;
/// A user whose flow is known to be of the blocked room.
const USER_BLOCKED: u16 = 40_002;
/// A user of no known flow.
const STRANGER: u16 = 40_000;
/// A stream of the open room.
const SSRC_OPEN: u32 = 1;
/// A stream of the blocked room.
const SSRC_BLOCKED: u32 = 2;
/// On a shared port: told by the flow, by the SSRC, by neither. Reported without a goal.
const MUX: [&str; 5] = [
    "mux_flow_open",
    "mux_flow_blocked",
    "mux_ssrc_open",
    "mux_ssrc_blocked",
    "mux_unknown",
];
/// Of the verifier's work in each program; a load takes about 1 ms for each thousand.
const VERIFIED: f64 = 50_000.0;

/// An empty program of each type.
struct Empty {
    xdp: Program,
    tc: Program,
}

/// What one frame costs at one hook.
struct Case {
    hook: Hook,
    kind: &'static str,
    frame: Frame,
}

/// The programs with so many rooms on their maps, and the frames to give them.
struct Scene {
    programs: Programs,
    cases: Vec<Case>,
}

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let (mut of_one, mut of_full) = (Costs::default(), Costs::default());
    let mut verified = Vec::new();
    for _ in 0..LOADS {
        let empty = Empty {
            xdp: Program::load(Kind::Xdp, "empty_xdp", &bytecode::answer(XDP_PASS))?,
            tc: Program::load(Kind::Tc, "empty_tc", &bytecode::answer(TC_ACT_UNSPEC))?,
        };
        let mut one = Scene::new(1, 50_000..=50_003)?;
        let mut full = Scene::new(ROOMS, PORTS)?;
        for _ in 0..ROUNDS {
            crate::interrupt::check()?;
            // In turns, so that what else the machine does befalls both.
            one.measure(&empty, &mut of_one)?;
            full.measure(&empty, &mut of_full)?;
        }
        verified = full.programs.verified()?;
    }
    let mut figures = vec![
        of_full.worst("off_path_ns", &["non_udp", "out_of_range", "unbound"], 5.0),
        of_full.worst("bound_open_ns", &["bound_open"], 9.0),
        of_full.worst("blocked_ns", &["blocked"], 25.0),
        growth(&of_one, &of_full),
    ];
    figures.extend(MUX.map(|kind| of_full.dearest_of(kind)));
    figures.extend(of_one.shown("1_room"));
    figures.extend(of_full.shown("4000_rooms"));
    for (program, count) in verified {
        let name = format!("verified_instructions_{program}");
        figures.push(Figure::with_goal(
            name,
            count.into(),
            "instructions",
            Goal::AtMost(VERIFIED),
        ));
    }
    Ok(figures)
}

/// Nanoseconds of each case, round by round.
#[derive(Default)]
struct Costs(Vec<(Hook, &'static str, Vec<f64>)>);

impl Costs {
    fn add(&mut self, case: &Case, ns: f64) {
        let (hook, kind) = (case.hook, case.kind);
        match self.0.iter_mut().find(|(h, k, _)| (*h, *k) == (hook, kind)) {
            Some((_, _, all)) => all.push(ns),
            None => self.0.push((hook, kind, vec![ns])),
        }
    }

    /// The dearest of these kinds at any hook.
    fn worst(&self, name: &str, kinds: &[&str], goal: f64) -> Figure {
        Figure::with_goal(name, self.dearest(kinds), "ns", Goal::AtMost(goal))
    }

    /// The same of one kind without a goal.
    fn dearest_of(&self, kind: &str) -> Figure {
        Figure::shown(format!("{kind}_ns"), self.dearest(&[kind]), "ns")
    }

    fn dearest(&self, kinds: &[&str]) -> f64 {
        let costs = self.0.iter().filter(|(_, kind, _)| kinds.contains(kind));
        costs.map(|(_, _, ns)| stats::median(ns)).fold(f64::MIN, f64::max)
    }

    /// Each by itself.
    fn shown(&self, rooms: &str) -> impl Iterator<Item = Figure> {
        self.0.iter().map(move |(hook, kind, ns)| {
            let hook = hook.name().replace('-', "_");
            Figure::shown(format!("{hook}_{kind}_{rooms}_ns"), stats::median(ns), "ns")
        })
    }
}

/// Whether cost grows with rooms and ports: the largest difference of a case. Cache-hot, two runs of the same differ by
/// less than 2 ns, for where its code lies. Not of shared ports: their flows and SSRCs are the same in both scenes.
fn growth(one: &Costs, full: &Costs) -> Figure {
    let pairs = one.0.iter().zip(&full.0);
    let pairs = pairs.filter(|((_, kind, _), _)| !MUX.contains(kind));
    let grown = pairs.map(|((_, _, one), (_, _, full))| {
        let each: Vec<f64> = one.iter().zip(full).map(|(one, full)| full - one).collect();
        stats::median(&each)
    });
    let most = grown.fold(f64::MIN, f64::max);
    Figure::with_goal("growth_1_to_4000_rooms_ns", most, "ns", Goal::AtMost(2.0))
}

impl Scene {
    /// `rooms` open and one blocked, on all these ports but the last; one of them is shared by an open and the blocked one.
    fn new(rooms: u32, ports: RangeInclusive<u16>) -> anyhow::Result<Scene> {
        let mut programs = Programs::with_slots(Features::detect(), rooms + 1)?;
        let slot_of = |port: u16| 1 + u32::from(port - 50_000) % (rooms + 1);
        let tables = programs.tables();
        let unbound = *ports.end();
        let (open, blocked) = (unbound - 2, unbound - 1);
        for port in ports.filter(|port| *port != unbound) {
            tables.set_port(port, slot_of(port));
        }
        tables.arm(slot_of(blocked), Mono(u64::MAX), false);
        let shared = unbound - 3;
        tables.set_port(shared, abi::MUX);
        for (slot, user, ssrc) in [
            (slot_of(open), USER_OPEN, SSRC_OPEN),
            (slot_of(blocked), USER_BLOCKED, SSRC_BLOCKED),
        ] {
            mark(&mut programs, shared, slot, user, ssrc)?;
        }
        let cases = cases(open, blocked, unbound, shared);
        for case in &cases {
            let dropped = programs.run(case.hook, &case.frame.bytes)?;
            let (hook, kind) = (case.hook.name(), case.kind);
            ensure!(
                dropped == case.kind.ends_with("blocked"),
                "{hook} {kind} dropped: {dropped}"
            );
        }
        Ok(Scene { programs, cases })
    }

    /// One round: empty, ours, ours, empty, so that what becomes slower or faster meanwhile befalls both alike.
    fn measure(&mut self, empty: &Empty, costs: &mut Costs) -> anyhow::Result<()> {
        for case in &self.cases {
            let nothing = match case.hook {
                Hook::Xdp => empty.xdp.as_fd(),
                Hook::TcIngress | Hook::TcEgress => empty.tc.as_fd(),
            };
            let frame = &case.frame.bytes;
            let before = per_run(nothing, frame)?;
            let ours = self.programs.fd(case.hook)?;
            let (first, second) = (per_run(ours, frame)?, per_run(ours, frame)?);
            let after = per_run(nothing, frame)?;
            costs.add(case, f64::midpoint(first, second) - f64::midpoint(before, after));
        }
        Ok(())
    }
}

/// Makes a flow from both ends of our frames, and an SSRC, those of the room in `slot`.
fn mark(programs: &mut Programs, port: u16, slot: u32, user: u16, ssrc: u32) -> anyhow::Result<()> {
    let generation = programs.tables().room(slot).generation;
    let owner = Owner { slot, generation };
    for remote in [mux::mapped([10, 0, 0, 1]), mux::mapped([10, 0, 0, 2])] {
        let flow = FlowKey {
            port,
            remote_port: user,
            remote,
        };
        programs.marks().set_flow(flow, owner)?;
    }
    let port = u32::from(port);
    Ok(programs.marks().set_ssrc(SsrcKey { ssrc, port }, owner)?)
}

/// RTP of this SSRC.
fn rtp(ssrc: u32) -> Vec<u8> {
    let [first, second, ..] = RTP else {
        return Vec::new();
    };
    let header = [&[*first, *second, 0, 0, 0, 0, 0, 0], &ssrc.to_be_bytes()[..]].concat();
    [header, vec![0; 160]].concat()
}

fn cases(open: u16, blocked: u16, unbound: u16, shared: u16) -> Vec<Case> {
    // The local port is the destination of what comes in, the source of what goes out.
    let udp = |hook: Hook, user: u16, port: u16, ssrc: u32| match hook {
        Hook::TcEgress => Frame::plain4(port, user, &rtp(ssrc)),
        Hook::Xdp | Hook::TcIngress => Frame::plain4(user, port, &rtp(ssrc)),
    };
    let tcp = || Frame::ethernet(0x0800).ipv4(6, 0, 0).udp(1, 2, &rtp(0));
    let of_hook = |hook| {
        [
            ("non_udp", tcp()),
            ("out_of_range", udp(hook, STRANGER, OUTSIDE, 0)),
            ("unbound", udp(hook, STRANGER, unbound, 0)),
            ("bound_open", udp(hook, STRANGER, open, 0)),
            ("blocked", udp(hook, STRANGER, blocked, 0)),
            (MUX[0], udp(hook, USER_OPEN, shared, 0)),
            (MUX[1], udp(hook, USER_BLOCKED, shared, 0)),
            (MUX[2], udp(hook, STRANGER, shared, SSRC_OPEN)),
            (MUX[3], udp(hook, STRANGER, shared, SSRC_BLOCKED)),
            (MUX[4], udp(hook, STRANGER, shared, 0)),
        ]
        .map(|(kind, frame)| Case { hook, kind, frame })
    };
    Hook::ALL.into_iter().flat_map(of_hook).collect()
}

/// CPU nanoseconds for each run.
fn per_run(program: BorrowedFd<'_>, frame: &[u8]) -> anyhow::Result<f64> {
    let begin = cpu_time()?;
    bytecode::run(program, frame, REPEAT)?;
    Ok((cpu_time()? - begin).as_secs_f64() * 1e9 / f64::from(REPEAT))
}

fn cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
