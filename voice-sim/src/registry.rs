//! The registry: leases, owners with epochs that rise with each claim, and custodians for the rooms of lost nodes
//! (DESIGN 5.3).

use crate::Ms;
use std::collections::BTreeMap;
use voice_room::{Epoch, RoomId, command::Meta};

/// A lease lasts so long without renewal.
pub(crate) const TTL: Ms = 30_000;
/// A room without an owner gets a custodian after this long. Shorter than DESIGN's 300 s, so that a run sees it.
pub(crate) const GRACE: Ms = 60_000;

/// What an agent asks.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A new lease.
    Grant,
    /// The lease lives on.
    Renew(u64),
    /// This room, as it is, on this lease.
    Claim(u64, Meta),
    /// It is given back.
    Cede(RoomId),
    /// What became of it.
    Describe(Meta),
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The lease.
    Granted(u64),
    /// It goes on.
    Renewed(u64),
    /// There is no such lease.
    NoLease(u64),
    /// It is this agent's, on this lease.
    Claimed(u64, RoomId, Epoch),
    /// It is that agent's.
    Taken(RoomId, usize),
    /// This agent is custodian.
    Custodian(u64, Meta, Epoch, Ms),
    /// Nothing to say.
    Done,
}

#[derive(Debug, Clone)]
struct Owner {
    agent: usize,
    lease: u64,
    /// Anybody may claim a custodian's room.
    custodian: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    leases: BTreeMap<u64, (usize, Ms)>,
    owners: BTreeMap<RoomId, Owner>,
    metas: BTreeMap<RoomId, Meta>,
    /// Rooms whose owner's lease ended, and when.
    orphans: BTreeMap<RoomId, Ms>,
    revision: u64,
}

impl Registry {
    pub(crate) fn answer(&mut self, now: Ms, agent: usize, ask: &Ask) -> Answer {
        match ask {
            Ask::Grant => {
                self.revision += 1;
                self.leases.insert(self.revision, (agent, now + TTL));
                Answer::Granted(self.revision)
            }
            Ask::Renew(lease) => match self.leases.get_mut(lease) {
                Some((_, end)) => {
                    *end = now + TTL;
                    Answer::Renewed(*lease)
                }
                None => Answer::NoLease(*lease),
            },
            Ask::Claim(lease, meta) => self.claim(agent, *lease, meta),
            Ask::Cede(room) => {
                self.cede(agent, room);
                Answer::Done
            }
            Ask::Describe(meta) => {
                if self.owners.get(&meta.room).is_some_and(|o| o.agent == agent) {
                    self.metas.insert(meta.room.clone(), meta.clone());
                }
                Answer::Done
            }
        }
    }

    fn claim(&mut self, agent: usize, lease: u64, meta: &Meta) -> Answer {
        let room = &meta.room;
        if !self.leases.contains_key(&lease) {
            return Answer::NoLease(lease);
        }
        match self.owners.get(room) {
            Some(owner) if owner.agent != agent && !owner.custodian => {
                Answer::Taken(room.clone(), owner.agent)
            }
            _ => {
                self.metas.insert(room.clone(), meta.clone());
                Answer::Claimed(lease, room.clone(), self.take(agent, lease, room, false))
            }
        }
    }

    fn cede(&mut self, agent: usize, room: &RoomId) {
        if self.owners.get(room).is_some_and(|owner| owner.agent == agent) {
            self.metas.remove(room);
            self.owners.remove(room);
        }
    }

    fn take(&mut self, agent: usize, lease: u64, room: &RoomId, custodian: bool) -> Epoch {
        self.revision += 1;
        let revision = self.revision;
        let epoch = Epoch { era: 0, revision };
        self.orphans.remove(room);
        let owner = Owner {
            agent,
            lease,
            custodian,
        };
        self.owners.insert(room.clone(), owner);
        epoch
    }

    /// Ends leases, and finds a custodian among the agents with one for each room that was without an owner for long.
    pub(crate) fn pass(&mut self, now: Ms) -> Vec<(usize, Answer)> {
        self.leases.retain(|_, (_, end)| *end > now);
        let leases = &self.leases;
        let lost = self.owners.extract_if(.., |_, o| !leases.contains_key(&o.lease));
        let lost: Vec<RoomId> = lost.map(|(room, _)| room).collect();
        for room in lost.into_iter().filter(|room| self.metas.contains_key(room)) {
            self.orphans.insert(room, now);
        }
        let due = self.orphans.iter().filter(|(_, since)| now >= **since + GRACE);
        let due: Vec<(RoomId, Ms)> = due.map(|(room, since)| (room.clone(), *since)).collect();
        let mut custodians = Vec::new();
        for (room, since) in due {
            let survivor = self
                .leases
                .iter()
                .next()
                .map(|(lease, (agent, _))| (*lease, *agent));
            let Some(((lease, agent), meta)) = survivor.zip(self.metas.get(&room).cloned()) else {
                continue;
            };
            let epoch = self.take(agent, lease, &room, true);
            custodians.push((agent, Answer::Custodian(lease, meta, epoch, now - since)));
        }
        custodians
    }
}
