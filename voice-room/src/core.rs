//! The one concrete core: takes inputs, keeps the rooms of this node, emits commands.
//!
//! `handle` and `tick` only dispatch; each subject has a file of its own.

pub mod authority;
pub mod broken;
mod cap;
mod census;
mod change;
mod clients;
mod counts;
mod custody;
mod few;
mod glance;
mod guard;
mod heard;
mod heartbeat;
mod judge;
pub mod maintenance;
mod obey;
mod patrol;
mod ports;
mod request;
mod restore;
mod room;
mod rooms;
mod serving;
mod stored;
mod sync;
mod tell;
mod told;
mod trip;
mod upkeep;
pub mod view;
mod witness;

use crate::{
    Command, Input, Isolation, Mono, NodeName, Now, RoomId, Rules, SourceId, State, Wall, input::Restored,
    record::Member, timeline::Progress,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};
pub use authority::{Authority, Tenure};
pub use census::Census;
use core::time::Duration;
pub use glance::Glance;
use room::{Moment, Room};
use rooms::Rooms;
pub use view::{BlockView, RoomView, StepState};

/// A destroyed room is remembered this long: late messages of its life are then told apart from a new one. The same as
/// the shared record's expiry (DESIGN 5.2).
const TOMBSTONE: Duration = Duration::from_secs(300);

/// The rooms of this node.
#[derive(Debug)]
pub struct Core {
    node: NodeName,
    tenure: Tenure,
    rules: Rules,
    rooms: Rooms,
    counts: counts::Counts,
    isolations: BTreeMap<RoomId, Isolated>,
    sources: BTreeMap<SourceId, Source>,
    claims: ports::Claims,
    told: told::Told,
    maintenance: maintenance::InForce,
    cap: cap::Cap,
    killed: bool,
    /// Progress that every room shares: agent start, a gap in our ticks, a media session we refused.
    progress: Moment,
    /// Since when there was no gap in our ticks.
    awake: Mono,
    last_tick: Mono,
    last_sweep: Mono,
    ops: u64,
    /// Rooms of lost nodes, while the store is asked about them.
    custody: BTreeMap<RoomId, custody::Custody>,
    /// Questions to refresh, and what is told of served rooms, that the store has not answered.
    refreshing: usize,
    /// Rooms about whose next change others are asked, or which wait for that.
    syncs: BTreeMap<RoomId, sync::Line>,
    /// Rooms whose state is to be told to all who serve them, once it is certain.
    announced: BTreeSet<RoomId>,
    /// Rooms the store is asked about for peers here, and who of them waits.
    asked: BTreeMap<RoomId, tell::Waiting>,
    /// Who joined and left, not yet told to the store.
    members: VecDeque<Member>,
    /// Whether the store is being told of members.
    telling: bool,
    commands: VecDeque<Command>,
    /// Trips of which the kernel alone is told so far.
    untold: Vec<trip::Untold>,
}

#[derive(Debug, Clone)]
struct Isolated {
    reason: String,
    until: Wall,
    deadline: Mono,
    /// Of a room that is another's: it is cut here, and who may join is not ours to say.
    here_only: bool,
}

/// A media server or adapter.
#[derive(Debug)]
struct Source {
    last_answer: Mono,
    lost: bool,
    capacity: Option<u32>,
    /// Whether a socket was ever seen on one of its ports, and whether one was when last looked.
    sockets: Option<Sockets>,
}

#[derive(Debug, Clone, Copy)]
struct Sockets {
    open: bool,
    at: Mono,
}

impl Core {
    /// A core that comes to own its rooms as `tenure` says, with what a start found. Agent start counts as progress of every
    /// room.
    pub fn new(node: NodeName, tenure: impl Into<Tenure>, rules: Rules, found: Restored, now: Now) -> Core {
        let mut core = Core {
            node,
            tenure: tenure.into(),
            rules,
            rooms: Rooms::default(),
            counts: counts::Counts::default(),
            isolations: BTreeMap::new(),
            sources: BTreeMap::new(),
            claims: ports::Claims::new(),
            told: told::Told::new(),
            maintenance: maintenance::InForce::new(),
            cap: cap::Cap::default(),
            killed: false,
            progress: (now.mono, Progress::AgentStart),
            awake: now.mono,
            last_tick: now.mono,
            last_sweep: now.mono,
            ops: 0,
            custody: BTreeMap::new(),
            refreshing: 0,
            syncs: BTreeMap::new(),
            announced: BTreeSet::new(),
            asked: BTreeMap::new(),
            members: VecDeque::new(),
            telling: false,
            commands: VecDeque::new(),
            untold: Vec::new(),
        };
        core.restore(now, found);
        core.counts = core.recount();
        core
    }

    /// Takes one input. Collect the commands with [`Core::commands`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.tell_of_trips();
        self.notice_gap(now);
        let about = input.room().cloned();
        match input {
            Input::Request(request) => self.request(now, &request),
            Input::Client(fact) => self.client(now, &fact),
            Input::Heartbeat(heartbeat) => self.heartbeat(now, &heartbeat),
            Input::SourceLost(source) => self.source_lost(&source),
            Input::Traffic(traffic) => self.traffic(now, traffic),
            Input::Sockets(open) => self.sockets(now.mono, &open),
            Input::Step(result) => self.step(now, result),
            Input::Stored { room, op_id, result } => self.stored(now, &room, &op_id, result),
            Input::StreamBroke(broken) => self.stream_broke(now, broken),
            Input::Acked { room, peer, version } => self.acked(&room, peer, version),
            Input::FirstDrop {
                room,
                deadline,
                ingress,
                at,
            } => self.first_drop(now, &room, deadline, ingress, at),
            Input::MediaRefused => self.progress = (now.mono, Progress::MediaRefused),
            Input::HeartbeatRefused(source) => self.heartbeat_refused(now, &source),
            Input::Maintenance(order, reply) => self.maintain(now, order, reply),
            Input::KillSwitch(on) => self.killed = on,
            Input::Rules(rules) => self.obey(*rules),
            Input::Patrolled(patrolled) => self.patrolled(now, patrolled),
            Input::Repair(repair) => self.repair(now, &repair),
            Input::Claimed { room, epoch } => self.claimed(now, &room, epoch),
            Input::NotClaimed { room, owner, problem } => self.not_claimed(now, &room, owner, problem),
            Input::LeaseLost => self.lease_lost(),
            Input::OwnerGone {
                meta,
                epoch,
                lost_for,
                grace,
            } => self.owner_gone(now, meta, epoch, lost_for, grace),
            Input::Refreshed(answer) => self.refreshed(now, answer),
            Input::ServedTold(answer) => self.served_told(now, answer),
            Input::Looked { room, result } => self.looked(now, &room, result),
            Input::Heard(event, isolation) => self.heard(now, &event, isolation),
            Input::Isolations(all) => self.isolations_read(now, all),
            Input::Members(answer) => self.members_told(answer),
            Input::Vote {
                room,
                peer,
                attempt,
                vote,
            } => self.vote(now, &room, peer, attempt, vote),
            Input::CommitAcked {
                room,
                peer,
                epoch,
                version,
            } => self.commit_acked(now, &room, peer, epoch, version),
            Input::PeerGone(peer) => self.peer_gone(now, &peer),
            Input::Known { peer, rooms } => self.known(&peer, &rooms),
        }
        self.settle(now, about.as_ref());
    }

    /// Judges every room. Call it every second, or more often; a gap longer than two heartbeats counts as ours (a
    /// frozen process, a suspended machine), not the rooms'.
    pub fn tick(&mut self, now: Now) {
        self.tell_of_trips();
        self.notice_gap(now);
        self.last_tick = now.mono;
        debug_assert_eq!(
            self.counts,
            self.recount(),
            "a change of a room that was not counted"
        );
        self.end_isolations(now);
        self.end_maintenance(now);
        self.retry(now);
        self.record_acked(now);
        self.watch_hosts(now);
        self.judge(now);
        self.time_syncs(now);
        self.settle(now, None);
        self.tell_announced(now);
        self.tell_members();
        if now.mono.since(self.last_sweep) >= self.rules.heartbeat {
            self.last_sweep = now.mono;
            self.sweep(now);
            self.refresh(now);
            self.look_again(now);
            self.ask_the_store_again(now);
        }
    }

    /// Also before each input: what comes first after a gap must not be judged on what was seen before it.
    fn notice_gap(&mut self, now: Now) {
        if now.mono.since(self.last_tick) > 2 * self.rules.heartbeat {
            self.progress = (now.mono, Progress::TickGap);
            self.awake = now.mono;
        }
    }

    /// What is to be done now, in order; ask again until there is nothing. What the kernel must know of trips comes by itself,
    /// before what others are told of them.
    pub fn commands(&mut self) -> Vec<Command> {
        if self.commands.is_empty() {
            self.tell_of_trips();
        }
        core::mem::take(&mut self.commands).into()
    }

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        if self.commands.is_empty() {
            self.tell_of_trips();
        }
        self.commands.pop_front()
    }

    /// The isolation of a room, while it lasts: why, until when, and how long that is from now.
    pub fn isolation(&self, room: &RoomId, now: Now) -> Option<(Isolation, Duration)> {
        let i = self
            .isolations
            .get(room)
            .filter(|i| i.deadline > now.mono && !i.here_only)?;
        let isolation = Isolation {
            room: room.clone(),
            reason: i.reason.clone(),
            until: i.until,
        };
        Some((isolation, i.deadline.since(now.mono)))
    }

    /// Every isolation that lasts.
    pub fn isolations(&self, now: Now) -> Vec<Isolation> {
        self.isolations
            .keys()
            .filter_map(|room| Some(self.isolation(room, now)?.0))
            .collect()
    }

    /// Whether the next tick at or after `mono` ends an isolation.
    pub fn lifts_by(&self, mono: Mono) -> bool {
        self.isolations.values().any(|i| i.deadline <= mono)
    }

    /// Whether this room, or the end of its last life, is remembered.
    pub fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// Rooms in each state that are held in memory.
    pub fn count(&self, state: State) -> usize {
        self.rooms.values().filter(|r| r.record.state == state).count()
    }

    fn out(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    fn note(&mut self, code: &'static str, room: &RoomId, detail: impl Into<String>) {
        self.out(Command::Note {
            code,
            room: room.clone(),
            detail: detail.into(),
        });
    }

    /// So long after the end of a life a listing may still speak of it.
    fn settling(&self) -> Duration {
        2 * self.rules.heartbeat
    }

    fn live(&self) -> u32 {
        self.counts.live
    }

    /// Forgets what has served: silent clients, destroyed rooms, lost sources.
    fn sweep(&mut self, now: Now) {
        let idle = self.rules.idle;
        let shares = self.shares();
        let mut silent: Vec<Member> = Vec::new();
        for (id, room) in &mut self.rooms {
            room.clients.retain(|client, seen| {
                let signals = now.mono.since(*seen) < idle;
                if shares && !signals {
                    silent.push(Member {
                        room: id.clone(),
                        client: client.clone(),
                        joined: false,
                    });
                }
                signals
            });
        }
        for member in silent {
            self.member(member);
        }
        let over = |room: &Room| room.record.state == State::Destroyed && room.unstored.is_empty();
        let tombstones = self.rooms.values().filter(|r| over(r)).count();
        let crowded = tombstones > usize::try_from(self.rules.quota).unwrap_or(usize::MAX);
        // In a storm of short lives memory counts for more: only what `adopt` asks for is kept.
        let kept = if crowded { self.settling() } else { TOMBSTONE };
        let mut forgotten: Vec<RoomId> = Vec::new();
        self.rooms.retain(|id, room| {
            let stays = !over(room) || now.mono.since(room.progress.0) < kept;
            if shares && !stays {
                forgotten.push(id.clone());
            }
            stays
        });
        self.commands
            .extend(forgotten.into_iter().map(|room| Command::ForgetRoom { room }));
        let used: BTreeSet<&SourceId> = self
            .rooms
            .values()
            .filter_map(|r| r.record.source.as_ref())
            .collect();
        self.sources
            .retain(|id, source| !source.lost || used.contains(id));
    }
}
