//! Isolation always refuses: no peer lets a client into a room of whose isolation it took note, until it is over or was
//! released; and no store takes a change that makes an isolated room live, but the release.

use super::{Invariant, Seen};
use crate::Ms;
use std::collections::BTreeMap;
use voice_room::{EventType, Mono, RoomId};

/// Clocks differ by so much at most: an agent may think an isolation over that the store keeps for a moment.
const CLOCKS: Ms = 4_000;

#[derive(Default)]
pub(super) struct IsolationRefuses {
    until: BTreeMap<(usize, RoomId), Mono>,
}

impl Invariant for IsolationRefuses {
    fn see(&mut self, now: Ms, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Isolated(p, room, until) => {
                let held = self.until.entry((*p, (*room).clone())).or_default();
                *held = (*held).max(*until);
            }
            Seen::Released(p, room) => drop(self.until.remove(&(*p, (*room).clone()))),
            // Live again: its owner has released it.
            Seen::Took(p, room, _, state) if state.state.is_live() => {
                self.until.remove(&(*p, (*room).clone()));
            }
            Seen::PeerDied(p) => self.until.retain(|(peer, _), _| peer != p),
            Seen::Knocked(p, room, at, true) => {
                let until = self.until.get(&(*p, (*room).clone()));
                if let Some(until) = until.filter(|until| *until > at) {
                    return Err(format!(
                        "peer {p} lets a client into {room:?} at {at:?}, isolated until {until:?}"
                    ));
                }
            }
            Seen::Stored(change, Some(until)) if *until > now + CLOCKS => {
                let begins = matches!(
                    change.event.event_type,
                    EventType::Create | EventType::Adopt | EventType::StartLive | EventType::HostReturn
                );
                if begins {
                    return Err(format!("isolated until {until}, yet at {now}: {change:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
