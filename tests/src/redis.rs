//! Real Redis servers on free loopback ports, each in a scratch directory of its own: a single one here, a cluster of six in
//! `cluster`. They are killed on drop, and by the kernel when their maker dies. Nothing but them is ever touched.

pub mod cluster;

pub use cluster::Cluster;

use crate::{bpffs::Scratch, clock, process};
use anyhow::{Context, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::Signal,
    unistd::Pid,
};
use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use voice_agent::config::redis::RedisConfig;

/// Two busy cores and a kill -9 before it included.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// One server. What it stores is in memory, unless its options say otherwise.
#[derive(Debug)]
pub struct Server {
    dir: Scratch,
    port: u16,
    options: Vec<String>,
    password: Option<String>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts one without a password.
    pub fn start() -> anyhow::Result<Server> {
        Server::with(&[])
    }

    /// Starts one with more options, as on its command line.
    pub fn with(options: &[&str]) -> anyhow::Result<Server> {
        let password = options.windows(2).find(|pair| pair[0] == "--requirepass");
        let server = Server {
            dir: Scratch::new("redis")?,
            port: free_port()?,
            options: options.iter().map(ToString::to_string).collect(),
            password: password.map(|pair| pair[1].to_owned()),
            child: Mutex::new(None),
        };
        server.run()?;
        Ok(server)
    }

    /// Starts the process (again) on its port, and waits until it answers.
    pub fn run(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts the process (again) on its port. It may not answer yet, or still load what it stores.
    pub fn launch(&self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("redis.log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1"]);
        command.args(["--port", &self.port.to_string(), "--save", ""]);
        command.args(&self.options).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .context("start redis-server (setpriv is in util-linux)")?;
        *self.child() = Some(child);
        Ok(())
    }

    /// Waits until it answers.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = clock::poll(READY_WITHIN, || {
            if let Ok(Some(status)) = self.child().as_mut()?.try_wait() {
                return Some(Err(anyhow::anyhow!("redis-server ended at start: {status}")));
            }
            (self.ask(&["PING"]).ok()?.trim() == "PONG").then_some(Ok(()))
        });
        let ready =
            ready.unwrap_or_else(|| bail!("no answer from redis-server on port {} in time", self.port));
        ready.with_context(|| format!("it says:\n{}", self.log()))
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `store.redis.addresses` has it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The store's configuration for it, without password and TLS.
    pub fn config(&self) -> RedisConfig {
        config(&[self.address()], false)
    }

    /// What `redis-cli` prints for a command. An answer that is an error is one here.
    pub fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        // A stopped server must not hold the test.
        let mut command = Command::new("timeout");
        command.args(["10", "redis-cli", "-e", "-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let out = command.args(args).output().context("run redis-cli")?;
        let (said, complaint) = (
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
        );
        ensure!(
            out.status.success(),
            "redis-cli -p {} {}: {}{}",
            self.port,
            args.join(" "),
            said.trim(),
            complaint.trim()
        );
        Ok(said.into_owned())
    }

    /// How often it has answered with an error of this code, such as `LOADING`, since it was started.
    pub fn errors(&self, code: &str) -> u64 {
        let stats = self.ask(&["INFO", "errorstats"]).unwrap_or_default();
        let line = format!("errorstat_{code}:count=");
        let count = stats.lines().find_map(|text| text.trim().strip_prefix(&line));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// SIGKILL; returns once it is gone. [`Server::run`] brings it back.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: its sockets stay open, and nothing is answered. SIGCONT lets it go on.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        process::signal(self.pid()?, signal)
    }

    /// Keeps the thread that answers on these processors.
    pub fn keep_on(&self, processors: &CpuSet) -> anyhow::Result<()> {
        sched_setaffinity(self.pid()?, processors).context("keep redis-server on its processor")
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child().as_ref().context("redis-server is not running")?.id();
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The store's defaults for these addresses, but with an answer waited for somewhat longer: the cores are busy.
fn config(addresses: &[String], cluster: bool) -> RedisConfig {
    RedisConfig {
        addresses: addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        cluster,
        timeout: Duration::from_secs(2),
        record_ttl: Duration::from_secs(300),
        events_kept: Duration::from_secs(86_400),
        ..RedisConfig::default()
    }
}

/// A TCP port of 127.0.0.1 that is free now, outside the range from which the kernel takes ports by itself: nobody else is
/// given it between this and the server's start.
pub fn free_port() -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin at different ports.
    let own = u16::try_from(std::process::id() % 100)?;
    for _ in 0..9_000 {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (own * 90 + at) % 9_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no TCP port from 20000 to 28999 is free on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_forgets_over_kill_9_and_is_gone_after_drop() {
        let server = Server::start().unwrap();
        server.ask(&["SET", "a", "1"]).unwrap();
        assert_eq!(server.ask(&["GET", "a"]).unwrap().trim(), "1");
        assert!(server.ask(&["LPUSH", "a", "1"]).is_err());
        server.kill();
        server.run().unwrap();
        assert_eq!(server.ask(&["GET", "a"]).unwrap().trim(), "");
        let port = server.port();
        drop(server);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
