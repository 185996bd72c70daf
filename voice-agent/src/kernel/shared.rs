//! Flows and SSRCs of shared ports, and which slot each belongs to. Pure bookkeeping, the part of `slots` that the maps
//! `FLOWS` and `SSRCS` must show.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};
use voice_common::{
    FlowKey, SsrcKey,
    abi::{MAX_FLOWS, MAX_SSRCS},
    mux::mapped,
};
use voice_room::{Binding, Flow, Port, Ssrc};

/// What a packet on a shared port is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Flow(FlowKey),
    Ssrc(SsrcKey),
}

impl Mark {
    /// The local port.
    pub(super) fn port(&self) -> u16 {
        match self {
            Mark::Flow(key) => key.port,
            // It was a port when the key was made; a foreign one leads nowhere.
            Mark::Ssrc(key) => u16::try_from(key.port).unwrap_or(0),
        }
    }

    /// Those of a binding.
    pub(super) fn of(binding: &Binding) -> BTreeSet<Mark> {
        let flows = binding.flows.iter().map(|flow| Mark::Flow(flow_key(flow)));
        let ssrcs = binding.ssrcs.iter().map(|ssrc| {
            Mark::Ssrc(SsrcKey {
                ssrc: ssrc.ssrc,
                port: ssrc.port.0.into(),
            })
        });
        flows.chain(ssrcs).collect()
    }
}

/// Ports and marks as a binding.
pub(super) fn binding(ports: Vec<Port>, marks: impl IntoIterator<Item = Mark>) -> Binding {
    let mut binding = Binding::from(ports);
    for mark in marks {
        let port = Port(mark.port());
        match mark {
            Mark::Flow(key) => {
                let flow = Flow::new(port, IpAddr::from(key.remote), key.remote_port);
                binding.flows.push(flow);
            }
            Mark::Ssrc(key) => binding.ssrcs.push(Ssrc { port, ssrc: key.ssrc }),
        }
    }
    binding
}

fn flow_key(flow: &Flow) -> FlowKey {
    let remote = match flow.remote() {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    };
    FlowKey {
        port: flow.port.0,
        remote_port: flow.remote_port,
        remote,
    }
}

/// Marks by slot and slots by mark.
#[derive(Debug, Default)]
pub(super) struct Shared {
    owners: BTreeMap<Mark, u32>,
    by_slot: HashMap<u32, BTreeSet<Mark>>,
    /// Marks on each port: a port with one is shared.
    on_port: HashMap<u16, u32>,
    flows: u32,
    ssrcs: u32,
}

/// What has to be written after a claim.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Ports that may have become shared, or ended to be.
    pub(super) ports: BTreeSet<u16>,
    /// Marks of nobody now.
    pub(super) gone: Vec<Mark>,
    /// Marks of the slot that were not its own before.
    pub(super) new: Vec<Mark>,
}

impl Shared {
    /// Makes `marks`, and only these, those of `slot`. One that was another slot's moves.
    pub(super) fn claim(&mut self, slot: u32, marks: &BTreeSet<Mark>) -> Changed {
        let mut changed = Changed::default();
        let before = self.by_slot.remove(&slot).unwrap_or_default();
        for &mark in before.difference(marks) {
            self.owners.remove(&mark);
            self.count(mark, false);
            changed.ports.insert(mark.port());
            changed.gone.push(mark);
        }
        for &mark in marks.difference(&before) {
            match self.owners.insert(mark, slot) {
                Some(loser) => drop(self.by_slot.get_mut(&loser).map(|marks| marks.remove(&mark))),
                None => self.count(mark, true),
            }
            changed.ports.insert(mark.port());
            changed.new.push(mark);
        }
        if !marks.is_empty() {
            self.by_slot.insert(slot, marks.clone());
        }
        changed
    }

    fn count(&mut self, mark: Mark, more: bool) {
        let here = self.on_port.entry(mark.port()).or_default();
        let kind = match mark {
            Mark::Flow(_) => &mut self.flows,
            Mark::Ssrc(_) => &mut self.ssrcs,
        };
        for n in [&mut *here, kind] {
            *n = if more { *n + 1 } else { n.saturating_sub(1) };
        }
        if *here == 0 {
            self.on_port.remove(&mark.port());
        }
    }

    /// Whether packets of this port are told apart by marks.
    pub(super) fn is_shared(&self, port: u16) -> bool {
        self.on_port.contains_key(&port)
    }

    /// Whose mark it is.
    pub(super) fn owner(&self, mark: &Mark) -> Option<u32> {
        self.owners.get(mark).copied()
    }

    /// Every mark with its slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Mark, u32)> {
        self.owners.iter().map(|(mark, slot)| (*mark, *slot))
    }

    /// The marks of a slot.
    pub(super) fn of(&self, slot: u32) -> impl Iterator<Item = Mark> {
        self.by_slot.get(&slot).into_iter().flatten().copied()
    }

    /// Flows and SSRCs in all.
    pub(super) fn used(&self) -> (u32, u32) {
        (self.flows, self.ssrcs)
    }

    /// The map that could not hold the marks of `slot` if it had these, with what would be in it and its size.
    pub(super) fn too_many(&self, slot: u32, marks: &BTreeSet<Mark>) -> Option<(&'static str, usize, u32)> {
        let flow = |m: &&Mark| matches!(m, Mark::Flow(_));
        let new: Vec<&Mark> = marks.iter().filter(|m| !self.owners.contains_key(m)).collect();
        let gone: Vec<Mark> = self.of(slot).filter(|m| !marks.contains(m)).collect();
        let (new_flows, gone_flows) = (
            new.iter().copied().filter(flow).count(),
            gone.iter().filter(flow).count(),
        );
        let flows = self.flows as usize + new_flows - gone_flows;
        let ssrcs = self.ssrcs as usize + (new.len() - new_flows) - (gone.len() - gone_flows);
        if flows > MAX_FLOWS as usize {
            Some(("FLOWS", flows, MAX_FLOWS))
        } else if ssrcs > MAX_SSRCS as usize {
            Some(("SSRCS", ssrcs, MAX_SSRCS))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, remote_port: u16) -> Mark {
        let remote = IpAddr::from([10, 0, 0, 1]);
        Mark::Flow(flow_key(&Flow::new(Port(port), remote, remote_port)))
    }

    fn claim(shared: &mut Shared, slot: u32, marks: &[Mark]) -> Changed {
        shared.claim(slot, &marks.iter().copied().collect())
    }

    #[test]
    fn a_port_is_shared_as_long_as_one_mark_is_on_it() {
        let mut shared = Shared::default();
        claim(&mut shared, 1, &[flow(50_000, 1), flow(50_000, 2)]);
        claim(&mut shared, 2, &[flow(50_000, 3)]);
        claim(&mut shared, 1, &[]);
        assert!(shared.is_shared(50_000));
        assert_eq!(claim(&mut shared, 2, &[]).gone, [flow(50_000, 3)]);
        assert!(!shared.is_shared(50_000));
        assert_eq!(shared.used(), (0, 0));
    }

    #[test]
    fn a_mark_moves_to_the_slot_that_claims_it_last_and_is_written_once() {
        let mut shared = Shared::default();
        claim(&mut shared, 1, &[flow(50_000, 1), flow(50_000, 2)]);
        let changed = claim(&mut shared, 2, &[flow(50_000, 2)]);
        assert_eq!((changed.gone, changed.new), (vec![], vec![flow(50_000, 2)]));
        assert_eq!(shared.of(1).collect::<Vec<_>>(), [flow(50_000, 1)]);
        assert_eq!(shared.owner(&flow(50_000, 2)), Some(2));
        let changed = claim(&mut shared, 1, &[flow(50_000, 1)]);
        assert_eq!(
            changed,
            Changed::default(),
            "what moved away is not its to remove"
        );
    }

    #[test]
    fn what_would_not_fit_is_known_before() {
        let mut shared = Shared::default();
        let many = |from: u16, n: u16| -> BTreeSet<Mark> { (0..n).map(|i| flow(from, i)).collect() };
        shared.claim(1, &many(50_000, u16::MAX));
        let two = many(50_002, 2);
        assert_eq!(shared.too_many(2, &two), Some(("FLOWS", 65_537, MAX_FLOWS)));
        assert_eq!(shared.too_many(2, &many(50_002, 1)), None);
        assert_eq!(shared.too_many(1, &two), None, "its own are given back");
        assert_eq!(shared.too_many(2, &many(50_000, 9)), None, "moved, not new");
    }

    #[test]
    fn a_binding_comes_back_as_it_was() {
        let port = Port(50_000);
        let binding = Binding {
            ports: vec![Port(50_002)],
            flows: vec![
                Flow::new(port, IpAddr::from([10, 0, 0, 1]), 1),
                Flow::new(port, "fd00::1".parse().unwrap(), 1),
            ],
            ssrcs: vec![Ssrc { port, ssrc: 7 }],
        };
        let mut back = super::binding(vec![Port(50_002)], Mark::of(&binding));
        back.flows.sort();
        assert_eq!(back, binding);
        let written_as_v6 = Flow::new(port, "::ffff:10.0.0.1".parse().unwrap(), 1);
        assert_eq!(written_as_v6, binding.flows[0]);
    }
}
