//! Desired against actual: every verdict word and every port slot, repaired and counted; and what is shown of it all.

use super::{Kernel, KernelError, KernelStatus, shared::Mark, tables};
use std::{collections::BTreeSet, mem};
use voice_common::{
    ABI_VERSION, Owner, RoomEntry,
    abi::{MODE_SHADOW, UNBOUND},
};
use voice_room::{RoomId, patrol::Worth};

/// Flows and SSRCs compared at one heartbeat, on average.
const MARKS_A_PASS: u32 = 4096;

/// Words that were set right and wait to be told; more are only counted.
const MENDED: usize = 1024;

/// A word of the maps that was not what the agent had written, and was set right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Whose it should be; where it should be nobody's, whose it was.
    pub room: RoomId,
    /// A JSON pointer, as patrol has them: `/kernel/ports/50002`.
    pub path: String,
    /// What it should be, and is now.
    pub wanted: Worth,
    /// What it was.
    pub found: Worth,
}

impl Kernel {
    /// What was set right since last asked.
    pub fn take_mended(&mut self) -> Vec<Mended> {
        mem::take(&mut self.mended)
    }

    fn mend(&mut self, room: Option<RoomId>, path: String, wanted: Worth, found: Worth) {
        if let Some(room) = room.filter(|_| self.mended.len() < MENDED) {
            self.mended.push(Mended {
                room,
                path,
                wanted,
                found,
            });
        }
    }

    /// Ports that lead to another slot than they should: which, to which they should, to which they do.
    pub(super) fn wrong_ports(&self) -> Vec<(u16, u32, u32)> {
        let port = |port: u16| (port, self.slots.owner(port), self.tables.port(port));
        let wrong = |(_, wanted, found): &(u16, u32, u32)| wanted != found;
        (0..=u16::MAX).map(port).filter(wrong).collect()
    }

    /// The room in a slot.
    pub(super) fn room_of(&self, slot: u32) -> Option<RoomId> {
        self.slots.get(slot).map(|s| s.room.clone())
    }

    /// Who a port's slot is for, as a value: a room, nothing, or the bare slot.
    pub(super) fn led_to(&self, slot: u32) -> Worth {
        match self.room_of(slot) {
            Some(room) => Worth::Text(room.to_string()),
            None if slot == UNBOUND => Worth::Nothing,
            None => Worth::Text(format!("slot {slot}")),
        }
    }

    /// Compares desired with actual (verdict words, port slots), repairs, and says in words what was wrong; also what the
    /// attaching thread found wrong in its last checks, and asks it for the next one (new and re-created interfaces
    /// are attached there). Called every heartbeat.
    pub fn reconcile(&mut self) -> Vec<String> {
        let mut lines = self.repair();
        lines.extend(self.worker.take_wrong());
        self.worker.check();
        lines
    }

    /// The part of [`Kernel::reconcile`] that concerns the maps.
    pub(super) fn repair(&mut self) -> Vec<String> {
        self.end_orphans();
        let mut lines = Vec::new();
        for slot in 1..self.tables.slots() {
            lines.extend(self.repair_generation(slot));
            lines.extend(self.repair_verdict(slot));
        }
        let wrong = self.wrong_ports();
        let ports = wrong.len();
        for (port, wanted, found) in wrong {
            self.tables.set_port(port, wanted);
            let room = self.room_of(wanted).or_else(|| self.room_of(found));
            let (wanted, found) = (self.led_to(wanted), self.led_to(found));
            self.mend(room, format!("/kernel/ports/{port}"), wanted, found);
        }
        if ports > 0 {
            lines.push(format!(
                "{ports} ports led to another slot than they should; set right"
            ));
        }
        lines.extend(self.repair_marks());
        self.repairs += lines.len() as u64;
        lines
    }

    /// Flows and SSRCs. Reading all of them takes about 1 µs each, so it is done the less often the more there are.
    fn repair_marks(&mut self) -> Option<String> {
        let (flows, ssrcs) = self.slots.shared.used();
        if self.marks_rest > 0 {
            self.marks_rest -= 1;
            return None;
        }
        self.marks_rest = (flows + ssrcs) / MARKS_A_PASS;
        match self.set_marks_right() {
            Ok(0) => None,
            Ok(n) => Some(format!(
                "{n} flows or SSRCs of shared ports were not as they should be; set right"
            )),
            Err(e) => Some(format!(
                "flows and SSRCs of shared ports could not be set right: {e}"
            )),
        }
    }

    fn set_marks_right(&mut self) -> Result<u32, KernelError> {
        let mut right: BTreeSet<Mark> = BTreeSet::new();
        let mut wrong = 0;
        for (mark, owner) in self.maps.marks.all()? {
            if self.mark_owner(&mark) == Some(owner) {
                right.insert(mark);
            } else if self.slots.shared.owner(&mark).is_none() {
                self.maps.marks.remove(&mark)?;
                wrong += 1;
            }
        }
        let missing = self.slots.shared.iter().map(|(mark, _)| mark);
        let missing: Vec<Mark> = missing.filter(|mark| !right.contains(mark)).collect();
        for mark in missing {
            if let Some(owner) = self.mark_owner(&mark) {
                self.maps.marks.set(mark, owner)?;
                wrong += 1;
            }
        }
        Ok(wrong)
    }

    fn mark_owner(&self, mark: &Mark) -> Option<Owner> {
        let slot = self.slots.shared.owner(mark)?;
        // An orphan has no entry in the table; its words are not touched until its deadline.
        let generation = self.slots.get(slot).map(|s| s.generation);
        let generation = generation.unwrap_or_else(|| self.tables.room(slot).generation);
        Some(Owner { slot, generation })
    }

    /// Flows and SSRCs count only under the generation that their slot was given.
    fn repair_generation(&mut self, slot: u32) -> Option<String> {
        let found = self.tables.room(slot).generation;
        let owner = self.slots.get(slot).filter(|s| s.generation != found)?;
        let (room, given) = (owner.room.clone(), owner.generation);
        self.tables.set_generation(slot, given);
        let line = format!("slot {slot} of room {room} had generation {found}, not {given}; set right");
        let (given, found) = (Worth::Number(given.into()), Worth::Number(found.into()));
        self.mend(Some(room), "/kernel/generation".into(), given, found);
        Some(line)
    }

    /// What is not in force needs no repair, whatever its words say.
    fn repair_verdict(&mut self, slot: u32) -> Option<String> {
        let entry = self.tables.room(slot);
        let now = tables::now();
        let owner = self.slots.get(slot);
        let wanted = owner.and_then(|s| s.verdict).filter(|v| v.deadline > now);
        match (wanted, owner) {
            // Lifted by the CLI: the agent is asked first (`released`).
            (Some(_), Some(s)) if entry.released == s.generation => None,
            (Some(wanted), Some(s)) => {
                if entry.deadline == wanted.deadline.0 && entry.mode == tables::mode(wanted.shadow) {
                    return None;
                }
                let line = format!(
                    "the verdict of room {} was not as it should be; armed again",
                    s.room
                );
                let room = s.room.clone();
                self.tables.arm(slot, wanted.deadline, wanted.shadow);
                if entry.deadline == wanted.deadline.0 {
                    let (wanted, found) = (wanted.shadow, entry.mode == MODE_SHADOW);
                    let path = "/kernel/verdict/shadow".into();
                    self.mend(Some(room), path, Worth::Flag(wanted), Worth::Flag(found));
                } else {
                    self.mend_deadline(Some(room), Worth::Number(wanted.deadline.0), &entry);
                }
                Some(line)
            }
            _ if entry.deadline <= now.0 || self.orphans.contains(&slot) => None,
            (_, owner) => {
                let owner = owner.map(|s| s.room.clone());
                let room = owner
                    .as_ref()
                    .map_or("no room".to_owned(), |room| format!("room {room}"));
                self.tables.disarm(slot);
                self.mend_deadline(owner, Worth::Nothing, &entry);
                Some(format!(
                    "slot {slot} of {room} was armed and should not be; lifted"
                ))
            }
        }
    }

    fn mend_deadline(&mut self, room: Option<RoomId>, wanted: Worth, found: &RoomEntry) {
        let found = match found.deadline {
            0 => Worth::Nothing,
            deadline => Worth::Number(deadline),
        };
        self.mend(room, "/kernel/verdict/deadline".into(), wanted, found);
    }

    /// Slots of unknown rooms whose deadline has come are free.
    fn end_orphans(&mut self) {
        let now = tables::now();
        let over = |slot: &u32| self.tables.room(*slot).deadline <= now.0;
        let ended: Vec<u32> = self.orphans.iter().copied().filter(over).collect();
        for slot in ended {
            self.orphans.remove(&slot);
            if let Err(e) = self.claim(slot, &BTreeSet::new(), &BTreeSet::new()) {
                tracing::warn!(slot, error = %e, "flows or SSRCs of an ended block could not be removed");
            }
            self.slots.vacate(slot);
        }
    }

    /// For `kernel status`.
    pub fn status(&self) -> KernelStatus {
        let now = tables::now();
        let in_force = (1..self.tables.slots()).filter(|slot| self.tables.room(*slot).deadline > now.0);
        let (passed_by_reason, lost_events) = self.maps.hooks.by_reason().unwrap_or_else(|e| {
            tracing::warn!("kernel status is incomplete: {e}");
            Default::default()
        });
        let seen = self.worker.seen();
        let (flows, ssrcs) = self.slots.shared.used();
        KernelStatus {
            pin_dir: self.pin_dir.display().to_string(),
            abi_version: ABI_VERSION,
            kill_switch: self.kill_switch(),
            interfaces: seen.interfaces.clone(),
            slots_used: self.slots.used(),
            slots_max: self.tables.slots() - 1,
            ports_bound: u32::try_from(self.slots.claimed()).unwrap_or(u32::MAX),
            flows_bound: flows,
            ssrcs_bound: ssrcs,
            armed: u32::try_from(in_force.count()).unwrap_or(u32::MAX),
            passed_by_reason,
            lost_events,
            repairs: self.repairs + seen.repairs,
        }
    }
}
