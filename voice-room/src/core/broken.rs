//! What the end of a peer's stream leaves behind: its members go, and its rooms count as degraded for a while.
//!
//! It is no leave: the host keeps the time that a silent host has, and signalling was last seen when it was.

use super::{Core, room::Room};
use crate::{Command, Mono, Now, RoomId, input::BrokenStream, record::Member};
use alloc::{boxed::Box, string::String};
use core::time::Duration;

/// How long a room counts as degraded; the same as its status in the registry lasts.
pub const DEGRADED_FOR: Duration = Duration::from_secs(60);

/// Why a room is degraded, until when.
#[derive(Debug)]
pub(crate) struct Degraded {
    pub(crate) until: Mono,
    pub(crate) reason: String,
}

impl Core {
    pub(super) fn stream_broke(&mut self, now: Now, broken: BrokenStream) {
        for (id, client) in broken.members {
            let Some(room) = self.rooms.get_mut(&id) else {
                continue;
            };
            // Who was heard of since is there, through another stream.
            if room.clients.get(&client).is_some_and(|seen| *seen <= broken.at) {
                room.clients.remove(&client);
                self.member(Member {
                    room: id,
                    client,
                    joined: false,
                });
            }
        }
        for id in &broken.rooms {
            self.degrade(now, id, &broken.why);
        }
        // Not left to the next tick: at the end of the agent there is none.
        self.tell_members();
    }

    fn degrade(&mut self, now: Now, id: &RoomId, why: &str) {
        let Some(room) = self.rooms.get_mut(id).filter(|r| r.state().is_some()) else {
            return;
        };
        room.degraded = Some(Box::new(Degraded {
            until: now.mono + DEGRADED_FOR,
            reason: why.into(),
        }));
        if room.authority.epoch().is_some() {
            self.out(Command::Degraded {
                room: id.clone(),
                reason: why.into(),
            });
        }
    }
}

impl Room {
    /// Why it is degraded now.
    pub(crate) fn degraded(&self, now: Mono) -> Option<&str> {
        let degraded = self.degraded.as_deref().filter(|d| d.until > now)?;
        Some(&degraded.reason)
    }
}
