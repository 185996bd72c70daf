//! Many gateways on one thread, each with a stream of its own: each acknowledges every STATE_EXPIRED, and notes when it has
//! that of every room.

use super::servers;
use crate::{
    clock,
    netns::Netns,
    peer::AGENT_URL,
    rtp::{Task, lock},
};
use anyhow::ensure;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use voice_agent::proto::v1::{
    ExpiredAck, Hello, Keepalive, KeepaliveKind, PeerMessage, agent_message::Message as FromAgent,
    peer_message::Message as ToAgent, session_client::SessionClient,
};
use voice_room::Mono;

/// Acknowledgements on their way; a gateway reads on when the agent has taken some.
const QUEUE: usize = 1024;

/// The gateways. They leave on drop.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    gateways: usize,
    _task: Task,
}

#[derive(Default)]
struct Shared {
    welcomed: AtomicUsize,
    /// When each had all.
    complete: Mutex<Vec<Mono>>,
    problems: Mutex<Vec<String>>,
}

impl Crowd {
    /// Connects so many and waits until all are welcome; each expects the rooms `0..rooms`.
    pub(super) fn start(ns: &Netns, gateways: usize, rooms: u32) -> anyhow::Result<Crowd> {
        let shared = Arc::new(Shared::default());
        let (inside, ns) = (shared.clone(), Netns::existing(ns.name())?);
        let task = Task::start(move |stop| {
            let ran = ns.run(|| connect_all(&inside, gateways, rooms, stop));
            if let Err(error) = ran.and_then(|ran| ran) {
                lock(&inside.problems).push(format!("{error:#}"));
            }
        });
        let crowd = Crowd {
            shared,
            gateways,
            _task: task,
        };
        clock::poll(Duration::from_secs(20), || {
            (crowd.shared.welcomed.load(Ordering::Relaxed) == gateways).then_some(())
        });
        let welcomed = crowd.shared.welcomed.load(Ordering::Relaxed);
        ensure!(
            welcomed == gateways,
            "{welcomed} of {gateways} gateways are welcome after 20 s; {:?}",
            lock(&crowd.shared.problems)
        );
        Ok(crowd)
    }

    /// When the last gateway had the STATE_EXPIRED of every room; `None` as long as one has not.
    pub(super) fn complete(&self) -> Option<Mono> {
        let complete = lock(&self.shared.complete);
        (complete.len() == self.gateways).then(|| complete.iter().max().copied())?
    }

    /// How many have all, and what went wrong.
    pub(super) fn describe(&self) -> String {
        let complete = lock(&self.shared.complete).len();
        let problems = lock(&self.shared.problems);
        format!("{complete} of {} gateways have all; {problems:?}", self.gateways)
    }
}

fn connect_all(shared: &Arc<Shared>, gateways: usize, rooms: u32, stop: &AtomicBool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = JoinSet::new();
        for n in 0..gateways {
            streams.spawn(gateway(format!("gateway-{n}"), rooms, shared.clone()));
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

async fn gateway(id: String, rooms: u32, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut client = SessionClient::connect(AGENT_URL).await?;
    let (to, outgoing) = mpsc::channel(QUEUE);
    to.send(message(ToAgent::Hello(Hello {
        protocol_version: 1,
        software: "bench".into(),
        software_version: env!("CARGO_PKG_VERSION").into(),
    })))
    .await?;
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert("peer-role", "gateway".parse()?);
    request.metadata_mut().insert("peer-id", id.parse()?);
    let mut answers = client.stream(request).await?.into_inner();
    let mut missing: Vec<bool> = vec![true; usize::try_from(rooms)?];
    let mut left = missing.len();
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(FromAgent::Welcome(_)) => {
                shared.welcomed.fetch_add(1, Ordering::Relaxed);
            }
            Some(FromAgent::Keepalive(k)) if k.kind == KeepaliveKind::Ping as i32 => {
                let pong = Keepalive {
                    kind: KeepaliveKind::Pong as i32,
                    nonce: k.nonce,
                };
                to.send(message(ToAgent::Keepalive(pong))).await?;
            }
            Some(FromAgent::StateExpired(expired)) => {
                let news = servers::number(&expired.room).and_then(|n| missing.get_mut(n));
                if news.is_some_and(std::mem::take) {
                    left -= 1;
                    if left == 0 {
                        lock(&shared.complete).push(clock::now());
                    }
                }
                let ack = ExpiredAck {
                    room: expired.room,
                    version: expired.version,
                    epoch: expired.epoch,
                };
                to.send(message(ToAgent::ExpiredAck(ack))).await?;
            }
            _ => {}
        }
    }
    anyhow::bail!("the agent closed it")
}

fn message(message: ToAgent) -> PeerMessage {
    PeerMessage {
        message: Some(message),
    }
}
