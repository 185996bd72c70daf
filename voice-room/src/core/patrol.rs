//! What patrol asks of the core: which rooms to look at, how each compares with what was read elsewhere, and repairs. A repair
//! takes the ordinary way: RESTORE under the fence, a word to the registry, what the kernel is told of a binding and a cut.

use super::{Core, request::accepted, room::Room, view::StepState};
use crate::{
    Command, Mono, Now, Rejected, RoomId, Version,
    command::Accepted,
    input::Patrolled,
    patrol::{self, Cut, Difference, Here, Place, Repair, Sights, Watched},
    record::IsolationChange,
    timeline::{Step, What},
};
use alloc::vec::Vec;

impl Core {
    /// The next rooms after this one, by id, at most so many. A life that is over is not looked at.
    pub fn watched(&self, after: Option<&RoomId>, most: usize) -> Vec<Watched> {
        let present = self.rooms.after(after).filter(|(_, room)| room.state().is_some());
        present.take(most).map(|(id, room)| watch(id, room)).collect()
    }

    /// One room, unless its life is over or it is not known.
    pub fn watch(&self, id: &RoomId) -> Option<Watched> {
        let room = self.rooms.get(id).filter(|room| room.state().is_some())?;
        Some(watch(id, room))
    }

    /// What the kernel should have of a room.
    pub fn cut(&self, id: &RoomId) -> Option<Cut> {
        let room = self.rooms.get(id).filter(|room| room.state().is_some())?;
        let trip = room.trip.as_deref();
        let armed = |t: &&super::room::Trip| matches!(t.steps.get(&Step::Arm), Some(StepState::Done(_)));
        let elsewhere = trip.is_some_and(|t| t.change.event.event_type == crate::EventType::OwnerLost);
        Some(Cut {
            incarnation: room.record.incarnation,
            binding: self.binding(id),
            deadline: trip.filter(|_| !elsewhere).map(|t| t.deadline),
            shadow: room.watch.would_trip,
            under_way: trip.is_some() && !elsewhere && trip.filter(armed).is_none(),
            refused: false,
        })
    }

    /// How a room compares with what was read since it was [watched](Core::watched).
    pub fn compare(&self, now: Now, watched: &Watched, cut: Option<&Cut>, there: &Sights) -> Vec<Difference> {
        let id = &watched.room;
        let Some(room) = self.rooms.get(id).filter(|room| room.state().is_some()) else {
            return Vec::new();
        };
        let mut found = match settled(room).filter(|s| watched.settled.as_ref() == Some(s)) {
            Some((_, epoch)) => self.compare_settled(now, room, epoch, there),
            None if room.authority.epoch().is_some() => Vec::new(),
            None => {
                let registry = there.registry.iter();
                registry
                    .flat_map(|there| patrol::claiming(id, &self.node, there))
                    .collect()
            }
        };
        if let (Some(kernel), Some(cut)) = (&there.kernel, cut) {
            found.extend(cut.in_kernel(now.mono, id, kernel.as_ref()));
        }
        found
    }

    fn compare_settled(&self, now: Now, room: &Room, epoch: crate::Epoch, there: &Sights) -> Vec<Difference> {
        let isolation = self
            .isolation(&room.record.room, now)
            .map(|(isolation, _)| isolation);
        let here = Here {
            record: &room.record,
            epoch,
            isolation: isolation.as_ref(),
            shares: self.shares(),
        };
        let store = there
            .store
            .iter()
            .flat_map(|there| here.in_store(now.wall, there));
        let mut found: Vec<Difference> = store.collect();
        if self.claims_rooms() {
            found.extend(
                there
                    .registry
                    .iter()
                    .flat_map(|there| here.in_registry(&self.node, there)),
            );
        }
        found
    }

    /// Takes note of what patrol found, or of a repair.
    pub(super) fn patrolled(&mut self, now: Now, patrolled: Patrolled) {
        match patrolled {
            Patrolled::Differs(room, differs) => self.record(now, &room, What::Differs(differs)),
            Patrolled::Repaired(room, repaired) => self.record(now, &room, What::Repaired(repaired)),
        }
    }

    pub(super) fn repair(&mut self, now: Now, repair: &Repair) {
        let done = match repair.place {
            Place::Store => self.repair_store(now, repair).map(|()| None),
            Place::Registry => self.repair_registry(&repair.room).map(Some),
            Place::Kernel => self.repair_kernel(now.mono, &repair.room).map(Some),
        };
        // What is stored is answered once it is.
        if let (Some(to), Some(result)) = (repair.reply, done.transpose()) {
            self.out(Command::Reply { to, result });
        }
    }

    /// Stores the room as it is here, above every version that is known.
    fn repair_store(&mut self, now: Now, repair: &Repair) -> Result<(), Rejected> {
        let id = &repair.room;
        let there = repair.stored.unwrap_or_default();
        let used = {
            let room = self.held_and_quiet(id)?;
            room.highest.max(room.record.version).max(there)
        };
        if used == Version(u64::MAX) {
            let why = "no version is above the one that is stored: remove the record, it is put back then";
            return Err(Rejected::Conflict(why.into()));
        }
        let isolation = self.isolation(id, now).map(|(isolation, _)| isolation);
        let Some(room) = self.rooms.get_mut(id) else {
            return Err(Rejected::UnknownRoom(id.clone()));
        };
        room.highest = used;
        let (record, state) = (room.record.clone(), room.record.state);
        let mut change = self.restoring(
            now,
            &record,
            state,
            Some(&record),
            "repaired: it was not what is here",
        );
        change.event.actor = repair.actor.clone();
        change.isolation = isolation.map_or(IsolationChange::Clear, IsolationChange::Set);
        self.store_restored(now, id, change, repair.reply);
        Ok(())
    }

    fn repair_registry(&mut self, id: &RoomId) -> Result<Accepted, Rejected> {
        let accepted = accepted(&self.held_and_quiet(id)?.record);
        self.describe(id);
        Ok(accepted)
    }

    /// Tells the kernel once more what the room is bound by, and of its cut with the deadline that it has.
    fn repair_kernel(&mut self, now: Mono, id: &RoomId) -> Result<Accepted, Rejected> {
        let (Some(cut), Some(room)) = (self.cut(id), self.rooms.get(id)) else {
            return Err(Rejected::UnknownRoom(id.clone()));
        };
        let accepted = accepted(&room.record);
        self.tell_ports(id);
        match cut.deadline {
            Some(deadline) if deadline > now => self.arm(id),
            _ if !cut.shadow => self.out(Command::Disarm { room: id.clone() }),
            _ => {}
        }
        Ok(accepted)
    }

    fn held_and_quiet(&self, id: &RoomId) -> Result<&Room, Rejected> {
        let room = self.rooms.get(id).filter(|room| room.state().is_some());
        let room = room.ok_or_else(|| Rejected::UnknownRoom(id.clone()))?;
        Core::not_ceded(room)?;
        match settled(room) {
            Some(_) => Ok(room),
            None => Err(Rejected::Conflict(
                "the room is not held, or a change of it waits for the store: what is on its way comes first"
                    .into(),
            )),
        }
    }
}

fn watch(id: &RoomId, room: &Room) -> Watched {
    Watched {
        room: id.clone(),
        settled: settled(room),
    }
}

/// Held, and nothing waits for the store: then store and registry should have what is here.
fn settled(room: &Room) -> Option<(Version, crate::Epoch)> {
    let epoch = room.authority.epoch()?;
    room.unstored.is_empty().then_some((room.record.version, epoch))
}
