//! What the kernel should have of a room, and what its maps hold. They are this host's alone, whoever owns the room: what is
//! here is right.

use super::{Class, Cut, Difference, Finds, KernelSight, Meaning, Place, Right, Worth, flow, ssrc};
use crate::{Binding, Mono, Port, RoomId};
use alloc::{collections::BTreeSet, format, vec::Vec};

impl Cut {
    /// What differs in the maps; `None`: the room has no slot there.
    pub fn in_kernel(&self, now: Mono, room: &RoomId, there: Option<&KernelSight>) -> Vec<Difference> {
        let mut finds = Finds::new(room, Place::Kernel);
        let meaning = if self.refused {
            let why = "the kernel refuses the binding; it is tried every heartbeat, and the log says why";
            Meaning::new(Right::Here, Class::Human, why)
        } else if self.under_way || there.is_some_and(|there| there.released) {
            Meaning::new(Right::Here, Class::Transient, "the kernel is being told")
        } else {
            Meaning::new(
                Right::Here,
                Class::Repairable,
                "it is bound and armed again as it is here",
            )
        };
        let Some(there) = there else {
            let wanted = !self.binding.is_empty() || self.deadline.is_some_and(|end| end > now);
            if wanted {
                finds.add("/slot", Worth::text(room), Worth::Nothing, &meaning);
            }
            return finds.found;
        };
        self.slot(room, there, &meaning, &mut finds);
        self.bound(room, there, &meaning, &mut finds);
        self.verdict(now, there, &meaning, &mut finds);
        finds.found
    }

    fn slot(&self, room: &RoomId, there: &KernelSight, meaning: &Meaning, finds: &mut Finds<'_>) {
        let named = there.name.as_ref();
        if named.is_none_or(|(name, _)| name != room) {
            let name = named.map_or(Worth::Nothing, |(name, _)| Worth::text(name));
            finds.add("/room", Worth::text(room), name, meaning);
        } else if let Some((_, life)) = named.filter(|(_, life)| *life != self.incarnation) {
            let (here, there) = (Worth::Number(self.incarnation.0), Worth::Number(life.0));
            finds.add("/incarnation", here, there, meaning);
        }
        let (found, given) = there.generation;
        if found != given {
            let (given, found) = (Worth::Number(given.into()), Worth::Number(found.into()));
            finds.add("/generation", given, found, meaning);
        }
    }

    fn bound(&self, room: &RoomId, there: &KernelSight, meaning: &Meaning, finds: &mut Finds<'_>) {
        let (ours, theirs) = (ports(&self.binding), ports(&there.bound));
        for port in ours.difference(&theirs) {
            let other = there.elsewhere.iter().find(|(at, _)| at == port);
            let other = other.map_or(Worth::Nothing, |(_, other)| Worth::text(other));
            finds.add(&format!("/ports/{port}"), Worth::text(room), other, meaning);
        }
        for port in theirs.difference(&ours) {
            finds.add(
                &format!("/ports/{port}"),
                Worth::Nothing,
                Worth::text(room),
                meaning,
            );
        }
        let (here, there) = (&self.binding, &there.bound);
        for mark in here.flows.iter().filter(|f| !there.flows.contains(f)) {
            finds.add(
                &format!("/flows/{}", flow(mark)),
                Worth::text(room),
                Worth::Nothing,
                meaning,
            );
        }
        for mark in here.ssrcs.iter().filter(|s| !there.ssrcs.contains(s)) {
            finds.add(
                &format!("/ssrcs/{}", ssrc(mark)),
                Worth::text(room),
                Worth::Nothing,
                meaning,
            );
        }
    }

    /// A deadline that has passed says nothing, whatever it is.
    fn verdict(&self, now: Mono, there: &KernelSight, meaning: &Meaning, finds: &mut Finds<'_>) {
        let in_force = |end: &Mono| *end > now;
        let wanted = self.deadline.filter(in_force);
        let found = Some(there.deadline).filter(in_force);
        if there.shadow && self.shadow && wanted.is_none() {
            return;
        }
        let worth = |end: Option<Mono>| end.map_or(Worth::Nothing, |end| Worth::Number(end.0));
        if wanted != found {
            finds.add("/verdict/deadline", worth(wanted), worth(found), meaning);
        }
        if wanted.is_some() && there.shadow {
            finds.add("/verdict/shadow", Worth::Flag(false), Worth::Flag(true), meaning);
        }
    }
}

/// An odd port beside its even one follows from that, claimed or not.
fn ports(binding: &Binding) -> BTreeSet<Port> {
    let all: BTreeSet<Port> = binding.ports.iter().copied().collect();
    let follows = |port: &Port| !port.0.is_multiple_of(2) && all.contains(&Port(port.0 - 1));
    all.iter().copied().filter(|port| !follows(port)).collect()
}
