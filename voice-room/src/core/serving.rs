//! What an agent without a lease may still say of its rooms: that their media server serves them. It is the second witness of
//! DESIGN 5.3: a custodian ends no room of which this was said. It is said under no epoch, and changes nothing that is stored.

use super::{Core, room::Room, upkeep::AT_ONCE};
use crate::{Command, Mono, Now, RoomId};
use alloc::{string::String, vec::Vec};

impl Core {
    /// Of each live room that is served and not held, as often as a record is refreshed.
    pub(super) fn tell_served(&mut self, now: Now) {
        if !self.claims_rooms() {
            return;
        }
        let every = self.rules.refresh;
        let due = |room: &Room| {
            room.authority.epoch().is_none()
                && room.record.state.is_live()
                && room.kept.is_none_or(|t| now.mono.since(t) >= every)
                && self.is_served(now.mono, room)
        };
        let due = self.rooms.iter().filter(|(_, room)| due(room));
        let due: Vec<RoomId> = due.map(|(id, _)| id.clone()).collect();
        for some in due.chunks(AT_ONCE) {
            self.refreshing += 1;
            let (by, rooms) = (self.node.clone(), some.to_vec());
            self.out(Command::TellServed { by, rooms });
        }
    }

    pub(super) fn served_told(&mut self, now: Now, answer: Result<Vec<RoomId>, String>) {
        self.refreshing = self.refreshing.saturating_sub(1);
        // What was not told is told with the next sweep.
        for id in answer.into_iter().flatten() {
            if let Some(room) = self.rooms.get_mut(&id).filter(|r| r.authority.epoch().is_none()) {
                room.kept = Some(now.mono);
            }
        }
    }

    /// Its media server says so, or the kernel sees its RTP go both ways. What was heard right after a gap may be as old as the
    /// gap: it waited in a socket for the frozen process.
    fn is_served(&self, now: Mono, room: &Room) -> bool {
        let (heartbeat, window) = (self.rules.heartbeat, self.rules.witness_window);
        let heard = room.heartbeat.is_some_and(|at| {
            now.since(at) < heartbeat * self.rules.misses && at.since(self.awake) >= heartbeat
        });
        let moves = || {
            let seen = room.witness.testimony(now, window, 2 * heartbeat);
            now.since(self.awake) >= window && seen.is_some_and(|t| t.rtp_in > 0 && t.rtp_out > 0)
        };
        heard || moves()
    }
}
