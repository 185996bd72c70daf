//! The story, in order: two live rooms, one gets stuck, is cut, its users are refused, and the cut ends by itself.

use super::{
    Args, Report,
    report::{Healthy, Lifted, Rejoin, Stuck, milliseconds},
    screen::{Screen, Who},
    watch::Watch,
    world::{JanusWorld, Simulated, Which, World},
};
use crate::{
    agent::{Agent, Settings},
    clock,
    evidence::{self, Cut},
    interrupt,
    peer::Gateway,
};
use anyhow::bail;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use voice_room::Mono;

const REFRESH: Duration = Duration::from_millis(200);
/// How long the demo shows the rooms well before, and the stuck one flowing again afterwards.
const LOOK: Duration = Duration::from_secs(3);
/// A packet stamped by the interface this long before the deadline may be judged after it.
const EDGE: Duration = Duration::from_millis(1);

/// Tells it, and returns what was measured. Everything made on the way is gone afterwards.
pub(super) fn tell(args: &Args) -> anyhow::Result<Report> {
    let mut screen = Screen::new();
    let report = set_up(args, &mut screen).and_then(|mut story| {
        let report = story.tell();
        if args.keep {
            story
                .screen
                .event(Who::Demo, "kept", &story.agent.dir().display().to_string());
        }
        report
    });
    screen.end();
    report
}

/// Fields are dropped in this order: peers and users before the agent, the agent before its namespace.
struct Story<'a> {
    screen: &'a mut Screen,
    args: Args,
    watch: Watch,
    gateway: Gateway,
    agent: Arc<Agent>,
    world: Box<dyn World>,
    rates: Rates,
}

fn set_up<'a>(args: &Args, screen: &'a mut Screen) -> anyhow::Result<Story<'a>> {
    let times = args.times();
    let seconds = |d: Duration| humantime::format_duration(d).to_string();
    screen.event(
        Who::Demo,
        "set-up",
        &format!(
            "{} times: heartbeat {}, stuck after {}, cut for {}",
            if args.real_times { "real" } else { "shortened" },
            seconds(times.heartbeat),
            seconds(times.stuck_after),
            seconds(times.isolation)
        ),
    );
    let mut world: Box<dyn World> = if args.janus {
        Box::new(JanusWorld::new(times)?)
    } else {
        Box::new(Simulated::new(times)?)
    };
    screen.event(Who::Demo, "set-up", &world.scene());
    interrupt::check()?;
    let mut agent = Agent::start(world.node(), &world.settings(Settings::new(times)))?;
    if args.keep {
        agent.keep_files();
    }
    let agent = Arc::new(agent);
    screen.event(
        Who::Demo,
        "set-up",
        &format!("voice-agent runs as pid {}", agent.pid()?),
    );
    world.begin()?;
    screen.event(
        Who::Demo,
        "now",
        "in lines of this name: each room's state, packets sent -> packets delivered",
    );
    let rooms = [world.room(Which::Stuck), world.room(Which::Healthy)];
    let gateway = Gateway::start(world.node(), "gateway-1", &rooms)?;
    screen.event(
        Who::Gateway,
        "gateway",
        "gateway-1 is on the session stream and serves both rooms",
    );
    Ok(Story {
        watch: Watch::start(agent.clone()),
        rates: Rates::default(),
        screen,
        args: *args,
        gateway,
        agent,
        world,
    })
}

impl Story<'_> {
    fn tell(&mut self) -> anyhow::Result<Report> {
        self.both_live()?;
        self.stuck()?;
        let cut = self.trip()?;
        let expired = self.expired(&cut)?;
        let rejoin = self.rejoin()?;
        self.explain()?;
        let lifted = self.lift(&cut)?;
        self.look(LOOK)?;
        self.world.end();
        let (sent, delivered) = self.world.healthy();
        let end = Mono(cut.deadline.0 - nanoseconds(EDGE));
        let report = Report {
            stuck: Stuck {
                sent_after_trip: self.world.sent_within(cut.armed, end),
                delivered_after_trip: self.world.delivered_within(cut.armed, end),
            },
            healthy: Healthy { sent, delivered },
            trip_to_first_drop_us: cut.first_drop_us,
            state_expired_ms: expired,
            rejoin,
            lifted,
        };
        self.verdict(&report)?;
        Ok(report)
    }

    fn both_live(&mut self) -> anyhow::Result<()> {
        self.wait("both rooms LIVEING", Duration::from_secs(20), |s| {
            let live = |which| s.watch.state(s.world.room(which)) == "LIVEING";
            (live(Which::Stuck) && live(Which::Healthy)).then_some(())
        })?;
        for which in [Which::Stuck, Which::Healthy] {
            let room = self.world.room(which).to_owned();
            let ports = self.watch.room(&room)["ports"].to_string();
            self.screen
                .event(Who::Good, "room", &format!("{room} is LIVEING on ports {ports}"));
        }
        self.look(LOOK)
    }

    fn stuck(&mut self) -> anyhow::Result<()> {
        let room = self.stuck_room();
        let done = self.world.break_stuck()?;
        self.screen.event(Who::Bad, "failure", &format!("{room}: {done}"));
        let patience = self.args.times().stuck_after * 2;
        self.wait("a heartbeat missed", patience, |s| {
            (s.watch.misses(&room) >= 3).then_some(())
        })?;
        let state = self.watch.state(&room);
        self.screen.event(
            Who::Bad,
            "warning",
            &format!("{room}: 3 heartbeats missed in a row, still {state}"),
        );
        Ok(())
    }

    /// Waits for the trip and takes its times from the kernel.
    fn trip(&mut self) -> anyhow::Result<Cut> {
        let room = self.stuck_room();
        let patience = self.args.times().stuck_after * 2 + Duration::from_secs(20);
        self.wait("EXPIRED", patience, |s| {
            (s.watch.state(&room) == "EXPIRED").then_some(())
        })?;
        let agent = self.agent.clone();
        let cut = self.wait("the evidence of the first drop", Duration::from_secs(5), |_| {
            evidence::cut(&agent, &room)
        })?;
        let seconds = cut.deadline.since(cut.armed).as_secs_f64();
        self.screen.event(
            Who::Bad,
            "TRIP",
            &format!("{room}: {} -> EXPIRED ({})", cut.old_state, cut.rule),
        );
        self.screen.event(
            Who::Kernel,
            "kernel",
            &format!(
                "cut armed for {seconds:.3} s; first packet dropped after {} us",
                cut.first_drop_us
            ),
        );
        Ok(cut)
    }

    /// STATE_EXPIRED at the gateway: milliseconds after arming.
    fn expired(&mut self, cut: &Cut) -> anyhow::Result<f64> {
        let room = self.stuck_room();
        let (at, message) = self.wait("STATE_EXPIRED at the gateway", Duration::from_secs(5), |s| {
            s.gateway.expired(&room).into_iter().next()
        })?;
        let ms = milliseconds(i128::from(at.0) - i128::from(cut.armed.0));
        self.screen.event(
            Who::Gateway,
            "gateway",
            &format!(
                "STATE_EXPIRED {room} after {ms} ms, version {}: {}",
                message.version, message.reason
            ),
        );
        Ok(ms)
    }

    fn rejoin(&mut self) -> anyhow::Result<Rejoin> {
        let room = self.stuck_room();
        let answer = self.gateway.check_join(&room)?;
        let rejoin = Rejoin {
            refused: !answer.allowed,
            retry_after_s: answer.retry_after_ms.div_ceil(1000),
        };
        let text = if rejoin.refused {
            format!(
                "a client rejoins {room}: refused, retry after {} s: {}",
                rejoin.retry_after_s, answer.reason
            )
        } else {
            format!("a client rejoins {room}: ALLOWED")
        };
        self.screen.event(Who::Gateway, "rejoin", &text);
        Ok(rejoin)
    }

    fn explain(&mut self) -> anyhow::Result<()> {
        let room = self.stuck_room();
        let told = self.agent.text(&["explain", &room])?;
        self.screen
            .event(Who::Demo, "explain", &format!("$ voice-agent explain {room}"));
        self.screen.quote(&told);
        Ok(())
    }

    /// Waits for the deadline and for the first packet that gets through.
    fn lift(&mut self, cut: &Cut) -> anyhow::Result<Lifted> {
        self.look(cut.deadline.since(clock::now()))?;
        let edge = Mono(cut.deadline.0 - nanoseconds(EDGE));
        let first = self.wait(
            "a packet of the stuck room after the deadline",
            Duration::from_secs(10),
            |s| s.world.first_from(edge),
        )?;
        // Where packets are rare, the first one that could get through comes some time after the deadline.
        let next = self.world.first_sent_from(cut.deadline);
        let due = next.filter(|sent| *sent <= first).unwrap_or(cut.deadline);
        let lifted = Lifted::from_error_ns(i128::from(first.0) - i128::from(due.0));
        self.screen.event(
            Who::Kernel,
            "kernel",
            &format!(
                "the cut ended by itself, {} ms after its deadline",
                lifted.error_ms
            ),
        );
        Ok(lifted)
    }

    fn verdict(&mut self, report: &Report) -> anyhow::Result<()> {
        let problems = report.problems(self.args.times().isolation);
        if !problems.is_empty() {
            bail!(
                "the demo did not show what it should:\n  {}",
                problems.join("\n  ")
            );
        }
        let (stuck, healthy) = (&report.stuck, &report.healthy);
        let (room, other) = (self.stuck_room(), self.world.room(Which::Healthy).to_owned());
        self.screen.event(
            Who::Good,
            "result",
            &format!(
                "{room}: {} of {} packets delivered during the cut; {other}: {} of {} over the whole run",
                stuck.delivered_after_trip, stuck.sent_after_trip, healthy.delivered, healthy.sent
            ),
        );
        Ok(())
    }

    fn stuck_room(&self) -> String {
        self.world.room(Which::Stuck).to_owned()
    }

    /// Lets time pass on the screen.
    fn look(&mut self, lasts: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            self.refresh()?;
            thread::sleep(REFRESH.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits until `f` answers, for at most `within`.
    fn wait<T>(&mut self, what: &str, within: Duration, f: impl Fn(&Self) -> Option<T>) -> anyhow::Result<T> {
        let end = Instant::now() + within;
        loop {
            if let Some(answer) = f(self) {
                return Ok(answer);
            }
            if Instant::now() > end {
                bail!(
                    "did not happen within {within:?}: {what}\nthe agent's log:\n{}",
                    self.agent.log()
                );
            }
            self.refresh()?;
            thread::sleep(REFRESH / 4);
        }
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        interrupt::check()?;
        if !self.rates.due() {
            return Ok(());
        }
        let counts = [Which::Stuck, Which::Healthy].map(|w| self.world.counts(w));
        let Some(rates) = self.rates.update(counts) else {
            return Ok(());
        };
        let of = |which, [sent, arrived]: [u64; 2]| {
            let room = self.world.room(which);
            format!("{room} {} {sent}/s -> {arrived}/s", self.watch.state(room))
        };
        let [stuck, healthy] = rates;
        let line = format!("{}   {}", of(Which::Stuck, stuck), of(Which::Healthy, healthy));
        self.screen.status(&line);
        Ok(())
    }
}

/// Packets a second from two readings of the counters.
#[derive(Default)]
struct Rates {
    last: Option<(Instant, [(u64, u64); 2])>,
}

impl Rates {
    const EVERY: Duration = Duration::from_millis(500);

    /// Whether the last reading is old enough for a new one.
    fn due(&self) -> bool {
        self.last.is_none_or(|(then, _)| then.elapsed() >= Self::EVERY)
    }

    /// The rates since the reading before; `None` for the first one.
    fn update(&mut self, counts: [(u64, u64); 2]) -> Option<[[u64; 2]; 2]> {
        let now = Instant::now();
        let (then, before) = self.last.replace((now, counts))?;
        let ms = u64::try_from(now.duration_since(then).as_millis()).unwrap_or(u64::MAX);
        let rate = |now: u64, before: u64| now.saturating_sub(before) * 1000 / ms.max(1);
        let room = |(sent, arrived), (sent0, arrived0)| [rate(sent, sent0), rate(arrived, arrived0)];
        let ([stuck, healthy], [stuck0, healthy0]) = (counts, before);
        Some([room(stuck, stuck0), room(healthy, healthy0)])
    }
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
