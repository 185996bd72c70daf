//! The kernel programs run over single frames (BPF_PROG_TEST_RUN), and the same frames judged on the host.

use crate::bpffs::BpfFs;
use anyhow::{Context, bail, ensure};
use aya::{
    TestRun as _,
    programs::{SchedClassifier, TestRunOptions, Xdp},
};
use std::{
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd},
};
use voice_agent::{
    config::{KernelConfig, XdpPolicy},
    kernel::{
        Features,
        load::{self, Loaded, TC_EGRESS, TC_INGRESS},
        marks::Marks,
        tables::{self, Tables},
    },
};
use voice_common::{
    Bound, Class, FlowKey, Hook, Owner, Reason, Room, RoomCounts, SsrcKey, Verdict, abi, judge,
};

/// What a frame did: the program's answer, and which counter it moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The program dropped it.
    pub dropped: bool,
    /// The counter that moved by one packet and the frame's bytes; `None`: none moved.
    pub counted: Option<Counted>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Of the hook, by reason.
    Reason(Reason),
    /// Of a room, by slot, class and verdict.
    Room(u32, Class, Verdict),
}

/// The loaded programs with maps of their own, attached nowhere.
#[derive(Debug)]
pub struct Programs {
    /// Programs and maps.
    pub loaded: Loaded,
    ports: RangeInclusive<u16>,
    features: Features,
    _fs: BpfFs,
}

/// Slots of [`Programs`]: few, so that each frame can be followed through all counters.
pub const SLOTS: u32 = 6;

/// A kernel configuration for tests: everything at its default but few slots.
pub fn config(interfaces: &[&str], xdp: XdpPolicy) -> KernelConfig {
    KernelConfig {
        interfaces: interfaces.iter().map(|&i| i.to_owned()).collect(),
        xdp,
        ports: 50_000..=60_000,
        max_slots: SLOTS,
        detach_on_stop: false,
        log: false,
    }
}

impl Programs {
    /// Loads them for this kernel, or as for one with only `features`.
    pub fn load(features: Features) -> anyhow::Result<Programs> {
        Programs::with_slots(features, SLOTS)
    }

    /// The same with room for so many rooms.
    pub fn with_slots(features: Features, slots: u32) -> anyhow::Result<Programs> {
        let fs = BpfFs::mount()?;
        let config = KernelConfig {
            max_slots: slots,
            ..config(&[], XdpPolicy::Off)
        };
        let loaded = load::load(
            &config,
            &fs.path().join(format!("v{}", abi::ABI_VERSION)),
            features,
        )
        .context("load the kernel programs (needs root)")?;
        Ok(Programs {
            loaded,
            ports: config.ports,
            features,
            _fs: fs,
        })
    }

    /// The memory-mapped tables.
    pub fn tables(&self) -> &Tables {
        &self.loaded.tables
    }

    /// Flows and SSRCs of shared ports.
    pub fn marks(&mut self) -> &mut Marks {
        &mut self.loaded.maps.marks
    }

    /// Instructions the verifier looked at, by program.
    pub fn verified(&mut self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let mut counts = Vec::new();
        for name in [TC_INGRESS, TC_EGRESS] {
            let info = load::tc(&mut self.loaded.ebpf, name)?.info()?;
            counts.push((
                name,
                info.verified_instruction_count().context("needs Linux 5.16")?,
            ));
        }
        let name = self.features.xdp();
        let info = load::xdp(&mut self.loaded.ebpf, name)?.info()?;
        counts.push((
            name,
            info.verified_instruction_count().context("needs Linux 5.16")?,
        ));
        Ok(counts)
    }

    /// Whether the kernel runs this program over this frame at all: it refuses frames without a whole Ethernet header,
    /// and for TC empty ones and those that end inside a plain IP header.
    pub fn runs(hook: Hook, frame: &[u8]) -> bool {
        let least = match (hook, frame.get(12..14)) {
            (_, None) => return false,
            (Hook::Xdp, Some(_)) => 14,
            (_, Some([0x08, 0x00])) => 14 + 20,
            (_, Some([0x86, 0xdd])) => 14 + 40,
            (_, Some(_)) => 15,
        };
        frame.len() >= least
    }

    /// The program of `hook`.
    pub fn fd(&mut self, hook: Hook) -> anyhow::Result<BorrowedFd<'_>> {
        let ebpf = &mut self.loaded.ebpf;
        Ok(match hook {
            Hook::Xdp => load::xdp(ebpf, self.features.xdp())?.fd()?.as_fd(),
            Hook::TcIngress => load::tc(ebpf, TC_INGRESS)?.fd()?.as_fd(),
            Hook::TcEgress => load::tc(ebpf, TC_EGRESS)?.fd()?.as_fd(),
        })
    }

    /// Runs the program of `hook` over a frame. True: dropped.
    pub fn run(&mut self, hook: Hook, frame: &[u8]) -> anyhow::Result<bool> {
        let options = TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::default()
        };
        let ebpf = &mut self.loaded.ebpf;
        let answer = match hook {
            Hook::Xdp => {
                let program: &Xdp = load::xdp(ebpf, self.features.xdp())?;
                program.test_run(options)?.return_value
            }
            Hook::TcIngress | Hook::TcEgress => {
                let name = if hook == Hook::TcEgress {
                    TC_EGRESS
                } else {
                    TC_INGRESS
                };
                let program: &SchedClassifier = load::tc(ebpf, name)?;
                program.test_run(options)?.return_value
            }
        };
        // XDP_PASS, XDP_DROP; TC_ACT_UNSPEC, TC_ACT_SHOT.
        match (hook, answer) {
            (Hook::Xdp, 2) | (Hook::TcIngress | Hook::TcEgress, u32::MAX) => Ok(false),
            (Hook::Xdp, 1) | (Hook::TcIngress | Hook::TcEgress, 2) => Ok(true),
            (hook, other) => bail!("{} answered {other}", hook.name()),
        }
    }

    /// Runs a frame and finds the one counter that moved. An error if several did, or by a wrong amount.
    pub fn outcome(&mut self, hook: Hook, frame: &[u8]) -> anyhow::Result<Outcome> {
        let before = self.counters(hook)?;
        let dropped = self.run(hook, frame)?;
        let after = self.counters(hook)?;
        let mut counted = None;
        for ((what, old), (_, new)) in before.iter().zip(&after) {
            if old == new {
                continue;
            }
            let bytes = match what {
                Counted::Reason(_) => 0,
                Counted::Room(..) => frame.len() as u64,
            };
            ensure!(counted.is_none(), "{what:?} moved besides {counted:?}");
            ensure!(
                (old.0 + 1, old.1 + bytes) == *new,
                "{what:?} went from {old:?} to {new:?}"
            );
            counted = Some(*what);
        }
        Ok(Outcome { dropped, counted })
    }

    /// Packets and bytes of every counter that `hook` may touch.
    fn counters(&self, hook: Hook) -> anyhow::Result<Vec<(Counted, (u64, u64))>> {
        let maps = &self.loaded.maps;
        let mut all = Vec::new();
        let hooks = maps.hooks.counts()?;
        for (reason, packets) in Reason::ALL.into_iter().zip(hooks[hook as usize].reasons) {
            all.push((Counted::Reason(reason), (packets, 0)));
        }
        for slot in 0..=SLOTS {
            let counts = maps.counts.get(&slot, 0)?;
            for (class, verdict) in cells() {
                let at = RoomCounts::index(hook.direction(), class, verdict);
                let packets = counts.iter().map(|cpu| cpu.counts[at].packets).sum();
                let bytes = counts.iter().map(|cpu| cpu.counts[at].bytes).sum();
                all.push((Counted::Room(slot, class, verdict), (packets, bytes)));
            }
        }
        Ok(all)
    }

    /// What the host makes of a frame, on the same tables.
    pub fn judge(&self, hook: Hook, frame: &[u8]) -> Result<Bound, Reason> {
        let host = Host {
            tables: &self.loaded.tables,
            marks: &self.loaded.maps.marks,
            ports: &self.ports,
        };
        judge(frame, hook.direction(), &host)
    }

    /// What the program has to do if it agrees with the host.
    pub fn expected(&self, hook: Hook, frame: &[u8]) -> Outcome {
        match self.judge(hook, frame) {
            // What XDP lets pass is TC's to count.
            Err(reason) => Outcome {
                dropped: false,
                counted: (hook != Hook::Xdp).then_some(Counted::Reason(reason)),
            },
            Ok(bound) => {
                let dropped = bound.verdict == Verdict::Drop;
                let counts = hook != Hook::Xdp || dropped;
                let counted = counts.then_some(Counted::Room(bound.slot, bound.class, bound.verdict));
                Outcome { dropped, counted }
            }
        }
    }
}

fn cells() -> impl Iterator<Item = (Class, Verdict)> {
    let classes = Class::ALL.into_iter();
    classes.flat_map(|class| Verdict::ALL.map(|verdict| (class, verdict)))
}

/// The tables as the host reads them.
struct Host<'a> {
    tables: &'a Tables,
    marks: &'a Marks,
    ports: &'a RangeInclusive<u16>,
}

impl voice_common::Tables for Host<'_> {
    fn kill_switch(&self) -> bool {
        self.tables.kill_switch()
    }

    fn in_range(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    fn slot(&self, port: u16) -> u32 {
        self.tables.port(port)
    }

    fn deadline(&self, slot: u32) -> Option<u64> {
        Some(self.room(slot)?.deadline)
    }

    fn room(&self, slot: u32) -> Option<Room> {
        let exists = slot != abi::UNBOUND && slot < self.tables.slots();
        exists.then(|| tables::judged(&self.tables.room(slot)))
    }

    fn flow(&self, key: &FlowKey) -> Option<Owner> {
        self.marks.flow(key)
    }

    fn ssrc(&self, key: &SsrcKey) -> Option<Owner> {
        self.marks.ssrc(key)
    }

    fn is_over(&self, _: u32, deadline: u64) -> bool {
        tables::now().0 >= deadline
    }
}
