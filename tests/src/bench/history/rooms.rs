//! Rooms for the history: such as do nothing, and such whose participants send 50 packets a second, with jitter.

use std::collections::BTreeMap;
use voice_common::Count;
use voice_history::{Counters, Health, Snapshot, Tick, Transition};
use voice_room::{Epoch, EventType, Incarnation, OpId, RoomId, State, Version, Wall, timeline::Actor};

/// The first tick.
pub(super) const START: u64 = 1_763_849_000_000;
/// Rooms that are cut in each tick, and the ones of the tick before lifted again.
const CUT: usize = 10;

/// All rooms.
pub(super) struct Rooms {
    rooms: Vec<(RoomId, Snapshot)>,
    moving: bool,
    random: u64,
    tick: u64,
}

/// The id of the n-th.
pub(super) fn room(n: usize) -> anyhow::Result<RoomId> {
    Ok(RoomId::new(&format!("room-{n:05}"))?)
}

impl Rooms {
    pub(super) fn still(count: usize) -> Rooms {
        let rooms = (0..count)
            .filter_map(|n| Some((room(n).ok()?, snapshot())))
            .collect();
        Rooms {
            rooms,
            moving: false,
            random: 88_172_645_463_325_252,
            tick: 0,
        }
    }

    pub(super) fn moving(count: usize) -> Rooms {
        Rooms {
            moving: true,
            ..Rooms::still(count)
        }
    }

    /// A number below `n` (xorshift64).
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    pub(super) fn tick(&mut self) -> Tick {
        let at = Wall(START + self.tick * 5000 + self.below(3));
        let mut transitions = Vec::new();
        if self.moving {
            for n in 0..self.rooms.len() {
                self.move_on(n);
            }
            self.cut(at, &mut transitions);
        }
        self.tick += 1;
        Tick {
            at,
            rooms: self.rooms.iter().cloned().collect(),
            health: BTreeMap::from([("store".into(), Health::Healthy)]),
            transitions,
        }
    }

    /// 50 packets a second in and out, of a codec whose packets differ in size, and a report every few seconds.
    fn move_on(&mut self, n: usize) {
        let (jitter, size, reports) = (self.below(21), self.below(900), self.below(3));
        let age = self.below(2);
        let Some((_, room)) = self.rooms.get_mut(n) else {
            return;
        };
        room.heartbeat_age = Some(7 + u32::try_from(age).unwrap_or(0));
        // Direction by direction: RTP that passed, RTCP that passed.
        for (place, packets, bytes) in [
            (0, 240 + jitter, 172 * (240 + jitter) + size),
            (9, 260 - jitter, 172 * (260 - jitter) + 900 - size),
            (3, reports, reports * 96),
            (12, reports, reports * 112),
        ] {
            if let Some(count) = room.media.0.get_mut(place) {
                *count = Count {
                    packets: count.packets + packets,
                    bytes: count.bytes + bytes,
                };
            }
        }
    }

    fn cut(&mut self, at: Wall, transitions: &mut Vec<Transition>) {
        let count = self.rooms.len();
        for k in 0..CUT {
            for (ticks_ago, from, to) in [
                (0, State::Liveing, State::Expired),
                (1, State::Expired, State::Liveing),
            ] {
                let Some(tick) = self.tick.checked_sub(ticks_ago) else {
                    continue;
                };
                let n = (usize::try_from(tick).unwrap_or(0) * CUT + k) * 7 % count;
                let Some((id, room)) = self.rooms.get_mut(n) else {
                    continue;
                };
                room.version = room.version.next();
                (room.state, room.since) = (to, at);
                transitions.extend(change(id, room, from, at));
            }
        }
    }
}

fn change(id: &RoomId, room: &Snapshot, from: State, at: Wall) -> Option<Transition> {
    Some(Transition {
        room: id.clone(),
        incarnation: room.incarnation,
        event_type: if room.state == State::Expired {
            EventType::Stuck
        } else {
            EventType::Release
        },
        old_state: Some(from),
        new_state: room.state,
        version: room.version,
        epoch: room.epoch,
        op_id: OpId::new("agent/0.3/17").ok()?,
        actor: Actor::Agent,
        reason: "5 heartbeats missed, nothing leaves".into(),
        trace_id: None,
        timestamp: at,
    })
}

fn snapshot() -> Snapshot {
    Snapshot {
        state: State::Liveing,
        since: Wall(START - 60_000),
        incarnation: Incarnation(START - 60_000),
        version: Version(1),
        epoch: Epoch { era: 0, revision: 3 },
        misses: 0,
        heartbeat_age: Some(7),
        members: 12,
        blocked_until: None,
        media: Counters::default(),
    }
}
