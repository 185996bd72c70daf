//! The real binary: exit codes, and what it says on which stream, without an agent and with wrong input.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use voice_agent::{
    api::{self, About},
    config::Config,
    driver::{Handle, Message, Query},
    kernel::KernelStatus,
    lock::AgentLock,
    store::{Cursor, Position},
    telemetry::audit::Audit,
};
use voice_room::{
    Epoch, EventType, Incarnation, NodeName, OpId, Rejected, RoomId, State, StateChangeEvent, Version, Wall,
    config::Mode, core::Census, timeline::Actor,
};

/// A directory in which an agent could live, with a configuration that points there.
fn nowhere() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let config = format!("[paths]\nstate = \"{at}/state\"\nrun = \"{at}/run\"\nbpffs = \"{at}/bpf\"\n");
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    dir
}

fn voice_agent(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voice-agent"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VOICE_AGENT_")) {
        command.env_remove(name);
    }
    command
        .arg("--config")
        .arg(dir.join("config.toml"))
        .args(args)
        .output()
        .unwrap()
}

fn exit(out: &Output) -> i32 {
    out.status.code().unwrap()
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

#[test]
fn without_an_agent_every_command_that_needs_one_says_so_in_one_line_and_exits_3() {
    let dir = nowhere();
    for args in [
        &["status"][..],
        &["rooms"],
        &["rooms", "--blocked"],
        &["show", "a"],
        &["explain", "a"],
        &["block", "a", "--reason", "why"],
        &["release", "a"],
        &["release", "--all"],
        &["kernel", "status"],
        &["maintenance", "list"],
        &["events", "--follow"],
        &["diff"],
        &["repair", "a"],
        &["repair", "--all", "--dry-run"],
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!(exit(&out), 3, "{args:?}: {}", stderr(&out));
        assert!(
            stderr(&out).starts_with("error: agent not running: nobody listens on "),
            "{}",
            stderr(&out)
        );
        assert_eq!(stderr(&out).lines().count(), 1, "{}", stderr(&out));
        assert!(stdout(&out).is_empty());
    }
}

#[test]
fn a_dead_agents_socket_is_as_good_as_none() {
    let dir = nowhere();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    drop(UnixListener::bind(dir.path().join("run/admin.sock")).unwrap());
    assert_eq!(exit(&voice_agent(dir.path(), &["rooms"])), 3);
}

#[test]
fn with_json_an_error_is_an_object_on_stderr_and_stdout_stays_empty() {
    let dir = nowhere();
    for (args, code, number) in [
        (&["rooms", "--json"][..], "agent_not_running", 3),
        (&["--json", "show", "a/b"], "usage", 2),
        (&["--json", "--set", "trip.mode=loud", "rooms"], "config", 2),
    ] {
        let out = voice_agent(dir.path(), args);
        let error: serde_json::Value = serde_json::from_str(&stderr(&out)).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert_eq!(error["error"]["exit"], number);
        assert_eq!(exit(&out), number);
        assert!(error["error"]["message"].as_str().is_some_and(|m| !m.is_empty()));
        assert!(stdout(&out).is_empty());
    }
}

#[test]
fn a_wrong_flag_a_bad_room_id_and_a_release_of_nothing_in_particular_exit_2() {
    let dir = nowhere();
    for (args, said) in [
        (&["rooms", "--frozen"][..], "--frozen"),
        (
            &["show", "a/b"],
            "room id \"a/b\" is not valid: allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ),
        (&["block", "a"], "--reason"),
        (
            &["block", "a", "--reason", "why", "--for", "soon"],
            "write it like 60s, 5m or 1h 30m",
        ),
        (
            &["block", "a", "--reason", "why", "--for", "0s"],
            "must be longer than nothing",
        ),
        (&["release"], "--all"),
        (&["release", "a", "--all"], "cannot be used with"),
        (&["kill-switch", "maybe"], "on, off, status"),
        (&["maintenance", "on", "a", "--for", "10m"], "--reason"),
        (&["maintenance", "on", "--for", "10m", "--reason", "why"], "--all"),
        (&["maintenance", "off"], "--all"),
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!(exit(&out), 2, "{args:?}");
        assert!(stderr(&out).contains(said), "{args:?}: {}", stderr(&out));
    }
}

#[test]
fn top_without_a_terminal_or_with_json_exits_2_and_names_the_commands_that_tell_the_same() {
    let dir = nowhere();
    for (args, said) in [
        (&["top"][..], "top needs a terminal as its output"),
        (&["top", "--json"], "top is a screen for people and has no JSON"),
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!(exit(&out), 2, "{args:?}");
        assert!(stderr(&out).contains(said), "{}", stderr(&out));
        assert!(
            stderr(&out).contains("`voice-agent status`, `rooms`"),
            "{}",
            stderr(&out)
        );
        assert!(stdout(&out).is_empty());
    }
}

#[test]
fn configuration_mistakes_are_listed_all_at_once_and_exit_2() {
    let dir = nowhere();
    std::fs::write(
        dir.path().join("config.toml"),
        "[trip]\nmode = \"loud\"\n\n[rooms]\nmisses = 0\n",
    )
    .unwrap();
    for args in [
        &["--set", "kernel.nonsense=1", "config", "check"][..],
        &["--set", "kernel.nonsense=1", "run"],
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!(exit(&out), 2);
        let said = stderr(&out);
        assert!(
            said.starts_with("error: the configuration has 3 mistakes:\n"),
            "{said}"
        );
        for key in ["trip.mode = \"loud\"", "rooms.misses = \"0\"", "kernel.nonsense"] {
            assert!(said.contains(key), "{key}: {said}");
        }
    }
}

#[test]
fn the_default_file_passes_the_check_and_what_is_in_force_follows_flags_and_instance() {
    let dir = nowhere();
    let default = voice_agent(dir.path(), &["config", "default"]);
    assert_eq!(exit(&default), 0);
    std::fs::write(dir.path().join("config.toml"), &default.stdout).unwrap();
    let check = voice_agent(dir.path(), &["config", "check"]);
    assert_eq!(
        (exit(&check), stdout(&check).as_str()),
        (0, "The configuration is valid.\n")
    );
    let args = [
        "--instance",
        "two",
        "--set",
        "trip.stuck_after=2m",
        "config",
        "show",
        "--json",
    ];
    let shown: serde_json::Value = serde_json::from_str(&stdout(&voice_agent(dir.path(), &args))).unwrap();
    assert_eq!(shown["paths"]["run"], "/run/voice-agent-two");
    assert_eq!(shown["trip"]["stuck_after"], "2m");
}

#[test]
fn the_kill_switch_without_agent_and_pins_is_a_file_that_a_later_start_honours() {
    let dir = nowhere();
    let file = dir.path().join("run/kill-switch");
    let on = voice_agent(dir.path(), &["kill-switch", "on"]);
    assert_eq!(exit(&on), 0, "{}", stderr(&on));
    assert_eq!(
        stderr(&on),
        "agent not running: nothing is pinned in the kernel; an agent that starts honours the file\n"
    );
    assert!(file.exists());
    let status = voice_agent(dir.path(), &["kill-switch", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(
        status,
        serde_json::json!({ "on": true, "kernel": null, "file": true })
    );
    assert_eq!(exit(&voice_agent(dir.path(), &["kill-switch", "off"])), 0);
    assert!(!file.exists());
    let audit = std::fs::read_to_string(dir.path().join("state/audit.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = audit.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let said: Vec<_> = lines
        .iter()
        .map(|l| (&l["action"], &l["uid"], &l["arguments"], &l["result"]["ok"]))
        .collect();
    let (action, uid, ok) = (
        "kill_switch".into(),
        nix::unistd::getuid().as_raw().into(),
        true.into(),
    );
    let arguments = [true, false].map(|on| serde_json::json!({ "on": on, "agent": "away" }));
    let expected: Vec<_> = arguments.iter().map(|a| (&action, &uid, a, &ok)).collect();
    assert_eq!(said, expected);
}

#[test]
fn an_audit_log_that_cannot_be_written_is_told_and_keeps_nothing_from_being_done() {
    let dir = nowhere();
    std::fs::create_dir_all(dir.path().join("state/audit.jsonl")).unwrap();
    let on = voice_agent(dir.path(), &["kill-switch", "on"]);
    assert_eq!(exit(&on), 0, "{}", stderr(&on));
    assert!(stderr(&on).contains("not in the audit log "), "{}", stderr(&on));
    assert!(dir.path().join("run/kill-switch").exists());
}

#[test]
fn detaching_is_refused_while_an_agent_holds_the_locks_even_if_its_socket_is_gone() {
    let dir = nowhere();
    std::fs::create_dir(dir.path().join("bpf")).unwrap();
    let config = Config::load(Some(&dir.path().join("config.toml")), std::iter::empty(), &[]).unwrap();
    let agent = AgentLock::acquire(&config.paths).unwrap();
    let out = voice_agent(dir.path(), &["kernel", "detach"]);
    assert_eq!(exit(&out), 1, "{}", stderr(&out));
    let said = format!("error: the agent runs (pid {}, ", std::process::id());
    assert!(stderr(&out).starts_with(&said), "{}", stderr(&out));
    drop(agent);
}

#[test]
fn detaching_where_nothing_is_pinned_says_so() {
    let dir = nowhere();
    let out = voice_agent(dir.path(), &["kernel", "detach"]);
    assert_eq!(exit(&out), 0, "{}", stderr(&out));
    assert!(
        stdout(&out).starts_with("Nothing is pinned under "),
        "{}",
        stdout(&out)
    );
}

#[test]
fn completions_and_manual_pages_need_neither_an_agent_nor_a_valid_configuration() {
    let dir = nowhere();
    std::fs::write(dir.path().join("config.toml"), "nonsense").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let out = voice_agent(dir.path(), &["completions", shell]);
        assert_eq!(exit(&out), 0, "{}", stderr(&out));
        for word in ["kill-switch", "blocked"] {
            assert!(stdout(&out).contains(word), "{shell} completes {word}");
        }
    }
    let script = dir.path().join("completion");
    std::fs::write(&script, voice_agent(dir.path(), &["completions", "bash"]).stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(parsed.success());
    let pages = dir.path().join("man1");
    let out = voice_agent(dir.path(), &["man", "--out", pages.to_str().unwrap(), "--json"]);
    let written: serde_json::Value = serde_json::from_str(&stdout(&out)).unwrap();
    let files = written["files"].as_array().unwrap();
    assert_eq!(files.len(), std::fs::read_dir(&pages).unwrap().count());
    assert_eq!(exit(&voice_agent(dir.path(), &["completions", "tcsh"])), 2);
}

#[test]
fn help_documents_the_exit_codes() {
    let dir = nowhere();
    let help = stdout(&voice_agent(dir.path(), &["--help"]));
    for line in [
        "  3  the agent is not running",
        "  4  no such room",
        "  5  permission denied",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

/// An agent as far as the admin socket shows one: the real service before a played driver that knows no room.
struct Played {
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Played {
    fn start(dir: &Path) -> Played {
        let shutdown = CancellationToken::new();
        let (end, socket) = (shutdown.clone(), dir.join("run/admin.sock"));
        let at = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(play(&at, end));
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&socket).is_err() {
            assert!(
                Instant::now() < deadline,
                "nobody listens on {}",
                socket.display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Played {
            shutdown,
            thread: Some(thread),
        }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(
            !matches!(ended, Some(Err(_))) || std::thread::panicking(),
            "the played agent failed"
        );
    }
}

async fn play(socket: &Path, shutdown: CancellationToken) {
    let (handle, mut driver) = Handle::new(16);
    let node = NodeName::new("media-1").unwrap();
    let about = About {
        node,
        instance: None,
        mode: Mode::Enforce.into(),
        started: Wall(0),
        history: None,
        recovered: String::new(),
        tiers: voice_agent::tiers::Tiers::default(),
    };
    let driver = async {
        while let Some(message) = driver.recv().await {
            match message {
                Message::Query(Query::Rooms(to)) => drop(to.send(Vec::new())),
                Message::Query(Query::Census(to)) => drop(to.send(Census::default())),
                Message::Query(Query::Top(_, to)) => drop(to.send(Box::default())),
                Message::Query(Query::Room(_, to)) => drop(to.send(None)),
                Message::Query(Query::Explain(_, to)) => drop(to.send(Ok(Vec::new()))),
                Message::Query(Query::Maintenance(to)) => drop(to.send(Vec::new())),
                Message::Query(Query::Maintain { to, .. }) => {
                    drop(to.send(Err(Rejected::Limit("too many".into()).into())));
                }
                Message::Query(Query::Events { after, to, .. }) => drop(to.send(Ok(stored(&after)))),
                Message::Query(Query::Kernel(to)) => drop(to.send(KernelStatus::default())),
                Message::Query(Query::Topology(_, to)) => drop(to.send(Vec::new())),
                Message::Query(Query::KillSwitch(_, _, to)) => drop(to.send(Err("the map is gone".into()))),
                Message::Request(request, to) => drop(to.send(Err(Rejected::UnknownRoom(request.room)))),
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    tokio::select! {
        served = api::serve(socket, handle, Audit::default(), about, shutdown) => served.unwrap(),
        () = driver => {}
    }
}

/// Two events, at positions 3 and 4.
fn stored(after: &Cursor) -> Vec<(Position, StateChangeEvent)> {
    let event = |room: &str| StateChangeEvent {
        room: RoomId::new(room).unwrap(),
        incarnation: Incarnation(1),
        event_type: EventType::Stuck,
        old_state: Some(State::Liveing),
        new_state: State::Expired,
        version: Version(2),
        epoch: Epoch::default(),
        op_id: OpId::new("op").unwrap(),
        actor: Actor::Agent,
        reason: "stuck".into(),
        trace_id: None,
        timestamp: Wall(0),
    };
    let events = [(3, event("a")), (4, event("b"))];
    events
        .into_iter()
        .filter(|(position, _)| Some(*position) > after.local())
        .map(|(n, event)| (Position::Local(n), event))
        .collect()
}

#[test]
fn events_are_a_line_or_an_object_each_from_a_position_on_and_of_one_room() {
    let dir = nowhere();
    let _agent = Played::start(dir.path());
    let all = voice_agent(dir.path(), &["events"]);
    let a = "3  1970-01-01T00:00:00.000Z  a  LIVEING -> EXPIRED  STUCK by agent: stuck\n";
    let b = "4  1970-01-01T00:00:00.000Z  b  LIVEING -> EXPIRED  STUCK by agent: stuck\n";
    assert_eq!(
        (exit(&all), stdout(&all)),
        (0, format!("{a}{b}")),
        "{}",
        stderr(&all)
    );
    assert_eq!(stdout(&voice_agent(dir.path(), &["events", "--since", "3"])), b);
    assert_eq!(stdout(&voice_agent(dir.path(), &["events", "a"])), a);
    let json = stdout(&voice_agent(dir.path(), &["events", "--json"]));
    let objects: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[1]["position"], "4");
    assert_eq!(objects[1]["transition"]["new_state"], "EXPIRED");
}

#[test]
fn following_ends_quietly_when_interrupted_and_when_nobody_reads_any_more() {
    use std::io::{BufRead, BufReader, Read};
    let dir = nowhere();
    let _agent = Played::start(dir.path());
    for interrupt in [true, false] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voice-agent"));
        command.arg("--config").arg(dir.path().join("config.toml"));
        command.args(["events", "--follow"]);
        let (out, err) = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        for _ in 0..2 {
            lines.read_line(&mut String::new()).unwrap();
        }
        let kept = interrupt.then_some(lines);
        if interrupt {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("it follows on; interrupted: {interrupt}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(
            (status.code(), said.as_str()),
            (Some(0), ""),
            "interrupted: {interrupt}"
        );
        drop(kept);
    }
}

#[test]
fn an_unknown_room_exits_4_and_says_so_by_person_and_program() {
    let dir = nowhere();
    let _agent = Played::start(dir.path());
    for args in [
        &["show", "talk-1"][..],
        &["explain", "talk-1"],
        &["block", "talk-1", "--reason", "why"],
        &["release", "talk-1"],
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!(exit(&out), 4, "{args:?}: {}", stderr(&out));
        assert_eq!(stderr(&out), "error: room talk-1 is not known here\n");
    }
    let out = voice_agent(dir.path(), &["--json", "show", "talk-1"]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&out)).unwrap();
    assert_eq!(error["error"]["code"], "no_such_room");
    assert_eq!(error["error"]["reason"], "unknown_room");
}

#[test]
fn an_agent_without_rooms_says_so_and_a_refusal_exits_1() {
    let dir = nowhere();
    let _agent = Played::start(dir.path());
    for (args, said) in [
        (&["rooms"][..], "No rooms on this node.\n"),
        (&["rooms", "--blocked"], "No room is blocked.\n"),
        (&["release", "--all"], "No room is blocked; nothing to release.\n"),
        (&["topology"], "No peer is connected.\n"),
        (&["maintenance", "list"], "Nothing is under maintenance.\n"),
        (
            &["maintenance", "off", "--all"],
            "There was no maintenance of every room.\n",
        ),
    ] {
        let out = voice_agent(dir.path(), args);
        assert_eq!((exit(&out), stdout(&out).as_str()), (0, said), "{}", stderr(&out));
    }
    let status = voice_agent(dir.path(), &["status"]);
    assert!(
        stdout(&status).starts_with("agent        alive on media-1, version "),
        "{}",
        stdout(&status)
    );
    let refused = voice_agent(dir.path(), &["kill-switch", "on"]);
    assert_eq!(exit(&refused), 1);
    assert_eq!(
        stderr(&refused),
        "error: turning the kill switch: the map is gone\n"
    );
}

#[test]
fn the_kill_switch_of_an_agent_that_does_not_answer_is_turned_without_it() {
    let dir = nowhere();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let _frozen = UnixListener::bind(dir.path().join("run/admin.sock")).unwrap();
    let out = voice_agent(dir.path(), &["kill-switch", "on"]);
    assert_eq!(exit(&out), 0, "{}", stderr(&out));
    assert!(
        stderr(&out).starts_with("agent does not answer: "),
        "{}",
        stderr(&out)
    );
    assert!(dir.path().join("run/kill-switch").exists());
}

#[test]
fn a_key_file_that_cannot_be_used_is_a_mistake_for_who_needs_it_and_for_nobody_else() {
    let dir = nowhere();
    let key = format!("tokens.keys=main:HS256:{}", dir.path().join("key").display());
    let set = ["--set", key.as_str()];
    let run = |args: &[&str]| voice_agent(dir.path(), &[&set, args].concat());
    for command in [
        &["run"] as &[&str],
        &["config", "check"],
        &["token", "check", "--room", "r-1"],
    ] {
        let out = run(command);
        assert_eq!(exit(&out), 2, "{command:?}");
        let said = stderr(&out);
        assert!(
            said.contains("tokens.keys = \"main:HS256:") && said.contains("cannot be read"),
            "{said}"
        );
    }
    assert_eq!(exit(&run(&["config", "show"])), 0);
    std::fs::write(dir.path().join("key"), "a-secret-of-more-than-32-characters-hush").unwrap();
    let open = stderr(&run(&["config", "check"]));
    assert!(open.contains("chmod o= ") && !open.contains("hush"), "{open}");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.path().join("key"), private).unwrap();
    assert_eq!(exit(&run(&["config", "check"])), 0);
    let shown = run(&["config", "show"]);
    assert!(stdout(&shown).contains("main:HS256:") && !stdout(&shown).contains("hush"));
    // Standard input is empty.
    let nothing = run(&["token", "check", "--room", "r-1", "--json"]);
    assert_eq!(exit(&nothing), 1);
    assert!(
        stderr(&nothing).contains("\"reason\":\"not_given\""),
        "{}",
        stderr(&nothing)
    );
}

/// What is fenced, and the first column of the table of commands.
fn commands_of(readme: &str) -> Vec<String> {
    let fenced = readme.split("\n```").skip(1).step_by(2).map(str::to_owned);
    let rows = readme.lines().filter(|line| line.starts_with("| `voice-agent "));
    let rows = rows.map(|line| line.split(" | ").next().unwrap_or_default().to_owned());
    fenced.chain(rows).collect()
}

#[test]
fn the_chinese_readme_shows_the_same_commands_as_the_english_one() {
    let english = commands_of(include_str!("../../README.md"));
    let chinese = commands_of(include_str!("../../README.zh-CN.md"));
    assert!(english.len() > 20, "{english:?}");
    assert_eq!(english, chinese);
}

#[test]
fn readme_dockerfile_and_changelog_name_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    let readme = include_str!("../../README.md");
    for name in [
        format!("voice-agent_{version}-1_amd64.deb"),
        format!("voice-agent-{version}-x86_64.oci.tar"),
    ] {
        assert!(readme.contains(&name), "{name}");
    }
    assert!(include_str!("../../deploy/Dockerfile").contains(&format!("voice-agent:{version} ")));
    assert!(include_str!("../../CHANGELOG.md").contains(&format!("\n## {version}\n")));
}
