//! One page of rooms, sorted and filtered here: who looks at ten thousand is sent the thirty that fit the screen.

use super::{Driver, clock::now};
use std::{cmp::Reverse, collections::VecDeque};
use voice_room::{
    Entry, Now, RoomId, State, Wall,
    core::{Census, Core, Glance, RoomView},
    timeline::{Rule, What},
};

/// Rooms in one answer, at most.
pub const PAGE: usize = 200;
/// Trips that are remembered.
const TRIPS: usize = 16;

/// What the rooms are sorted by. What needs a look comes first; rooms that are equal in it are in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Cut, held, would be cut, missing heartbeats, not stored; then the others.
    #[default]
    Attention,
    /// The id.
    Room,
    /// The latest change first.
    Since,
    /// The oldest heartbeat first.
    Heartbeat,
    /// The most packets dropped a second first.
    Drops,
    /// The cut that ends next first.
    Left,
    /// The most clients first.
    Clients,
}

impl Sort {
    /// Every one.
    pub const ALL: [Sort; 7] = [
        Sort::Attention,
        Sort::Room,
        Sort::Since,
        Sort::Heartbeat,
        Sort::Drops,
        Sort::Left,
        Sort::Clients,
    ];

    /// Its name on the admin socket.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Attention => "attention",
            Sort::Room => "room",
            Sort::Since => "since",
            Sort::Heartbeat => "heartbeat",
            Sort::Drops => "drops",
            Sort::Left => "left",
            Sort::Clients => "clients",
        }
    }

    /// Smaller comes first.
    fn key(self, glance: &Glance<'_>) -> u64 {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        match self {
            Sort::Attention => attention(glance),
            Sort::Room => 0,
            Sort::Since => u64::MAX - glance.record.since.0,
            Sort::Heartbeat => glance
                .heartbeat_age
                .map_or(u64::MAX, |age| (u64::MAX - 1).saturating_sub(millis(age))),
            Sort::Drops => u64::MAX - u64::from(glance.drop_rate.unwrap_or(0)),
            Sort::Left => glance.blocked_until.map_or(u64::MAX, |until| until.0),
            Sort::Clients => u64::MAX - u64::from(glance.clients),
        }
    }
}

fn attention(glance: &Glance<'_>) -> u64 {
    let worries = [
        glance.blocked_until.is_some(),
        glance.held.is_some(),
        glance.would_trip,
        glance.misses > 0,
        glance.unstored > 0,
    ];
    worries.iter().position(|worry| *worry).unwrap_or(worries.len()) as u64
}

/// Which rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Only {
    /// All.
    #[default]
    All,
    /// Under a cut.
    Blocked,
    /// Stuck, yet not cut.
    Held,
    /// With heartbeats missed.
    Missing,
    /// In this state.
    In(State),
}

impl Only {
    fn takes(self, glance: &Glance<'_>) -> bool {
        match self {
            Only::All => true,
            Only::Blocked => glance.blocked_until.is_some(),
            Only::Held => glance.held.is_some(),
            Only::Missing => glance.misses > 0,
            Only::In(state) => glance.record.state == state,
        }
    }
}

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// By what.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// Which.
    pub only: Only,
    /// A part of the id of the room or of its source, in lower case; empty: any.
    pub matching: String,
    /// How many to leave out first.
    pub offset: usize,
    /// How many, [`PAGE`] at most.
    pub limit: usize,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Top {
    /// All rooms, counted.
    pub census: Census,
    /// The page.
    pub rooms: Vec<RoomView>,
    /// How many rooms were to choose from.
    pub matching: usize,
    /// Since the start, by rule.
    pub trips: Vec<(Rule, u64)>,
    /// The last ones since the start, the latest first.
    pub recent: Vec<Tripped>,
    /// Whether the kill switch is on.
    pub kill_switch: bool,
}

/// A trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tripped {
    /// When.
    pub at: Wall,
    /// Of which room.
    pub room: RoomId,
    /// Why.
    pub rule: Rule,
}

/// The last trips since the start.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Tripped>);

impl Recent {
    pub(super) fn take(&mut self, entry: &Entry) {
        if let What::Trip { rule, .. } = &entry.what {
            self.0.truncate(TRIPS - 1);
            self.0.push_front(Tripped {
                at: entry.at,
                room: entry.room.clone(),
                rule: *rule,
            });
        }
    }
}

impl Driver {
    pub(super) fn top(&self, page: &Page) -> Top {
        let now = now();
        let (rooms, matching) = turn_to(&self.core, page, now);
        Top {
            census: self.core.census(now),
            rooms,
            matching,
            trips: self.tally.trips.iter().map(|(rule, n)| (*rule, *n)).collect(),
            recent: self.recent.0.iter().cloned().collect(),
            kill_switch: self.kernel.kill_switch(),
        }
    }
}

/// The rooms of a page, and of how many they are. Whole views are made of those on the page only.
fn turn_to(core: &Core, page: &Page, now: Now) -> (Vec<RoomView>, usize) {
    let chosen = core
        .glances(now)
        .filter(|g| page.only.takes(g) && named(g, &page.matching));
    let mut rooms: Vec<(u64, &RoomId)> = chosen.map(|g| (page.sort.key(&g), g.room)).collect();
    // Ids come in order, and a stable sort keeps it.
    match page.reverse {
        false => rooms.sort_by_key(|(key, _)| *key),
        true => {
            rooms.reverse();
            rooms.sort_by_key(|(key, _)| Reverse(*key));
        }
    }
    let shown = rooms.iter().skip(page.offset).take(page.limit.min(PAGE));
    let views = shown.filter_map(|(_, room)| core.view(room, now)).collect();
    (views, rooms.len())
}

fn named(glance: &Glance<'_>, part: &str) -> bool {
    let has = |id: &str| id.to_ascii_lowercase().contains(part);
    part.is_empty()
        || has(glance.room.as_str())
        || glance
            .record
            .source
            .as_ref()
            .is_some_and(|source| has(source.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use voice_room::{
        Epoch, Input, Mono, NodeName, Port, Rules, SourceId,
        core::Tenure,
        input::{Ask, Heartbeat, Request, Restored, Served},
    };

    fn at(seconds: u64) -> Now {
        Now {
            mono: Mono(seconds * 1_000_000_000),
            wall: Wall(seconds * 1000),
        }
    }

    fn heartbeat(core: &mut Core, source: &str, rooms: &[&str], seconds: u64) {
        let served = |(i, room): (usize, &&str)| Served {
            room: RoomId::new(room).unwrap(),
            ports: vec![Port(50_000 + u16::try_from(i).unwrap())],
            flows: vec![],
            ssrcs: vec![],
            participants: 2,
            host: None,
        };
        let heartbeat = Heartbeat {
            source: SourceId::new(source).unwrap(),
            rooms: rooms.iter().enumerate().map(served).collect(),
            capacity: None,
        };
        core.handle(at(seconds), Input::Heartbeat(heartbeat));
    }

    /// Rooms a to e: e is cut, c has missed heartbeats, b changed last.
    fn core() -> Core {
        let tenure = Tenure {
            epoch: Some(Epoch { era: 0, revision: 1 }),
            shared: None,
        };
        let node = NodeName::new("media-1").unwrap();
        let mut core = Core::new(node, tenure, Rules::default(), Restored::default(), at(1));
        heartbeat(&mut core, "sfu-1", &["a", "c", "d", "e"], 1);
        for seconds in 2..=18 {
            core.tick(at(seconds));
            if seconds % 5 == 3 {
                heartbeat(&mut core, "sfu-1", &["a", "d", "e"], seconds);
            }
        }
        heartbeat(&mut core, "sfu-2", &["b"], 19);
        let ask = Ask::Block {
            lasts: None,
            reason: "why".into(),
        };
        let block = Request::by_map(RoomId::new("e").unwrap(), ask);
        core.handle(at(20), Input::Request(block));
        core
    }

    fn ids(core: &Core, page: &Page) -> (String, usize) {
        let (rooms, matching) = turn_to(core, page, at(20));
        (rooms.iter().map(|v| v.room.as_str()).collect(), matching)
    }

    fn all() -> Page {
        Page {
            limit: PAGE,
            ..Page::default()
        }
    }

    #[test]
    fn what_needs_a_look_comes_first_and_rooms_alike_are_in_the_order_of_their_ids() {
        let core = core();
        assert_eq!(ids(&core, &all()), ("ecabd".into(), 5));
        let by = |sort, reverse| Page {
            sort,
            reverse,
            ..all()
        };
        assert_eq!(ids(&core, &by(Sort::Attention, true)).0, "dbace");
        assert_eq!(ids(&core, &by(Sort::Room, false)).0, "abcde");
        assert_eq!(ids(&core, &by(Sort::Room, true)).0, "edcba");
        assert_eq!(ids(&core, &by(Sort::Since, false)).0, "ebacd");
        assert_eq!(ids(&core, &by(Sort::Heartbeat, false)).0, "cadeb");
        assert_eq!(ids(&core, &by(Sort::Left, false)).0, "eabcd");
    }

    #[test]
    fn a_page_has_what_was_asked_for_and_says_of_how_many() {
        let core = core();
        let page = |offset, limit| Page {
            sort: Sort::Room,
            offset,
            limit,
            ..Page::default()
        };
        assert_eq!(ids(&core, &page(1, 2)), ("bc".into(), 5));
        assert_eq!(ids(&core, &page(4, 2)), ("e".into(), 5));
        assert_eq!(ids(&core, &page(9, 2)), (String::new(), 5));
        assert_eq!(ids(&core, &page(0, 0)), (String::new(), 5));
        let only = |only, matching: &str| Page {
            only,
            matching: matching.into(),
            ..all()
        };
        assert_eq!(ids(&core, &only(Only::Blocked, "")), ("e".into(), 1));
        assert_eq!(ids(&core, &only(Only::Missing, "")), ("c".into(), 1));
        assert_eq!(ids(&core, &only(Only::In(State::Liveing), "")).1, 4);
        assert_eq!(ids(&core, &only(Only::All, "sfu-2")), ("b".into(), 1));
        assert_eq!(ids(&core, &only(Only::Held, "")), (String::new(), 0));
    }

    #[test]
    fn only_the_last_trips_are_remembered_the_latest_first() {
        let mut recent = Recent::default();
        for i in 0..40 {
            recent.take(&Entry {
                room: RoomId::new(&format!("r{i}")).unwrap(),
                incarnation: voice_room::Incarnation(1),
                at: Wall(i),
                what: What::Trip {
                    rule: Rule::Omitted,
                    evidence: None,
                    until: Wall(0),
                    version: voice_room::Version(1),
                },
            });
        }
        assert_eq!(recent.0.len(), TRIPS);
        assert_eq!(recent.0[0].room.as_str(), "r39");
    }
}
