//! The only place where core and adapters meet: event → core → command → adapter → result event.
//!
//! One loop on a thread of its own. It waits for nothing but its queue, its clock and the journal of trips' intents (20 ms
//! at most a batch to write them, and as long to forget them); what may block runs elsewhere and answers with an input.

mod audit;
mod clock;
mod evidence;
mod execute;
mod figures;
pub mod handle;
mod held;
mod keep;
mod kill_switch;
mod maintenance;
mod patrol;
mod query;
mod recover;
mod reload;
mod sample;
mod snapshot;
mod start;
pub mod top;
mod vitals;

pub use figures::{Figures, Tally};
pub use handle::{Handle, JoinAnswer, Message, Query, Stopped};
pub use maintenance::NotMaintained;
pub use recover::Recovery;
pub use start::run;
pub use vitals::{ALIVE_WITHIN, ModeInForce, Phase, Vitals};

use crate::{
    kernel::Kernel,
    registry::Registry,
    relay::Hearing,
    session::Sessions,
    store::{Refreshed, RoomStore, journal::JournalHandle},
    supervisor::Supervisor,
    telemetry::{Counter, audit::Audit, traces::Traces},
    tiers::{Dependency, Tiers},
};
pub(crate) use clock::now;
use evidence::Evidence;
use kill_switch::KillSwitch;
use patrol::Patrol;
use snapshot::Snapshots;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use voice_room::{
    Binding, Core, Incarnation, Input, Mono, Rejected, RoomId,
    command::Accepted,
    input::{Ask, ReplyId},
    tier::Outcome,
};

/// Messages taken from the queue before the clock is looked at again.
const BUDGET: usize = 256;

/// Results of commands that may wait for the driver. Each room has at most one change under way, so this is never full
/// for long; who sends waits.
const RESULTS: usize = 4096;

/// Core and adapters, and what is under way between them.
struct Driver {
    core: Core,
    kernel: Kernel,
    sessions: Sessions,
    store: Arc<dyn RoomStore>,
    registry: Registry,
    kept: Option<keep::Kept>,
    /// Of a shared store: whether what others store there is heard of.
    hearing: Option<Hearing>,
    recovery: Recovery,
    journal: JournalHandle,
    evidence: Evidence,
    kill_switch: KillSwitch,
    heartbeat: Duration,
    mode: ModeInForce,
    sampled: Mono,
    /// When the counters were read last.
    counted: Mono,
    replies: BTreeMap<ReplyId, oneshot::Sender<Result<Accepted, Rejected>>>,
    /// Who waits for maintenance to be kept or forgotten.
    maintaining: BTreeMap<ReplyId, oneshot::Sender<Result<(), NotMaintained>>>,
    last_reply: u64,
    /// Bindings the kernel refused, tried again each heartbeat until they hold or the room ends.
    unbound: BTreeMap<RoomId, (Incarnation, Binding)>,
    results: mpsc::Sender<Input>,
    tasks: TaskTracker,
    /// Whether the store answered when last asked.
    store_answers: bool,
    tally: Tally,
    recent: top::Recent,
    vitals: Vitals,
    supervisor: Supervisor,
    tiers: Tiers,
    traces: Traces,
    audit: Audit,
    /// `None`: none are taken.
    snapshots: Option<Snapshots>,
    patrol: Patrol,
}

/// What the driver is woken by.
enum Turn {
    Tick,
    Result(Input),
    Slice(patrol::Slice),
    Drops,
    Message(Message),
    End,
}

impl Driver {
    async fn drive(
        &mut self,
        mut messages: mpsc::Receiver<Message>,
        mut results: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) {
        let mut tick =
            interval((self.heartbeat / 5).clamp(Duration::from_millis(50), Duration::from_secs(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drops = match self.kernel.drops_fd() {
            Ok(fd) => fd,
            Err(error) => return tracing::error!(%error, "cannot wait for the kernel's first-drop events"),
        };
        let mut slices = self.patrol.listen();
        self.audit_start();
        // What is switched off stays off while cuts are armed again.
        self.follow_kill_switch();
        self.execute().await;
        self.let_others_go();
        loop {
            let turn = tokio::select! {
                biased;
                () = shutdown.cancelled() => Turn::End,
                _ = tick.tick() => Turn::Tick,
                Some(result) = results.recv() => Turn::Result(result),
                ready = drops.readable() => {
                    if let Ok(mut ready) = ready { ready.clear_ready(); }
                    Turn::Drops
                }
                message = messages.recv() => message.map_or(Turn::End, Turn::Message),
                // Last: it is in no hurry.
                Some(slice) = slices.recv() => Turn::Slice(slice),
            };
            let begun = now().mono;
            match turn {
                Turn::End => break,
                Turn::Tick => {
                    self.tick();
                    // A trip waits for nothing that is in the queue.
                    self.execute().await;
                }
                Turn::Result(result) => self.take(result),
                Turn::Slice(slice) => self.slice(slice),
                Turn::Drops => self.first_drops(),
                Turn::Message(message) => self.message(message),
            }
            self.drain(&mut messages, &mut results);
            self.execute().await;
            self.vitals.turned(now().mono, begun);
        }
        self.finish(results).await;
    }

    /// Takes what is waiting already, so that a storm is one batch.
    fn drain(&mut self, messages: &mut mpsc::Receiver<Message>, results: &mut mpsc::Receiver<Input>) {
        for _ in 0..BUDGET {
            let Ok(result) = results.try_recv() else { break };
            self.take(result);
        }
        for _ in 0..BUDGET {
            let Ok(message) = messages.try_recv() else { break };
            self.message(message);
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Fact(input) => self.take(input),
            Message::Request(mut request, waiting) => {
                if matches!(request.ask, Ask::Release { .. }) {
                    self.read_counters_before_lift();
                }
                request.reply = Some(self.expect_reply(waiting));
                self.take(Input::Request(request));
            }
            Message::Client(mut fact, waiting) => {
                fact.reply = Some(self.expect_reply(waiting));
                self.take(Input::Client(fact));
            }
            Message::Query(query) => self.query(query),
        }
    }

    fn expect_reply(&mut self, waiting: oneshot::Sender<Result<Accepted, Rejected>>) -> ReplyId {
        let id = self.next_reply();
        self.replies.insert(id, waiting);
        id
    }

    fn next_reply(&mut self) -> ReplyId {
        self.last_reply += 1;
        ReplyId(self.last_reply)
    }

    fn take(&mut self, input: Input) {
        match &input {
            Input::Stored { result, .. } => {
                self.store_answers = result.is_ok();
                if result.is_ok() {
                    self.tiers.call(Dependency::Redis, Outcome::Answered);
                }
            }
            Input::Heartbeat(_) => self.tiers.heartbeat(self.heartbeat),
            Input::Refreshed(answer) => {
                self.store_answers = answer.is_ok();
                tell_of_lost(answer);
            }
            _ => {}
        }
        self.core.handle(now(), input);
    }

    fn tick(&mut self) {
        self.vitals.ticked(now().mono);
        self.supervisor.ticked(now().mono);
        self.follow_kill_switch();
        let due = now().mono.since(self.sampled) >= self.heartbeat;
        if due {
            self.sample();
        }
        if self.core.lifts_by(now().mono) {
            self.read_counters_before_lift();
        }
        self.core.tick(now());
        self.snapshot();
        self.patrol();
        self.evidence.send_again(&self.tasks, &self.results);
    }

    /// SIGTERM: blocks stay in force in the kernel; what is under way is brought to the disk, for at most five seconds.
    async fn finish(&mut self, mut results: mpsc::Receiver<Input>) {
        tracing::info!("stopping; blocks stay in force until their deadlines");
        self.tasks.close();
        let limit = tokio::time::sleep(Duration::from_secs(5));
        tokio::pin!(limit);
        loop {
            tokio::select! {
                () = &mut limit => { tracing::warn!("not everything was stored within 5 s of stopping"); break }
                Some(result) = results.recv() => { self.take(result); self.execute().await; }
                () = self.tasks.wait() => break,
            }
        }
        if let Err(error) = self.evidence.flush().await {
            tracing::warn!(%error, "the last evidence was not written");
        }
        self.audit_stop();
    }
}

/// Tells once a batch what a store has lost, as one that came back empty has; the core puts it back.
fn tell_of_lost(answer: &Result<Vec<(RoomId, Refreshed)>, String>) {
    let all = answer.as_deref().unwrap_or_default();
    let lost = all
        .iter()
        .filter(|(_, stored)| *stored == Refreshed::Missing)
        .count();
    if lost > 0 {
        Counter::StoreLostRecords.add(lost);
        tracing::warn!(
            lost,
            asked = all.len(),
            "the store does not hold rooms that it had taken, as one that came back empty: they are put back"
        );
    }
}
