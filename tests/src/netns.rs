//! Network namespaces and veth pairs, made by `ip` and removed on drop. Interfaces live only inside namespaces, so
//! their names never clash with the host's or another test's.

use crate::sweep;
use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A named network namespace with its loopback up; deleted on drop. End what runs in it first.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
    owned: bool,
}

impl Netns {
    /// Makes one. Its name is `vl-PID-COUNT-LABEL`. Needs root.
    pub fn new(label: &str) -> anyhow::Result<Netns> {
        sweep::sweep();
        let name = format!("{}-{label}", sweep::unique());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let mut ns = Netns::existing(&name)?;
        ns.owned = true;
        ns.up("lo")?;
        Ok(ns)
    }

    /// One that somebody else made and will delete.
    pub fn existing(name: &str) -> anyhow::Result<Netns> {
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Netns {
            name: name.to_owned(),
            file,
            owned: false,
        })
    }

    /// Its name, for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `f` on a thread inside the namespace and waits for it. Sockets made there stay there.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter namespace {}", self.name))?;
                Ok(f())
            });
            // A panic inside is the caller's own (an assertion): let it go on as if `f` had run here.
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A thread inside the namespace, and every thread it makes; it runs until `f` ends.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<anyhow::Result<T>> {
        let (file, name) = (self.file.try_clone(), self.name.clone());
        thread::spawn(move || {
            setns(file?, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter namespace {name}"))?;
            Ok(f())
        })
    }

    /// A command that runs inside, with the host's mounts (so bpffs stays visible); the pid is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// `ip -n NAME ARGS`; the words of `args` are split at spaces.
    pub fn ip(&self, args: &str) -> anyhow::Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(args.split_whitespace()))
    }

    /// Gives `dev` an address (`10.0.0.1/24`, `fd00::1/64`), usable at once.
    pub fn address(&self, dev: &str, cidr: &str) -> anyhow::Result<()> {
        let nodad = if cidr.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {cidr} dev {dev} {nodad}")).map(drop)
    }

    /// Brings `dev` up.
    pub fn up(&self, dev: &str) -> anyhow::Result<()> {
        self.ip(&format!("link set {dev} up")).map(drop)
    }

    /// Waits until `dev` carries packets: the kernel starts a queue a moment after both ends are up.
    pub fn wait_up(&self, dev: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.ip(&format!("link show dev {dev}"))?.contains("state UP") {
            if Instant::now() > deadline {
                bail!("{dev} in {} is not up after 5 s", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Sets the MTU of `dev`.
    pub fn mtu(&self, dev: &str, mtu: u32) -> anyhow::Result<()> {
        self.ip(&format!("link set {dev} mtu {mtu}")).map(drop)
    }

    /// Switches GRO of `dev`. On, a veth end takes XDP frames without an XDP program of its own.
    pub fn gro(&self, dev: &str, on: bool) -> anyhow::Result<()> {
        let on = if on { "on" } else { "off" };
        run(self.command("ethtool").args(["-K", dev, "gro", on])).map(drop)
    }

    /// The interface index of `dev`.
    pub fn index(&self, dev: &str) -> anyhow::Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(dev))?
            .with_context(|| format!("find interface {dev} in {}", self.name))
    }

    /// Deletes `dev`, and with it the other end of its pair.
    pub fn delete(&self, dev: &str) -> anyhow::Result<()> {
        self.ip(&format!("link del {dev}")).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.owned {
            let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
        }
    }
}

/// Joins two namespaces by a veth pair, both ends with GRO on and up.
pub fn veth(a: &Netns, a_dev: &str, b: &Netns, b_dev: &str) -> anyhow::Result<()> {
    let (a_name, b_name) = (a.name(), b.name());
    let words = format!("link add {a_dev} netns {a_name} type veth peer name {b_dev} netns {b_name}");
    run(Command::new("ip").args(words.split_whitespace()))?;
    for (ns, dev) in [(a, a_dev), (b, b_dev)] {
        ns.gro(dev, true)?;
        ns.up(dev)?;
    }
    Ok(())
}

/// Two namespaces joined by one veth pair: a media node and the world of its users.
#[derive(Debug)]
pub struct Pair {
    /// The media node: `node0`, 10.88.0.1/16 and fd88::1/64.
    pub node: Netns,
    /// The users: `user0`, 10.88.0.2/16 and fd88::2/64.
    pub users: Netns,
}

/// The node's interface in a [`Pair`].
pub const NODE_DEV: &str = "node0";
/// The users' interface in a [`Pair`].
pub const USER_DEV: &str = "user0";
/// The node's address in a [`Pair`].
pub const NODE_IP: &str = "10.88.0.1";
/// The users' address in a [`Pair`].
pub const USER_IP: &str = "10.88.0.2";

impl Pair {
    /// Makes both.
    pub fn new() -> anyhow::Result<Pair> {
        let pair = Pair {
            node: Netns::new("node")?,
            users: Netns::new("users")?,
        };
        pair.connect()?;
        Ok(pair)
    }

    /// Joins them (again, after the interface was deleted). Returns once both ends carry packets.
    pub fn connect(&self) -> anyhow::Result<()> {
        veth(&self.node, NODE_DEV, &self.users, USER_DEV)?;
        for (ns, dev, v4, v6) in [
            (&self.node, NODE_DEV, NODE_IP, "fd88::1/64"),
            (&self.users, USER_DEV, USER_IP, "fd88::2/64"),
        ] {
            ns.address(dev, &format!("{v4}/16"))?;
            ns.address(dev, v6)?;
        }
        self.node.wait_up(NODE_DEV)?;
        self.users.wait_up(USER_DEV)
    }
}

/// Runs `command`; its output, or an error with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let out = command.output().with_context(|| format!("start {command:?}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{command:?} failed ({}): {}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_crosses_the_pair_and_the_namespaces_are_gone_after_drop() {
        let pair = Pair::new().unwrap();
        let names = [pair.node.path(), pair.users.path()];
        let receiver = pair
            .node
            .run(|| UdpSocket::bind((NODE_IP, 50000)))
            .unwrap()
            .unwrap();
        let sender = pair.users.run(|| UdpSocket::bind((USER_IP, 0))).unwrap().unwrap();
        sender.send_to(b"hello", (NODE_IP, 50000)).unwrap();
        receiver
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let mut buf = [0; 8];
        assert_eq!(receiver.recv(&mut buf).unwrap(), 5);
        drop(pair);
        assert!(names.iter().all(|n| !n.exists()));
    }

    #[test]
    fn an_interface_can_be_deleted_and_made_again_under_a_new_index() {
        let pair = Pair::new().unwrap();
        let before = pair.node.index(NODE_DEV).unwrap();
        pair.node.delete(NODE_DEV).unwrap();
        pair.node.index(NODE_DEV).unwrap_err();
        pair.connect().unwrap();
        assert_ne!(pair.node.index(NODE_DEV).unwrap(), before);
    }
}
