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
use voice_common::Hook;
use voice_room::Mono;

/// Rounds; the median of them is the figure.
const ROUNDS: usize = 21;
/// Runs of a program in a round: some 10 ms.
const REPEAT: u32 = 200_000;
/// Rooms of a full node.
const ROOMS: u32 = 4000;
/// The ports of a full node. In either scene the last one is not bound.
const PORTS: RangeInclusive<u16> = 50_000..=60_000;
/// Not a media port.
const OUTSIDE: u16 = 49_999;
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
    let empty = Empty {
        xdp: Program::load(Kind::Xdp, "empty_xdp", &bytecode::answer(XDP_PASS))?,
        tc: Program::load(Kind::Tc, "empty_tc", &bytecode::answer(TC_ACT_UNSPEC))?,
    };
    let mut one = Scene::new(1, 50_000..=50_002)?;
    let mut full = Scene::new(ROOMS, PORTS)?;
    let (mut of_one, mut of_full) = (Costs::new(&one), Costs::new(&full));
    for _ in 0..ROUNDS {
        crate::interrupt::check()?;
        // In turns, so that what else the machine does befalls both.
        one.measure(&empty, &mut of_one)?;
        full.measure(&empty, &mut of_full)?;
    }
    let mut figures = vec![
        of_full.worst("off_path_ns", &["non_udp", "out_of_range", "unbound"], 5.0),
        of_full.worst("bound_open_ns", &["bound_open"], 9.0),
        of_full.worst("blocked_ns", &["blocked"], 25.0),
        growth(&of_one, &of_full),
    ];
    figures.extend(of_one.shown("1_room"));
    figures.extend(of_full.shown("4000_rooms"));
    for (program, count) in full.programs.verified()? {
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
struct Costs(Vec<(Hook, &'static str, Vec<f64>)>);

impl Costs {
    fn new(scene: &Scene) -> Costs {
        let cases = scene.cases.iter();
        Costs(cases.map(|case| (case.hook, case.kind, Vec::new())).collect())
    }

    /// The dearest of these kinds at any hook.
    fn worst(&self, name: &str, kinds: &[&str], goal: f64) -> Figure {
        let costs = self.0.iter().filter(|(_, kind, _)| kinds.contains(kind));
        let dearest = costs.map(|(_, _, ns)| stats::median(ns)).fold(0.0, f64::max);
        Figure::with_goal(name, dearest, "ns", Goal::AtMost(goal))
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
/// less than 2 ns.
fn growth(one: &Costs, full: &Costs) -> Figure {
    let pairs = one.0.iter().zip(&full.0);
    let grown = pairs.map(|((_, _, one), (_, _, full))| {
        let each: Vec<f64> = one.iter().zip(full).map(|(one, full)| full - one).collect();
        stats::median(&each)
    });
    let most = grown.fold(f64::MIN, f64::max);
    Figure::with_goal("growth_1_to_4000_rooms_ns", most, "ns", Goal::AtMost(2.0))
}

impl Scene {
    /// `rooms` open and one blocked, on all these ports but the last.
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
        let cases = cases(open, blocked, unbound);
        for case in &cases {
            let dropped = programs.run(case.hook, &case.frame.bytes)?;
            let (hook, kind) = (case.hook.name(), case.kind);
            ensure!(
                dropped == (case.kind == "blocked"),
                "{hook} {kind} dropped: {dropped}"
            );
        }
        Ok(Scene { programs, cases })
    }

    /// One round.
    fn measure(&mut self, empty: &Empty, costs: &mut Costs) -> anyhow::Result<()> {
        for (case, (_, _, costs)) in self.cases.iter().zip(&mut costs.0) {
            let nothing = match case.hook {
                Hook::Xdp => empty.xdp.as_fd(),
                Hook::TcIngress | Hook::TcEgress => empty.tc.as_fd(),
            };
            let base = per_run(nothing, &case.frame.bytes)?;
            costs.push(per_run(self.programs.fd(case.hook)?, &case.frame.bytes)? - base);
        }
        Ok(())
    }
}

fn cases(open: u16, blocked: u16, unbound: u16) -> Vec<Case> {
    let payload = [RTP, &[0; 160]].concat();
    // The local port is the destination of what comes in, the source of what goes out.
    let udp = |hook: Hook, port: u16| match hook {
        Hook::TcEgress => Frame::plain4(port, 40_000, &payload),
        Hook::Xdp | Hook::TcIngress => Frame::plain4(40_000, port, &payload),
    };
    let tcp = || Frame::ethernet(0x0800).ipv4(6, 0, 0).udp(1, 2, &payload);
    let of_hook = |hook| {
        [
            ("non_udp", tcp()),
            ("out_of_range", udp(hook, OUTSIDE)),
            ("unbound", udp(hook, unbound)),
            ("bound_open", udp(hook, open)),
            ("blocked", udp(hook, blocked)),
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
