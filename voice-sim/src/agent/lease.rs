//! The lease of an agent and the rooms it claims on it: a model of the etcd adapter.

use super::{Called, node};
use crate::{
    Ms, ms,
    net::{Ask, Event},
    registry::{self, GRACE, TTL},
    world::World,
};
use std::collections::{BTreeMap, BTreeSet};
use voice_room::{Input, RoomId, command::Meta};

/// The agent gives its lease up so long before others may take over, as its own clock says.
const MARGIN: Ms = 5_000;
const RENEW_EVERY: Ms = TTL / 3;
const LOOK_EVERY: Ms = 1_000;

#[derive(Debug, Default)]
pub(super) struct Lease {
    id: Option<u64>,
    /// Authority ends then, by the agent's own clock.
    until: Ms,
    asked: Ms,
    /// Rooms the core wants, until it has an answer.
    wanted: BTreeMap<RoomId, Meta>,
    under_way: BTreeSet<RoomId>,
}

impl World {
    pub(super) fn has_authority(&self, a: usize) -> bool {
        let agent = &self.agents[a];
        agent.lease.id.is_some() && agent.clock(self.now) < agent.lease.until
    }

    pub(crate) fn look_after_lease(&mut self, a: usize, run: u64) {
        if !self.agents[a].is_up() || self.agents[a].run != run {
            return;
        }
        self.after(LOOK_EVERY, Event::Lease(a, run));
        let clock = self.agents[a].clock(self.now);
        if self.agents[a].lease.id.is_some() && !self.has_authority(a) {
            self.lose_lease(a);
        }
        let lease = &self.agents[a].lease;
        let ask = match lease.id {
            None => Some(registry::Ask::Grant),
            Some(id) if clock >= lease.asked + RENEW_EVERY => Some(registry::Ask::Renew(id)),
            Some(_) => None,
        };
        if let Some(ask) = ask {
            self.agents[a].lease.asked = clock;
            self.ask(a, Ask::Registry(ask), Called::Lease(clock));
        }
        let wanted: Vec<Meta> = self.agents[a].lease.wanted.values().cloned().collect();
        wanted.into_iter().for_each(|meta| self.ask_for(a, meta));
    }

    fn lose_lease(&mut self, a: usize) {
        self.tell(|| format!("agent {a} loses its lease"));
        let lease = &mut self.agents[a].lease;
        lease.id = None;
        lease.under_way.clear();
        self.feed(a, Input::LeaseLost);
    }

    pub(super) fn claim(&mut self, a: usize, meta: Meta) {
        self.agents[a]
            .lease
            .wanted
            .insert(meta.room.clone(), meta.clone());
        self.ask_for(a, meta);
    }

    fn ask_for(&mut self, a: usize, meta: Meta) {
        let Some(id) = self.agents[a].lease.id.filter(|_| self.has_authority(a)) else {
            return;
        };
        let room = meta.room.clone();
        if self.agents[a].lease.under_way.insert(room.clone()) {
            let ask = Ask::Registry(registry::Ask::Claim(id, meta));
            self.ask(a, ask, Called::Claim(room));
        }
    }

    pub(super) fn cede(&mut self, a: usize, room: RoomId) {
        self.agents[a].lease.wanted.remove(&room);
        self.agents[a].lease.under_way.remove(&room);
        self.ask(a, Ask::Registry(registry::Ask::Cede(room)), Called::Other);
    }

    pub(super) fn describe(&mut self, a: usize, meta: Meta) {
        self.ask(a, Ask::Registry(registry::Ask::Describe(meta)), Called::Other);
    }

    pub(super) fn lease_answer(&mut self, a: usize, called: &Called, answer: registry::Answer) {
        if let (Called::Lease(sent), registry::Answer::Granted(id) | registry::Answer::Renewed(id)) =
            (called, &answer)
        {
            let lease = &mut self.agents[a].lease;
            if lease.id.is_none_or(|held| held == *id) {
                lease.id = Some(*id);
                lease.until = lease.until.max(sent + TTL - MARGIN);
            }
            return;
        }
        let run = self.agents[a].run;
        self.registry_says(a, run, answer);
        self.lease_silent(a, called);
    }

    /// No answer: it is asked again when the lease is looked after.
    pub(super) fn lease_silent(&mut self, a: usize, called: &Called) {
        if let Called::Claim(room) = called {
            self.agents[a].lease.under_way.remove(room);
        }
    }

    pub(crate) fn registry_says(&mut self, a: usize, run: u64, answer: registry::Answer) {
        let agent = &mut self.agents[a];
        if agent.run != run || !agent.is_up() {
            return;
        }
        let present = agent.lease.id;
        match answer {
            registry::Answer::Claimed(lease, room, epoch) if present == Some(lease) => {
                // What was given back meanwhile is not wanted any more.
                if agent.lease.wanted.remove(&room).is_some() {
                    self.feed(a, Input::Claimed { room, epoch });
                } else {
                    self.ask(a, Ask::Registry(registry::Ask::Cede(room)), Called::Other);
                }
            }
            registry::Answer::Taken(room, owner) if agent.lease.wanted.remove(&room).is_some() => {
                let (owner, problem) = (Some(node(owner)), "another owns it".into());
                self.feed(a, Input::NotClaimed { room, owner, problem });
            }
            registry::Answer::NoLease(lease) if present == Some(lease) => self.lose_lease(a),
            registry::Answer::Custodian(lease, meta, epoch, lost) if present == Some(lease) => {
                let lost_for = ms(lost);
                self.feed(
                    a,
                    Input::OwnerGone {
                        meta,
                        epoch,
                        lost_for,
                        grace: ms(GRACE),
                    },
                );
            }
            _ => {}
        }
    }
}
