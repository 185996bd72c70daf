//! How long a STATE_EXPIRED takes to 2,000 gateways: from the verdict in the kernel to each of them.

use super::{bare, inside, peers::Asker};
use crate::{
    agent::Agent,
    bench::{Figure, Goal, stats},
    clock,
    netns::Netns,
    peer::AGENT_URL,
    rtp::{Task, lock},
};
use anyhow::{Context, ensure};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use voice_agent::proto::v1::{
    Hello, Keepalive, KeepaliveKind, PeerMessage, StateExpired, agent_message::Message as FromAgent,
    peer_message::Message as ToAgent, session_client::SessionClient,
};
use voice_room::{Mono, RoomId};

pub(super) const GATEWAYS: usize = 2000;
/// So many times; the figure is the median of their P99s.
const ROUNDS: usize = 5;
/// Whose end the bare service tells.
const BARE_ROOM: &str = "near-0";
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn figures(ns: &Netns, agent: &Agent) -> anyhow::Result<Vec<Figure>> {
    let ours = of_agent(ns, agent)?;
    let bare = of_bare(ns)?;
    let figure = Figure::with_goal("expired_push_2000_p99_ms", ours, "ms", Goal::AtMost(50.0));
    Ok(vec![figure.beside("bare tonic fan-out", bare, ours / bare)])
}

fn of_agent(ns: &Netns, agent: &Agent) -> anyhow::Result<f64> {
    let crowd = Crowd::start(ns, AGENT_URL)?;
    let rooms: Result<Vec<RoomId>, _> = (0..ROUNDS).map(|n| RoomId::new(&format!("told-{n}"))).collect();
    let rooms = rooms?;
    inside(ns, async || {
        Asker::start(AGENT_URL, "tells", &rooms).await.map(drop)
    })?;
    let mut rounds = Vec::new();
    for room in &rooms {
        crowd.wait_for(room);
        agent.text(&["block", room, "--reason", "bench"])?;
        crowd.wait()?;
        let shown = agent.room(room).context("the room is not known")?;
        let armed = shown["block"]["armed_monotonic_ns"].as_u64();
        rounds.push(crowd.p99_since(Mono(armed.context("no time of arming")?)));
    }
    Ok(stats::median(&rounds))
}

fn of_bare(ns: &Netns) -> anyhow::Result<f64> {
    let (give, address) = std::sync::mpsc::channel();
    let (begin, rounds) = mpsc::unbounded_channel::<std::sync::mpsc::Sender<Mono>>();
    let inside = Netns::existing(ns.name())?;
    let _server = Task::start(move |stop| {
        let ran = inside.run(|| serve_bare(&give, rounds, stop));
        if let Err(error) = ran.and_then(|ran| ran) {
            eprintln!("the bare service ended: {error:#}");
        }
    });
    let url: String = address.recv()?;
    let crowd = Crowd::start(ns, &url)?;
    let mut p99s = Vec::new();
    for _ in 0..ROUNDS {
        crowd.wait_for(BARE_ROOM);
        let (tell, told) = std::sync::mpsc::channel();
        begin.send(tell)?;
        let begun = told.recv()?;
        crowd.wait()?;
        p99s.push(crowd.p99_since(begun));
    }
    Ok(stats::median(&p99s))
}

fn serve_bare(
    give: &std::sync::mpsc::Sender<String>,
    mut rounds: mpsc::UnboundedReceiver<std::sync::mpsc::Sender<Mono>>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    // As the agent has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        give.send(format!("http://{}", listener.local_addr()?))?;
        let (tell, mut begun) = mpsc::unbounded_channel();
        let server = tokio::spawn(bare::serve(listener, tell));
        let mut streams = Vec::new();
        let expired = StateExpired {
            room: BARE_ROOM.into(),
            reason: "blocked by an operator: bench".into(),
            version: 3,
            isolated_until_ms: 1_700_000_000_000,
            retry_after_ms: 300_000,
            ..StateExpired::default()
        };
        while !stop.load(Ordering::Relaxed) {
            tokio::select! {
                Some(stream) = begun.recv() => streams.push(stream),
                Some(tell) = rounds.recv() => {
                    tell.send(clock::now())?;
                    bare::tell_all(&streams, &expired);
                }
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        server.abort();
        Ok(())
    })
}

/// The gateways, all on one thread. They leave on drop.
struct Crowd {
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Default)]
struct Shared {
    welcomed: AtomicUsize,
    arrived: Mutex<Arrived>,
    problems: Mutex<Vec<String>>,
}

/// Of this round's room: those of earlier rounds are told again, since nobody acknowledges them.
#[derive(Default)]
struct Arrived {
    room: String,
    /// When each gateway was told first.
    at: HashMap<usize, Mono>,
}

impl Crowd {
    fn start(ns: &Netns, url: &str) -> anyhow::Result<Crowd> {
        let shared = Arc::new(Shared::default());
        let (inside, ns, url) = (shared.clone(), Netns::existing(ns.name())?, url.to_owned());
        let task = Task::start(move |stop| {
            let ran = ns.run(|| connect_all(&inside, &url, stop));
            if let Err(error) = ran.and_then(|ran| ran) {
                lock(&inside.problems).push(format!("{error:#}"));
            }
        });
        let crowd = Crowd { shared, _task: task };
        let welcomed = || crowd.shared.welcomed.load(Ordering::Relaxed);
        clock::poll(WITHIN, || (welcomed() == GATEWAYS).then_some(()));
        ensure!(
            welcomed() == GATEWAYS,
            "{} of {GATEWAYS} gateways are welcome; {:?}",
            welcomed(),
            lock(&crowd.shared.problems)
        );
        Ok(crowd)
    }

    /// What comes from now on is of this room.
    fn wait_for(&self, room: &str) {
        *lock(&self.shared.arrived) = Arrived {
            room: room.into(),
            at: HashMap::new(),
        };
    }

    /// Until every one has it.
    fn wait(&self) -> anyhow::Result<()> {
        let all = || lock(&self.shared.arrived).at.len() == GATEWAYS;
        let came = clock::poll(WITHIN, || all().then_some(()));
        came.with_context(|| {
            let (n, problems) = (lock(&self.shared.arrived).at.len(), lock(&self.shared.problems));
            format!("only {n} of {GATEWAYS} gateways were told; {problems:?}")
        })
    }

    fn p99_since(&self, begun: Mono) -> f64 {
        let arrived = lock(&self.shared.arrived);
        let took = |at: &Mono| at.since(begun).as_secs_f64() * 1000.0;
        stats::quantile(&arrived.at.values().map(took).collect::<Vec<f64>>(), 0.99)
    }
}

fn connect_all(shared: &Arc<Shared>, url: &str, stop: &AtomicBool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = JoinSet::new();
        for n in 0..GATEWAYS {
            streams.spawn(gateway(url.to_owned(), n, shared.clone()));
        }
        while !stop.load(Ordering::Relaxed) {
            tokio::select! {
                Some(ended) = streams.join_next() => {
                    lock(&shared.problems).push(format!("a gateway's stream ended: {ended:?}"));
                }
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    });
    Ok(())
}

async fn gateway(url: String, n: usize, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut client = SessionClient::connect(url).await?;
    let (to, outgoing) = mpsc::channel(16);
    let say = |message| PeerMessage {
        message: Some(message),
    };
    to.send(say(ToAgent::Hello(Hello {
        protocol_version: 1,
        ..Hello::default()
    })))
    .await?;
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert("peer-role", "gateway".parse()?);
    request
        .metadata_mut()
        .insert("peer-id", format!("gateway-{n}").parse()?);
    let mut answers = client.stream(request).await?.into_inner();
    while let Some(answer) = answers.next().await {
        match answer?.message {
            Some(FromAgent::Welcome(_)) => {
                shared.welcomed.fetch_add(1, Ordering::Relaxed);
            }
            Some(FromAgent::Keepalive(k)) if k.kind == KeepaliveKind::Ping as i32 => {
                let pong = Keepalive {
                    kind: KeepaliveKind::Pong as i32,
                    nonce: k.nonce,
                };
                to.send(say(ToAgent::Keepalive(pong))).await?;
            }
            // Not acknowledged: on the one thread of all gateways that would be measured, not the agent.
            Some(FromAgent::StateExpired(expired)) => {
                let mut arrived = lock(&shared.arrived);
                if arrived.room == expired.room {
                    arrived.at.entry(n).or_insert_with(clock::now);
                }
            }
            _ => {}
        }
    }
    anyhow::bail!("the agent closed it")
}
