//! The maps `FLOWS` and `SSRCS`, written by syscalls.

use super::{KernelError, error, shared::Mark};
use aya::maps::{HashMap, MapData};
use std::collections::{BTreeMap, BTreeSet};
use voice_common::{FlowKey, Owner, SsrcKey};

/// Both maps.
#[derive(Debug)]
pub struct Marks {
    flows: HashMap<MapData, FlowKey, Owner>,
    ssrcs: HashMap<MapData, SsrcKey, Owner>,
}

impl Marks {
    pub(super) fn new(
        flows: HashMap<MapData, FlowKey, Owner>,
        ssrcs: HashMap<MapData, SsrcKey, Owner>,
    ) -> Self {
        Marks { flows, ssrcs }
    }

    /// Whose flow it is, by the map.
    pub fn flow(&self, key: &FlowKey) -> Option<Owner> {
        self.flows.get(key, 0).ok()
    }

    /// Whose SSRC it is, by the map.
    pub fn ssrc(&self, key: &SsrcKey) -> Option<Owner> {
        self.ssrcs.get(key, 0).ok()
    }

    /// Makes a flow a room's.
    pub fn set_flow(&mut self, key: FlowKey, owner: Owner) -> Result<(), KernelError> {
        let written = self.flows.insert(key, owner, 0);
        written.map_err(|e| KernelError::map("FLOWS", &e))
    }

    /// Makes an SSRC a room's.
    pub fn set_ssrc(&mut self, key: SsrcKey, owner: Owner) -> Result<(), KernelError> {
        let written = self.ssrcs.insert(key, owner, 0);
        written.map_err(|e| KernelError::map("SSRCS", &e))
    }

    pub(super) fn set(&mut self, mark: Mark, owner: Owner) -> Result<(), KernelError> {
        match mark {
            Mark::Flow(key) => self.set_flow(key, owner),
            Mark::Ssrc(key) => self.set_ssrc(key, owner),
        }
    }

    /// Removes a mark; one that is not there is removed.
    pub(super) fn remove(&mut self, mark: &Mark) -> Result<(), KernelError> {
        let (map, removed) = match mark {
            Mark::Flow(key) => ("FLOWS", self.flows.remove(key)),
            Mark::Ssrc(key) => ("SSRCS", self.ssrcs.remove(key)),
        };
        match removed {
            Err(e) if error::errno(&e) != Some(libc::ENOENT) => Err(KernelError::map(map, &e)),
            _ => Ok(()),
        }
    }

    /// What is there, by the use of a slot it is for. What is for no present use is removed by the first repair.
    pub(super) fn by_owner(&self) -> Result<BTreeMap<Owner, BTreeSet<Mark>>, KernelError> {
        let mut marks: BTreeMap<Owner, BTreeSet<Mark>> = BTreeMap::new();
        for (mark, owner) in self.all()? {
            marks.entry(owner).or_default().insert(mark);
        }
        Ok(marks)
    }

    /// Every mark that is there, with its owner.
    pub(super) fn all(&self) -> Result<Vec<(Mark, Owner)>, KernelError> {
        let flows = self.flows.iter().map(|f| {
            let (key, owner) = f.map_err(|e| KernelError::map("FLOWS", &e))?;
            Ok((Mark::Flow(key), owner))
        });
        let ssrcs = self.ssrcs.iter().map(|s| {
            let (key, owner) = s.map_err(|e| KernelError::map("SSRCS", &e))?;
            Ok((Mark::Ssrc(key), owner))
        });
        flows.chain(ssrcs).collect()
    }
}
