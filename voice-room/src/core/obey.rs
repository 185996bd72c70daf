//! Other numbers while rooms go on: what was decided under the old ones stands, what comes next is judged by the new.

use super::Core;
use crate::{Command, Rules};

impl Core {
    /// Goes on under `rules`. A cut keeps its deadline, whatever they say. A room that shadow mode has spoken of is judged
    /// anew when the mode is another: else one that is stuck already would never be cut in this episode.
    pub(super) fn obey(&mut self, rules: Rules) {
        let before = core::mem::replace(&mut self.rules, rules);
        if before.mode == self.rules.mode {
            return;
        }
        for (id, room) in self.rooms.iter_mut().filter(|(_, room)| room.watch.would_trip) {
            room.watch.would_trip = false;
            self.commands.push_back(Command::Disarm { room: id.clone() });
        }
    }
}
