//! The real `voice-agent` as a process in a namespace: configuration, start, signals, log, and its CLI. Found by
//! `XTASK_VOICE_AGENT`, else built by cargo.

pub mod binary;
pub mod next;
pub mod settings;

use crate::{
    bpffs::{self, Scratch},
    clock,
    netns::Netns,
    process,
};
use anyhow::{Context, bail};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
pub use settings::Settings;
use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::Mutex,
    time::Duration,
};

/// One agent's place: its paths, its configuration, and the process while it runs. On drop the process is killed, its
/// pins and files go, and a panicking test sees its log.
#[derive(Debug)]
pub struct Agent {
    netns: String,
    dir: Scratch,
    binary: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Agent {
    /// Prepares an agent for `ns` with a private bpffs, state and run directory, and starts it.
    pub fn start(ns: &Netns, settings: &Settings) -> anyhow::Result<Agent> {
        let agent = Agent::prepare(ns, settings)?;
        agent.run()?;
        Ok(agent)
    }

    /// The same without starting it.
    pub fn prepare(ns: &Netns, settings: &Settings) -> anyhow::Result<Agent> {
        Agent::prepare_with(ns, settings, binary::path()?)
    }

    /// The same with another program in place of the one that was built.
    pub fn prepare_with(ns: &Netns, settings: &Settings, binary: PathBuf) -> anyhow::Result<Agent> {
        let dir = Scratch::new("agent")?;
        for sub in ["state", "run", "bpffs"] {
            fs::create_dir(dir.path().join(sub))?;
        }
        bpffs::mount_at(&dir.path().join("bpffs"))?;
        let agent = Agent {
            netns: ns.name().to_owned(),
            dir,
            binary,
            child: Mutex::new(None),
        };
        agent.configure(settings)?;
        Ok(agent)
    }

    /// From the next start on, and for every command, another program: an upgrade, or a way back.
    pub fn replace(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Writes the configuration; a running agent takes it at its next start.
    pub fn configure(&self, settings: &Settings) -> anyhow::Result<()> {
        fs::write(self.config(), settings.toml(self.dir.path()))?;
        Ok(())
    }

    /// Starts the process (again) and waits until its admin socket answers.
    pub fn run(&self) -> anyhow::Result<()> {
        self.run_in(&[])
    }

    /// The same with these environment variables besides.
    pub fn run_in(&self, env: &[(&str, &str)]) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        self.spawn(log.into(), env)
    }

    /// The same, with its log into a pipe that nobody reads.
    pub fn run_unheard(&self) -> anyhow::Result<()> {
        self.spawn(Stdio::piped(), &[])
    }

    fn spawn(&self, log: Stdio, env: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = self.command(&["run"])?;
        let quiet = command.envs(env.iter().copied());
        let quiet = quiet.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(log).spawn().context("start voice-agent")?;
        *self.child() = Some(child);
        self.wait_ready()
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        let socket = self.admin_socket();
        let ready = clock::poll(Duration::from_secs(60), || {
            if let Some(status) = self.exited() {
                return Some(Err(anyhow::anyhow!("voice-agent ended at start: {status}")));
            }
            UnixStream::connect(&socket).is_ok().then_some(Ok(()))
        });
        ready
            .unwrap_or_else(|| bail!("voice-agent does not answer on {} after 60 s", socket.display()))
            .with_context(|| format!("its log says:\n{}", self.log()))
    }

    /// How the process ended, if it did.
    fn exited(&self) -> Option<std::process::ExitStatus> {
        self.child().as_mut()?.try_wait().ok().flatten()
    }

    /// The process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child().as_ref().context("the agent is not running")?.id();
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    /// Sends a signal; SIGSTOP returns once it has stopped.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        process::signal(self.pid()?, signal).context("signal voice-agent")
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.reap(Duration::from_secs(5)).map(drop)
    }

    /// SIGTERM; its exit code, or an error when it is still there after 10 s.
    pub fn terminate(&self) -> anyhow::Result<Option<i32>> {
        self.signal(Signal::SIGTERM)?;
        self.reap(Duration::from_secs(10))
    }

    fn reap(&self, within: Duration) -> anyhow::Result<Option<i32>> {
        let status = clock::poll(within, || self.exited());
        let status = status.with_context(|| format!("voice-agent did not end within {within:?}"))?;
        *self.child() = None;
        Ok(status.code())
    }

    /// A CLI command, with this agent's configuration, run to its end.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command(args)?;
        command.env("NO_COLOR", "1");
        command
            .output()
            .with_context(|| format!("run voice-agent {}", args.join(" ")))
    }

    /// A CLI command that goes on, its output to be read.
    pub fn begin(&self, args: &[&str]) -> anyhow::Result<std::process::Child> {
        let mut command = self.command(args)?;
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .with_context(|| format!("run voice-agent {}", args.join(" ")))
    }

    /// A CLI command on a terminal of its own, run to its end: what is shown there, and the exit code.
    pub fn on_terminal(&self, args: &[&str]) -> anyhow::Result<(String, Option<i32>)> {
        // `script` makes the terminal, and a shell takes what it shall run there.
        let mut words = vec![self.binary.display().to_string(), "--config".into()];
        words.push(self.config().display().to_string());
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut script = Netns::existing(&self.netns)?.command("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        let out = script
            .stdin(Stdio::null())
            .output()
            .context("run script (package bsdutils)")?;
        Ok((
            String::from_utf8_lossy(&out.stdout).into_owned(),
            out.status.code(),
        ))
    }

    /// The output of a CLI command that succeeds, as text.
    pub fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.cli(args)?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            bail!("voice-agent {} ({}): {}", args.join(" "), out.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The answer of a CLI command that succeeds, with `--json`.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = self.text(&[args, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("voice-agent {} --json: {text}", args.join(" ")))
    }

    /// One room as `show ROOM --json` has it; `None` when the agent does not know it.
    pub fn room(&self, room: &str) -> Option<Value> {
        self.json(&["show", room]).ok()
    }

    /// The state of a room, by its wire name; empty when the agent does not know it.
    pub fn state(&self, room: &str) -> String {
        let view = self.room(room).unwrap_or_default();
        view["state"].as_str().unwrap_or_default().to_owned()
    }

    fn command(&self, args: &[&str]) -> anyhow::Result<std::process::Command> {
        let mut command = Netns::existing(&self.netns)?.command(&self.binary);
        command.arg("--config").arg(self.config()).args(args);
        Ok(command)
    }

    /// Leaves its directory (log, state, configuration) behind.
    pub fn keep_files(&mut self) {
        self.dir.keep();
    }

    /// Where its pins lie.
    pub fn pin_dir(&self) -> PathBuf {
        self.pins_of(voice_common::ABI_VERSION)
    }

    /// Where the pins of a build with this ABI version lie.
    pub fn pins_of(&self, abi_version: u32) -> PathBuf {
        self.pin_root().join(format!("v{abi_version}"))
    }

    /// Where the pins of every ABI version lie.
    pub fn pin_root(&self) -> PathBuf {
        self.dir.path().join("bpffs/voice-agent")
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("agent.toml")
    }

    /// Its scratch directory: `state`, `run`, `bpffs`, `agent.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything it logged, of all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("run/admin.sock")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        crate::rtp::lock(&self.child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- voice-agent log ({}) ---\n{}",
                self.dir.path().display(),
                self.log()
            );
        }
    }
}
