//! Carries out the core's commands, in order. What can fail answers with an input; nothing fails in silence.

use super::{
    Driver,
    clock::now,
    held::{Held, said},
};
use crate::{
    kernel::{self, KernelError},
    store::{Looked, Member, Refresh},
    telemetry::{Counter, counters},
};
use futures::future::join_all;
use std::time::Duration;
use voice_room::{
    Binding, Change, Command, Incarnation, Input, Mono, NodeName, RoomId,
    input::{Intent, StepResult},
    sync::Proposal,
    timeline::{Step, What},
};

/// How long arming waits for the journal. Longer would let a slow disk delay the cut; the intent follows then.
const JOURNAL_WAIT: Duration = Duration::from_millis(20);

/// Trips whose intents were brought to the journal together, and what came of it.
struct Journalled {
    of: Vec<(RoomId, Incarnation)>,
    result: Result<String, String>,
}

/// What came of arming one room.
struct Armed {
    room: RoomId,
    incarnation: Incarnation,
    shadow: bool,
    armed: Result<kernel::Armed, KernelError>,
}

impl Driver {
    /// Carries out everything the core asks for, and what its results ask for in turn.
    pub(super) async fn execute(&mut self) {
        loop {
            let commands = self.core.commands();
            if commands.is_empty() {
                return;
            }
            let Sorted {
                intents,
                kernel,
                pushes,
                rest,
            } = by_urgency(commands);
            let journalled = self.write_intents(intents).await;
            self.forget_intents(&rest).await;
            self.keep_rooms(&rest);
            let armed: Vec<Armed> = kernel.into_iter().filter_map(|c| self.tell_kernel(c)).collect();
            self.tell_journalled(journalled);
            armed.into_iter().for_each(|armed| self.tell_armed(armed));
            for command in pushes.into_iter().chain(rest) {
                self.carry_out(command);
            }
            self.evidence.send(&self.tasks, &self.results);
        }
    }

    /// What the kernel is told. The outcome of an arming is looked at when all of the batch are armed.
    fn tell_kernel(&mut self, command: Command) -> Option<Armed> {
        match command {
            Command::Bind {
                room,
                incarnation,
                binding,
            } => self.bind(room, incarnation, binding),
            Command::Unbind { room } => {
                self.unbound.remove(&room);
                let span = self.traces.child(&room, None, "kernel.unbind");
                self.kernel.unbind(&room);
                if let Some(span) = span {
                    span.end(Ok(()));
                }
            }
            Command::Arm {
                room,
                incarnation,
                shadow,
                deadline,
            } => {
                let armed = self.kernel.arm(&room, incarnation, shadow, deadline);
                return Some(Armed {
                    room,
                    incarnation,
                    shadow,
                    armed,
                });
            }
            Command::Disarm { room } => self.kernel.disarm(&room),
            _ => {} // none of the kernel's
        }
        None
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            // Carried out before, with the others of the batch.
            Command::Journal(_)
            | Command::Forget { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::Arm { .. }
            | Command::Disarm { .. }
            | Command::Keep(_)
            | Command::ForgetRoom { .. } => {}
            Command::PushExpired(expired) => {
                let result = self.sessions.expired(&expired);
                self.step(expired.room, expired.incarnation, Step::Push, None, result);
            }
            Command::PushRestored(update) => self.sessions.restored(&update),
            Command::PushUpdate(update) => self.sessions.update(&update),
            Command::Prepare(proposal) => self.prepare(&proposal),
            Command::Rollback(rollback) => self.sessions.rollback(&rollback),
            Command::Tell { to, update } => self.sessions.tell(&to, &update),
            Command::Commit(change) => self.commit(change),
            Command::Claim(meta) => self.registry.claim(vec![meta]),
            Command::Cede { room } => self.registry.cede(room),
            Command::Describe(meta) => self.registry.describe(meta),
            Command::Degraded { room, reason } => self.registry.degraded(room, reason),
            Command::Refresh(rooms) => self.refresh(rooms),
            Command::TellServed { by, rooms } => self.tell_served(by, rooms),
            Command::Look { room } => self.look(room),
            Command::Members(changes) => self.members(changes),
            Command::Record(entry) => {
                self.tally.take(&entry);
                self.recent.take(&entry);
                self.vitals.take(&entry);
                if let What::Synced(sync) = &entry.what {
                    self.traces.synced(&entry.room, sync);
                }
                if let (Some(snapshots), What::Transition(change)) = (&mut self.snapshots, &entry.what) {
                    snapshots.changed(change);
                }
                self.audit.decided(&entry);
                self.evidence.keep(entry);
            }
            Command::RecordAgain(entry) => self.evidence.keep(entry),
            Command::Note { code, room, detail } => {
                counters::note(code);
                tracing::info!(code, %room, "{detail}");
                self.audit_note(code, &room, &detail);
            }
            Command::KeepMaintenance { notice, reply } => self.keep_maintenance(notice, reply),
            Command::ForgetMaintenance { room, reply } => {
                if reply.is_none() {
                    self.audit_maintenance_over(room.as_ref());
                }
                self.forget_maintenance(room, reply);
            }
            Command::Reply { to, result: Err(why) } if self.maintaining.contains_key(&to) => {
                self.refuse_order(to, why);
            }
            Command::Reply { to, result } => {
                if let Some(waiting) = self.replies.remove(&to) {
                    // Who asked may be gone; the change stands all the same.
                    drop(waiting.send(result));
                }
            }
        }
    }

    /// Journals the intents of all trips of a batch before any of them is armed. What came of it is told afterwards.
    async fn write_intents(&mut self, intents: Vec<Intent>) -> Option<Journalled> {
        if intents.is_empty() {
            return None;
        }
        let of: Vec<(RoomId, Incarnation)> = intents
            .iter()
            .map(|i| (i.change.record.room.clone(), i.change.record.incarnation))
            .collect();
        let written = tokio::time::timeout(JOURNAL_WAIT, self.journal.put_all(intents)).await;
        let result = match written {
            Ok(Ok(())) => Ok("intent written".to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "not written within {} ms; armed without it",
                JOURNAL_WAIT.as_millis()
            )),
        };
        Some(Journalled { of, result })
    }

    fn tell_journalled(&mut self, journalled: Option<Journalled>) {
        let Some(Journalled { of, result }) = journalled else {
            return;
        };
        for (room, incarnation) in of {
            self.step(room, incarnation, Step::Journal, None, result.clone());
        }
    }

    /// Waited for like the writing, so that a forgotten intent can never take a later one with it.
    async fn forget_intents(&mut self, commands: &[Command]) {
        let room = |c: &Command| {
            if let Command::Forget { room } = c {
                Some(room.clone())
            } else {
                None
            }
        };
        let over = commands
            .iter()
            .filter_map(room)
            .map(|room| self.journal.forget(room));
        let forgotten = tokio::time::timeout(JOURNAL_WAIT, join_all(over)).await;
        if !forgotten.is_ok_and(|all| all.iter().all(Result::is_ok)) {
            // Harmless: at the next start the record has moved past it.
            tracing::warn!("the intents of ended trips may stay in the journal");
        }
    }

    pub(super) fn step(
        &mut self,
        room: RoomId,
        incarnation: Incarnation,
        step: Step,
        at: Option<Mono>,
        result: Result<String, String>,
    ) {
        if let Err(problem) = &result {
            tracing::error!(%room, step = step.name(), problem, "a step of a trip failed; it is tried again");
        }
        self.core.handle(
            now(),
            Input::Step(StepResult {
                room,
                incarnation,
                step,
                at,
                result,
            }),
        );
    }

    pub(super) fn bind(&mut self, room: RoomId, incarnation: Incarnation, binding: Binding) {
        let span = self.traces.child(&room, None, "kernel.bind");
        let bound = self.kernel.bind(&room, incarnation, binding.clone());
        if let Some(span) = span {
            match &bound {
                Ok(_) => span.end(Ok(())),
                Err(error) => span.end(Err(&error.to_string())),
            }
        }
        if let Err(error) = bound {
            counters::note("bind_failed");
            tracing::error!(%room, %error, "the room is not bound, or not by all that it should: it may have no witness, and may not be cut");
            self.unbound.insert(room, (incarnation, binding));
        } else {
            self.unbound.remove(&room);
        }
    }

    fn tell_armed(&mut self, armed: Armed) {
        let Armed {
            room,
            incarnation,
            shadow,
            armed,
        } = armed;
        let at = armed.as_ref().ok().map(|a| a.at);
        let result = armed.map(|a| a.reach()).map_err(|error| error.to_string());
        if shadow {
            if let Err(problem) = result {
                tracing::error!(%room, problem, "shadow verdict not armed: would-drops are not counted");
            }
            return;
        }
        self.step(room, incarnation, Step::Arm, at, result);
    }

    /// Who is not reached has gone since it was named, and is not waited for.
    fn prepare(&mut self, proposal: &Proposal) {
        Counter::SyncPrepares.count();
        for peer in self.sessions.prepare(proposal) {
            self.core.handle(now(), Input::PeerGone(peer));
        }
    }

    fn refresh(&self, rooms: Vec<Refresh>) {
        let held = self.held();
        self.answer(async move { Input::Refreshed(held.refresh(rooms).await) });
    }

    /// The only thing that is told without a lease: it is of this host, and changes nothing of what is stored.
    fn tell_served(&self, by: NodeName, rooms: Vec<RoomId>) {
        let store = self.store.clone();
        self.answer(async move { Input::ServedTold(said(store.tell_served(rooms, &by).await)) });
    }

    fn look(&self, room: RoomId) {
        let store = self.store.clone();
        self.answer(async move {
            let stored = store.look(room.clone()).await;
            let looked = match stored {
                Ok(stored) => store
                    .served(room.clone())
                    .await
                    .map(|served| Looked { stored, served }),
                Err(error) => Err(error),
            };
            let result = said(looked);
            Input::Looked { room, result }
        });
    }

    fn members(&self, changes: Vec<Member>) {
        let held = self.held();
        self.answer(async move {
            let told = held.members(changes.clone()).await;
            Input::Members(told.map_err(|problem| (changes, problem)))
        });
    }

    fn held(&self) -> Held {
        Held {
            store: self.store.clone(),
            registry: self.registry.clone(),
        }
    }

    /// Waits for the answer on a task of its own; it comes back as an input.
    fn answer(&self, answer: impl Future<Output = Input> + Send + 'static) {
        let results = self.results.clone();
        self.tasks.spawn(async move {
            // The driver ends only after these tasks.
            drop(results.send(answer.await).await);
        });
    }

    fn commit(&self, change: Change) {
        let (room, op_id) = (change.record.room.clone(), change.record.op_id.clone());
        let timer = self.vitals.commits.start_timer();
        let span = self
            .traces
            .child(&room, change.event.trace_id.as_ref(), "store.commit");
        let (kept, held) = (self.kept.clone(), self.held());
        self.answer(async move {
            if let Some(kept) = kept {
                kept.await;
            }
            let result = held.commit(change).await;
            timer.observe_duration();
            if let Some(span) = span {
                match &result {
                    Ok(committed) => span.about("voice.outcome", committed.name()).end(Ok(())),
                    Err(problem) => span.end(Err(problem)),
                }
            }
            Input::Stored { room, op_id, result }
        });
    }
}

/// Commands by what comes first, each kind in order.
#[derive(Debug, Default, PartialEq)]
struct Sorted {
    intents: Vec<Intent>,
    kernel: Vec<Command>,
    pushes: Vec<Command>,
    rest: Vec<Command>,
}

/// Intents first, then the kernel's commands, then what is pushed, then the rest: in a storm no room's cut waits for what is
/// said about another's.
fn by_urgency(commands: Vec<Command>) -> Sorted {
    let mut sorted = Sorted::default();
    for command in commands {
        match command {
            Command::Journal(intent) => sorted.intents.push(intent),
            Command::Bind { .. } | Command::Unbind { .. } | Command::Arm { .. } | Command::Disarm { .. } => {
                sorted.kernel.push(command);
            }
            Command::PushExpired(_)
            | Command::PushRestored(_)
            | Command::PushUpdate(_)
            | Command::Tell { .. }
            | Command::Prepare(_)
            | Command::Rollback(_) => sorted.pushes.push(command),
            _ => sorted.rest.push(command),
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_storm_every_room_is_cut_before_anything_is_said_about_one() {
        let room = |name| RoomId::new(name).unwrap();
        let arm = |name| Command::Arm {
            room: room(name),
            incarnation: Incarnation(1),
            shadow: false,
            deadline: Mono(1),
        };
        let note = |name| Command::Note {
            code: "a",
            room: room(name),
            detail: String::new(),
        };
        let unbind = || Command::Unbind { room: room("a") };
        let storm = vec![arm("a"), note("a"), unbind(), arm("b"), note("b")];
        let sorted = Sorted {
            kernel: vec![arm("a"), unbind(), arm("b")],
            rest: vec![note("a"), note("b")],
            ..Sorted::default()
        };
        assert_eq!(by_urgency(storm), sorted);
    }
}
