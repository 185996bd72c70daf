//! Patrol's looks: the driver collects what the places hold of its rooms, a slice at a time, and has the core compare. Store and
//! registry are asked on a task; the maps are read here, with nothing in between. What it costs is bounded: one look at a time,
//! one slice under way.

use super::{Driver, clock::now};
use crate::{
    kernel::sight::Stray,
    patrol::{Diffs, Found, LastRound, PatrolFigures, grouped},
    registry::Registry,
    store::RoomStore,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use voice_room::{
    Input, Mono, RoomId,
    input::Patrolled,
    patrol::{
        Class, Difference, Ended, Place, RegistrySight, Repair, Right, Round, Rounds, Sights, StoreSight,
        Watched,
    },
    timeline::{Actor, Apart, Differs, Repaired},
};

/// Rooms of one slice: the driver is busy with it for a millisecond or two.
const SLICE: usize = 256;
/// Looks that are asked for at one time; who asks for more is refused.
const ASKED: usize = 8;

/// What the driver keeps of patrol.
pub(super) struct Patrol {
    every: Duration,
    /// When the last round began.
    begun: Mono,
    rounds: Rounds,
    running: Option<Look>,
    waiting: VecDeque<Look>,
    slices: Option<mpsc::Sender<Slice>>,
    last: Option<LastRound>,
    repairs: BTreeMap<(Place, bool), u64>,
}

/// One walk over the rooms.
struct Look {
    /// Who waits for it; `None`: a round.
    to: Option<oneshot::Sender<Diffs>>,
    /// One room only.
    only: Option<RoomId>,
    begun: Mono,
    after: Option<RoomId>,
    round: Round,
    /// The longest that the driver was busy with a slice.
    longest: Duration,
}

/// Rooms, and what store and registry hold of them; a place that was not asked is `None`.
pub(super) struct Slice {
    rooms: Vec<Watched>,
    store: Option<Result<BTreeMap<RoomId, StoreSight>, String>>,
    registry: Option<Result<BTreeMap<RoomId, RegistrySight>, String>>,
}

impl Patrol {
    pub(super) fn new(every: Duration) -> Patrol {
        Patrol {
            every,
            begun: now().mono,
            rounds: Rounds::default(),
            running: None,
            waiting: VecDeque::new(),
            slices: None,
            last: None,
            repairs: BTreeMap::new(),
        }
    }

    /// What was read, for the driver's loop. At most one slice is under way.
    pub(super) fn listen(&mut self) -> mpsc::Receiver<Slice> {
        let (to, slices) = mpsc::channel(1);
        self.slices = Some(to);
        slices
    }

    pub(super) fn figures(&self) -> PatrolFigures {
        PatrolFigures {
            differences: self.rounds.counts(),
            repairs: self.repairs.clone(),
            last: self.last.clone(),
            age: self.last.as_ref().map(|last| now().wall.since(last.ended)),
        }
    }

    fn look(to: Option<oneshot::Sender<Diffs>>, only: Option<RoomId>) -> Look {
        Look {
            to,
            only,
            begun: now().mono,
            after: None,
            round: Round::default(),
            longest: Duration::ZERO,
        }
    }
}

impl Driver {
    /// At each tick: begins a round when one is due.
    pub(super) fn patrol(&mut self) {
        let due = now().mono.since(self.patrol.begun) >= self.patrol.every;
        let runs = |look: &Look| look.to.is_none();
        let busy = self.patrol.running.iter().chain(&self.patrol.waiting).any(runs);
        if due && !busy {
            self.patrol.begun = now().mono;
            self.patrol.waiting.push_back(Patrol::look(None, None));
        }
        self.next_look();
    }

    /// Looks at every room, or at one, for somebody who asks. Too many at once: the answer never comes.
    pub(super) fn diff(&mut self, only: Option<RoomId>, to: oneshot::Sender<Diffs>) {
        if self.patrol.waiting.len() < ASKED {
            self.patrol.waiting.push_back(Patrol::look(Some(to), only));
            self.next_look();
        }
    }

    /// Repairs a room in one place, as somebody decided.
    pub(super) fn repair(&mut self, repair: Repair) {
        let in_kernel = repair.place == Place::Kernel;
        self.take(Input::Repair(repair));
        if in_kernel {
            // Words and marks that the core knows nothing of are compared now, and not with a later heartbeat.
            self.kernel.look_at_marks();
            self.sampled = Mono(0);
        }
    }

    fn next_look(&mut self) {
        if self.patrol.running.is_none()
            && let Some(mut look) = self.patrol.waiting.pop_front()
        {
            look.begun = now().mono;
            self.patrol.running = Some(look);
            self.next_slice();
        }
    }

    /// Asks store and registry of the next rooms; without any, the look is at its end.
    fn next_slice(&mut self) {
        let Some(look) = &self.patrol.running else { return };
        let rooms = match (&look.only, &look.after) {
            (Some(room), None) => self.core.watch(room).into_iter().collect(),
            (Some(_), Some(_)) => Vec::new(),
            (None, after) => self.core.watched(after.as_ref(), SLICE),
        };
        let Some(to) = self.patrol.slices.clone().filter(|_| !rooms.is_empty()) else {
            return self.end_look();
        };
        // One that did not answer is not waited for again.
        let asks = |place| !look.round.unknown.contains_key(&place);
        let store = asks(Place::Store).then(|| self.store.clone());
        let registry = asks(Place::Registry).then(|| self.registry.clone());
        self.tasks.spawn(async move {
            let (store, registry) = tokio::join!(in_store(store, &rooms), in_registry(registry, &rooms));
            let slice = Slice {
                rooms,
                store,
                registry,
            };
            // The driver ends only after this task, or does not care any more.
            drop(to.send(slice).await);
        });
    }

    /// Compares a slice with what the rooms are now, and goes on.
    pub(super) fn slice(&mut self, slice: Slice) {
        let begun = now().mono;
        let Some(mut look) = self.patrol.running.take() else {
            return;
        };
        let Slice {
            rooms,
            store,
            registry,
        } = slice;
        let mut store = known(store, Place::Store, &mut look.round);
        let mut registry = known(registry, Place::Registry, &mut look.round);
        for watched in &rooms {
            let mut cut = self.core.cut(&watched.room);
            let mut there = Sights {
                store: store.remove(&watched.room),
                registry: registry.remove(&watched.room),
                kernel: None,
            };
            if let Some(cut) = &mut cut {
                cut.refused = self.unbound.contains_key(&watched.room);
                match self.kernel.sight(&watched.room, &cut.binding) {
                    Ok(sight) => there.kernel = Some(sight),
                    Err(error) => look.round.unknown(Place::Kernel, error.to_string()),
                }
            }
            let found = self.core.compare(now(), watched, cut.as_ref(), &there);
            look.round.rooms += 1;
            look.round.unsettled += usize::from(!watched.is_settled());
            look.round.take(found);
        }
        look.after = rooms.last().map(|watched| watched.room.clone());
        look.longest = look.longest.max(now().mono.since(begun));
        self.patrol.running = Some(look);
        self.next_slice();
    }

    fn end_look(&mut self) {
        let Some(mut look) = self.patrol.running.take() else {
            return;
        };
        let took = now().mono.since(look.begun);
        match look.to.take() {
            Some(to) => {
                let strays = self.kernel.strays();
                look.round.take(missing(&look, strays));
                // Who asked may be gone.
                drop(to.send(self.answer_diff(look.round, took)));
            }
            None => self.end_round(&look, took),
        }
        self.next_look();
    }

    fn answer_diff(&self, round: Round, took: Duration) -> Diffs {
        let found = round.found.into_iter().map(|difference| {
            let standing = self.patrol.rounds.standing(&difference);
            Found {
                rounds: standing.map_or(0, |standing| standing.rounds),
                since: standing.map(|standing| standing.since),
                difference,
            }
        });
        Diffs {
            found: found.collect(),
            rooms: round.rooms,
            unsettled: round.unsettled,
            left_out: round.left_out,
            unknown: round.unknown,
            took,
            last: self.patrol.last.clone(),
        }
    }

    fn end_round(&mut self, look: &Look, took: Duration) {
        let Ended {
            new,
            repair,
            repaired,
        } = self.patrol.rounds.end(now().wall, &look.round);
        for (place, problem) in &look.round.unknown {
            tracing::warn!(%place, problem, "patrol could not look there");
        }
        for ((room, place), found) in grouped(new) {
            tracing::warn!(%room, %place, paths = ?found.iter().map(|d| &d.path).collect::<Vec<_>>(), "differs, by two rounds of patrol");
            self.take(Input::Patrolled(Patrolled::Differs(
                room,
                Box::new(differs(place, &found)),
            )));
        }
        let gone: Vec<Difference> = repaired
            .iter()
            .filter(|(_, gone)| *gone)
            .map(|(d, _)| d.clone())
            .collect();
        let stays: Vec<Difference> = repaired
            .into_iter()
            .filter(|(_, gone)| !gone)
            .map(|(d, _)| d)
            .collect();
        self.tell_repaired(gone, &Actor::Agent, &Ok("gone by the next round".into()));
        self.tell_repaired(
            stays,
            &Actor::Agent,
            &Err("it still stands in the next round; tried again".into()),
        );
        for (room, place) in grouped(repair).into_keys() {
            self.repair(Repair {
                room,
                place,
                stored: None,
                actor: Actor::Agent,
                reply: None,
            });
        }
        self.patrol.last = Some(LastRound {
            ended: now().wall,
            took,
            rooms: look.round.rooms,
            longest_slice: look.longest,
            unknown: look.round.unknown.clone(),
            left_out: look.round.left_out,
        });
    }

    /// Takes note of repairs, of each room and place one.
    pub(super) fn tell_repaired(
        &mut self,
        fields: Vec<Difference>,
        actor: &Actor,
        result: &Result<String, String>,
    ) {
        for ((room, place), fields) in grouped(fields) {
            *self.patrol.repairs.entry((place, result.is_ok())).or_default() += 1;
            let repaired = Repaired {
                place,
                fields: fields.into_iter().map(apart).collect(),
                actor: actor.clone(),
                result: result.clone(),
            };
            self.take(Input::Patrolled(Patrolled::Repaired(room, Box::new(repaired))));
        }
    }
}

async fn in_store(
    store: Option<Arc<dyn RoomStore>>,
    rooms: &[Watched],
) -> Option<Result<BTreeMap<RoomId, StoreSight>, String>> {
    let settled = rooms.iter().filter(|watched| watched.is_settled());
    let asked = settled.map(|watched| watched.room.clone()).collect();
    let seen = store?.survey(asked).await;
    Some(
        seen.map(|seen| seen.into_iter().collect())
            .map_err(|error| error.to_string()),
    )
}

async fn in_registry(
    registry: Option<Registry>,
    rooms: &[Watched],
) -> Option<Result<BTreeMap<RoomId, RegistrySight>, String>> {
    let asked: Vec<RoomId> = rooms.iter().map(|watched| watched.room.clone()).collect();
    match registry?.look(asked.clone()).await {
        Ok(seen) => Some(Ok(asked.into_iter().zip(seen?).collect())),
        Err(problem) => Some(Err(problem)),
    }
}

/// What was read; a place that did not answer is said to be unknown.
fn known<T>(
    read: Option<Result<BTreeMap<RoomId, T>, String>>,
    place: Place,
    round: &mut Round,
) -> BTreeMap<RoomId, T> {
    match read {
        Some(Ok(seen)) => seen,
        Some(Err(problem)) => {
            round.unknown(place, problem);
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    }
}

/// Ports that lead elsewhere, of the rooms that were looked at, as far as the comparison has not found them.
fn missing(look: &Look, strays: Vec<Stray>) -> Vec<Difference> {
    let asked = |stray: &Stray| look.only.as_ref().is_none_or(|room| *room == stray.room);
    let strays = strays.into_iter().filter(asked).map(|stray| Difference {
        room: stray.room,
        place: Place::Kernel,
        path: format!("/kernel/ports/{}", stray.port),
        here: stray.wanted,
        there: stray.found,
        right: Right::Here,
        class: Class::Repairable,
        why: "every heartbeat sets it right".into(),
    });
    let found = |stray: &Difference| {
        let same = |d: &Difference| (&d.room, &d.path) == (&stray.room, &stray.path);
        look.round.found.iter().any(same)
    };
    strays.filter(|stray| !found(stray)).collect()
}

fn differs(place: Place, found: &[Difference]) -> Differs {
    let worst = found.iter().max_by_key(|difference| difference.class);
    Differs {
        place,
        class: worst.map_or(Class::Transient, |difference| difference.class),
        why: worst.map_or_else(String::new, |difference| difference.why.clone()),
        fields: found.iter().cloned().map(apart).collect(),
    }
}

fn apart(difference: Difference) -> Apart {
    Apart {
        path: difference.path,
        here: difference.here,
        there: difference.there,
    }
}
