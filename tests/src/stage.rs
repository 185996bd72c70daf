//! The scene of most end-to-end tests: a node with the real agent and one media server, two live rooms with users, a
//! gateway. Methods panic with what did not happen: they are for tests.

use crate::{
    agent::{Agent, Settings},
    callers::Callers,
    clock,
    disk::Disk,
    evidence::{self, Cut},
    netns::Pair,
    peer::{Gateway, MediaRoom, MediaServer},
};
use std::{sync::Arc, time::Duration};
use voice_room::Mono;

/// The room that tests break. Two users of 1,000 packets/s each.
pub const ALPHA: &str = "alpha";
/// The room that must not notice. Two users of 100 packets/s each.
pub const BETA: &str = "beta";
/// Things that happen at once in the agent.
pub const SOON: Duration = Duration::from_secs(5);
/// For what has to be there before a test begins: nothing is shown by it, and other tests run beside.
const SET_UP: Duration = Duration::from_secs(20);
/// A cut ends this close to its deadline.
pub const LIFT_TOLERANCE: Duration = Duration::from_millis(20);
/// A packet stamped by the interface this long before a deadline may be judged after it.
const EDGE: Duration = Duration::from_millis(1);

/// One room with its users.
#[derive(Debug)]
pub struct Party {
    /// The users.
    pub users: Callers,
    /// The media server's side.
    pub room: Arc<MediaRoom>,
}

/// See the file's head. Dropped in this order.
#[derive(Debug)]
pub struct Stage {
    /// [`ALPHA`]
    pub alpha: Party,
    /// [`BETA`]
    pub beta: Party,
    /// Serves both.
    pub server: MediaServer,
    /// Serves both.
    pub gateway: Gateway,
    /// The agent.
    pub agent: Agent,
    /// The two namespaces.
    pub pair: Pair,
    /// As configured.
    pub settings: Settings,
}

impl Stage {
    /// Sets everything up and waits until both rooms are live and carry media both ways.
    pub fn new(settings: Settings) -> Stage {
        let pair = Pair::new().unwrap_or_else(|e| panic!("{e:#}"));
        Stage::on(pair, settings).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The same on a pair of namespaces prepared by the test.
    pub fn on(pair: Pair, settings: Settings) -> anyhow::Result<Stage> {
        let agent = Agent::start(&pair.node, &settings)?;
        Stage::around(agent, pair, settings)
    }

    /// The same with the agent's state on a disk of its own, which the test keeps.
    pub fn on_disk(disk: &mut Disk, settings: Settings) -> anyhow::Result<Stage> {
        let pair = Pair::new()?;
        let agent = Agent::prepare(&pair.node, &settings)?;
        disk.mount(&agent.state_dir())?;
        agent.run()?;
        Stage::around(agent, pair, settings)
    }

    /// The same around an agent that runs.
    pub fn around(agent: Agent, pair: Pair, settings: Settings) -> anyhow::Result<Stage> {
        let gateway = Gateway::start(&pair.node, "gateway-1", &[ALPHA, BETA])?;
        let server = MediaServer::start(&pair.node, "media-1", settings.times.heartbeat)?;
        let party = |name, ports: &[u16], pps| -> anyhow::Result<Party> {
            let room = server.open(&pair.node, name, ports)?;
            let users = Callers::start(&pair.users, &room, pps)?;
            Ok(Party { users, room })
        };
        let stage = Stage {
            alpha: party(ALPHA, &[50000, 50002], 1000)?,
            beta: party(BETA, &[50010, 50012], 100)?,
            server,
            gateway,
            agent,
            pair,
            settings,
        };
        for room in [ALPHA, BETA] {
            stage.wait_state(room, "LIVEING", SET_UP);
            clock::wait_for("the kernel sees RTP both ways", SET_UP, || {
                stage.sees_both_ways(room)
            });
        }
        Ok(stage)
    }

    fn sees_both_ways(&self, room: &str) -> bool {
        let witness = self.agent.room(room).unwrap_or_default()["witness"].clone();
        ["rtp_in_packets", "rtp_out_packets"].map(|k| witness[k].as_u64() > Some(0)) == [true; 2]
    }

    /// How long a stuck room may take to trip: the stuck time, and ticks and heartbeats on busy cores.
    pub fn patience(&self) -> Duration {
        self.settings.times.stuck_after + SOON * 2
    }

    /// Waits for a state.
    pub fn wait_state(&self, room: &str, state: &str, within: Duration) {
        let mut last = String::new();
        let reached = clock::poll(within, || {
            last = self.agent.state(room);
            (last == state).then_some(())
        });
        assert!(
            reached.is_some(),
            "{room} is {last:?} after {within:?}, not {state}"
        );
    }

    /// Waits for the evidence of a cut of the room.
    pub fn wait_cut(&self, room: &str, within: Duration) -> Cut {
        let cut = clock::poll(within, || evidence::cut(&self.agent, room));
        cut.unwrap_or_else(|| panic!("no evidence of a cut of {room} within {within:?}"))
    }

    /// Blocks a room as an operator for `seconds`, and waits for the first drop.
    pub fn block(&self, room: &str, seconds: u32) -> Cut {
        let lasts = format!("{seconds}s");
        let args = ["block", room, "--for", &lasts, "--reason", "a test"];
        self.agent.text(&args).unwrap_or_else(|e| panic!("{e:#}"));
        self.wait_cut(room, SOON)
    }

    /// Waits until alpha's packets arrive again, or do no more.
    pub fn wait_alpha_flows(&self, flows: bool, within: Duration) {
        let what = if flows {
            "alpha's packets arrive"
        } else {
            "alpha's packets arrive no more"
        };
        clock::wait_for(what, within, || {
            let before = self.alpha.room.delivered();
            std::thread::sleep(Duration::from_millis(100));
            (self.alpha.room.delivered() > before) == flows
        });
    }

    /// Alpha was cut from arming until now or the deadline, whichever is earlier: nothing came in, nothing went out.
    pub fn assert_alpha_cut_since(&self, cut: &Cut) {
        let end = edge(cut.deadline).min(clock::now());
        let sent = self.alpha.users.sent_between(cut.armed, end);
        let expected = 1000 * end.since(cut.armed).as_millis() / 1000;
        assert!(
            u128::from(sent) >= expected,
            "only {sent} packets were sent to alpha"
        );
        assert_eq!(
            self.alpha.room.delivered_within(cut.armed, end),
            0,
            "of {sent} packets sent to alpha"
        );
        assert_eq!(self.alpha.users.heard_within(cut.armed, end), 0, "of alpha's mix");
    }

    /// Waits for alpha's first packet after the deadline, which must come at it.
    pub fn assert_alpha_lifts(&self, cut: &Cut) {
        clock::sleep_until(cut.deadline);
        let first = clock::poll(SOON, || self.alpha.room.first_from(edge(cut.deadline)));
        let first = first.unwrap_or_else(|| panic!("alpha's packets did not arrive after the deadline"));
        let late = first.since(cut.deadline);
        assert!(
            late <= LIFT_TOLERANCE,
            "the cut ended {late:?} after its deadline"
        );
        self.assert_alpha_cut_since(cut);
    }

    /// Beta's users end; each of their packets must have arrived.
    pub fn assert_beta_lost_nothing(&mut self) {
        self.beta.assert_lost_nothing();
    }
}

impl Party {
    /// The users end; each of their packets must have arrived.
    pub fn assert_lost_nothing(&mut self) {
        self.users.stop();
        let all = || self.room.delivered() >= self.users.sent();
        clock::poll(Duration::from_secs(1), || all().then_some(()));
        let name = &self.room.name;
        assert_eq!(
            self.room.delivered(),
            self.users.sent(),
            "{name}: delivered and sent"
        );
        assert!(self.users.sent() > 0, "{name}: nobody sent");
    }

    /// The mix ends; each of its packets must have been heard.
    pub fn assert_heard_everything(&self) {
        self.room.set_mixed(false);
        let counts = || (self.users.heard(), self.room.mix_sent());
        let same = |(heard, sent)| heard == sent;
        // A packet may be on its way while the mix ends.
        clock::poll(Duration::from_secs(1), || same(counts()).then_some(()));
        let (heard, sent) = counts();
        let name = &self.room.name;
        assert_eq!(heard, sent, "{name}: heard and mixed");
        assert!(sent > 0, "{name}: nothing was mixed");
    }
}

fn edge(deadline: Mono) -> Mono {
    Mono(
        deadline
            .0
            .saturating_sub(u64::try_from(EDGE.as_nanos()).unwrap_or(0)),
    )
}
