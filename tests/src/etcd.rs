//! Real etcd members (Debian's etcd-server) on free loopback ports, with directories of their own; killed and removed on
//! drop. They can be frozen, killed and started again.

pub mod direct;
pub mod secure;

use crate::{bpffs::Scratch, clock, process};
use anyhow::{Context, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use secure::Cert;
use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long members may take to answer after a start, on a loaded machine.
const READY: Duration = Duration::from_secs(60);

/// A cluster of one or more members.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    dir: Scratch,
    options: Options,
}

/// How members are started, besides the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The certificate of every member, and whose certificates clients have to show.
    pub tls: Option<(Cert, PathBuf)>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// One member: where it listens, and its process while it runs.
#[derive(Debug)]
struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    /// Its own figures, without TLS.
    metrics: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl Etcd {
    /// Starts so many members and waits until each knows a leader.
    pub fn start(members: usize) -> anyhow::Result<Etcd> {
        Etcd::with(members, Options::default())
    }

    /// The same, with TLS or other arguments.
    pub fn with(members: usize, options: Options) -> anyhow::Result<Etcd> {
        let ports = free_ports(3 * members)?;
        let member = |(index, ports): (usize, &[SocketAddr])| {
            let &[client, peer, metrics] = ports else {
                return None;
            };
            Some(Member {
                name: format!("m{index}"),
                client,
                peer,
                metrics,
                child: Mutex::new(None),
            })
        };
        let etcd = Etcd {
            members: ports.chunks(3).enumerate().filter_map(member).collect(),
            dir: Scratch::new("etcd")?,
            options,
        };
        for index in 0..members {
            etcd.run(index)?;
        }
        etcd.wait_ready()?;
        Ok(etcd)
    }

    /// The endpoints, as `registry.etcd.endpoints` takes them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member)).collect()
    }

    /// Where a member's clients connect.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.members[member].client
    }

    /// Starts a member (again), with the data it has.
    pub fn run(&self, index: usize) -> anyhow::Result<()> {
        let member = &self.members[index];
        let url = self.url(member);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(index))?;
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(self.data_dir(index))
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-metrics-urls", &format!("http://{}", member.metrics)])
            .args(["--listen-peer-urls", &format!("http://{}", member.peer)])
            .args([
                "--initial-advertise-peer-urls",
                &format!("http://{}", member.peer),
            ])
            .args(["--initial-cluster", &self.cluster()])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.options.args);
        if let Some((own, clients)) = &self.options.tls {
            command
                .arg("--cert-file")
                .arg(&own.cert)
                .arg("--key-file")
                .arg(&own.key)
                .arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(clients);
        }
        let child = command
            .env_remove("ETCDCTL_API")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start etcd (Debian package etcd-server)")?;
        *member.child() = Some(child);
        Ok(())
    }

    /// Runs etcdctl on the first member; `args` hold the certificates and the user, where they are needed.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let endpoints = self.endpoints().into_iter().next().context("no member")?;
        secure::run(
            Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &endpoints])
                .args(args),
        )
    }

    /// Puts the data of a snapshot in place of what a lone member has. It must not be running.
    pub fn restore(&self, snapshot: &Path) -> anyhow::Result<()> {
        let member = self.members.first().context("no member")?;
        let data = self.data_dir(0);
        std::fs::remove_dir_all(&data).context("remove what the member had")?;
        let peer = format!("http://{}", member.peer);
        let mut restore = Command::new("etcdctl");
        restore
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .args(["--name", &member.name, "--initial-cluster", &self.cluster()])
            .args(["--initial-advertise-peer-urls", &peer, "--data-dir"])
            .arg(data);
        secure::run(&mut restore).map(drop)
    }

    fn url(&self, member: &Member) -> String {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", member.client)
    }

    fn cluster(&self) -> String {
        let peer = |m: &Member| format!("{}=http://{}", m.name, m.peer);
        self.members.iter().map(peer).collect::<Vec<_>>().join(",")
    }

    fn data_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{index}"))
    }

    /// A directory that goes with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every running member knows a leader.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let running = || self.members.iter().filter(|member| member.child().is_some());
        let ready = clock::poll(READY, || {
            running()
                .all(|member| member.gauge("etcd_server_has_leader") == Some(1.0))
                .then_some(())
        });
        ensure!(
            ready.is_some(),
            "etcd has no leader after {READY:?}; its logs say:\n{}",
            self.logs()
        );
        Ok(())
    }

    /// The member that leads now, among those that run.
    pub fn leader(&self) -> anyhow::Result<usize> {
        let leads =
            |member: &Member| member.child().is_some() && member.gauge("etcd_server_is_leader") == Some(1.0);
        clock::poll(READY, || self.members.iter().position(leads)).context("etcd has no leader")
    }

    /// SIGSTOP: the member answers nothing, and its connections stay open.
    pub fn freeze(&self, member: usize) -> anyhow::Result<()> {
        self.signal(member, Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self, member: usize) -> anyhow::Result<()> {
        self.signal(member, Signal::SIGCONT)
    }

    /// SIGKILL; returns once the process is gone. Its data stays.
    pub fn kill(&self, member: usize) -> anyhow::Result<()> {
        let child = self.members[member].child().take();
        let mut child = child.context("the member is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// A member's process id.
    pub fn pid(&self, member: usize) -> anyhow::Result<Pid> {
        let id = self.members[member]
            .child()
            .as_ref()
            .context("the member is not running")?
            .id();
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    /// The end of what every member logged.
    pub fn logs(&self) -> String {
        let logs = (0..self.members.len()).map(|index| {
            let log = std::fs::read_to_string(self.log_path(index)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines
                .get(lines.len().saturating_sub(20)..)
                .unwrap_or_default()
                .join("\n")
        });
        logs.collect::<Vec<_>>().join("\n--\n")
    }

    fn signal(&self, member: usize, signal: Signal) -> anyhow::Result<()> {
        process::signal(self.pid(member)?, signal).context("signal etcd")
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{index}.log"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &self.members {
            if let Some(mut child) = member.child().take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- etcd ---\n{}", self.logs());
        }
    }
}

impl Member {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A figure of the member's own metrics page.
    fn gauge(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect_timeout(&self.metrics, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

/// Loopback addresses whose ports are free now. All are held until all are found, so that none comes twice.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("find free ports")?;
    held.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn three_members_have_a_leader_and_another_one_after_it_was_killed() {
        let etcd = Etcd::start(3).unwrap();
        let first = etcd.leader().unwrap();
        etcd.kill(first).unwrap();
        etcd.wait_ready().unwrap();
        let second = etcd.leader().unwrap();
        assert_ne!(first, second);
        etcd.run(first).unwrap();
        etcd.wait_ready().unwrap();
    }

    #[test]
    fn a_frozen_member_answers_again_once_thawed_and_nothing_is_left_after_drop() {
        let etcd = Etcd::start(1).unwrap();
        etcd.freeze(0).unwrap();
        assert_eq!(etcd.members[0].gauge("etcd_server_has_leader"), None);
        etcd.thaw(0).unwrap();
        etcd.wait_ready().unwrap();
        let (dir, process) = (
            etcd.dir.path().to_owned(),
            format!("/proc/{}", etcd.pid(0).unwrap()),
        );
        drop(etcd);
        assert!(!dir.exists() && !Path::new(&process).exists());
    }
}
