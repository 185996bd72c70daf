//! Puts the agent together, runs it until SIGTERM or SIGINT, and takes it apart again.

use super::{
    Driver, Handle, ModeInForce, Phase, RESULTS, Tally, Vitals,
    clock::now,
    evidence::Evidence,
    handle::Message,
    kill_switch::KillSwitch,
    patrol::Patrol,
    recover::{self, Keeping, Recovery},
    reload::Reload,
    snapshot::Snapshots,
};
use crate::{
    api::{self, About},
    config::{Config, HistoryKind, LivekitConfig, StoreKind, reload::Reloader},
    history::{
        self, History,
        probe::{self, Probed},
    },
    kernel::{self, Kernel, pinned::Pinned},
    lock::AgentLock,
    media::{self, livekit::Credentials},
    privileges::{self, Kept},
    registry::{self, LocalRegistry, Registry, etcd::Etcd},
    relay::{self, Hearing},
    session::{Sessions, tls::Tls},
    store::{Embedded, JournalHandle, Redis, RoomStore},
    supervisor::Supervisor,
    telemetry::{
        self,
        audit::Audit,
        health,
        metrics::{self, Source},
        traces::{self, Exporter, Traces},
    },
    tiers::Tiers,
    tokens::Tokens,
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use voice_room::{Core, Mono, Rules, Tenure};

/// Facts, wishes and questions that may wait for the driver; who sends more waits.
const QUEUE: usize = 8192;

/// How long adapters may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Another agent runs here, or a part could not be started; the message says which and what to do.
pub fn run(config: Config, tokens: Tokens, reloader: Reloader) -> anyhow::Result<()> {
    make_run_dir(&config.paths.run)?;
    let _lock = AgentLock::acquire(&config.paths)?;
    let registry = registry::prepare(&config)?;
    let redis = match config.store.kind {
        StoreKind::Embedded => None,
        StoreKind::Redis => Some(Redis::open(&config.store.redis)?),
    };
    // Before the first thread is made, that of the log: each inherits what is left. What takes more comes first.
    kernel::before_dropping_privileges();
    let kept = privileges::drop_all_but_needed()?;
    let log = telemetry::logs::init(&config.log)?;
    if kept == Kept::Everything {
        tracing::warn!("this kernel, or this process, has no CAP_BPF of its own: no capability is given up");
    }
    // Outlives the runtime, and with it everybody who has lines to hand over.
    let (audit, _writer) = Audit::start(&config.audit).context("cannot start the audit log's thread")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let supervisor = Supervisor::from_environment().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Supervisor::default()
    });
    let started = Started {
        tokens,
        audit,
        registry,
        redis,
        supervisor,
    };
    runtime.block_on(agent(config, started, reloader, log.filter()))
}

/// What was made before privileges were given up, and goes to where it is used.
struct Started {
    tokens: Tokens,
    audit: Audit,
    registry: (Registry, Option<Etcd>),
    redis: Option<Redis>,
    supervisor: Supervisor,
}

fn make_run_dir(run: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(run);
    made.with_context(|| format!("cannot make paths.run {}", run.display()))
}

async fn agent(
    config: Config,
    started: Started,
    reloader: Reloader,
    log: telemetry::logs::Filter,
) -> anyhow::Result<()> {
    let hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let Started {
        tokens,
        audit,
        registry: (registry, etcd),
        redis,
        supervisor,
    } = started;
    let listen = config.session.listen;
    // First, so that a port that is taken leaves no program attached.
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on session.listen {listen}"))?;
    let mut parts = Parts::start(&config, tokens, audit, registry, redis).await?;
    parts.supervisor = supervisor.clone();
    let writing = parts.keep_history(&config).await?;
    let (handle, messages) = Handle::new(QUEUE);
    let (stop_adapters, stop_driver) = (CancellationToken::new(), CancellationToken::new());
    let admin = api::listen(&config.paths.run.join(api::SOCKET)).context("admin service")?;
    let mut adapters = start_adapters(&config, &parts, &handle, (listener, admin), &stop_adapters);
    start_pages(&mut adapters, &config, &parts, &handle, &stop_adapters);
    if let Some(exporter) = parts.exporter.take() {
        let stop = stop_adapters.clone();
        adapters.spawn(async move {
            exporter.run(stop).await;
            Ok(())
        });
    }
    let watching = parts.tiers.clone().watch(
        parts.redis.clone(),
        etcd.as_ref().map(Etcd::prober),
        parts.history.clone(),
        stop_adapters.clone(),
    );
    adapters.spawn(async move {
        watching.await;
        Ok(())
    });
    if let Some(etcd) = etcd {
        let running = etcd.run(handle.clone(), stop_adapters.clone());
        adapters.spawn(async move { running.await.context("cannot start the thread of the lease") });
    }
    if let Some(redis) = parts.redis.clone() {
        let (hearing, started) = (parts.hearing.clone(), now().wall);
        let (handle, stop) = (handle.clone(), stop_adapters.clone());
        let trimming = relay::trim(redis.clone(), stop.clone());
        adapters.spawn(async move {
            tokio::join!(relay::run(redis, handle, hearing, started, stop), trimming);
            Ok(())
        });
    }
    let detaches = Arc::new(AtomicBool::new(config.kernel.detach_on_stop));
    let reload = Reload {
        reloader,
        handle,
        sessions: parts.sessions.clone(),
        log,
        supervisor: supervisor.clone(),
        detach: detaches.clone(),
    };
    let stop = stop_adapters.clone();
    adapters.spawn(async move {
        stop.run_until_cancelled(reload.at_each(hangups)).await;
        Ok(())
    });
    let vitals = parts.vitals.clone();
    let driver = spawn_driver(parts, messages, stop_driver.clone())?;
    let mode = api::convert::mode(config.rules.mode);
    tracing::info!(node = %config.node, %mode, %listen, "voice-agent runs");

    let ended = tokio::select! {
        stopped = told_to_stop() => stopped,
        never = tell_ready(vitals.clone(), supervisor.clone()) => match never {},
        Some(ended) = adapters.join_next() => ended.context("an adapter's task")?.and(Err(anyhow::anyhow!("an adapter ended by itself"))),
        () = wait_for(&driver) => Err(anyhow::anyhow!("the driver ended by itself")),
    };
    supervisor.stopping();
    vitals.stopping();
    stop_adapters.cancel();
    let goodbye = async { while adapters.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        tracing::warn!("an adapter did not end within {} s", GOODBYE.as_secs());
    }
    stop_driver.cancel();
    wait_for(&driver).await;
    driver
        .join()
        .map_err(|_| anyhow::anyhow!("the driver panicked; blocks stay in force until their deadlines"))?;
    if let Some(writing) = writing {
        writing.finish();
    }
    if ended.is_ok() && detaches.load(Ordering::Relaxed) {
        detach(&config)?;
    }
    ended
}

/// What the driver works with.
struct Parts {
    core: Core,
    kernel: Kernel,
    sessions: Sessions,
    store: Arc<dyn RoomStore>,
    embedded: Option<Embedded>,
    redis: Option<Redis>,
    hearing: Hearing,
    recovery: Recovery,
    registry: Registry,
    journal: JournalHandle,
    kill_switch: KillSwitch,
    heartbeat: Duration,
    mode: ModeInForce,
    vitals: Vitals,
    supervisor: Supervisor,
    tiers: Tiers,
    traces: Traces,
    exporter: Option<Exporter>,
    audit: Audit,
    snapshots: Option<Snapshots>,
    patrol_every: Duration,
    history: Option<History>,
    probed: Probed,
    livekit: Option<Arc<Credentials>>,
}

impl Parts {
    async fn start(
        config: &Config,
        tokens: Tokens,
        audit: Audit,
        registry: Registry,
        redis: Option<Redis>,
    ) -> anyhow::Result<Parts> {
        let mut keeping = Keeping::open(config, redis).await?;
        let local = LocalRegistry::claim(&keeping.journal, &keeping.known(), keeping.begun_anew)
            .await
            .context("cannot claim an epoch")?;
        for record in keeping.known().rooms {
            registry.known(record.epoch);
        }
        // With a registry of its own, each room has the epoch of its claim.
        let epoch = Some(local).filter(|_| matches!(registry, Registry::Local));
        let shared = keeping.redis.is_some() || epoch.is_none();
        let tenure = Tenure {
            epoch,
            shared: shared.then(recover::run_number),
        };
        let (kernel, found) = Kernel::start(&config.kernel, &config.paths)?;
        for line in &found.report {
            tracing::info!("kernel: {line}");
        }
        let (mut recovery, restored) = Recovery::of(&mut keeping, found);
        let core = Core::new(config.node.clone(), tenure, rules(config), restored, now());
        recovery.tell(&core, epoch);
        let tiers = Tiers::default();
        // Read with the rights that are left, since new files are read with them too.
        let tls = config.session.tls.as_ref().map(Tls::load).transpose()?;
        let livekit = config.livekit.as_ref().map(credentials).transpose()?;
        let (traces, exporter) = traces::start(&config.traces, &config.node).context("cannot send traces")?;
        let sessions = Sessions::new(
            config.node.clone(),
            epoch.unwrap_or_default(),
            config.kernel.ports.clone(),
            &config.session,
            tokens,
            tiers.clone(),
            tls,
        );
        sessions.trace(traces.clone());
        let kill_switch = KillSwitch::new(config.paths.run.join("kill-switch"));
        Ok(Parts {
            core,
            kernel,
            sessions,
            store: keeping.store,
            embedded: keeping.embedded,
            redis: keeping.redis,
            hearing: Hearing::default(),
            recovery,
            registry,
            journal: keeping.journal,
            kill_switch,
            heartbeat: config.rules.heartbeat,
            mode: config.rules.mode.into(),
            vitals: Vitals::new().context("cannot make the metrics")?,
            supervisor: Supervisor::default(),
            tiers,
            traces,
            exporter,
            audit,
            snapshots: None,
            patrol_every: config.patrol.every,
            history: None,
            probed: Probed::default(),
            livekit,
        })
    }

    /// Starts what keeps snapshots, unless they are off. A history that cannot be opened keeps no agent from its work.
    async fn keep_history(&mut self, config: &Config) -> anyhow::Result<Option<history::Writer>> {
        if config.history.kind == HistoryKind::Off {
            return Ok(None);
        }
        if config.history.kind == HistoryKind::Embedded {
            history::set_aside_if_damaged(&config.paths.state).await;
        }
        let (recorder, history, writing) = history::start(config).context("cannot start the history")?;
        self.snapshots = Some(Snapshots::new(
            recorder,
            self.probed.clone(),
            config.history.every,
        ));
        self.history = Some(history);
        Ok(Some(writing))
    }
}

/// Read once: a changed file counts from the next start on.
fn credentials(livekit: &LivekitConfig) -> anyhow::Result<Arc<Credentials>> {
    let read = Credentials::read(&livekit.api_key, &livekit.api_secret_file);
    read.map(Arc::new)
        .map_err(anyhow::Error::msg)
        .context("livekit.api_secret_file")
}

/// The rules, with what the store says of them.
pub(super) fn rules(config: &Config) -> Rules {
    let mut rules = config.rules.clone();
    if config.store.kind == StoreKind::Redis {
        // A record outlives four refreshes that fail.
        rules.refresh = config.store.redis.record_ttl / 5;
    }
    rules
}

/// The driver has a thread and a runtime of its own, so that nothing else can keep it from its clock.
fn spawn_driver(
    parts: Parts,
    messages: mpsc::Receiver<Message>,
    stop: CancellationToken,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = thread::Builder::new().name("driver".into());
    let body = move || runtime.block_on(drive(parts, messages, stop));
    thread.spawn(body).context("cannot start the driver's thread")
}

async fn drive(parts: Parts, messages: mpsc::Receiver<Message>, stop: CancellationToken) {
    let Parts {
        core,
        kernel,
        sessions,
        store,
        embedded,
        redis,
        hearing,
        recovery,
        registry,
        journal,
        kill_switch,
        heartbeat,
        mode,
        vitals,
        supervisor,
        tiers,
        traces,
        exporter: _,
        audit,
        snapshots,
        patrol_every,
        history: _,
        probed: _,
        livekit: _,
    } = parts;
    let (results, answers) = mpsc::channel(RESULTS);
    let mut driver = Driver {
        core,
        kernel,
        sessions,
        store,
        hearing: redis.is_some().then_some(hearing),
        recovery,
        registry,
        kept: None,
        journal: journal.clone(),
        evidence: Evidence::new(journal.clone()),
        kill_switch,
        heartbeat,
        mode,
        sampled: Mono(0),
        counted: Mono(0),
        replies: BTreeMap::new(),
        maintaining: BTreeMap::new(),
        last_reply: 0,
        unbound: BTreeMap::new(),
        results,
        tasks: TaskTracker::new(),
        store_answers: true,
        tally: Tally::default(),
        recent: super::top::Recent::default(),
        vitals,
        supervisor,
        tiers,
        traces,
        audit,
        snapshots,
        patrol: Patrol::new(patrol_every),
    };
    driver.drive(messages, answers, stop).await;
    let rooms = match embedded {
        Some(embedded) => embedded.close().await,
        None => Ok(()),
    };
    if let Err(error) = rooms.and(journal.close().await) {
        tracing::warn!(%error, "a database was not closed in order; it recovers at the next start");
    }
}

fn start_adapters(
    config: &Config,
    parts: &Parts,
    handle: &Handle,
    (listener, admin): (TcpListener, api::Listening),
    stop: &CancellationToken,
) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    let Parts { sessions, audit, .. } = parts;
    let serving = sessions.clone().serve(handle.clone(), listener, stop.clone());
    tasks.spawn(async move { serving.await.context("session listener") });
    let about = About {
        node: config.node.clone(),
        instance: config.instance.clone(),
        mode: parts.mode.clone(),
        started: now().wall,
        recovered: parts.recovery.words(),
        history: parts.history.clone(),
        tiers: parts.tiers.clone(),
    };
    let (to_driver, audit, stop_admin) = (handle.clone(), audit.clone(), stop.clone());
    tasks.spawn(async move {
        api::serve_on(admin, to_driver, audit, about, stop_admin)
            .await
            .context("admin service")
    });
    if parts.history.is_some() && !config.history.probes.is_empty() {
        let (probes, probed, stop) = (config.history.probes.clone(), parts.probed.clone(), stop.clone());
        tasks.spawn(async move {
            probe::run(probes, probed, stop).await;
            Ok(())
        });
    }
    if let (Some(livekit), Some(credentials)) = (config.livekit.clone(), parts.livekit.clone()) {
        let (heartbeat, handle, stop) = (config.rules.heartbeat, handle.clone(), stop.clone());
        tasks.spawn(async move {
            media::livekit::run(livekit, credentials, heartbeat, handle, stop).await;
            Ok(())
        });
    }
    if let Some(janus) = config.janus.clone() {
        let (heartbeat, ports) = (config.rules.heartbeat, config.kernel.ports.clone());
        let (handle, stop) = (handle.clone(), stop.clone());
        tasks.spawn(async move {
            media::janus::run(janus, heartbeat, ports, handle, stop).await;
            Ok(())
        });
    }
    tasks
}

/// What tells how the agent does.
fn start_pages(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    config: &Config,
    parts: &Parts,
    handle: &Handle,
    stop: &CancellationToken,
) {
    if let Some(listen) = config.metrics.listen {
        let source = Source {
            handle: handle.clone(),
            sessions: parts.sessions.clone(),
            vitals: parts.vitals.clone(),
            mode: parts.mode.clone(),
            registry: parts.registry.clone(),
            history: parts.history.clone(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            metrics::serve(listen, source, stop).await;
            Ok(())
        });
    }
    if let Some(listen) = config.health.listen {
        let (vitals, stop) = (parts.vitals.clone(), stop.clone());
        tasks.spawn(async move {
            health::serve(listen, vitals, stop).await;
            Ok(())
        });
    }
}

/// Tells the service manager that the agent is ready, once the driver has ticked. Never ends.
async fn tell_ready(vitals: Vitals, supervisor: Supervisor) -> Infallible {
    while vitals.phase() == Phase::Starting {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    supervisor.ready().await;
    std::future::pending().await
}

/// With `kernel.detach_on_stop`: takes everything of this instance out of the kernel.
fn detach(config: &Config) -> anyhow::Result<()> {
    for gone in Pinned::detach(&config.paths.pin_root()).context("kernel.detach_on_stop")? {
        tracing::info!("kernel.detach_on_stop: removed {gone}");
    }
    Ok(())
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM"),
        _ = int.recv() => tracing::info!("SIGINT"),
    }
    Ok(())
}

/// Until the thread has ended. Looked at ten times a second: it ends once in an agent's life.
async fn wait_for(thread: &thread::JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
