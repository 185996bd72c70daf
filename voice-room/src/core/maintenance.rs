//! Maintenance: an operator's word that a room, or every room, may look stuck for a while. Nothing trips meanwhile.

use super::{Core, room::Room};
use crate::{
    Command, Mono, Now, Rejected, RoomId, Wall,
    input::{Order, ReplyId},
    record::Maintenance,
    timeline::{Actor, What},
};
use alloc::{borrow::ToOwned, collections::BTreeMap, format, vec::Vec};
use core::time::Duration;

/// Longest maintenance: one that is forgotten must not switch the cut off for good.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Rooms that may be under maintenance of their own.
pub const ROOMS: usize = 10_000;

/// What is in force, by room; `None` is every room.
pub(super) type InForce = BTreeMap<Option<RoomId>, Kept>;

#[derive(Debug)]
pub(super) struct Kept {
    deadline: Mono,
    notice: Maintenance,
}

impl Core {
    /// Whether an order would be taken.
    ///
    /// # Errors
    /// It lasts too long or no time, has no reason, or too many rooms are under maintenance.
    pub fn may_maintain(&self, now: Now, order: &Order) -> Result<(), Rejected> {
        let Some(until) = order.until else {
            return Ok(());
        };
        let lasts = until.since(now.mono);
        if lasts.is_zero() || lasts > LONGEST {
            let hours = LONGEST.as_secs() / 3600;
            return Err(Rejected::Forbidden(format!(
                "maintenance for {} s: allowed is more than nothing and at most {hours} h",
                lasts.as_secs()
            )));
        }
        if order.reason.trim().is_empty() {
            return Err(Rejected::Forbidden("maintenance needs a reason".into()));
        }
        let another = order.room.is_some() && !self.maintenance.contains_key(&order.room);
        if another && self.maintenance.keys().flatten().count() >= ROOMS {
            return Err(Rejected::Limit(format!(
                "{ROOMS} rooms are under maintenance; end some, or put all rooms under it"
            )));
        }
        Ok(())
    }

    /// Everything in force, that of every room first.
    pub fn maintenance(&self, now: Now) -> Vec<Maintenance> {
        let lasting = self.maintenance.values().filter(|m| m.deadline > now.mono);
        lasting.map(|m| m.notice.clone()).collect()
    }

    /// What this room is under: its own, else that of every room.
    pub(super) fn maintained(&self, now: Now, id: &RoomId) -> Option<&Maintenance> {
        let of = |key: &Option<RoomId>| self.maintenance.get(key).filter(|m| m.deadline > now.mono);
        of(&Some(id.clone())).or_else(|| of(&None)).map(|m| &m.notice)
    }

    pub(super) fn maintain(&mut self, now: Now, order: Order, reply: Option<ReplyId>) {
        if let Err(rejected) = self.may_maintain(now, &order) {
            if let Some(to) = reply {
                let result = Err(rejected);
                self.out(Command::Reply { to, result });
            }
            return;
        }
        let Order {
            room,
            until,
            reason,
            actor,
        } = order;
        let Some(deadline) = until else {
            self.maintenance.remove(&room);
            self.out(Command::ForgetMaintenance {
                room: room.clone(),
                reply,
            });
            return self.tell(now, room, None, &reason, &actor);
        };
        let notice = Maintenance {
            room: room.clone(),
            reason: reason.clone(),
            actor: actor.clone(),
            since: now.wall,
            until: now.wall + deadline.since(now.mono),
        };
        let until = notice.until;
        let kept = Kept {
            deadline,
            notice: notice.clone(),
        };
        self.maintenance.insert(room.clone(), kept);
        self.out(Command::KeepMaintenance { notice, reply });
        self.tell(now, room, Some(until), &reason, &actor);
    }

    /// In the timeline of each room it is about.
    fn tell(&mut self, now: Now, of: Option<RoomId>, until: Option<Wall>, reason: &str, actor: &Actor) {
        let every_room = of.is_none();
        let present = |(id, room): (&RoomId, &Room)| room.state().is_some().then(|| id.clone());
        let about = match of {
            Some(room) => [room].into(),
            None => self.rooms.iter().filter_map(present).collect::<Vec<_>>(),
        };
        for id in about {
            let (reason, actor) = (reason.to_owned(), actor.clone());
            let what = What::Maintenance {
                until,
                every_room,
                reason,
                actor,
            };
            self.record(now, &id, what);
        }
    }

    /// A room that came to be after every room was put under maintenance has no word of it yet.
    pub(super) fn tell_of_maintenance(&mut self, now: Now, id: &RoomId) {
        let Some(notice) = self.maintained(now, id).cloned() else {
            return;
        };
        let later = |r: &Room| r.record.since > notice.since;
        if notice.room.is_none() && self.rooms.get(id).is_some_and(later) {
            let what = What::Maintenance {
                until: Some(notice.until),
                every_room: true,
                reason: notice.reason,
                actor: notice.actor,
            };
            self.record(now, id, what);
        }
    }

    /// Forgets what is over.
    pub(super) fn end_maintenance(&mut self, now: Now) {
        let over = self.maintenance.iter().filter(|(_, m)| m.deadline <= now.mono);
        let over: Vec<Option<RoomId>> = over.map(|(room, _)| room.clone()).collect();
        for room in over {
            self.maintenance.remove(&room);
            self.out(Command::ForgetMaintenance {
                room: room.clone(),
                reply: None,
            });
            self.tell(now, room, None, "its time is over", &Actor::Agent);
        }
    }

    /// What the journal holds goes on for what is left of it, and never for longer than it was made for: the wall
    /// clock may have been set.
    pub(super) fn restore_maintenance(&mut self, now: Now, found: Vec<Maintenance>) {
        for notice in found {
            let whole = notice.until.since(notice.since).min(LONGEST);
            let deadline = now.mono + notice.until.since(now.wall).min(whole);
            self.maintenance
                .insert(notice.room.clone(), Kept { deadline, notice });
        }
        self.end_maintenance(now);
    }
}
