//! The Janus adapter against a real Janus with real senders, in namespaces of its own. The test plays the driver.
//! Needs root and the Debian packages janus, ffmpeg and iproute2; without them it fails and says so.

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
    unistd::Pid,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use voice_agent::{
    config::{JanusConfig, Secret},
    driver::{Handle, Message, Query},
    media::janus,
};
use voice_room::{
    Input, RoomId, SourceId,
    input::{Ask, ClientAct, Heartbeat, Served},
};
use voice_tests::process;

const EVENTS: &str = "127.0.0.1:7401";
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Janus repeats events that nobody took before the adapter listened, so heartbeats of single rooms may come between
/// those of listings. This is for what should take a second or two on a machine of its own.
const SOON: Duration = Duration::from_secs(15);

/// `janus_lab.py` with namespaces and a directory of its own; torn down when dropped.
struct Lab {
    ns: String,
    work: tempfile::TempDir,
}

impl Lab {
    /// Starts rooms 1001, 1002, ... with three members each, whose sessions end 5 s after they went quiet.
    fn up(letter: char, rooms: u32) -> Result<Lab> {
        Lab::with_sessions_of(letter, rooms, 5)
    }

    /// As [`Lab::up`], with another session timeout of Janus, in seconds.
    fn with_sessions_of(letter: char, rooms: u32, timeout_s: u32) -> Result<Lab> {
        check_machine()?;
        let lab = Lab {
            ns: format!("vj{letter}{}", std::process::id()),
            work: tempfile::tempdir()?,
        };
        let (rooms, timeout, url) = (
            rooms.to_string(),
            timeout_s.to_string(),
            format!("http://{EVENTS}/"),
        );
        lab.verb(&[
            "up",
            "--rooms",
            &rooms,
            "--members",
            "3",
            "--session-timeout",
            &timeout,
            "--events-url",
            &url,
        ])?;
        Ok(lab)
    }

    fn command(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("janus/janus_lab.py");
        let mut command = Command::new("python3");
        command
            .arg(script)
            .arg("--work")
            .arg(self.work.path())
            .args(["--ns", &self.ns]);
        command
    }

    fn verb(&self, verb: &[&str]) -> Result<Vec<u8>> {
        let output = self.command().args(verb).output().context("starting python3")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "janus_lab.py {verb:?} failed: {said}");
        Ok(output.stdout)
    }

    /// The ports of each room as the lab's own reading of Janus gives them.
    fn ports(&self) -> Result<BTreeMap<String, Vec<u16>>> {
        let map: Value = serde_json::from_slice(&self.verb(&["map"])?)?;
        let mut rooms = BTreeMap::new();
        for room in map["rooms"].as_array().context("rooms")? {
            let participants = room["participants"].as_array().context("participants")?;
            let port = |p: &Value| u16::try_from(p["local_port"].as_u64().unwrap_or(0)).unwrap_or(0);
            let mut ports: Vec<u16> = participants.iter().map(port).collect();
            ports.sort_unstable();
            rooms.insert(room["room"].to_string(), ports);
        }
        Ok(rooms)
    }

    fn media_namespace(&self) -> PathBuf {
        format!("/run/netns/{}1", self.ns).into()
    }

    fn signal_janus(&self, signal: Signal) -> Result<()> {
        let state: Value = serde_json::from_reader(File::open(self.work.path().join("state.json"))?)?;
        let pid = state["procs"]["janus"][0].as_i64().context("janus has no pid")?;
        process::signal(Pid::from_raw(i32::try_from(pid)?), signal)
    }

    /// A further room with one member, by a process of its own.
    fn lone_host(&self, room: u32) -> Result<Host> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}2", self.ns)]);
        let inner = self.command();
        command.arg(inner.get_program()).args(inner.get_args());
        command.args([
            "_signal",
            "--room",
            &room.to_string(),
            "--role",
            "host",
            "--members",
            "1",
        ]);
        Ok(Host(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.verb(&["down"]) {
            eprintln!("tearing the Janus lab {} down: {error:#}", self.ns);
        }
    }
}

/// Leaves politely on SIGTERM; killed when dropped.
struct Host(Child);

impl Host {
    fn leave(&self) -> Result<()> {
        process::signal(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check_machine() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root"
    );
    for (tool, package) in [
        ("janus", "janus"),
        ("ffmpeg", "ffmpeg"),
        ("ip", "iproute2"),
        ("python3", "python3"),
    ] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
        ensure!(
            found,
            "this test runs {tool}: install the Debian package {package}"
        );
    }
    Ok(())
}

/// The adapter on a thread inside the media namespace, and the driver's end of its queue.
struct Adapter {
    messages: mpsc::Receiver<Message>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Adapter {
    fn start(lab: &Lab, heartbeat: Duration) -> Result<Adapter> {
        let (handle, messages) = Handle::new(1024);
        let shutdown = CancellationToken::new();
        let config = JanusConfig {
            admin_socket: lab.work.path().join("admin.sock"),
            admin_secret: Secret("lab".into()),
            events_listen: EVENTS.parse()?,
        };
        let (namespace, token) = (lab.media_namespace(), shutdown.clone());
        let thread = std::thread::spawn(move || {
            setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(janus::run(config, heartbeat, 50000..=60000, handle, token));
            Ok(())
        });
        Ok(Adapter {
            messages,
            shutdown,
            thread: Some(thread),
        })
    }

    /// The next thing told. Questions for hosts on record are answered like by a core that has no room yet.
    async fn next(&mut self, until: Instant) -> Result<Input> {
        loop {
            let message = timeout_at(until, self.messages.recv()).await;
            // An answer nobody waits for any more is one to an adapter that is shutting down.
            match message.context("nothing more was told in time")? {
                Some(Message::Fact(input)) => return Ok(input),
                Some(Message::Query(Query::Room(_, answer))) => drop(answer.send(None)),
                Some(Message::Query(Query::Rooms(answer))) => drop(answer.send(Vec::new())),
                other => bail!("the adapter does not send this: {other:?}"),
            }
        }
    }

    /// Reads on until `wanted` picks something; says what was told instead when it does not come.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Input) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + SOON;
        let mut others = Vec::new();
        loop {
            let told = self
                .next(deadline)
                .await
                .with_context(|| format!("waiting for {what}; told: {others:#?}"))?;
            match wanted(&told) {
                Some(found) => return Ok(found),
                None => others.push(told),
            }
        }
    }

    /// The next heartbeat's rooms that are served, with their ports.
    async fn served(&mut self) -> Result<BTreeMap<String, Vec<u16>>> {
        let heartbeat = self.until("a heartbeat", heartbeat).await?;
        Ok(served(&heartbeat))
    }

    async fn until_served(&mut self, what: &str, rooms: &BTreeMap<String, Vec<u16>>) -> Result<()> {
        self.until(what, |told| (served(&heartbeat(told)?) == *rooms).then_some(()))
            .await
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(
                matches!(ended, Some(Ok(Ok(())))),
                "the adapter's thread: {ended:?}"
            );
        }
    }
}

fn heartbeat(told: &Input) -> Option<Heartbeat> {
    match told {
        Input::Heartbeat(heartbeat) => Some(heartbeat.clone()),
        _ => None,
    }
}

fn served(heartbeat: &Heartbeat) -> BTreeMap<String, Vec<u16>> {
    let live = heartbeat.rooms.iter().filter(|room| room.participants > 0);
    live.map(|room| {
        (
            room.room.to_string(),
            room.ports.iter().map(|port| port.0).collect(),
        )
    })
    .collect()
}

fn asked(room: &str, wanted: fn(&Ask) -> bool) -> impl Fn(&Input) -> Option<String> {
    move |told| match told {
        Input::Request(request) if request.room.as_str() == room && wanted(&request.ask) => {
            Some(format!("{:?}", request.ask))
        }
        _ => None,
    }
}

fn client(room: &str, client: &str, what: ClientAct) -> impl Fn(&Input) -> Option<bool> {
    move |told| match told {
        Input::Client(fact) => {
            let it = fact.room.as_str() == room && fact.client.as_str() == client && fact.what == what;
            it.then_some(fact.is_host)
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_room_whose_signalling_dies_is_told_with_its_ports_until_its_sessions_end_and_the_other_goes_on()
-> Result<()> {
    let lab = Lab::up('a', 2)?;
    let ports = lab.ports()?;
    ensure!(ports.values().map(Vec::len).eq([3, 3]), "the lab has {ports:?}");
    let mut adapter = Adapter::start(&lab, HEARTBEAT)?;
    adapter.until_served("every room with its ports", &ports).await?;
    assert!(
        adapter
            .until("the host of 1001", client("1001", "100101", ClientAct::Join))
            .await?
    );
    assert!(
        !adapter
            .until("a guest of 1002", client("1002", "100203", ClientAct::Join))
            .await?
    );

    lab.verb(&["kill-sig", "1001"])?;
    adapter
        .until_served("both rooms: media goes on without signalling", &ports)
        .await?;
    let gone = asked("1001", |ask| matches!(ask, Ask::HostDisconnect { .. }));
    let reason = adapter.until("the host's end", gone).await?;
    assert!(
        reason.contains("host 100101: ") && reason.contains("its session timed out"),
        "{reason}"
    );
    let rest: BTreeMap<_, _> = ports.into_iter().filter(|(room, _)| room == "1002").collect();
    adapter
        .until("the end of 1001", asked("1001", |ask| *ask == Ask::NoActiveUser))
        .await?;
    adapter.until_served("room 1002 alone", &rest).await?;
    for _ in 0..3 {
        assert!(!adapter.served().await?.contains_key("1001"));
    }
    Ok(())
}

#[tokio::test]
async fn a_destroyed_room_whose_sockets_stay_open_is_no_longer_told_and_the_other_goes_on() -> Result<()> {
    // Janus closes the socket with the session, and a session of 5 s ends when one keepalive of its is late on a busy
    // machine: these outlast the test.
    let lab = Lab::with_sessions_of('b', 2, 600)?;
    let ports = lab.ports()?;
    let mut adapter = Adapter::start(&lab, HEARTBEAT)?;
    adapter.until_served("every room with its ports", &ports).await?;
    lab.verb(&["destroy", "1001"])?;
    let rest: BTreeMap<_, _> = ports
        .clone()
        .into_iter()
        .filter(|(room, _)| room == "1002")
        .collect();
    adapter.until_served("room 1002 alone", &rest).await?;
    for _ in 0..3 {
        assert!(!adapter.served().await?.contains_key("1001"));
    }
    let sockets = Command::new("ip")
        .args(["netns", "exec", &format!("{}1", lab.ns), "ss", "-Huna"])
        .output()?;
    let sockets = String::from_utf8(sockets.stdout)?;
    for port in &ports["1001"] {
        assert!(
            sockets.contains(&format!(":{port} ")),
            "no orphan socket on {port}: {sockets}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_janus_is_a_lost_source_and_a_thawed_one_has_heartbeats_again() -> Result<()> {
    let lab = Lab::up('c', 1)?;
    let ports = lab.ports()?;
    let mut adapter = Adapter::start(&lab, HEARTBEAT)?;
    adapter.until_served("every room with its ports", &ports).await?;
    lab.signal_janus(Signal::SIGSTOP)?;
    let lost = Input::SourceLost(SourceId::new("janus")?);
    adapter
        .until("the loss of the source", |told| (*told == lost).then_some(()))
        .await?;
    // Nothing is told from memory while it is frozen, and the loss only once.
    let quiet = adapter.next(Instant::now() + HEARTBEAT * 5).await;
    assert!(quiet.is_err(), "{quiet:?}");
    lab.signal_janus(Signal::SIGCONT)?;
    adapter.until_served("the room again", &ports).await
}

#[tokio::test]
async fn a_join_is_told_with_its_port_by_its_event_alone_and_so_is_the_leave() -> Result<()> {
    let lab = Lab::up('d', 1)?;
    // After the listing at start the next one is far away: what comes, comes from events.
    let mut adapter = Adapter::start(&lab, Duration::from_secs(3600))?;
    let ports = lab.ports()?;
    adapter.until_served("the listing at start", &ports).await?;

    let host = lab.lone_host(1009)?;
    let lists_it = |told: &Input| heartbeat(told).filter(|h| served(h).contains_key("1009"));
    let joined = adapter.until("the new room", lists_it).await?;
    let ports = lab.ports()?;
    let room = RoomId::new("1009")?;
    let expected = Served {
        room: room.clone(),
        ports: ports["1009"].iter().copied().map(voice_room::Port).collect(),
        flows: vec![],
        ssrcs: vec![],
        participants: 1,
        host: Some(voice_room::ClientId::new("100901")?),
    };
    assert_eq!(joined.rooms, [expected]);
    assert_eq!(ports["1009"].len(), 1);
    let is_host = adapter
        .until("the host", client("1009", "100901", ClientAct::Join))
        .await?;
    assert!(is_host);

    host.leave()?;
    let gone = asked("1009", |ask| matches!(ask, Ask::HostDisconnect { .. }));
    let reason = adapter.until("the host's end", gone).await?;
    assert!(reason.contains("host 100901: it left the room"), "{reason}");
    adapter
        .until("the room's end", asked("1009", |ask| *ask == Ask::NoActiveUser))
        .await?;
    Ok(())
}
